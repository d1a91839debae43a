#!/usr/bin/env python3
"""Adapters between hone and transformers + PEFT. `make prove` runs it (`make bench-peers` first): an adapter trained here is written as a
PEFT folder, read back, and loaded by transformers + PEFT over the same base; an adapter made there, with rsLoRA and ranks and alphas
that differ from module to module, is imported here. For both, the distributions of the next token at every position of some
rows are compared: transformers (all weights as F32) with hone's merged F32 file, where only the order of sums and the 16 bits of keys and values differ, and with
the adapter as it is served over the quantised base, where llama.cpp rounds activations. Writes docs/evidence/peft.json.

usage: peft.py BINARIES [ROWS] [SEED]"""
import json
import os
import pathlib
import subprocess
import sys
import time

from prove import PARAMS, SPLIT, begin, end

HERE = pathlib.Path(__file__).resolve().parent
PEERS = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hone/peers"
STEPS, TOKENS_MAX = 30, 96
# A mean KL of more is another distribution: F32 with keys and values of 16 bits, and activations of 8 bits.
EXACT_KL, SERVED_KL = 1e-5, 0.05


class Proof:
    def __init__(self, world, rows):
        self.world, self.hone = world, world.connect()
        self.scratch = world.state / "peft"
        self.scratch.mkdir()
        self.python = PEERS / "bin/python"
        if not self.python.exists():
            sys.exit(f"prove: the peers are missing: run make bench-peers (looked in {PEERS})")
        self.model = self.file("starter@1")
        self.rows = self.scratch / "rows.json"
        self.tokens = self.chat_rows(rows)
        self.rows.write_text(json.dumps(self.tokens))
        self.versions = {}

    def chat_rows(self, count):
        """Rows of the preset as the model's template renders them."""
        command = {"do": "render", "model": str(self.model), "file": str(HERE.parent.parent / "daemon/data/presets/support-desk.jsonl")}
        run = subprocess.run([self.world.binaries / "bench-train-driver"], input=json.dumps(command) + "\n", capture_output=True, text=True, check=True)
        rows = json.loads(run.stdout.splitlines()[0])["rows"]
        return [row["tokens"][:TOKENS_MAX] for row in self.world.random.sample(rows, count)]

    def convert(self, what, **fields):
        return self.hone.job({"convert": {what: fields}})

    def version(self, reference):
        return next(v for m in self.hone.ask("models") for v in m["versions"] if v["reference"] == reference)

    def file(self, reference):
        return self.world.state / "models" / self.version(reference)["record"]["file"]["path"]

    def theirs(self, folder, name):
        """Logits of transformers + PEFT."""
        said = self.peer("logits", self.model, folder, self.rows, self.scratch / name)
        return self.scratch / name, said["adapted_modules"]

    def peer(self, *words):
        command = [self.python, HERE.parent / "peers/peft_driver.py", *words]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(PEERS / "stubs")}
        run = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
        if run.returncode:
            sys.exit(f"prove: the peer failed: {run.stderr[-2000:]}")
        said = json.loads(run.stdout.splitlines()[-1])
        self.versions = said.pop("versions", self.versions)
        return said

    def ours(self, model, adapter, name):
        """Logits of llama.cpp as hone serves."""
        command = [self.world.binaries / "next-token", model, adapter, self.rows, self.scratch / name]
        subprocess.run([str(word) for word in command], check=True, stderr=subprocess.DEVNULL)
        return self.scratch / name

    def distance(self, one, other):
        """Between distributions of the next token, over all positions of all rows."""
        return self.peer("compare", one, other, self.rows)

    def compare(self, reference, folder, base, label):
        """hone's version against the same adapter in `folder` under transformers + PEFT."""
        self.convert("merge", version=reference, format="f32", name="merged")
        merged = f"merged@{len(next(m for m in self.hone.ask('models') if m['record']['name'] == 'merged')['versions'])}"
        theirs, modules = self.theirs(folder, label + ".theirs")
        found = {
            "adapted_modules": modules,
            "moved_by_the_adapter": self.distance(theirs, base),
            "merged_f32": self.distance(theirs, self.ours(self.file(merged), "-", label + ".merged")),
            "adapter_as_served": self.distance(theirs, self.ours(self.model, self.file(reference), label + ".served")),
        }
        print(f"prove: {label}: {json.dumps(found)}", flush=True)
        if not (found["merged_f32"]["mean_kl"] < EXACT_KL and found["merged_f32"]["same_top_token"] == 1.0):
            sys.exit(f"prove: {label}: the merged file is another model than the one under PEFT")
        if not found["adapter_as_served"]["mean_kl"] < SERVED_KL:
            sys.exit(f"prove: {label}: the adapter as served is another model than the one under PEFT")
        if found["moved_by_the_adapter"]["mean_kl"] < 100 * found["merged_f32"]["mean_kl"]:
            sys.exit(f"prove: {label}: the adapter does too little for a proof")
        return found


def main():
    begun = time.monotonic()
    world, count, seed = begin(8, "rows compared with transformers + PEFT")
    proof = Proof(world, count)
    base, _ = proof.theirs("-", "base.theirs")
    control = proof.distance(base, proof.ours(proof.model, "-", "base.served"))
    print(f"prove: the base alone: {json.dumps(control)}", flush=True)

    params = {**PARAMS, "steps_max": STEPS, "rank": 8, "alpha": 16.0, "targets": ["q", "k", "v", "o", "gate", "up", "down"],
              "learning_rate": 0.002, "sequence_tokens": 256, "threads": 2}
    register = {"model": "support", "publish": "", "alias": ""}
    proof.hone.job({"train": {"base": "starter", "params": params, "dataset": "desk", "split": SPLIT, "register": register}})
    folder = proof.scratch / "exported"
    proof.convert("export", version="support@1", format="peft", path=str(folder))
    proof.convert("import_peft", path=str(folder), base="starter", name="back")
    if proof.peer("values", proof.file("support@1")) != proof.peer("values", proof.file("back@1")):
        sys.exit("prove: an adapter that went to PEFT and back has other values")
    exported = proof.compare("support@1", folder, base, "trained here, exported")

    folder = proof.scratch / "made"
    proof.peer("make", proof.model, folder, seed)
    proof.convert("import_peft", path=str(folder), base="starter", name="theirs")
    imported = proof.compare("theirs@1", folder, base, "made there, imported")
    end(world, "peft", begun, {
        "rows": count, "seed": seed, "versions": proof.versions, "base_alone_as_served": control,
        "trained_here_exported": exported | {"values_equal_after_reimport": True}, "made_there_imported": imported,
    })


if __name__ == "__main__":
    main()
