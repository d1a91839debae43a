#!/usr/bin/env python3
"""Writes docs/captures: every screen as a person sees it, at three sizes and in two languages.

A real daemon on a state directory of its own is filled with the starter model, the preset rows, a short run, an
evaluation, a service, an application and a key; then `hone` runs in tmux on sockets of its own, keys are sent, and
what stands on the screen is kept. Needs tmux and the built programs; `make captures` calls it. Nothing of the machine
is kept: the state path is neutral, and the host's name is replaced by one of the same width.

    tests/captures.py PROGRAMS [--state DIR] [--out DIR] [--keep] [--only NAME,NAME] [--sizes WxH,...] [--empty]
"""

import argparse
import concurrent.futures
import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

SIZES = ["80x24", "100x30", "200x50"]
LANGUAGES = ["en", "zh"]
PERSON = "operator"
ESC = "Escape"
# Name, keys from a fresh client; `~` before a text types it, `@` waits for a text on the screen.
SCREENS = [
    ("home", ["1"]),
    ("help", ["1", "?"]),
    ("palette", ["1", ":", "~train"]),
    ("models", ["2", "Down"]),
    ("model", ["2", "Down", "Enter"]),
    ("import-model", ["2", "n"]),
    ("playground", ["3", "~Where is my parcel?", "Enter", "@tok/s|词元/秒"]),
    ("playground-columns", ["3", ESC, "v", ESC, "~Where is my parcel?", "Enter", "@1 A"]),
    ("playground-code", ["3", ESC, "~X"]),
    ("datasets", ["4"]),
    ("dataset-rows", ["4", "Enter"]),
    ("dataset-row", ["4", "Enter", "Enter"]),
    ("import-data", ["4", "n"]),
    ("labelling", ["5"]),
    ("label-form", ["5", "n"]),
    # Projects stand in the order of their making, the last one first.
    ("label-choice", ["5", "Down", "Down", "Enter", ESC]),
    ("label-together", ["5", "Down", "Down", "Enter", ESC, "~b"]),
    ("label-span", ["5", "Down", "Enter"]),
    ("label-pair", ["5", "Enter"]),
    ("label-agreement", ["5", "Down", "Down", "~v"]),
    ("label-settle", ["5", "Down", "Down", "~v", "Enter"]),
    ("training", ["6"]),
    ("training-form", ["6", "n"]),
    ("run", ["6", "Enter"]),
    ("run-samples", ["6", "Enter", "~i"]),
    ("evaluation", ["7"]),
    ("evaluation-rows", ["7", "Enter"]),
    ("prompts", ["8"]),
    ("assistants", ["9"]),
    ("services", ["0"]),
    ("how-to-call", ["0", "Enter"]),
    ("publish", ["0", "n"]),
    ("stop-service", ["0", "s"]),
    ("applications", ["0", "]"]),
    ("keys", ["0", "]", "]"]),
    ("revoke-key", ["0", "]", "]", "d"]),
    ("pools", ["0", "]", "]", "]"]),
    ("hooks", ["0", "]", "]", "]", "]"]),
    ("hook-form", ["0", "]", "]", "]", "]", "n"]),
    ("usage", ["0", *["]"] * 5]),
    ("request-log", ["0", "]", "Down", "l"]),
    ("guards", ["0", "["]),
    ("guard-form", ["0", "[", "n"]),
    ("jobs", ["-"]),
    ("log", ["-", "l"]),
    ("system", ["="]),
    ("jobs-drawer", ["1", "!"]),
]
EMPTY = ["home", "models", "playground", "datasets", "labelling", "training", "training-form", "evaluation",
         "services", "applications", "keys", "usage", "jobs", "jobs-drawer"]


def environment(programs, state):
    return {"HONE_STATE": state, "HOME": state, "TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
            "HONE_GLYPHS": "full", "PATH": f"{programs}:{os.environ['PATH']}",
            **{k: os.environ[k] for k in ("HONE_ASSETS", "PIP_INDEX_URL") if k in os.environ}}


class Client:
    """`hone` in a terminal of its own."""

    numbers = itertools.count(1)

    def __init__(self, env, size, language):
        # A socket of its own each time: a server that is still ending would refuse a new session.
        self.name = f"hone-captures-{os.getpid()}-{next(Client.numbers)}"
        self.env = env
        columns, rows = size.split("x")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows,
                  f"stty rows {rows} cols {columns}; exec hone --as {PERSON} --lang {language}",
                  ";", "set", "-g", "status", "off", ";", "set", "-g", "escape-time", "20")
        self.tmux("resize-window", "-x", columns, "-y", rows)

    def tmux(self, *words):
        done = subprocess.run(["tmux", "-L", self.name, "-u", *words], env=self.env, capture_output=True, check=True)
        return done.stdout.decode()

    def picture(self):
        return self.tmux("capture-pane", "-p")

    def settled(self, until=None):
        """The picture once it has stood still for a moment."""
        begun, before, since = time.monotonic(), self.picture(), time.monotonic()
        while time.monotonic() - begun < 90:
            time.sleep(0.06)
            now = self.picture()
            if now != before:
                before, since = now, time.monotonic()
            ready = until is None or any(text in now for text in until.split("|"))
            # A running job changes the picture once a second.
            if ready and (time.monotonic() - since > 0.25 or time.monotonic() - begun > 4) and now.strip():
                return now
        sys.exit(f"{until!r} never stood on the screen:\n{before}")

    def press(self, key):
        if key.startswith("~"):
            self.tmux("send-keys", "-l", key[1:])
        elif key.startswith("@"):
            return self.settled(key[1:])
        else:
            self.tmux("send-keys", key)
        return self.settled()

    def close(self):
        subprocess.run(["tmux", "-L", self.name, "kill-server"], env=self.env, capture_output=True)


def label(env, hone):
    """Projects of three kinds: one that two persons have begun, with a guide, one of Chinese spans, one of pairs."""
    hone("label", "new", "tone", "--dataset", "support-desk", "--labels", "good,fixable,-wrong-fact=wrong fact,-unsafe",
         "--question", "Is this a good answer to learn from?", "--persons", "2", "--repeat-percent", "0",
         "--guide", "Good is true and polite, and would satisfy the customer. Fixable is nearly so: say in a note what is wrong.")
    for row in range(24):
        for person, word in (("ada", "good" if row % 5 else "fixable"), ("lin", "good" if row % 4 else "fixable")):
            subprocess.run(["hone", "--as", person, "label", "answer", "tone", str(row), word], env=env, check=True, capture_output=True)
    rows = ["你好，我叫王小明，电话是138-0013-8000，请把包裹改寄到杭州市西湖区文三路90号，谢谢。",
            "张伟先生昨天来过，想把地址改到上海市浦东新区世纪大道1号。"]
    path = pathlib.Path(env["HONE_STATE"]) / "zh.jsonl"
    path.write_text("".join(f'{{"text": "{row}"}}\n' for row in rows))
    hone("dataset", "import", str(path), "--name", "faq-zh")
    hone("label", "new", "names", "--dataset", "faq-zh", "--task", "span", "--labels", "name=姓名,phone=电话,address=地址",
         "--repeat-percent", "0")
    hone("dataset", "import", "preset:support-preferences", "--name", "prefs")
    hone("label", "new", "better", "--dataset", "prefs", "--task", "pair", "--reasons", "fact,tone,length",
         "--question", "Which reply would you send?", "--repeat-percent", "0")


def fill(env):
    """The main job in small, so that every screen has something to show."""
    def hone(*words):
        subprocess.run(["hone", "--as", PERSON, *words], env=env, check=True, stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL)
    hone("model", "import", "starter", "--name", "starter")
    hone("dataset", "import", "preset:support-desk")
    label(env, hone)
    train = ["--base", "starter", "--dataset", "support-desk", "--model", "support", "--learning-rate", "2e-3",
             "--sequence-tokens", "128", "--batch-windows", "1", "--accumulation", "1", "--evaluate-steps", "10",
             "--samples", "How do I reset my password? | Where is my parcel?"]
    # One thread: on a machine that others use, two would wait for each other at every step.
    hone("train", "start", *train, "--steps-max", "40", "--checkpoint-steps", "20", "--threads", "1")
    hone("eval", "suite", "create", "desk", "--dataset", "support-desk", "--scorer", "loss", "--scorer", "expect")
    hone("eval", "start", "support@1", "--suite", "desk", "--rows", "12", "--answer-tokens", "24")
    hone("service", "publish", "support", "support@1", "--price-in", "0.15", "--price-out", "0.6")
    hone("app", "create", "shop", "--title", "Web shop", "--services", "support")
    hone("app", "limit", "shop", "--requests", "60", "--parallel", "4", "--monthly", "25")
    hone("key", "create", "shop", "--label", "web")
    hone("log", "on", "owner", "--share", "100", "--days", "14")
    hone("guard", "set", "pii", "--kinds", "email,phone,card", "--act", "mask")
    hone("hook", "add", "ops", "--on", "job_failed,service_down", "--", "/usr/bin/logger", "-t", "hone")
    hone("pool", "create", "night", "--cores", "1", "--memory-mib", "2048")
    hone("service", "call", "support", "Where is my parcel?", "--tokens", "24")


def same_width(name, instead="box"):
    return (instead + "-" * len(name))[:len(name)] if len(name) > len(instead) else instead[:len(name)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("programs")
    arguments.add_argument("--state", default="/srv/hone")
    arguments.add_argument("--out", default=str(pathlib.Path(__file__).resolve().parent.parent / "docs/captures"))
    arguments.add_argument("--keep", action="store_true", help="use the state as it is and leave it there")
    arguments.add_argument("--only", default="")
    arguments.add_argument("--sizes", default=",".join(SIZES))
    arguments.add_argument("--empty", action="store_true", help="a fresh state, names with -empty")
    chosen = arguments.parse_args()
    if not chosen.keep and os.path.exists(chosen.state):
        sys.exit(f"{chosen.state} exists; captures need a state directory of their own (--state DIR, or --keep)")
    out = pathlib.Path(chosen.out)
    out.mkdir(parents=True, exist_ok=True)
    os.makedirs(chosen.state, mode=0o700, exist_ok=True)
    env = environment(os.path.abspath(chosen.programs), chosen.state)
    host = socket.gethostname()
    only = [n for n in chosen.only.split(",") if n] or (EMPTY if chosen.empty else [n for n, _ in SCREENS])
    try:
        if not chosen.empty and not chosen.keep:
            fill(env)
        kinds = [(size, language) for size in chosen.sizes.split(",") for language in LANGUAGES]
        mark = "-empty" if chosen.empty else ""
        with concurrent.futures.ThreadPoolExecutor(max_workers=3) as clients:
            for done in [clients.submit(capture, env, out, kind, only, host, mark) for kind in kinds]:
                done.result()
    finally:
        if not chosen.keep:
            subprocess.run(["hone", "daemon", "stop"], env=env, capture_output=True)
            shutil.rmtree(chosen.state, ignore_errors=True)


def capture(env, out, kind, only, host, mark):
    size, language = kind
    for name, keys in SCREENS:
        if name not in only:
            continue
        # A client of its own for each: none sees where another one was left.
        client = Client(env, size, language)
        try:
            picture = client.settled("─")
            for key in keys:
                if mark and key.startswith(("~", "@")):
                    continue
                picture = client.press(key)
        finally:
            client.close()
        lines = [line.rstrip().replace(host, same_width(host)) for line in picture.splitlines()]
        (out / f"{name}{mark}-{size}-{language}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
