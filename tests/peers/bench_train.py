#!/usr/bin/env python3
"""hone's trainer beside PyTorch + PEFT, on the same model, rows, order, rank and first values:
`bench_train.py BIN MODEL PEERS`. First every way to run the peer once, then the fastest of them and hone by turns;
then the gradient, then a whole run with its held-out loss. Ends with one line of JSON."""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent.parent / "daemon/data/presets/support-desk.jsonl"
ROWS, LENGTH, RANK, ALPHA = 4, 128, 8, 16
# A plain way this many times slower than the best is not tried in other forms.
FAR_BEHIND = 4
ROUNDS, FINALISTS = 5, 3
TRAIN_ROWS, HELD_OUT_ROWS, RUN_RATE = 256, 128, 1e-3
STEPS = 40
# Steps before the gradient that is compared.
GRADIENT_STEP = 20
WAYS = [(dtype, how) for dtype in ("fp32", "autocast", "bf16") for how in ("eager", "compile", "chunked")]


class Driver:
    """A trainer behind a pipe."""

    def __init__(self, name, command, **environment):
        self.name = name
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, **environment}, stderr=subprocess.DEVNULL)

    def __call__(self, do, **arguments):
        self.child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended at {do!r} with status {self.child.wait()}")
        return json.loads(line)

    def close(self):
        self.child.stdin.close()
        self.child.wait()


class Bench:
    def __init__(self, binaries, model, peers, scratch):
        self.binaries, self.model, self.peers, self.scratch = binaries, model, peers, scratch
        self.python = peers / "bin/python"
        if not self.python.exists():
            sys.exit(f"the peers are missing: run make bench-peers (looked in {peers})")

    def hone(self, rows, length, steps, epochs, rate=1e-4):
        """Loaded, with the first values of its adapter in a file and the rows of every step."""
        driver = Driver("hone", [self.binaries / "bench-train-driver"])
        loaded = driver("load", model=str(self.model), rows=rows, batch_windows=ROWS, sequence_tokens=length, steps=steps,
                        epochs=epochs, learning_rate=rate)
        start = self.scratch / "start.gguf"
        driver("save", adapter=str(start))
        return driver, driver("order")["order"], str(start), loaded

    def torch(self, way, rows, order, start, rate=1e-4):
        driver = Driver("torch " + " ".join(way), [self.python, HERE / "torch_driver.py", *way],
                        LD_LIBRARY_PATH=str(self.peers / "stubs"))
        loaded = driver("load", model=str(self.model), rows=rows, order=order, adapter=start, learning_rate=rate,
                        rank=RANK, alpha=ALPHA)
        return driver, loaded


def random_rows(every):
    """One token of every `every` is a target."""
    def row(number):
        tokens = [(number * 7919 + at * 104729) % 40000 for at in range(LENGTH)]
        return {"tokens": tokens, "trained": [every == 1 or at % every == every - 1 for at in range(LENGTH)]}
    return [row(number) for number in range(ROWS)]


def speed(step):
    return step["tokens"] / step["seconds"]


def survey(bench, rows, order, start):
    """Every way of the peer, two steps after the first; the fastest first."""
    print("PyTorch + PEFT, tokens/s of two steps after the first, and peak memory without library files", flush=True)
    found, slow = [], set()
    for way in WAYS:
        if way[0] in slow:
            print(f"  {' '.join(way):18} left out: its plain form is far behind", flush=True)
            continue
        try:
            driver, _ = bench.torch(way, rows, order, start)
            first = speed(driver("step"))
            best = max((rate for rate, *_ in found), default=0)
            # Some types have no fast products on some processors; compiling does not mend that.
            if way[1] == "eager" and first < best / FAR_BEHIND:
                slow.add(way[0])
            rate = first if way[0] in slow else max(speed(driver("step")) for _ in range(2))
            found.append((rate, way, driver("memory")["peak_mib"]))
            print(f"  {' '.join(way):18} {rate:7.1f} tokens/s {found[-1][2]:7.0f} MiB", flush=True)
            driver.close()
        except RuntimeError as problem:
            print(f"  {' '.join(way):18} did not run: {problem}", flush=True)
    if len(found) < FINALISTS:
        sys.exit("too few ways of the peer ran for a comparison")
    return [way for _, way, _ in sorted(found, reverse=True)]


def by_turns(bench, rows, ways, title):
    """Medians of tokens/s and peak memory; hone first."""
    hone, order, start, _ = bench.hone(rows, LENGTH, STEPS, STEPS)
    drivers = [("hone", hone)]
    for way in ways:
        drivers.append((" ".join(way), bench.torch(way, rows, order, start)[0]))
    samples = {name: [] for name, _ in drivers}
    for name, driver in drivers:
        driver("step")
    for _ in range(ROUNDS):
        for name, driver in drivers:
            samples[name].append(speed(driver("step")))
    peaks = {name: driver("memory")["peak_mib"] for name, driver in drivers}
    print(f"{title}, by turns, tokens/s (raw) | median | peak MiB")
    for name, driver in drivers:
        raw = " ".join(f"{value:.0f}" for value in samples[name])
        print(f"  {name:18} {raw} | {statistics.median(samples[name]):.1f} | {peaks[name]:.0f}", flush=True)
        driver.close()
    return {name: statistics.median(values) for name, values in samples.items()}, peaks


def gradient(bench, rows, title):
    """Cosine between hone's gradient and PyTorch's in F32, some steps into a run, and the peer's versions."""
    hone, order, start, _ = bench.hone(rows, LENGTH, STEPS, STEPS)
    for _ in range(GRADIENT_STEP):
        hone("step")
    adapter, path = str(bench.scratch / "a.gguf"), str(bench.scratch / "g.gguf")
    hone("save", adapter=adapter)
    hone("step")
    hone("save", gradient=path)
    torch, _ = bench.torch(("fp32", "eager"), rows, order[GRADIENT_STEP:], start)
    cosine = torch("gradient_cosine", adapter=adapter, gradient=path)["cosine"]
    versions = torch("versions")
    hone.close(), torch.close()
    print(f"gradient cosine against PyTorch in F32, {title}: {cosine:.6f}", flush=True)
    return cosine, versions


def chat_rows(bench):
    """The rows of the demo as the model's template renders them, answers targets."""
    driver = Driver("hone", [bench.binaries / "bench-train-driver"])
    rows = driver("render", model=str(bench.model), file=str(DATA))["rows"]
    driver.close()
    return rows


def whole_run(bench, way, rows):
    """Held-out loss before and after one epoch of chat rows, answers only."""
    train, held_out = rows[:TRAIN_ROWS], rows[TRAIN_ROWS:TRAIN_ROWS + HELD_OUT_ROWS]
    hone, order, start, loaded = bench.hone(train, LENGTH, 10_000, 1, RUN_RATE)
    torch, _ = bench.torch(way, train, order, start, RUN_RATE)
    losses = {}
    for name, driver in (("hone", hone), ("torch", torch)):
        before = driver("evaluate", rows=held_out)["loss"]
        for _ in range(loaded["steps"]):
            driver("step")
        losses[name] = driver("evaluate", rows=held_out)["loss"]
        print(f"whole run of {loaded['steps']} steps, {name}: held-out loss {before:.4f} -> {losses[name]:.4f}", flush=True)
        driver.close()
    return losses


def main():
    binaries, model, peers = (pathlib.Path(word).absolute() for word in sys.argv[1:4])
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(binaries, model, peers, pathlib.Path(scratch))
        print(f"{model.name} | LoRA rank {RANK} on 7 projections | {ROWS}x{LENGTH} tokens a step | {os.cpu_count()} threads")
        rows = random_rows(1)
        hone, order, start, loaded = bench.hone(rows, LENGTH, STEPS, STEPS)
        hone.close()
        ways = survey(bench, rows, order, start)
        speeds, peaks = by_turns(bench, rows, ways[:FINALISTS], "every token a target")
        fastest = max((name for name in speeds if name != "hone"), key=speeds.get)
        quarter_ways = [tuple(fastest.split()), (fastest.split()[0], "chunked")]
        quarters, _ = by_turns(bench, random_rows(4), list(dict.fromkeys(quarter_ways)), "a quarter of the tokens targets")
        quarter = max(value for name, value in quarters.items() if name != "hone")
        chat = chat_rows(bench)
        cosine, versions = gradient(bench, chat[:TRAIN_ROWS], "chat rows")
        # Rows without sense enlarge every rounding: told, but nothing that one trains on.
        nonsense, _ = gradient(bench, rows, "rows of random tokens")
        losses = whole_run(bench, tuple(fastest.split()), chat)
    print(json.dumps({
        "bench": "train",
        "versions": versions,
        "figures": {
            "fastest_torch": fastest,
            "tokens_per_s": speeds,
            "peak_mib": peaks,
            "tokens_per_s_quarter_targets": quarters,
            "held_out_loss": losses,
            "gradient_cosine_random_tokens": nonsense,
            "parameters": loaded["parameters"],
        },
        "ratios": {
            "tokens_per_s_vs_torch_fastest": speeds["hone"] / speeds[fastest],
            "peak_memory_vs_torch_fastest": peaks["hone"] / peaks[fastest],
            "tokens_per_s_vs_torch_fastest_quarter_targets": quarters["hone"] / quarter,
            "gradient_cosine_vs_torch_f32": cosine,
            "held_out_loss_vs_torch": losses["hone"] / losses["torch"],
        },
    }))


main()
