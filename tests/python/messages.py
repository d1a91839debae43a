"""The Messages API through the official anthropic client; usage is printed for the test to compare with the ledger."""
import json
import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1].removesuffix("/v1"), max_retries=0, timeout=300)
MODEL = sys.argv[2]
# What the client has no parameter for goes into the body.
GREEDY = {"temperature": 0}
used = []


def note(message):
    usage = message.usage
    used.append([message.id, usage.input_tokens + (usage.cache_read_input_tokens or 0), usage.output_tokens])
    return message


def ask(**more):
    more = {"max_tokens": 8, "messages": [{"role": "user", "content": "Name a colour."}], "extra_body": GREEDY, **more}
    return note(client.messages.create(model=MODEL, **more))


plain = ask(system="Be brief.")
assert plain.content[0].type == "text" and plain.content[0].text and plain.stop_reason in ("end_turn", "max_tokens")
assert ask(max_tokens=1).stop_reason == "max_tokens"
# A stop text ends the answer, and which one is said; as a stream too.
word = plain.content[0].text.split()[-1]
stopped = ask(system="Be brief.", stop_sequences=["never said", word])
assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word), stopped
with client.messages.stream(model=MODEL, max_tokens=8, system="Be brief.", stop_sequences=[word], extra_body=GREEDY,
                            messages=[{"role": "user", "content": "Name a colour."}]) as stream:
    stopped = note(stream.get_final_message())
assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word), stopped
counted = client.messages.count_tokens(model=MODEL, system="Be brief.", messages=[{"role": "user", "content": "Name a colour."}])
assert counted.input_tokens == used[0][1], (counted, used)

with client.messages.stream(model=MODEL, max_tokens=8, extra_body=GREEDY, system="Be brief.", messages=[{"role": "user", "content": "Name a colour."}]) as stream:
    text = "".join(stream.text_stream)
    final = note(stream.get_final_message())
assert text == plain.content[0].text == final.content[0].text, (text, plain)

tool = {"name": "get_weather", "description": "Weather of a city.", "input_schema": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}}
question = {"role": "user", "content": "What is the weather in Paris?"}
choice = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
called = ask(messages=[question], tools=[tool], tool_choice=choice, max_tokens=100)
assert called.stop_reason == "tool_use", called
(call,) = called.content
assert call.type == "tool_use" and set(call.input) == {"city"}, call
result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}]}
after = ask(messages=[question, {"role": "assistant", "content": [call.model_dump()]}, result], tools=[tool], max_tokens=12)
assert used[-1][1] > used[-2][1]
with client.messages.stream(model=MODEL, max_tokens=100, extra_body=GREEDY, messages=[question], tools=[tool], tool_choice=choice) as stream:
    streamed = note(stream.get_final_message())
assert streamed.content[0].input == call.input, streamed

for more, kind in (({"model": "claude"}, anthropic.NotFoundError), ({"messages": []}, anthropic.BadRequestError), ({"extra_body": {"temperature": -1}}, anthropic.BadRequestError)):
    try:
        client.messages.create(**{"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}], **more})
    except kind as error:
        assert error.body["type"] == "error" and error.body["error"]["message"], error.body
    else:
        raise AssertionError(f"not refused: {more}")
try:
    anthropic.Anthropic(base_url=sys.argv[1].removesuffix("/v1"), api_key="hone_wrong", max_retries=0).messages.create(model=MODEL, max_tokens=4, messages=[{"role": "user", "content": "Hi"}])
except anthropic.AuthenticationError as error:
    assert error.body["error"]["type"] == "authentication_error", error.body
print(json.dumps({"used": used}))
