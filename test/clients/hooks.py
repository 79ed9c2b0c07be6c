"""Makes the valid requests of schemathesis short, and such that a model can answer them."""

import schemathesis
from schemathesis import GenerationMode

MODEL = "demo"
MAX_TOKENS = 3
# Of the demo model.
VOCABULARY = 4096
# Fields with texts of a prompt.
TEXTS = ("messages", "input", "prompt", "system", "instructions")
# Names of the largest number of tokens of an answer.
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
# Fields that say what an answer must match, with a value of each: a grammar of random letters is none.
FORMATS = {
    "guided_json": SCHEMA,
    "json_schema": SCHEMA,
    "guided_regex": "[0-9]{1,3}",
    "regex": "[0-9]{1,3}",
    "guided_choice": ["yes", "no"],
    "guided_grammar": 'root ::= "yes" | "no"',
    "grammar": 'root ::= "yes" | "no"',
    "ebnf": 'root ::= "yes" | "no"',
    "structured_outputs": {"regex": "[0-9]{1,3}"},
}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Leaves requests that are meant to be refused as they are."""
    mode = case.meta.generation.mode if case.meta is not None else None
    if mode != GenerationMode.POSITIVE or not isinstance(case.body, dict):
        return
    body = case.body
    if isinstance(body.get("model"), str):
        body["model"] = MODEL
    for name in ("tokens", "stop_token_ids", "prompt"):
        if isinstance(body.get(name), list):
            body[name] = known(body[name])
    for name in TEXTS:
        if name in body:
            body[name] = cut(body[name])
    keep_one_format(body)
    keep_one_tool(body)
    stand_alone(body)
    if case.operation.definition.raw.get("operationId") in (
        "createChatCompletion",
        "createCompletion",
        "createResponse",
        "createMessage",
    ):
        shorten(body)
        relate(body, case.headers)


def known(tokens):
    """Ids of the model, also in lists of lists."""
    if isinstance(tokens, list):
        return [known(token) for token in tokens]
    # 3.0 is an integer of JSON Schema.
    return int(tokens) % VOCABULARY if isinstance(tokens, (int, float)) else tokens


def shorten(body):
    """Limits the work of an answer."""
    for name in LIMITS:
        if body.get(name) is not None:
            body[name] = MAX_TOKENS
    if not any(body.get(name) for name in LIMITS):
        body["max_output_tokens" if "input" in body else "max_tokens"] = MAX_TOKENS
    if body.get("min_tokens") is not None:
        body["min_tokens"] = min(body["min_tokens"], MAX_TOKENS)
    if body.get("n") is not None:
        body["n"] = min(body["n"], 2)


def keep_one_format(body):
    """An answer has one format, which several fields may say."""
    own = [name for name in FORMATS if body.get(name) is not None]
    holders = [body, body.get("text") or {}, body.get("output_config") or {}]
    typed = [
        (holder, name)
        for holder in holders
        for name in ("response_format", "output_format", "format")
        if isinstance(holder.get(name), dict)
    ]
    for name in own[1:]:
        del body[name]
    for holder, name in typed if own else typed[1:]:
        del holder[name]
    if own:
        body[own[0]] = FORMATS[own[0]]
    elif typed:
        holder, name = typed[0]
        shape = holder[name].get("json_schema", holder[name])
        if "schema" in shape:
            shape["schema"] = SCHEMA
    if own or typed:
        body.pop("ignore_eos", None)


def keep_one_tool(body):
    """One that is valid; a choice is one of the tools there are, and an answer has a format or text."""
    if body.get("functions"):
        # The older spelling; the choice may name another one.
        body["functions"] = [with_good_schema(body["functions"][0])]
        body.pop("function_call", None)
        body.pop("ignore_eos", None)
    elif body.get("function_call") is not None:
        del body["function_call"]
    choice = body.get("tool_choice")
    tools = body.get("tools")
    if tools:
        body["tools"] = [with_good_schema(tools[0])]
        body.pop("ignore_eos", None)
    elif choice is not None:
        del body["tool_choice"]
        return
    if isinstance(choice, dict):
        body["tool_choice"] = {"type": "auto"} if "input_schema" in tools[0] else "auto"


def with_good_schema(tool):
    shape = tool.get("function", tool)
    for name in ("parameters", "input_schema"):
        if name in shape:
            shape[name] = SCHEMA
    return tool


def cut(text):
    """At most a few short texts: all of them must fit into the context of the model."""
    if isinstance(text, str):
        return text[:30]
    if isinstance(text, list):
        return [cut(part) for part in text[:4]]
    if isinstance(text, dict):
        # Calls of tools in a history are text as well.
        if isinstance(text.get("input"), dict):
            text["input"] = {}
        shown = ("content", "text", "arguments", "name", "output")
        return {name: cut(part) if name in shown else part for name, part in text.items()}
    return text


def stand_alone(body):
    """Nothing of a response that was made before; items that are named only have no text."""
    body.pop("previous_response_id", None)
    if isinstance(body.get("input"), list):
        body["input"].append({"role": "user", "content": "hi"})


def relate(body, headers):
    """Some fields need others, and ids must be those of the model: a schema cannot say so."""
    apar = body.get("apar") or {}
    if body.get("background") is True:
        body["store"] = True
    if body.get("best_of") is not None:
        body["best_of"] = 2
        body["stream"] = False
    if body.get("stream") is not True:
        body.pop("stream_options", None)
        apar.pop("resumable", None)
        apar.pop("branch_deltas", None)
    # It resumes a stream that was begun before.
    for name in [name for name in headers or {} if name.lower() == "last-event-id"]:
        del headers[name]
    if body.get("logprobs") is not True:
        body.pop("top_logprobs", None)
    if body.get("logit_bias"):
        bias = {str(int(token) % VOCABULARY): value for token, value in body["logit_bias"].items()}
        body["logit_bias"] = bias
    messages = body.get("messages")
    if "system" in body or "stop_sequences" in body or "max_tokens" in body:
        if isinstance(messages, list) and messages and messages[-1].get("role") == "assistant":
            messages.append({"role": "user", "content": "hi"})
