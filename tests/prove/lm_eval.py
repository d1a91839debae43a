#!/usr/bin/env python3
"""lm-eval against the endpoint. `make prove` runs it: lm-eval's `local-completions` backend, which finds the tokenizer
routes by itself, does a multiple-choice task of rows of this repository; its accuracy must equal our own scoring of the
same rows, for which text offsets say where an answer begins, so that nothing of lm-eval's arithmetic is in it. lm-eval
goes into a virtual environment of its own, once. Writes docs/evidence/lm_eval.json.

usage: lm_eval.py BINARIES [ROWS] [SEED]"""
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request
import venv

from prove import begin, end

VENV = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hone/lm-eval"
PACKAGE = "lm-eval[api]==0.4.13"
PRESET = pathlib.Path(__file__).resolve().parent.parent.parent / "daemon/data/presets/support-desk.jsonl"
CHOICES = 4
TASK = """task: hone_choice
dataset_path: json
dataset_kwargs:
  data_files: {{"test": "{rows}"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
"""


def install():
    if (VENV / "done").exists():
        return
    print(f"prove: installing {PACKAGE}", flush=True)
    venv.create(VENV, with_pip=True)
    subprocess.run([VENV / "bin/python", "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    (VENV / "done").touch()


def rows(world, count):
    """Questions of the preset with their answer among others'."""
    pairs = []
    for line in PRESET.read_text().splitlines():
        messages = [m for m in json.loads(line)["messages"] if m["role"] != "system"]
        pairs.append((messages[0]["content"], messages[1]["content"][:120]))
    made = []
    for question, answer in world.random.sample(pairs, count):
        choices = [answer, *world.random.sample([a for _, a in pairs if a != answer], CHOICES - 1)]
        world.random.shuffle(choices)
        made.append({"question": f"Question: {question}\nAnswer:", "choices": choices, "answer": choices.index(answer)})
    return made


def theirs(base, key, folder, made):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    (folder / "hone_choice.yaml").write_text(TASK.format(rows=folder / "rows.jsonl"))
    words = f"model=base,base_url={base}/v1/completions,auth_token={key},num_concurrent=2,max_retries=1"
    command = [VENV / "bin/lm_eval", "run", "--model", "local-completions", "--tasks", "hone_choice", "--include_path", folder]
    command += ["--model_args", words, "--batch_size", "4", "--output_path", folder / "out"]
    env = {**os.environ, "OPENAI_API_KEY": key, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"prove: lm-eval failed: {run.stderr[-2000:]}")
    (result,) = (folder / "out").rglob("results_*.json")
    return json.loads(result.read_text())["results"]["hone_choice"]["acc,none"]


def ours(base, key, made):
    """The share of rows whose right answer has the greatest log-probability."""
    right = 0
    for row in made:
        texts = [f"{row['question']} {choice}" for choice in row["choices"]]
        body = {"model": "base", "prompt": texts, "max_tokens": 0, "echo": True, "logprobs": 0, "add_special_tokens": False}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{base}/v1/completions", json.dumps(body).encode(), headers)
        choices = json.load(urllib.request.urlopen(request, timeout=600))["choices"]
        begins = len(row["question"])
        sums = [sum(p for p, at in zip(c["logprobs"]["token_logprobs"], c["logprobs"]["text_offset"]) if at >= begins) for c in choices]
        right += max(range(CHOICES), key=sums.__getitem__) == row["answer"]
    return right / len(made)


def main():
    begun = time.monotonic()
    install()
    world, count, seed = begin(24, "rows")
    hone = world.connect()
    price = {"input_micros": 1, "cached_micros": None, "output_micros": 1}
    hone.ask({"publish": {"name": "base", "version": "starter", "slots": 4, "context_tokens": 512, "price": price}})
    while next(s for s in hone.ask("services") if s["record"]["name"] == "base")["state"] != "on":
        time.sleep(0.1)
    hone.ask({"set_application": {"name": "harness", "title": "", "services": []}})
    key = hone.ask({"create_key": {"application": "harness", "label": ""}})["secret"]
    base = next(a for a in (world.state / "run/http").read_text().split() if a.startswith("http://"))
    made = rows(world, count)
    folder = world.state / "lm-eval"
    folder.mkdir()
    accuracy, own = theirs(base, key, folder, made), ours(base, key, made)
    rows_of_ledger = hone.ask({"ledger": {"application": "harness", "count": 1000}})
    outcomes = sorted({row["outcome"] for row in rows_of_ledger})
    evidence = {"seed": seed, "rows": count, "choices": CHOICES, "lm_eval": PACKAGE, "accuracy_lm_eval": accuracy, "accuracy_own": own, "outcomes": outcomes}
    end(world, "lm_eval", begun, evidence)
    if abs(accuracy - own) > 1e-9 or outcomes != ["complete"]:
        sys.exit("prove: lm-eval and our own scoring differ")


if __name__ == "__main__":
    main()
