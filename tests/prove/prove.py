#!/usr/bin/env python3
"""The kill matrix. `make prove` runs it: honed, a training worker or a serving worker is killed at random moments while
clients write, a run trains and streams are read; then everything that was promised is checked against the store.

Checked after every kill: each acknowledged write is there; after the last: the run's loss series has no gap and no
repeat; services came back; every usage object that a client received equals its ledger row; streams that a daemon
kill cut obey 0 <= written - billed <= 64; no child of a dead daemon lives. Writes docs/evidence/kills.json.

usage: prove.py BINARIES [KILLS] [SEED]"""
import http.client
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "demo"))
from honesock import Failure, Hone  # noqa: E402

SPLIT = {"held_out_percent": 15, "seed": 7}
PARAMS = {
    "rank": 4, "alpha": 8.0, "targets": ["q", "v"], "learning_rate": 0.001, "schedule": "constant", "warmup_ratio": 0.0,
    "epochs": 1000, "steps_max": 0, "sequence_tokens": 64, "too_long": "leave_out", "batch_windows": 1, "accumulation": 1,
    "weight_decay": 0.0, "clip_norm": 1.0, "evaluate_steps": 0, "checkpoint_steps": 3, "seed": 42, "threads": 1,
    "method": "sft", "tuning": "lora", "scaling": "rank", "dropout": 0.0, "beta": 0.1, "decay_ratio": 0.2, "patience": 0,
}


class World:
    def __init__(self, binaries, seed, folder):
        self.binaries, self.random = binaries, random.Random(seed)
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="hone-prove-", dir=folder))
        self.log = pathlib.Path("/tmp") / (self.state.name + ".log")
        self.acked, self.streams, self.stop, self.counts = [], [], threading.Event(), {}
        self.lock = threading.Lock()
        self.daemon = None
        self.start()

    def start(self):
        # Not beside the state: that disk may be full.
        log = open(self.log, "a")
        self.daemon = subprocess.Popen([self.binaries / "honed", "run", "--state", str(self.state), "--http", "127.0.0.1:0"],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.connect()

    def connect(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                return Hone(str(self.state))
            except OSError as error:
                last = error
                time.sleep(0.01)
        sys.exit(f"prove: honed did not come back ({last}):\n" + self.log.read_text()[-2000:])

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def write(self):
        """Makes applications until told to stop; remembers which were acknowledged."""
        number = 0
        while not self.stop.is_set():
            try:
                hone = self.connect()
                while not self.stop.is_set():
                    name = f"app-{number}"
                    number += 1
                    hone.ask({"set_application": {"name": name, "title": "", "services": []}})
                    with self.lock:
                        self.acked.append(name)
                    time.sleep(0.02)
            except (OSError, ValueError, Failure):
                self.count("writer connections cut")

    def stream(self, key):
        """Reads streams until told to stop; remembers what was told and what was seen."""
        while not self.stop.is_set():
            seen = {"id": None, "usage": None, "text": "", "pieces": 0}
            try:
                address = next(l for l in (self.state / "run/http").read_text().splitlines() if l.startswith("http://"))
                connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
                body = {"model": "base", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 120, "temperature": 0,
                        "messages": [{"role": "user", "content": f"Tell me a long story about number {self.random.random()}."}]}
                connection.request("POST", "/v1/chat/completions", json.dumps(body),
                                   {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
                response = connection.getresponse()
                if response.status != 200:
                    response.read()
                    time.sleep(0.1)
                    continue
                for line in response:
                    if not line.startswith(b"data: {"):
                        continue
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        break
                    seen["id"] = chunk["id"].removeprefix("chatcmpl-")
                    for choice in chunk["choices"]:
                        seen["text"] += choice["delta"].get("content") or ""
                        seen["pieces"] += bool(choice["delta"].get("content"))
                    seen["usage"] = chunk.get("usage") or seen["usage"]
                connection.close()
            except (OSError, ValueError, StopIteration, http.client.HTTPException):
                self.count("streams cut")
                time.sleep(0.05)
            if seen["id"]:
                with self.lock:
                    self.streams.append(seen)

    def children(self):
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if not entry.name.isdigit():
                    continue
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if stat[0] != "Z" and int(stat[1]) == self.daemon.pid:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found[int(entry.name)] = words[1].decode() if len(words) > 1 else ""
            except (OSError, IndexError, ValueError):
                pass
        return found

    def kill(self, whom):
        if whom == "honed":
            orphans = list(self.children())
            self.daemon.send_signal(signal.SIGKILL)
            self.daemon.wait()
            deadline = time.monotonic() + 5
            while any(alive(pid) for pid in orphans):
                if time.monotonic() > deadline:
                    sys.exit(f"prove: children outlived honed: {[pid for pid in orphans if alive(pid)]}")
                time.sleep(0.01)
            self.start()
            return True
        targets = [pid for pid, mode in self.children().items() if mode == whom]
        for pid in targets:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        return bool(targets)

    def check_writes(self):
        with self.lock:
            acked = set(self.acked)
        names = {a["record"]["name"] for a in self.connect().ask("applications")}
        missing = acked - names
        if missing:
            sys.exit(f"prove: acknowledged and gone: {sorted(missing)[:5]}")


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait(what, look, seconds=180):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = look()
            if found:
                return found
        except (OSError, ValueError, Failure, ConnectionError):
            pass
        time.sleep(0.1)
    sys.exit(f"prove: {what} did not happen within {seconds} s")


def begin(count, what, folder="/tmp"):
    """A world in `folder` with the starter and a dataset in it, how many times to do it, and the seed: BINARIES [COUNT] [SEED]."""
    binaries = pathlib.Path(sys.argv[1]).resolve()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else count
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
    print(f"prove: HONE_SEED={seed}, {count} {what}", flush=True)
    world = World(binaries, seed, folder)
    hone = world.connect()
    model = os.path.join(os.environ["HONE_ASSETS"], "SmolLM2-135M-Instruct.Q4_1.gguf")
    hone.job({"import_model": {"source": {"path": {"path": model, "in_place": True}}, "name": "starter"}})
    hone.job({"import_dataset": {"source": {"preset": {"name": "support-desk"}}, "name": "desk", "format": "detect"}})
    return world, count, seed


def end(world, name, begun, evidence):
    """Stops the daemon as a person would, writes the evidence and removes what was made."""
    world.daemon.terminate()
    status = world.daemon.wait(90)
    evidence |= {
        "graceful_stop_status": status, "minutes": round((time.monotonic() - begun) / 60, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    folder = pathlib.Path("docs/evidence")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(evidence, indent=1) + "\n")
    print(json.dumps({"prove": evidence}), flush=True)
    shutil.rmtree(world.state, ignore_errors=True)
    world.log.unlink()


def main():
    begun = time.monotonic()
    world, kills, seed = begin(50, "kills")
    hone = world.connect()
    price = {"input_micros": 1000000, "cached_micros": 100000, "output_micros": 2000000}
    hone.ask({"publish": {"name": "base", "version": "starter", "slots": 2, "context_tokens": 512, "price": price}})
    hone.ask({"set_application": {"name": "reader", "title": "", "services": []}})
    key = hone.ask({"create_key": {"application": "reader", "label": ""}})["secret"]
    spec = {"base": "starter", "params": PARAMS, "dataset": "desk", "split": SPLIT, "replay": None, "register": None}
    job = hone.ask({"submit": {"spec": {"train": spec}}})["record"]["id"]
    service_on = lambda: any(s["record"]["name"] == "base" and s["state"] == "on" for s in world.connect().ask("services"))
    wait("the service is on", service_on)
    wait("the run has a checkpoint", lambda: world.connect().ask({"job": {"job": job}})["record"]["checkpoint"])
    threads = [threading.Thread(target=world.write), threading.Thread(target=world.stream, args=(key,)),
               threading.Thread(target=world.stream, args=(key,))]
    for thread in threads:
        thread.start()
    done = {"honed": 0, "train": 0, "serve": 0}
    while sum(done.values()) < kills:
        time.sleep(world.random.uniform(0.1, 3.0))
        whom = world.random.choice(["honed", "train", "serve"])
        if not world.kill(whom):
            continue
        done[whom] += 1
        print(f"prove: {sum(done.values())} of {kills}: {whom}", flush=True)
        world.check_writes()
        # Work must go on between kills, or nothing is proved; a job that never reaches a checkpoint is set aside by design.
        before = world.connect().ask({"job": {"job": job}})["record"]
        step = (before["checkpoint"] or {"step": 0})["step"]
        wait("the run goes on", lambda: (world.connect().ask({"job": {"job": job}})["record"]["checkpoint"] or {"step": 0})["step"] > step)
        wait("the service is on again", service_on)
    world.stop.set()
    for thread in threads:
        thread.join()
    world.check_writes()
    hone = world.connect()
    hone.ask({"pause": {"job": job}})
    wait("the run is paused", lambda: world.connect().ask({"job": {"job": job}})["shown"] == "paused")
    points = hone.ask({"metrics": {"job": job, "series": "loss", "from_step": 0, "points": 0}})
    steps = [p["step"] for p in points]
    if steps != list(range(1, len(steps) + 1)):
        sys.exit(f"prove: the loss series has a gap or a repeat: {steps}")
    ledger = {row["id"].removeprefix("req-"): row for row in hone.ask({"ledger": {"application": "reader", "count": 1000}})}
    told = cut = 0
    for seen in world.streams:
        row = ledger.get(seen["id"]) or ledger.get(seen["id"].removeprefix("req-"))
        if row is None:
            sys.exit(f"prove: stream {seen['id']} has no ledger row")
        if seen["usage"]:
            told += 1
            if (seen["usage"]["prompt_tokens"], seen["usage"]["completion_tokens"]) != (row["prompt_tokens"], row["completion_tokens"]):
                sys.exit(f"prove: told {seen['usage']}, billed {row}")
        elif row["outcome"] == "cut_by_restart":
            cut += 1
            # A piece holds at least one token, and a token of this vocabulary is at least one byte: pieces bound the
            # written tokens from below, bytes from above.
            billed, low, high = row["completion_tokens"], seen["pieces"], len(seen["text"].encode())
            if low - billed > 64 or billed > high:
                sys.exit(f"prove: {low} to {high} tokens were written, {billed} billed")
    end(world, "kills", begun, {
        "kills": done, "seed": seed, "acknowledged_writes": len(world.acked), "steps": len(steps), "streams": len(world.streams),
        "usages_equal_to_ledger": told, "streams_cut_by_daemon_kill": cut, "cut_connections": world.counts,
    })


if __name__ == "__main__":
    main()
