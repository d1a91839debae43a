#!/usr/bin/env python3
"""Several people label one project as people do, and what hone says of their agreement is what well-known libraries say. `make prove` runs
it, as root: two further users of the system are needed. Writes docs/evidence/label.json.

1. Two system users, each with their own hone over the shared socket, label a project at once: every row once. A third user who was not let
   in is refused, and an annotator can do nothing but label.
2. Three persons judge the same rows with choices and with points; kappas and alpha equal scikit-learn's, statsmodels' and krippendorff's.

usage: label.py BINARIES PEERS"""
import concurrent.futures
import json
import os
import pathlib
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
USERS = {"ada": 64001, "lin": 64002}
STRANGER = 64003
ROWS = 120
TOLERANCE = 1e-9


class Desk:
    """A daemon with a socket for others, and `hone` to talk to it, as root or as a user of the system."""

    def __init__(self, binaries, home):
        self.home, self.shared = home, home / "shared"
        self.shared.mkdir(mode=0o755)
        # Others may not read the folder that the programs lie in.
        self.hone = str(shutil.copy(binaries / "hone", home / "hone"))
        os.chmod(self.hone, 0o755)
        os.chmod(home, 0o755)
        self.socket = str(self.shared / "socket")
        self.environment = {"PATH": f"{binaries}:{os.environ['PATH']}", "LANG": "C.UTF-8", "HONE_STATE": str(home / "state"), "HOME": str(home)}
        self.daemon = subprocess.Popen([binaries / "honed", "--http", "127.0.0.1:0", "--share", self.socket], env=self.environment)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 20
        while not os.path.exists(self.socket):
            if time.monotonic() > deadline or self.daemon.poll() is not None:
                sys.exit("honed does not listen on the shared socket")
            time.sleep(0.05)

    def run(self, *words, uid=None):
        """Exit status, what was printed and what was said."""
        environment, command = dict(self.environment), [self.hone, "--lang", "en", *words]
        if uid is not None:
            own = self.home / f"user-{uid}"
            if not own.exists():
                own.mkdir(mode=0o700)
                os.chown(own, uid, uid)
            environment |= {"HOME": str(own), "HONE_SOCKET": self.socket}
            del environment["HONE_STATE"]
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        return ended.returncode, ended.stdout, ended.stderr

    def __call__(self, *words, uid=None):
        status, out, said = self.run(*words, uid=uid)
        if status:
            raise SystemError(f"hone {' '.join(words)}: exit status {status}\n{out[-2000:]}\n{said[-2000:]}")
        return out

    def ask(self, *words, uid=None):
        return json.loads(self("--json", *words, uid=uid))

    def close(self):
        self.daemon.terminate()
        self.daemon.wait()


def two_users(desk):
    """Both label until no row is left for them; the rows that each decided."""
    desk("dataset", "import", "preset:support-desk", "--name", "desk")
    desk("label", "new", "tone", "--dataset", "desk", "--labels", "good,bad", "--rows-max", str(ROWS), "--repeat-percent", "0")
    for name, uid in USERS.items():
        desk("person", "set", name, "--role", "annotator", "--uid", str(uid), "--projects", "tone")
    done = {name: [] for name in USERS}

    def work(name, uid):
        while True:
            lines = desk("label", "next", "tone", "--count", "5", uid=uid).splitlines()
            if not lines:
                return
            for row in (json.loads(line)["row"]["row_id"] for line in lines):
                # Attribution is by the user that the system names, whatever is typed.
                desk("--as", "somebody-else", "label", "answer", "tone", str(row), "good" if row % 4 else "bad", uid=uid)
                done[name].append(row)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        # A failure of either is raised here.
        list(pool.map(lambda user: work(*user), USERS.items()))
    rows = sorted(sum(done.values(), []))
    assert rows == list(range(ROWS)), "each row once"
    assert all(len(own) > 0 for own in done.values()), done
    labels = desk.ask("label", "labels", "tone", "--count", "1000")
    assert len(labels) == ROWS and {label["person"] for label in labels} == set(USERS), len(labels)
    for name, own in done.items():
        assert sorted(label["decision"]["row_id"] for label in labels if label["person"] == name) == sorted(own)
    # A row that another decided is refused, not judged twice.
    status, _, said = desk.run("label", "answer", "tone", str(done["ada"][0]), "bad", uid=USERS["lin"])
    assert status and "was decided by ada" in said, said
    refused = [("dataset", "list"), ("status",), ("label", "show", "tone"), ("label", "answer", "tone", "0", "bad", "--settle"),
               ("person", "set", "lin", "--role", "owner"), ("daemon", "stop")]
    for words in refused:
        status, _, said = desk.run(*words, uid=USERS["lin"])
        assert status, words
    status, out, said = desk.run("label", "list", uid=STRANGER)
    assert status, (out, said)
    desk("person", "remove", "lin")
    status, _, said = desk.run("label", "next", "tone", uid=USERS["lin"])
    assert status, "somebody who was let in no longer"
    return {"rows": ROWS, "by": {name: len(own) for name, own in done.items()}, "refused": len(refused) + 3}


def agreement(desk, peers, kind, task, values, seed):
    """Three persons with gaps; the largest difference to the libraries."""
    draw = random.Random(seed)
    name = f"agree-{kind}"
    desk("label", "new", name, "--dataset", "desk", *task, "--rows-max", "90", "--persons", "3")
    labels, lines = [], []
    for row in range(90):
        truth = draw.choice(values)
        for person in ("ada", "lin", "mo"):
            if draw.random() < 0.15:
                continue
            value = truth if draw.random() < 0.7 else draw.choice(values)
            labels.append([person, row, value])
            said = {"points": value} if kind == "points" else {"labels": [value]}
            lines.append((person, {"row_id": row, "value": said, "flag": "", "note": "", "spent_ms": 0, "how": "imported"}))
    import socket
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(f"{desk.environment['HONE_STATE']}/run/hone.sock")
        stream = own.makefile("rw")
        for number, (person, decision) in enumerate(lines):
            request = {"labelling": {"decide": {"project": name, "person": person, "decisions": [decision]}}}
            stream.write(json.dumps({"ask": {"id": number + 1, "once": None, "request": request}}) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
            assert "Ok" in answer["answer"]["answer"], answer
    ours = desk.ask("label", "show", name)["agreement"]
    asked = {"kind": kind, "scale": 5, "labels": labels}
    script = [sys.executable, str(ROOT / "tests/peers/agreement.py"), str(peers)]
    theirs = json.loads(subprocess.run(script, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout)
    value = lambda estimate: None if estimate is None else estimate["value"]
    pairs = {"|".join(sorted((pair["one"], pair["other"]))): value(pair["kappa"]) for pair in ours["pairs"]}
    known = {"|".join(sorted(key.split("|"))): kappa for key, kappa in theirs["cohen"].items()}
    assert pairs.keys() == known.keys(), (pairs, known)
    compared = [(pairs[key], known[key]) for key in known] + [(value(ours["fleiss"]), theirs["fleiss"]), (value(ours["alpha"]), theirs["alpha"])]
    worst = max(abs(a - b) for a, b in compared)
    assert worst <= TOLERANCE, compared
    return {"labels": len(labels), "figures": len(compared), "largest_difference": worst, "alpha": value(ours["alpha"])}


def main():
    binaries, peers = pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2])
    if os.geteuid() != 0:
        sys.exit("label.py needs to be root: it labels as two users of the system")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hone-", dir="/tmp") as folder:
        desk = Desk(binaries, pathlib.Path(folder))
        try:
            said = {"two_users": two_users(desk)}
            said["nominal"] = agreement(desk, peers, "nominal", ["--labels", "a,b,c"], ["a", "b", "c"], 1)
            said["points"] = agreement(desk, peers, "points", ["--task", "rating", "--scale", "5"], [1, 2, 3, 4, 5], 2)
        finally:
            desk.close()
    git = lambda *words: subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()
    evidence = {"proof": "label", "commit": git("rev-parse", "--short", "HEAD"), "machine": platform.machine(), "seconds": round(time.monotonic() - begun), **said}
    path = ROOT / "docs/evidence/label.json"
    path.write_text(json.dumps(evidence, indent=2) + "\n")
    print(json.dumps(evidence))


if __name__ == "__main__":
    main()
