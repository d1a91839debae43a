#!/usr/bin/env python3
"""Interrupted training in a real Slurm of one node. `make prove` runs it: one run is made on this machine, then the same run in Slurm
jobs that are interrupted again and again at random moments: honed is killed, also between `sbatch` and the note of its number; honed
is stopped; the run is paused and resumed; its node's trainer is killed; its job reaches a time limit or is cancelled by an operator.
Every adapter must have the bits of the run on this machine, every curve its points, and Slurm must have seen no attempt twice.
Writes docs/evidence/slurm.json.

usage: slurm.py BINARIES [RUNS] [SEED]"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

CLUSTER = pathlib.Path(__file__).parent.parent / "slurm" / "cluster.sh"
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="slurm-prove-", dir="/tmp"))
# Before anything else is imported: honed is started with this environment.
os.environ["SLURM_CONF"] = str(FOLDER / "slurm.conf")

from prove import PARAMS, SPLIT, Failure, begin, end, wait  # noqa: E402
from resume import STEPS, adapter, look, step_of  # noqa: E402

TIMES_MAX = 3


def slurm(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def submit(world, pool):
    params = {**PARAMS, "steps_max": STEPS, "checkpoint_steps": 4, "targets": ["q", "k", "v", "o", "gate", "up", "down"], "threads": 2}
    spec = {"base": "starter", "params": params, "dataset": "desk", "split": SPLIT, "replay": None,
            "register": {"model": "tuned", "publish": "", "alias": ""}}
    return world.connect().ask({"submit": {"spec": {"train": spec}, "pool": pool}})["record"]["id"]


def crash(world):
    world.daemon.send_signal(signal.SIGKILL)
    world.daemon.wait()
    world.start()
    return True


def stop(world):
    world.connect().ask("shutdown")
    world.daemon.wait()
    world.start()
    return True


def crash_at_submission(world, job):
    """Kills honed as soon as Slurm has a job that no note has a number of, if that comes about."""
    try:
        world.connect().ask({"pause": {"job": job}})
    except Failure:
        return False
    wait("the run is paused", lambda: look(world, job)["shown"] in ("paused", "succeeded"))
    if look(world, job)["shown"] != "paused":
        return False
    hone = world.connect()
    hone.ask({"resume": {"job": job}})
    name = f"hone-{job}-{look(world, job)['record']['attempt']}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not slurm("squeue", "--noheader", f"--name={name}"):
        time.sleep(0.002)
    return crash(world)


def interrupt(world, job, how):
    view = look(world, job)
    number = (view["slurm"] or {}).get("number")
    if how == "kill honed":
        return crash(world)
    if how == "stop honed":
        return stop(world)
    if how == "kill honed at submission":
        return crash_at_submission(world, job)
    if not number or view["slurm"]["state"] != "RUNNING":
        return False
    if how == "kill the trainer":
        found = subprocess.run(["pgrep", "-f", "hone-worker train"], capture_output=True, text=True).stdout.split()
        own = [pid for pid in found if f"SLURM_JOB_ID={number}".encode() in parent_environment(pid)]
        for pid in own:
            os.kill(int(pid), signal.SIGKILL)
        return bool(own)
    if how == "time limit":
        # As Slurm announces one: the signal to the batch script.
        slurm("scancel", "--batch", "--signal=TERM", number)
        return True
    slurm("scancel", number)
    wait("the cancelled run failed", lambda: look(world, job)["shown"] != "running" and step_of(world, job)[1], 120)
    if look(world, job)["shown"] != "failed":
        return False
    world.connect().ask({"resume": {"job": job}})
    return True


def parent_environment(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return pathlib.Path(f"/proc/{stat[1]}/environ").read_bytes()
    except (OSError, IndexError):
        return b""


def curve(world, job):
    points = world.connect().ask({"metrics": {"job": job, "series": "loss", "from_step": 0, "points": 0}})
    return [(point["step"], point["value"]) for point in points]


def main():
    subprocess.run([CLUSTER, "start", FOLDER], check=True)
    try:
        prove()
    finally:
        for number in slurm("squeue", "--noheader", "--format=%i").split():
            slurm("scancel", "--batch", "--signal=KILL", number)
        subprocess.run([CLUSTER, "stop", FOLDER], check=True)


def prove():
    begun = time.monotonic()
    world, runs, seed = begin(12, "interrupted runs in Slurm")
    shared = FOLDER / "shared"
    shared.mkdir()
    place = {"slurm": {"folder": str(shared), "cores": 2, "options": []}}
    world.connect().ask({"set_pool": {"name": "cluster", "price": {}, "place": place}})
    here = submit(world, None)
    expected, points = adapter(world, here), curve(world, here)
    done = {how: 0 for how in ("kill honed", "stop honed", "kill honed at submission", "kill the trainer", "time limit", "scancel")}
    for run in range(runs):
        job = submit(world, "cluster")
        # Two deaths of a trainer without a checkpoint between them would be the job's own fault.
        for _ in range(world.random.randint(1, TIMES_MAX)):
            step, _ = step_of(world, job)
            target = world.random.randint(step, STEPS)
            wait("the run goes on", lambda: step_of(world, job)[1] or step_of(world, job)[0] >= target, 600)
            if step_of(world, job)[1]:
                break
            how = world.random.choice(list(done))
            done[how] += interrupt(world, job, how)
        found = adapter(world, job)
        if found != expected or curve(world, job) != points:
            sys.exit(f"prove: run {run} of seed {seed} ended in {found} with {len(curve(world, job))} points, on this machine in {expected} "
                     f"with {len(points)}; state in {world.state}")
        print(f"prove: run {run + 1} of {runs}: same bits, {done}", flush=True)
    names = slurm("squeue", "--noheader", "--states=all", "--format=%j").split()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        sys.exit(f"prove: submitted more than once: {twice}")
    left = [path.name for path in shared.iterdir() if path.name != "hone-models"]
    if left:
        sys.exit(f"prove: left on the shared disk: {left}")
    end(world, "slurm", begun, {"runs": runs, "steps": STEPS, "interruptions": done, "slurm_jobs": len(names), "seed": seed,
                                "adapter_sha256": expected})


if __name__ == "__main__":
    main()
