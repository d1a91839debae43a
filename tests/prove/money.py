#!/usr/bin/env python3
"""Money over random orders of events: the dispatcher's property test, many times. `make prove` runs it. Streams, clients that go away,
workers that die, jobs that are cancelled, prices that change, clocks that are set, and a daemon that is killed before or after any
commit; after each the books of the test and of the store must be the same. Writes docs/evidence/money.json.

usage: money.py [CASES] [SEED]"""
import json
import os
import pathlib
import platform
import random
import re
import subprocess
import sys
import time

TEST = "dispatcher::tests::interleavings::"


def main():
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    print(f"prove: PROPTEST_RNG_SEED={seed}, {cases} orders of events", flush=True)
    environment = {**os.environ, "HONE_CASES": str(cases), "PROPTEST_RNG_SEED": str(seed)}
    if os.path.isdir("/dev/shm"):
        # Kills are of the process, not of the machine: a disk would only be waited for.
        environment["TMPDIR"] = "/dev/shm"
    begun = time.monotonic()
    words = ["cargo", "test", "--release", "--locked", "-p", "hone-daemon", "--lib", TEST]
    run = subprocess.run(words, env=environment, capture_output=True, text=True)
    passed = re.search(r"test result: ok\. (\d+) passed", run.stdout)
    if run.returncode or not passed or passed[1] == "0":
        sys.exit(f"{run.stdout[-4000:]}\n{run.stderr[-4000:]}\nmoney: the books differ, or no test ran")
    evidence = {
        "cases": cases, "seed": seed, "tests": int(passed[1]), "minutes": round((time.monotonic() - begun) / 60, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    folder = pathlib.Path("docs/evidence")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "money.json").write_text(json.dumps(evidence, indent=1) + "\n")
    print(json.dumps({"prove": evidence}), flush=True)


if __name__ == "__main__":
    main()
