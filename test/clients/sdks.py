"""Basic calls of Python clients, as their users write them, against a running apar (APAR_URL, APAR_KEY)."""

import json
import os
import sys
import traceback

# Prices of models are not asked for over the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import anthropic
import litellm
import openai

URL = os.environ["APAR_URL"]
KEY = os.environ["APAR_KEY"]
MESSAGES = [{"role": "user", "content": "How do I use tar?"}]
TOO_LONG = [{"role": "user", "content": "tar " * 2000}]

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
litellm.telemetry = False
LITELLM = {"model": "openai/demo", "api_base": f"{URL}/v1", "api_key": KEY}
HOSTED = {"model": "hosted_vllm/demo", "api_base": f"{URL}/v1", "api_key": KEY}


def refused(error, call):
    try:
        call()
    except error as raised:
        return raised
    raise AssertionError(f"not refused with {error.__name__}")


def openai_models():
    (model,) = client.models.list()
    assert model.id == "demo" and model.max_model_len > 0
    assert client.models.retrieve("demo").id == "demo"
    assert refused(openai.NotFoundError, lambda: client.models.retrieve("none")).code == "model_not_found"


def openai_chat():
    answer = client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=16, temperature=0)
    assert answer.choices[0].message.content and answer.usage.completion_tokens > 0
    stream = client.chat.completions.create(
        model="demo",
        messages=MESSAGES,
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].message.content
    assert chunks[-1].usage.total_tokens == answer.usage.total_tokens


def openai_completions():
    answer = client.completions.create(model="demo", prompt="ls is", max_tokens=8, temperature=0)
    stream = client.completions.create(model="demo", prompt="ls is", max_tokens=8, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def openai_responses():
    answer = client.responses.create(model="demo", input="How do I use tar?", max_output_tokens=16, temperature=0)
    assert answer.output_text and answer.usage.output_tokens > 0
    assert answer.status == "incomplete"
    request = {"model": "demo", "input": "How do I use tar?", "max_output_tokens": 16, "temperature": 0}
    events = list(client.responses.create(**request, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text
    assert events[-1].type == "response.incomplete" and events[-1].response.output_text == text


def openai_errors():
    stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    assert refused(openai.AuthenticationError, stranger.models.list).request_id
    create = client.chat.completions.create
    wrong = refused(openai.BadRequestError, lambda: create(model="demo", messages=MESSAGES, temperature=9))
    assert wrong.param == "temperature"
    long = refused(openai.BadRequestError, lambda: create(model="demo", messages=TOO_LONG))
    assert long.code == "context_length_exceeded"
    embeddings = refused(openai.NotFoundError, lambda: client.embeddings.create(model="demo", input="x"))
    assert "embeddings are not supported" in str(embeddings)


WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city", "days"],
}
FUNCTION = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}


def is_weather(arguments):
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    return isinstance(given["city"], str) and isinstance(given["days"], int)


def openai_tools():
    request = {
        "model": "demo",
        "messages": MESSAGES,
        "tools": [FUNCTION],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 200,
        "temperature": 0,
    }
    answer = client.chat.completions.create(**request).choices[0]
    (call,) = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls" and answer.message.content is None
    assert is_weather(call.function.arguments)
    with client.chat.completions.stream(**request) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.message.tool_calls[0].function.arguments == call.function.arguments
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages = [*MESSAGES, answer.message, result]
    words = client.chat.completions.create(**{**request, "messages": messages, "tool_choice": "none", "max_tokens": 8})
    assert words.choices[0].message.content


def openai_response_tools():
    request = {
        "model": "demo",
        "input": [{"role": "user", "content": "How is the weather?"}],
        "tools": [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}],
        "tool_choice": {"type": "function", "name": "get_weather"},
        "parallel_tool_calls": False,
        "max_output_tokens": 200,
        "temperature": 0,
    }
    (item,) = client.responses.create(**request).output
    assert item.type == "function_call" and is_weather(item.arguments)
    with client.responses.stream(**request) as stream:
        (streamed,) = stream.get_final_response().output
    assert streamed.arguments == item.arguments
    output = {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
    request = {**request, "input": [*request["input"], item, output], "tool_choice": "none"}
    assert client.responses.create(**request).output_text


def anthropic_tools():
    request = {
        "model": "demo",
        "messages": MESSAGES,
        "tools": [{"name": "get_weather", "input_schema": WEATHER}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "max_tokens": 200,
        "extra_body": {"temperature": 0},
    }
    answer = claude.messages.create(**request)
    (use,) = answer.content
    assert answer.stop_reason == "tool_use" and is_weather(use.input)
    with claude.messages.stream(**request) as stream:
        assert stream.get_final_message().content[0].input == use.input
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    messages = [*MESSAGES, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    words = claude.messages.create(**{**request, "messages": messages, "tool_choice": {"type": "none"}})
    assert words.content[0].text


def azure():
    azure_client = openai.AzureOpenAI(azure_endpoint=URL, api_key=KEY, api_version="2024-10-21", max_retries=0)
    answer = azure_client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=4)
    assert answer.model == "demo"


def anthropic_models():
    (model,) = claude.models.list()
    assert model.type == "model" and model.display_name == "demo" and model.created_at.year >= 2020
    assert claude.models.retrieve("demo").id == "demo"


def anthropic_messages():
    greedy = {"temperature": 0}
    request = {"model": "demo", "messages": MESSAGES, "max_tokens": 16, "extra_body": greedy}
    answer = claude.messages.create(**request)
    assert answer.content[0].text and answer._request_id
    with claude.messages.stream(**request) as stream:
        assert "".join(stream.text_stream) == answer.content[0].text
        usage = stream.get_final_message().usage
    counted = claude.messages.count_tokens(model="demo", messages=MESSAGES)
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def anthropic_errors():
    create = claude.messages.create
    none = refused(anthropic.NotFoundError, lambda: create(model="none", messages=MESSAGES, max_tokens=1))
    assert none.request_id and none.body["error"]["type"] == "not_found_error"
    stranger = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
    refused(anthropic.AuthenticationError, lambda: stranger.models.list())
    refused(anthropic.BadRequestError, lambda: create(model="demo", messages=TOO_LONG, max_tokens=1))


def litellm_chat():
    for provider in (LITELLM, HOSTED):
        answer = litellm.completion(**provider, messages=MESSAGES, max_tokens=8, temperature=0)
        assert answer.choices[0].message.content
        stream = litellm.completion(**provider, messages=MESSAGES, max_tokens=8, temperature=0, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == answer.choices[0].message.content


def litellm_anthropic():
    provider = {"model": "anthropic/demo", "api_base": URL, "api_key": KEY}
    answer = litellm.completion(**provider, messages=MESSAGES, max_tokens=8, temperature=0)
    assert answer.choices[0].message.content


def litellm_tools():
    request = {"messages": MESSAGES, "tools": [FUNCTION], "tool_choice": "required", "max_tokens": 200}
    for provider in (LITELLM, HOSTED, {"model": "anthropic/demo", "api_base": URL, "api_key": KEY}):
        answer = litellm.completion(**provider, **request, parallel_tool_calls=False, temperature=0)
        (call,) = answer.choices[0].message.tool_calls
        assert is_weather(call.function.arguments)
        parts = list(litellm.completion(**provider, **request, parallel_tool_calls=False, temperature=0, stream=True))
        whole = litellm.stream_chunk_builder(parts)
        assert whole.choices[0].message.tool_calls[0].function.arguments == call.function.arguments


def litellm_errors():
    stranger = {**LITELLM, "api_key": "none"}
    refused(litellm.AuthenticationError, lambda: litellm.completion(**stranger, messages=MESSAGES))
    refused(litellm.BadRequestError, lambda: litellm.completion(**LITELLM, messages=TOO_LONG, num_retries=0))


TRIED = (
    openai_models,
    openai_chat,
    openai_completions,
    openai_responses,
    openai_errors,
    openai_tools,
    openai_response_tools,
    azure,
    anthropic_models,
    anthropic_messages,
    anthropic_errors,
    anthropic_tools,
    litellm_chat,
    litellm_anthropic,
    litellm_tools,
    litellm_errors,
)

failed = 0
for tried in TRIED:
    try:
        tried()
        print(f"ok   {tried.__name__}")
    except Exception:
        failed += 1
        print(f"FAIL {tried.__name__}")
        traceback.print_exc()
sys.exit(1 if failed else 0)
