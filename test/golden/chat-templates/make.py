"""Renders the chat templates of this folder, and the formats behind `--chat-template`, over some conversations.

The templates (*.jinja) are written for apar: they give the prompt formats of the models in their names, by the means that
templates of those models use. rendered.json: the texts, or {"error": ...}, of each template.
Needs: pip install -r requirements.txt
"""

import datetime
import json
import pathlib

import jinja2
from fastchat.conversation import get_conv_template
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
CONVERSATIONS = json.loads((HERE / "conversations.json").read_text())
NAMED = json.loads((HERE / "named.json").read_text())
CHATML = "Yi-34b-chat"


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, zone=None):
        return cls(2026, 3, 7, 12)


chat_template_utils.datetime = FixedDate


def rendered(source, name, messages):
    template = chat_template_utils._compile_jinja_template(source)
    try:
        # As apply_chat_template calls it.
        return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=True, **NAMED[name])
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error)}


def fastchat(format, messages):
    """The prompt without the BOS token at its start, which FastChat leaves to the tokenizer."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    if any(role != ("assistant" if index % 2 else "user") for index, role in enumerate(turns)):
        return None  # FastChat knows no order of roles.
    conversation = get_conv_template(format)
    if format == CHATML and roles[0] == "system":
        conversation.system_template = "<|im_start|>system\n{system_message}"
    for message in messages:
        if message["role"] == "system":
            conversation.set_system_message(message["content"])
        else:
            conversation.append_message(conversation.roles[message["role"] == "assistant"], message["content"])
    conversation.append_message(conversation.roles[1], None)
    return conversation.get_prompt()


def main():
    texts = {}
    for path in sorted(HERE.glob("*.jinja")):
        texts[path.stem] = [rendered(path.read_text(), path.stem, messages) for messages in CONVERSATIONS]
    named = {"vicuna_v1.1": "vicuna_v1.1", "chatml": CHATML}
    named = {name: [fastchat(format, messages) for messages in CONVERSATIONS] for name, format in named.items()}
    everything = json.dumps({"files": texts, "named": named}, indent=1, ensure_ascii=False)
    (HERE / "rendered.json").write_text(everything + "\n")


main()
