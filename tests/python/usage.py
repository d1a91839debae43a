"""Asks for answers of several kinds with the official openai client, in the name of several users, and prints every usage that it was
told, as JSON: one list of [user, prompt tokens, cached tokens, completion tokens]."""
import json
import sys

from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], max_retries=0, timeout=120)
model, told = sys.argv[2], []


def note(user, usage):
    details = usage.prompt_tokens_details
    told.append([user, usage.prompt_tokens, details.cached_tokens if details else 0, usage.completion_tokens])


for number, user in enumerate(["ada", "lin", "=HYPERLINK(\"http://x\")", "ada"]):
    messages = [{"role": "user", "content": f"Say hello to guest number {number}."}]
    whole = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=8, user=user, metadata={"run": str(number)}
    )
    note(user, whole.usage)
    stream = client.chat.completions.create(
        model=model,
        messages=messages,
        temperature=0,
        max_tokens=8 + number,
        user=user,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.usage:
            note(user, chunk.usage)
text = client.completions.create(model=model, prompt=["One, two,", "Red, green,"], temperature=0, max_tokens=5, n=2)
note("", text.usage)
response = client.responses.create(model=model, input="Say hello.", temperature=0, max_output_tokens=6, user="lin")
usage = response.usage
told.append(["lin", usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens])
print(json.dumps(told))
