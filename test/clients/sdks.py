"""Basic calls of Python clients, as their users write them, against a running apar (APAR_URL, APAR_KEY)."""

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
    azure,
    anthropic_models,
    anthropic_messages,
    anthropic_errors,
    litellm_chat,
    litellm_anthropic,
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
