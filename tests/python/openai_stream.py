"""Streams one answer with the official openai client and prints what it was told, as JSON."""
import json
import sys

from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], max_retries=0, timeout=120)
names = [model.id for model in client.models.list()]
assert sys.argv[2] in names, names
pieces, usage = 0, None
stream = client.chat.completions.create(
    model=sys.argv[2],
    messages=[{"role": "user", "content": "When is the desk open?"}],
    temperature=0,
    max_tokens=16,
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        pieces += 1
    if chunk.usage:
        usage = chunk.usage.model_dump()
print(json.dumps({"pieces": pieces, "usage": usage}))
