"""Embeddings through the official openai client: the usage of each request is printed as JSON under the `user` that it was
sent with, for the test to compare with the ledger. A wrong answer ends this program with an assertion."""
import itertools
import json
import math
import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], max_retries=0, timeout=300)
MODEL, CHAT, WIDTH = "vectors", sys.argv[2], 384
used, numbers = [], itertools.count()


def embed(texts, model=MODEL, **more):
    user = f"request-{next(numbers)}"
    answer = client.embeddings.create(model=model, input=texts, user=user, **more)
    used.append([user, answer.usage.prompt_tokens])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens and answer.model == model and answer.object == "list"
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return answer


def vectors(texts, **more):
    return [item.embedding for item in embed(texts, **more).data]


def apart(some, others):
    return max(abs(x - y) for a, b in zip(some, others, strict=True) for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


def refused(kind, code, part, call):
    try:
        call()
    except kind as error:
        assert part in str(error) and error.code == code, (error, error.code)
        return error
    raise AssertionError(f"not refused: {part}")


def tokens(text, model=MODEL):
    return client.post("/../tokenize", body={"model": model, "prompt": text, "parse_special": False}, cast_to=object)["tokens"]


SENTENCES = [
    "A man is playing a guitar on the street.",
    "Someone plays the guitar outdoors.",
    "The quarterly report shows a loss of two million.",
    "How do I reset my password?",
    "I forgot my login and cannot get into my account.",
    "Photosynthesis turns light into chemical energy.",
    "The cat sat on the mat, didn't it?",
    "Ünïcödé, naïve café — “quotes”, 1,234.5 % & more!",
    "def f(x): return x ** 2  # square",
    "天气很好。",
    "It rained.",
    "a " * 200,
]

# The client asks for base64 by itself; the numbers are the same.
batch = vectors(SENTENCES)
plain = embed(SENTENCES, encoding_format="float")
assert apart([item.embedding for item in plain.data], batch) < 1e-6
packed = embed(SENTENCES[:2], encoding_format="base64")
assert all(isinstance(item.embedding, str) for item in packed.data)
assert all(len(vector) == WIDTH and abs(math.sqrt(cosine(vector, vector)) - 1) < 1e-5 for vector in batch)
# A paraphrase is nearer than anything else.
for one, other in ((0, 1), (3, 4)):
    near = cosine(batch[one], batch[other])
    assert all(near > cosine(batch[one], batch[i]) for i in range(len(SENTENCES)) if i not in (one, other)), near
# Alone and among others: the same vector.
single = [vectors(sentence)[0] for sentence in SENTENCES]
# (GELU is looked up in a table of 16-bit values, so a sum in another order can fall into the next entry.)
assert apart(batch, single) < 2e-4
# By its tokens, which have a begin and an end; and usage is their count.
ids = [tokens(sentence) for sentence in SENTENCES]
assert all(row[0] == 101 and row[-1] == 102 for row in ids), "[CLS] and [SEP]"
assert plain.usage.prompt_tokens == sum(map(len, ids))
assert apart(batch, vectors(ids)) < 2e-4 and apart([single[3]], vectors(ids[3])) < 2e-4
# A control token's spelling is a text like any other.
assert 102 not in tokens("a [SEP] b")[1:-1]
# More inputs than one batch holds.
many = vectors([f"{sentence} {number}" for number in range(8) for sentence in SENTENCES])
assert len(many) == 8 * len(SENTENCES)

# Too long: refused with both numbers, cut only when that is asked for, and then it is said.
long = "word " * 700
error = refused(openai.BadRequestError, "context_length_exceeded", "702 tokens and 512", lambda: embed(["fine", long]))
assert error.param == "input[1]", error.param
cut = embed(["fine", long], extra_body={"truncate": True})
assert cut.usage.prompt_tokens == 3 + 512 and cut.data[1].truncated is True and not hasattr(cut.data[0], "truncated")
assert abs(cosine(cut.data[1].embedding, vectors(" ".join(["word"] * 510))[0]) - 1) < 1e-4

bad = openai.BadRequestError
refused(bad, "invalid_value", "empty list", lambda: embed([]))
refused(bad, "invalid_value", "empty text", lambda: embed(""))
refused(bad, "invalid_value", "input[1] is an empty text", lambda: embed(["a", ""]))
refused(bad, "invalid_value", "at most 2048", lambda: embed(["a"] * 2049))
refused(bad, "invalid_request", "tokens[1] is 30522", lambda: embed([101, 30522, 102]))
refused(bad, "invalid_value", "dimensions is 128", lambda: embed("a", dimensions=128))
refused(bad, "invalid_value", "float or base64", lambda: embed("a", encoding_format="int8"))
assert len(vectors("a", dimensions=WIDTH)[0]) == WIDTH
refused(openai.NotFoundError, "model_not_found", "vectors", lambda: embed("a", model="vector"))
# An encoder does not chat.
chat = [{"role": "user", "content": "Hi"}]
for call in (
    lambda: client.chat.completions.create(model=MODEL, messages=chat),
    lambda: client.completions.create(model=MODEL, prompt="Hi"),
    lambda: client.responses.create(model=MODEL, input="Hi"),
):
    refused(bad, "invalid_request", "makes embeddings and writes no text", call)
kinds = {model.id: model.meta["kind"] for model in client.models.list().data}
assert kinds == {MODEL: "embeddings", CHAT: "chat"}, kinds

# A chat model gives vectors too, in a context of its own beside its answers, also of inputs longer than a batch.
texts = [SENTENCES[0], "a b c " * 80, SENTENCES[1]]
writer = vectors(texts, model=CHAT)
assert all(abs(math.sqrt(cosine(vector, vector)) - 1) < 1e-5 for vector in writer) and len({len(v) for v in writer}) == 1
alone = [vectors(text, model=CHAT)[0] for text in texts]
assert min(cosine(a, b) for a, b in zip(writer, alone)) > 0.999
answer = client.chat.completions.create(model=CHAT, messages=chat, max_tokens=4)
assert answer.usage.completion_tokens > 0
print(json.dumps({"used": used}))
