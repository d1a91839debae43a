"""The official client at a guarded service: a masked answer, whole and streamed, a refused request, and what a user thinks of the
answer. Prints one JSON object."""

import json
import sys

import openai

base, model = sys.argv[1:]
client = openai.OpenAI(base_url=base)
messages = [{"role": "user", "content": "Tell me about the moon in three sentences."}]
asked = dict(model=model, messages=messages, max_tokens=48, temperature=0)
whole = client.chat.completions.create(**asked)
chunks = client.chat.completions.create(**asked, stream=True)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
try:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "A forbidden topic"}])
    refused = "nothing"
except openai.BadRequestError as error:
    refused = error.code
client.post("/feedback", cast_to=object, body={"response_id": whole.id, "rating": "up", "user": "ann"})
print(json.dumps({
    "id": whole.id, "whole": whole.choices[0].message.content, "streamed": streamed, "refused": refused,
}))
