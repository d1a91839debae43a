"""Files and batches through the official openai client. A wrong answer ends this program with an assertion; what the test
compares with the ledger is printed as JSON."""
import io
import json
import sys
import time

import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], max_retries=0, timeout=300)
MODEL = sys.argv[2]
CHAT = "/v1/chat/completions"


def line(name, content, **more):
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0} | more
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": body}


def upload(lines, name="questions.jsonl"):
    text = "".join(json.dumps(one) + "\n" for one in lines)
    return client.files.create(file=(name, io.BytesIO(text.encode())), purpose="batch")


def wait(batch, *words):
    while batch.status not in words:
        assert batch.status in ("validating", "in_progress", "cancelling"), batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def refused(kind, part, call):
    try:
        call()
    except kind as error:
        assert part in str(error), error
        return
    raise AssertionError(f"not refused: {part}")


# A file is kept as it came.
lines = [line(f"q{number}", f"Count to {number}.") for number in range(1, 7)]
lines.append(line("long", "word " * 4000))
lines.append(line("hot", "Hi", temperature=9))
lines.append(line("nobody", "Hi", model="nobody"))
file = upload(lines)
assert (file.purpose, file.filename, file.object) == ("batch", "questions.jsonl", "file"), file
assert client.files.retrieve(file.id).bytes == file.bytes
assert client.files.content(file.id).text.splitlines()[0] == json.dumps(lines[0])
assert [one.id for one in client.files.list()] == [file.id]

# A batch of it: every line is answered or says why not.
batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"case": "7"})
assert batch.object == "batch" and batch.input_file_id == file.id, batch
batch = wait(batch, "completed")
counts = batch.request_counts
assert (counts.total, counts.completed, counts.failed) == (9, 6, 3), batch
assert batch.metadata == {"case": "7"} and batch.completed_at >= batch.created_at
out = [json.loads(one) for one in client.files.content(batch.output_file_id).text.splitlines()]
assert [one["custom_id"] for one in out] == [f"q{number}" for number in range(1, 7)], out
assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in out)
assert all(one["response"]["body"]["object"] == "chat.completion" for one in out)
wrong = {one["custom_id"]: one["response"] for one in map(json.loads, client.files.content(batch.error_file_id).text.splitlines())}
assert {name: one["status_code"] for name, one in wrong.items()} == {"long": 400, "hot": 400, "nobody": 404}, wrong
assert wrong["hot"]["body"]["error"]["param"] == "temperature", wrong
assert wrong["long"]["body"]["error"]["code"] == "context_length_exceeded", wrong
made = client.files.retrieve(batch.output_file_id)
assert made.purpose == "batch_output" and made.bytes == len(client.files.content(made.id).content), made

# The same question outside of a batch has the same answer.
alone = client.chat.completions.create(**lines[0]["body"])
assert alone.choices[0].message.content == out[0]["response"]["body"]["choices"][0]["message"]["content"]

# Lines that are no requests: the whole batch is refused, with the number of each.
bad = upload([line("a", "Hi"), line("a", "Hi"), line("c", "Hi") | {"url": "/v1/embeddings"}])
failed = wait(client.batches.create(input_file_id=bad.id, endpoint=CHAT, completion_window="24h"), "failed")
assert [one.line for one in failed.errors.data] == [2, 3], failed
assert failed.output_file_id is None and failed.request_counts.completed == 0

# Cancelled in the middle: what was answered stays readable.
long = upload([line(f"r{number}", f"Tell me {number} things.", max_tokens=200) for number in range(40)])
running = client.batches.create(input_file_id=long.id, endpoint=CHAT, completion_window="24h")
while client.batches.retrieve(running.id).request_counts.completed < 2:
    time.sleep(0.02)
client.batches.cancel(running.id)
cancelled = wait(client.batches.retrieve(running.id), "cancelled")
assert 2 <= cancelled.request_counts.completed < 40, cancelled
part = [json.loads(one) for one in client.files.content(cancelled.output_file_id).text.splitlines()]
assert len(part) == cancelled.request_counts.completed
assert [one.id for one in client.batches.list(limit=2).data] == [cancelled.id, failed.id]

# Completions, and what is refused at once.
texts = [{"custom_id": "t", "method": "POST", "url": "/v1/completions", "body": {"model": MODEL, "prompt": "One, two,", "max_tokens": 4}}]
done = client.batches.create(input_file_id=upload(texts).id, endpoint="/v1/completions", completion_window="24h")
done = wait(done, "completed")
text = json.loads(client.files.content(done.output_file_id).text)
assert text["response"]["body"]["object"] == "text_completion"
refused(openai.BadRequestError, "purpose", lambda: client.files.create(file=("x", b"x"), purpose="fine-tune"))
refused(openai.NotFoundError, "file", lambda: client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="24h"))
refused(openai.BadRequestError, "endpoint", lambda: client.batches.create(input_file_id=file.id, endpoint="/v1/moderations", completion_window="24h"))
assert client.files.delete(file.id).deleted
refused(openai.NotFoundError, "file", lambda: client.files.retrieve(file.id))

used = [one["response"]["body"] for one in out + part + [text]] + [alone.model_dump()]
print(json.dumps({
    "used": [[one["id"], one["usage"]["prompt_tokens"], one["usage"]["completion_tokens"]] for one in used],
    "file": long.id,
    "batch": batch.id,
    "output": batch.output_file_id,
}))
