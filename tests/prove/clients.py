#!/usr/bin/env python3
"""litellm and llm against the endpoint. `make prove` runs it: the texts of `hone service howto` for both are run as they
stand; litellm also streams, calls a tool, keeps to a schema, makes a text completion and meets an error of its own kinds.
What they were told they used must equal the ledger. Both go into folders of their own, once. Writes
docs/evidence/clients.json.

usage: clients.py BINARIES [SEED]"""
import json
import os
import pathlib
import subprocess
import sys
import time

from prove import begin, end

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hone/clients"
# litellm imports mcp without asking for it.
PACKAGES = {"litellm": "litellm==1.106.2 mcp==2.3.0", "llm": "llm==0.36"}
LITELLM = '''
import json, os, sys
import litellm
from litellm import completion, text_completion
base, key = sys.argv[1], os.environ["HONE_KEY"]
how = {"model": "openai/base", "api_base": base, "api_key": key, "num_retries": 0}
used = []
def note(answer):
    used.append([answer.id, answer.usage.prompt_tokens, answer.usage.completion_tokens])
    return answer
talk = [{"role": "user", "content": "Name a colour."}]
plain = note(completion(messages=talk, max_tokens=12, temperature=0, **how))
assert plain.choices[0].message.content
parts = list(completion(messages=talk, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}, **how))
assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == plain.choices[0].message.content
used.append([parts[-1].id, parts[-1].usage.prompt_tokens, parts[-1].usage.completion_tokens])
city = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Kiel", "Ulm"]}}, "required": ["city"], "additionalProperties": False}
tools = [{"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": city}}]
called = note(completion(messages=talk, tools=tools, tool_choice="required", max_tokens=64, **how))
assert json.loads(called.choices[0].message.tool_calls[0].function.arguments)["city"] in ("Kiel", "Ulm")
form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": city}}
kept = note(completion(messages=talk, response_format=form, max_tokens=64, **how))
assert set(json.loads(kept.choices[0].message.content)) == {"city"}
text = text_completion(prompt="The sky is", max_tokens=4, temperature=0, model="text-completion-openai/base", api_base=base, api_key=key)
used.append([text.id, text.usage.prompt_tokens, text.usage.completion_tokens])
for more, kind in (({"model": "openai/nobody"}, litellm.NotFoundError), ({"temperature": 9}, litellm.BadRequestError), ({"api_key": "wrong"}, (litellm.AuthenticationError, litellm.BadRequestError))):
    try:
        completion(messages=talk, **{**how, **more})
    except kind:
        pass
    else:
        raise AssertionError(f"not refused: {more}")
print(json.dumps(used))
'''


def install(name):
    folder = CACHE / PACKAGES[name].split()[0].replace("==", "-")
    if not folder.exists():
        print(f"prove: installing {PACKAGES[name]}", flush=True)
        words = ["install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target", f"{folder}.tmp", *PACKAGES[name].split()]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        pathlib.Path(f"{folder}.tmp").rename(folder)
    return folder


def run(command, **environment):
    done = subprocess.run([str(word) for word in command], env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"prove: {command[:4]} failed: {done.stderr[-3000:]}")
    return done.stdout.strip()


def main():
    begun = time.monotonic()
    folders = {name: str(install(name)) for name in PACKAGES}
    world, _, seed = begin(1, "clients")
    hone = world.connect()
    price = {"input_micros": 1, "cached_micros": None, "output_micros": 1}
    hone.ask({"publish": {"name": "base", "version": "starter", "slots": 4, "context_tokens": 2048, "price": price}})
    while next(s for s in hone.ask("services") if s["record"]["name"] == "base")["state"] != "on":
        time.sleep(0.1)
    hone.ask({"set_application": {"name": "shop", "title": "", "services": []}})
    key = hone.ask({"create_key": {"application": "shop", "label": ""}})["secret"]
    base = next(a for a in (world.state / "run/http").read_text().split() if a.startswith("http://")) + "/v1"

    def howto(tool):
        return run([world.binaries / "hone", "service", "howto", "base", "--with", tool], HONE_STATE=str(world.state))

    litellm = {"PYTHONPATH": folders["litellm"], "HONE_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    used = json.loads(run([sys.executable, "-c", LITELLM, base], **litellm).splitlines()[-1])
    assert run([sys.executable, "-c", howto("litellm")], **litellm)
    home = world.state / "llm"
    home.mkdir()
    (home / "extra-openai-models.yaml").write_text(howto("llm"))
    (home / "keys.json").write_text(json.dumps({"hone": key}))
    llm = {"PYTHONPATH": folders["llm"], "LLM_USER_PATH": str(home)}
    assert run([sys.executable, "-m", "llm", "-m", "base", "Name a colour."], **llm)

    rows = hone.ask({"ledger": {"application": "shop", "count": 100}})
    by_id = {row["id"].rsplit("-")[-1]: row for row in rows}
    for told, prompt, completion in used:
        row = by_id[told.rsplit("-", 1)[-1].rsplit("_", 1)[-1]]
        assert (row["prompt_tokens"], row["completion_tokens"]) == (prompt, completion), (told, row)
    outcomes = sorted({row["outcome"] for row in rows})
    evidence = {"seed": seed, "packages": PACKAGES, "requests": len(rows), "usage_equals_ledger": len(used), "outcomes": outcomes}
    end(world, "clients", begun, evidence)
    if outcomes != ["complete"] or len(rows) != len(used) + 2:
        sys.exit(f"prove: {len(rows)} rows, {outcomes}")


if __name__ == "__main__":
    main()
