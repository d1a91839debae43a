"""What clients do with the endpoint, through the official openai client: usage of each request is printed as JSON, for
the test to compare with the ledger. A wrong answer ends this program with an assertion."""
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
        return
    raise AssertionError(f"not refused: {part}")


# Log-probabilities: of each token, with the likeliest beside it.
answer = chat(temperature=0, max_tokens=5, logprobs=True, top_logprobs=2)
tokens = answer.choices[0].logprobs.content
assert len(tokens) == answer.usage.completion_tokens == 5, tokens
assert all(t.logprob == t.top_logprobs[0].logprob and len(t.top_logprobs) == 2 for t in tokens), "greedy takes the likeliest"
assert b"".join(bytes(t.bytes) for t in tokens).decode() == answer.choices[0].message.content
stream = client.chat.completions.create(model=MODEL, messages=USER, temperature=0, max_tokens=5, logprobs=True, stream=True, stream_options={"include_usage": True})
told = []
for chunk in stream:
    if chunk.usage:
        note(chunk)
    elif chunk.choices[0].logprobs:
        told += chunk.choices[0].logprobs.content
assert [t.token for t in told] == [t.token for t in tokens]

# Several answers: the prompt counts once.
one = chat(max_tokens=6, seed=7, temperature=1)
three = chat(max_tokens=6, seed=7, temperature=1, n=3)
assert three.usage.prompt_tokens == one.usage.prompt_tokens
assert three.usage.completion_tokens == 18, three.usage
assert len({c.message.content for c in three.choices}) > 1 and [c.index for c in three.choices] == [0, 1, 2]

# A banned token is never said; a forced one always.
first = answer.choices[0].logprobs.content[0].token
ids = client.post("/../tokenize", body={"model": MODEL, "prompt": first}, cast_to=object)["tokens"]
banned = chat(temperature=0, max_tokens=3, logit_bias={str(ids[0]): -100}, logprobs=True)
assert banned.choices[0].logprobs.content[0].token != first

# A stop text over token borders.
text = chat(temperature=0, max_tokens=24).choices[0].message.content
stop = text[len(text) // 2: len(text) // 2 + 5]
cut = chat(temperature=0, max_tokens=24, stop=[stop])
assert cut.choices[0].message.content == text[: text.index(stop)] and cut.choices[0].finish_reason == "stop"

# A schema is kept to, whole and streamed; what was cut says so.
schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "kind": {"enum": ["human", "robot"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
for temperature in (0, 1):
    person = json.loads(chat(response_format=wanted, temperature=temperature, max_tokens=200).choices[0].message.content)
    assert set(person) == {"name", "age", "kind"} and 1 <= person["age"] <= 120 and person["kind"] in ("human", "robot"), person
stream = client.chat.completions.create(model=MODEL, messages=USER, response_format=wanted, stream=True, max_tokens=200)
person = json.loads("".join(c.choices[0].delta.content or "" for c in stream))
assert set(person) == {"name", "age", "kind"}
assert chat(response_format=wanted, max_tokens=3).choices[0].finish_reason == "length"
anything = chat(response_format={"type": "json_object"}, temperature=0, max_tokens=300).choices[0]
assert anything.finish_reason == "length" or isinstance(json.loads(anything.message.content), dict)
bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {"not": {}}}}}}
refused(openai.BadRequestError, "#/properties/a", lambda: chat(response_format=bad))

# Tools of a model whose template knows none: a call that must be made, its result, a stream of calls.
weather = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
now = {"type": "function", "function": {"name": "now"}}
ask = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]
plain = chat(messages=ask, max_tokens=1)
with_tools = chat(messages=ask, max_tokens=1, tools=[weather, now])
assert with_tools.usage.prompt_tokens > plain.usage.prompt_tokens + 50, "the tools are in the prompt"
for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
    called = chat(messages=ask, tools=[weather], tool_choice=choice, parallel_tool_calls=False, temperature=0, max_tokens=200)
    assert called.choices[0].finish_reason == "tool_calls", called
    (call,) = called.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather" and set(arguments) == {"city", "unit"}, call
    assert called.choices[0].message.content is None and call.id.startswith("call_")
result = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 21}'}
after = chat(messages=[*ask, called.choices[0].message.model_dump(exclude_none=True), result], tools=[weather], temperature=0, max_tokens=24)
assert after.usage.prompt_tokens > called.usage.prompt_tokens
stream = client.chat.completions.create(model=MODEL, messages=ask, tools=[weather, now], tool_choice="required", temperature=0, max_tokens=300, stream=True)
calls, finish = {}, None
for chunk in stream:
    finish = chunk.choices[0].finish_reason or finish
    for delta in chunk.choices[0].delta.tool_calls or []:
        entry = calls.setdefault(delta.index, {"id": None, "name": None, "arguments": ""})
        entry["id"], entry["name"] = entry["id"] or delta.id, entry["name"] or delta.function.name
        entry["arguments"] += delta.function.arguments
assert finish in ("tool_calls", "length") and calls, finish
for index, entry in sorted(calls.items()):
    assert entry["name"] in ("get_weather", "now") and entry["id"], entry
    if finish == "tool_calls":
        json.loads(entry["arguments"])
nothing = chat(messages=ask, tools=[weather], tool_choice="none", max_tokens=8)
assert not nothing.choices[0].message.tool_calls
refused(openai.BadRequestError, "names a call", lambda: chat(messages=[*ask, result]))

# Texts: goes on, echoes, tells the log-probabilities of the prompt as lm-eval reads them.
text = note(client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=3, temperature=0))
assert len(text.choices[0].text) > 0 and text.choices[0].finish_reason == "length"
tokens = client.post("/../tokenize", body={"model": MODEL, "prompt": "The capital of France is Paris", "add_special_tokens": False}, cast_to=object)["tokens"]
scored = note(client.completions.create(model=MODEL, prompt=[tokens, tokens[:-1]], max_tokens=1, temperature=0, logprobs=1, echo=True))
assert [c.index for c in scored.choices] == [0, 1]
for choice, prompt in zip(scored.choices, (tokens, tokens[:-1])):
    lists = choice.logprobs
    assert len(lists.tokens) == len(lists.token_logprobs) == len(lists.top_logprobs) == len(lists.text_offset) == len(prompt) + 1
    assert lists.token_logprobs[0] is None and all(v < 0 for v in lists.token_logprobs[1:])
    assert all(max(top.values()) >= own for own, top in zip(lists.token_logprobs[1:], lists.top_logprobs[1:]))
    assert "".join(lists.tokens).startswith("The capital of France is")
assert scored.choices[0].text.startswith("The capital of France is Paris")
first, second = (c.logprobs.token_logprobs[1:len(tokens) - 1] for c in scored.choices)
assert all(abs(a - b) < 0.35 for a, b in zip(first, second)), (first, second)
only = note(client.completions.create(model=MODEL, prompt=tokens, max_tokens=0, logprobs=0, echo=True))
assert only.usage.completion_tokens == 0 and len(only.choices[0].logprobs.tokens) == len(tokens)
pieces = [c.choices[0].text for c in client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=3, temperature=0, stream=True)]
assert "".join(pieces) == text.choices[0].text

# Tokens there and back.
back = client.post("/../detokenize", body={"model": MODEL, "tokens": tokens}, cast_to=object)["prompt"]
assert back == "The capital of France is Paris", back
info = client.get("/../tokenizer_info", cast_to=object)
assert info["eos_token"] == "<|im_end|>" and "im_start" in info["chat_template"], info
assert len(client.post("/../tokenize", body={"prompt": info["eos_token"], "add_special_tokens": False}, cast_to=object)["tokens"]) == 1
rendered = client.post("/../tokenize", body={"model": MODEL, "messages": USER}, cast_to=object)
assert rendered["count"] == one.usage.prompt_tokens, (rendered["count"], one.usage)

# Refusals, by their classes.
refused(openai.NotFoundError, "nearest: base", lambda: client.chat.completions.create(model="gpt-4o", messages=USER))
refused(openai.BadRequestError, "messages is empty", lambda: chat(messages=[]))
refused(openai.BadRequestError, "temperature", lambda: chat(temperature=-1))
refused(openai.BadRequestError, "top_p", lambda: chat(top_p=3))
refused(openai.BadRequestError, "pirate", lambda: chat(messages=[{"role": "pirate", "content": "arr"}]))
refused(openai.BadRequestError, "logit_bias", lambda: chat(logit_bias={"999999": 1}))
long = "word " * 5000
refused(openai.BadRequestError, "tokens and the context holds", lambda: chat(messages=[{"role": "user", "content": long}]))
print(json.dumps({"used": used}))
