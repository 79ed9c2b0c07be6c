"""An answer by OpenAI's client: pip install openai, then APAR_API_KEY=apar_… python3 openai-python.py "How do I use tar?" """

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("APAR_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["APAR_API_KEY"],
)
stream = client.chat.completions.create(
    model=os.environ.get("APAR_MODEL", "demo"),
    messages=[{"role": "user", "content": sys.argv[1] if len(sys.argv) > 1 else "How do I use tar?"}],
    max_tokens=300,
    stream=True,
    stream_options={"include_usage": True},
    # What OpenAI's API has no field for: at most 8 branches at a time.
    extra_body={"apar": {"max_branches": 8}},
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    if chunk.usage:
        print(f"\n\n{chunk.usage.completion_tokens} tokens")
