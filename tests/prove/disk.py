#!/usr/bin/env python3
"""A disk that fills up under a training run. `make prove` runs it. The state lies on a file system of its own (a tmpfs
in a mount namespace, for which no rights are needed). With little free, a run is refused before its first step; filled while a run
trains, either the run fails at a checkpoint with the sentence that says so, or honed, which cannot save, says so and ends;
once there is space the run goes on to the same bits in both cases. Writes docs/evidence/disk.json.

usage: disk.py BINARIES [RUNS] [SEED]"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from prove import Hone, begin, end, wait
from resume import STEPS, adapter, look, step_of, submit

SIZE_MIB = 256
MARK = "HONE_PROVE_DISK"


def own_file_system():
    """Starts this script again where it may mount; returns the folder of a small file system there."""
    if MARK not in os.environ:
        words = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
        os.execvpe(words[0], words, {**os.environ, MARK: "1"})
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hone-disk-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "hone", folder], check=True)
    return folder


def fill(ballast, leave):
    """Takes all space but `leave` bytes, also while others write."""
    space = os.statvfs(ballast.parent)
    want = space.f_bavail * space.f_frsize - leave
    with open(ballast, "ab") as file:
        try:
            while want > 0:
                want -= file.write(bytes(min(want, 1 << 16)))
                file.flush()
        except OSError:
            pass


def failed(world, job):
    view = look(world, job)
    if view["shown"] == "succeeded":
        sys.exit("prove: a run succeeded on a full disk")
    return view["record"]["state"]["failed"] if view["shown"] == "failed" else None


def failed_or_ended(world, job):
    """The failure of a run; "ended" once honed is gone."""
    try:
        state = Hone(str(world.state)).ask({"job": {"job": job}})["record"]["state"]
    except OSError:
        return "ended" if world.daemon.poll() is not None else None
    if isinstance(state, dict) and "succeeded" in state:
        sys.exit("prove: a run succeeded on a full disk")
    return state["failed"] if isinstance(state, dict) and "failed" in state else None


def main():
    folder = own_file_system()
    begun = time.monotonic()
    world, runs, seed = begin(3, "runs on a disk that fills up", folder)
    ballast = folder / "ballast"
    expected = adapter(world, submit(world))
    sentences, ended = set(), 0
    for _ in range(runs):
        fill(ballast, 2 << 20)
        job = submit(world)
        failure = wait("a run without space is refused", lambda: failed(world, job))
        if failure["code"] != "disk_full" or step_of(world, job)[0]:
            sys.exit(f"prove: refused with {failure} after {step_of(world, job)[0]} steps")
        sentences.add(failure["message_en"].replace(job, "JOB"))
        ballast.unlink()
        job = submit(world)
        target = world.random.randint(1, STEPS // 2)
        wait("the run goes on", lambda: step_of(world, job)[0] >= target)
        fill(ballast, 0)
        failure = wait("the run fails, or honed ends", lambda: failed_or_ended(world, job))
        ballast.unlink()
        if failure == "ended":
            ended += 1
            if "No space left" not in world.log.read_text():
                sys.exit("prove: honed ended without a word of why:\n" + world.log.read_text()[-2000:])
            world.start()
        elif failure["code"] == "disk_full":
            sentences.add(failure["message_en"].replace(job, "JOB"))
            world.connect().ask({"resume": {"job": job}})
        else:
            sys.exit(f"prove: failed with {failure}")
        found = adapter(world, job)
        if found != expected:
            sys.exit(f"prove: the run ended in {found}, undisturbed in {expected}; state in {world.state}")
    end(world, "disk", begun, {"runs": runs, "honed_ended": ended, "seed": seed, "sentences": sorted({sentence.replace(str(world.state), "STATE") for sentence in sentences}), "adapter_sha256": expected})
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


if __name__ == "__main__":
    main()
