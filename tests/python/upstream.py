"""A service whose engine is a server elsewhere, through the official openai client: what local services promise and an
upstream can keep. Usage of each request is printed as JSON, for the test to compare with both ledgers."""
import json
import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], max_retries=0, timeout=300)
MODEL = sys.argv[2]
USER = [{"role": "user", "content": "Tell me about a person called Ada."}]
used = []


def note(answer):
    used.append([answer.id, answer.usage.prompt_tokens, answer.usage.completion_tokens])
    return answer


def chat(**more):
    return note(client.chat.completions.create(model=MODEL, messages=more.pop("messages", USER), **more))


def refused(kind, part, call):
    try:
        call()
    except kind as error:
        assert part in str(error), error
        return error
    raise AssertionError(f"not refused: {part}")


assert MODEL in [model.id for model in client.models.list()]

# Whole and as a stream: the same text, the same tokens.
plain = chat(temperature=0, max_tokens=16)
text, told = "", None
stream = client.chat.completions.create(model=MODEL, messages=USER, temperature=0, max_tokens=16, stream=True, stream_options={"include_usage": True})
for chunk in stream:
    if chunk.choices:
        text += chunk.choices[0].delta.content or ""
    if chunk.usage:
        told = note(chunk)
assert text == plain.choices[0].message.content and told.usage.completion_tokens == 16
assert plain.usage.completion_tokens == 16 and plain.choices[0].finish_reason == "length"
assert "estimated" not in plain.usage.model_dump(), "the upstream counted"

# Log-probabilities, several answers, stop texts.
likely = chat(temperature=0, max_tokens=5, logprobs=True, top_logprobs=2).choices[0]
assert len(likely.logprobs.content) == 5 and all(len(t.top_logprobs) == 2 for t in likely.logprobs.content)
assert b"".join(bytes(t.bytes) for t in likely.logprobs.content).decode() == likely.message.content
three = chat(max_tokens=6, seed=7, temperature=1, n=3)
assert three.usage.completion_tokens == 18 and three.usage.prompt_tokens == plain.usage.prompt_tokens
assert len({choice.message.content for choice in three.choices}) > 1
stop = text[len(text) // 2: len(text) // 2 + 4]
assert chat(temperature=0, max_tokens=16, stop=[stop]).choices[0].message.content == text[: text.index(stop)]

# A schema, and a call of a tool with its result.
schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 120}}, "required": ["age"], "additionalProperties": False}
wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
assert set(json.loads(chat(response_format=wanted, temperature=0, max_tokens=60).choices[0].message.content)) == {"age"}
weather = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"unit": {"enum": ["celsius"]}}, "required": ["unit"], "additionalProperties": False}}}
called = chat(tools=[weather], tool_choice="required", parallel_tool_calls=False, temperature=0, max_tokens=200).choices[0]
(call,) = called.message.tool_calls
assert called.finish_reason == "tool_calls" and json.loads(call.function.arguments) == {"unit": "celsius"}
result = {"role": "tool", "tool_call_id": call.id, "content": "21"}
chat(messages=[*USER, called.message.model_dump(exclude_none=True), result], tools=[weather], temperature=0, max_tokens=8)

# A text, and tokens as they are.
again = note(client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=3, temperature=0, logprobs=1))
assert again.choices[0].text and len(again.choices[0].logprobs.tokens) == 3
note(client.completions.create(model=MODEL, prompt=[504, 3575, 282], max_tokens=2, temperature=0))
answer = client.responses.create(model=MODEL, input="Say something.", max_output_tokens=8)
assert answer.output_text and answer.usage.output_tokens == 8

# What cannot be passed on is refused by name; what the upstream refuses is told as its words.
refused(openai.BadRequestError, "echo cannot be passed on", lambda: client.completions.create(model=MODEL, prompt="a", echo=True))
error = refused(openai.APIStatusError, "does not know", lambda: client.post("/../tokenize", body={"model": MODEL, "prompt": "a"}, cast_to=object))
assert error.status_code == 501, error
refused(openai.BadRequestError, "refuses the request (400)", lambda: chat(logit_bias={"999999": 1}))
refused(openai.BadRequestError, "context", lambda: chat(messages=[{"role": "user", "content": "word " * 5000}]))
refused(openai.NotFoundError, "nearest", lambda: client.chat.completions.create(model="gpt-4o", messages=USER))
print(json.dumps({"used": used}))
