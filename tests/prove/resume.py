#!/usr/bin/env python3
"""Interrupted training. `make prove` runs it: one run is left alone, then the same run is interrupted again and again: its
worker is killed, honed is killed, or it is paused and resumed, at random moments. Every adapter must have the same
bits. Writes docs/evidence/resume.json.

usage: resume.py BINARIES [RUNS] [SEED]"""
import json
import sys
import time

from prove import PARAMS, SPLIT, Failure, begin, end, wait

STEPS = 40
# Interruptions of one run, at most.
TIMES_MAX = 3


def submit(world):
    params = {**PARAMS, "steps_max": STEPS, "checkpoint_steps": 4, "targets": ["q", "k", "v", "o", "gate", "up", "down"], "threads": 2}
    spec = {"base": "starter", "params": params, "dataset": "desk", "split": SPLIT, "replay": None,
            "register": {"model": "tuned", "publish": "", "alias": ""}}
    return world.connect().ask({"submit": {"spec": {"train": spec}}})["record"]["id"]


def look(world, job):
    return world.connect().ask({"job": {"job": job}})


def step_of(world, job):
    """The newest step that is known, and whether the run is over."""
    view = look(world, job)
    points = world.connect().ask({"metrics": {"job": job, "series": "loss", "from_step": 0, "points": 0}})
    return (points[-1]["step"] if points else 0), view["shown"] in ("succeeded", "failed", "cancelled")


def interrupt(world, job, how):
    """Whether it was in time: a run may end first, and a worker may just not be there."""
    if how != "pause":
        return world.kill(how)
    try:
        world.connect().ask({"pause": {"job": job}})
    except Failure:
        return False
    wait("the run is paused", lambda: look(world, job)["shown"] in ("paused", "succeeded"))
    if look(world, job)["shown"] != "paused":
        return False
    world.connect().ask({"resume": {"job": job}})
    return True


def adapter(world, job):
    """SHA-256 of the finished run's adapter, whose file names its model and no run."""
    wait("the run ends", lambda: step_of(world, job)[1], 600)
    view = look(world, job)
    state = view["record"]["state"]
    if not (isinstance(state, dict) and "succeeded" in state):
        sys.exit(f"prove: the run ended as {json.dumps(state)}")
    versions = world.connect().ask("models")
    found = [v["record"]["file"]["sha256"] for m in versions for v in m["versions"] if v["record"]["lineage"]["job"] == job]
    if len(found) != 1:
        sys.exit(f"prove: job {job} made {len(found)} versions: {json.dumps(versions)[:2000]}")
    return found[0]


def main():
    begun = time.monotonic()
    world, runs, seed = begin(20, "interrupted runs")
    expected = adapter(world, submit(world))
    done = {"train": 0, "honed": 0, "pause": 0}
    for run in range(runs):
        job = submit(world)
        for _ in range(world.random.randint(1, TIMES_MAX)):
            # Anywhere in the run: between the steps that it has and its end.
            step, _ = step_of(world, job)
            target = world.random.randint(step, STEPS)
            wait("the run goes on", lambda: step_of(world, job)[1] or step_of(world, job)[0] >= target, 600)
            time.sleep(world.random.uniform(0, 0.2))
            if step_of(world, job)[1]:
                break
            how = world.random.choice(list(done))
            done[how] += interrupt(world, job, how)
        found = adapter(world, job)
        print(f"prove: run {run + 1} of {runs}: {'same bits' if found == expected else found}", flush=True)
        if found != expected:
            sys.exit(f"prove: run {run} ended in {found}, uninterrupted in {expected}; state in {world.state}")
    end(world, "resume", begun, {"runs": runs, "steps": STEPS, "interruptions": done, "seed": seed, "adapter_sha256": expected})


if __name__ == "__main__":
    main()
