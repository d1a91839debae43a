"""The Responses API through the official openai client; usage is printed for the test to compare with the ledger."""
import json
import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], max_retries=0, timeout=300)
MODEL = sys.argv[2]
used = []


def note(response):
    used.append([response.id, response.usage.input_tokens, response.usage.output_tokens])
    return response


def ask(**more):
    return note(client.responses.create(model=MODEL, **more))


plain = ask(input="Name a colour.", instructions="Be brief.", temperature=0, max_output_tokens=8)
assert plain.output_text and plain.status in ("completed", "incomplete") and plain.output[0].type == "message"
assert ask(input="Count to a hundred.", max_output_tokens=2).incomplete_details.reason == "max_output_tokens"

events = list(client.responses.create(model=MODEL, input="Name a colour.", instructions="Be brief.", temperature=0, max_output_tokens=8, stream=True))
assert [e.sequence_number for e in events] == list(range(len(events)))
assert events[0].type == "response.created" and events[-1].type == f"response.{plain.status}", events[-1]
assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == plain.output_text
assert note(events[-1].response).output_text == plain.output_text

person = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "age"], "additionalProperties": False}
made = ask(input="Invent a person.", text={"format": {"type": "json_schema", "name": "person", "schema": person, "strict": True}}, max_output_tokens=100)
assert set(json.loads(made.output_text)) == {"name", "age"}

tool = {"type": "function", "name": "get_weather", "description": "Weather of a city.", "strict": True, "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}}
called = ask(input="What is the weather in Paris?", tools=[tool], tool_choice="required", parallel_tool_calls=False, temperature=0, max_output_tokens=100)
(call,) = called.output
assert call.type == "function_call" and call.name == "get_weather" and set(json.loads(call.arguments)) == {"city"}, call
history = [{"role": "user", "content": "What is the weather in Paris?"}, call.model_dump(exclude_none=True), {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}]
assert ask(input=history, tools=[tool], temperature=0, max_output_tokens=12).output
with client.responses.stream(model=MODEL, input="What is the weather in Paris?", tools=[tool], tool_choice="required", parallel_tool_calls=False, temperature=0, max_output_tokens=100) as stream:
    for event in stream:
        pass
    final = note(stream.get_final_response())
assert json.loads(final.output[0].arguments) == json.loads(call.arguments), final.output

for more, part in (({"previous_response_id": "resp_1"}, "previous_response_id"), ({"input": []}, "input"), ({"temperature": 9}, "temperature")):
    try:
        client.responses.create(**{"model": MODEL, "input": "Hi", **more})
    except openai.BadRequestError as error:
        assert part in str(error), error
    else:
        raise AssertionError(f"not refused: {more}")
print(json.dumps({"used": used}))
