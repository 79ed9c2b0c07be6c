"""Loops of agent frameworks, as their users write them, against a running apar (APAR_URL, APAR_KEY) whose model answers as
test/clients/agent-script.ts says: it thinks and calls a tool, calls another with the first one's result, and answers."""

import asyncio
import os
import sys
import traceback

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
os.environ["LANGSMITH_TRACING"] = "false"

import agents
import anthropic
import instructor
import openai
import pydantic
import pydantic_ai
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

URL = os.environ["APAR_URL"]
KEY = os.environ["APAR_KEY"]
MODEL = "scripted"
# The model goes by the last character.
QUESTION = "What is the weather where I am?"
THOUGHT = "Where is the user? I have a tool for that."
SAID = "You have 20 degrees in Rome."

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
called = []


def get_city() -> str:
    """The city of the user."""
    called.append("get_city")
    return "Rome!"


def get_weather(city: str) -> str:
    """The weather of a city."""
    called.append(f"get_weather {city}")
    return "20 degrees."


class Weather(pydantic.BaseModel):
    city: str
    degrees: int


def expect(text, loops=1):
    assert text == SAID, text
    assert called == ["get_city", "get_weather Rome"] * loops, called
    called.clear()


def langchain():
    for model in (
        ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, max_retries=0),
        ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, use_responses_api=True),
    ):
        agent = create_agent(model, tools=[get_city, get_weather], system_prompt="Be brief.")
        question = {"messages": [{"role": "user", "content": QUESTION}]}
        expect(agent.invoke(question)["messages"][-1].text)
        steps = list(agent.stream(question, stream_mode="updates"))
        assert len(steps) == 5, steps
        expect(steps[-1]["model"]["messages"][-1].text)


def pydantic_models():
    openai_provider = OpenAIProvider(openai_client=openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0))
    claude = AnthropicProvider(anthropic_client=anthropic.AsyncAnthropic(base_url=URL, api_key=KEY, max_retries=0))
    return (
        OpenAIChatModel(MODEL, provider=openai_provider),
        OpenAIResponsesModel(MODEL, provider=openai_provider),
        AnthropicModel(MODEL, provider=claude),
    )


async def pydantic_loops():
    for model in pydantic_models():
        agent = pydantic_ai.Agent(model, tools=[get_city, get_weather], instructions="Be brief.")
        result = await agent.run(QUESTION)
        expect(result.output)
        first, *others = [message for message in result.all_messages() if isinstance(message, ModelResponse)]
        (thought,) = [part for part in first.parts if isinstance(part, ThinkingPart)]
        # Of Responses, what is no summary.
        raw = (thought.provider_details or {}).get("raw_content")
        assert [thought.content, raw] in ([THOUGHT, None], ["", [THOUGHT]]), (model, first.parts)
        assert [type(part) for part in others[-1].parts] == [TextPart] and len(others) == 2
        assert any(isinstance(part, ToolCallPart) for part in first.parts)
        async with agent.run_stream(QUESTION) as streamed:
            expect(await streamed.get_output())


def pydantic_ai_loops():
    asyncio.run(pydantic_loops())


async def typed_outputs():
    for model in pydantic_models():
        agent = pydantic_ai.Agent(model, output_type=Weather)
        # It answers with a call of a tool that the framework adds.
        result = await agent.run("As a final result$")
        assert result.output == Weather(city="Rome", degrees=20), result.output


def pydantic_ai_output():
    asyncio.run(typed_outputs())


def instructor_models():
    for mode, question in (
        (instructor.Mode.TOOLS, "As a call%"),
        (instructor.Mode.JSON_SCHEMA, "As JSON#"),
    ):
        create = instructor.from_openai(client, mode=mode).chat.completions.create
        request = {"model": MODEL, "response_model": Weather, "max_retries": 0}
        weather = create(**request, messages=[{"role": "user", "content": question}])
        assert (weather.city, weather.degrees) == ("Rome", 20), weather


def openai_agents():
    asynchronous = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    tools = [agents.function_tool(get_city), agents.function_tool(get_weather)]

    async def loops():
        for kind in (agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel):
            model = kind(model=MODEL, openai_client=asynchronous)
            agent = agents.Agent(name="Weather", instructions="Be brief.", model=model, tools=tools)
            expect((await agents.Runner.run(agent, QUESTION)).final_output)
            streamed = agents.Runner.run_streamed(agent, QUESTION)
            items = [event async for event in streamed.stream_events()]
            assert any(event.type == "raw_response_event" for event in items)
            expect(streamed.final_output)

    asyncio.run(loops())


failed = 0
for tried in (langchain, pydantic_ai_loops, pydantic_ai_output, instructor_models, openai_agents):
    try:
        tried()
        print(f"ok   {tried.__name__}")
    except Exception:
        failed += 1
        called.clear()
        print(f"FAIL {tried.__name__}")
        traceback.print_exc()
sys.exit(1 if failed else 0)
