#!/usr/bin/env python3
"""Checks and measures the GPU of this machine: `check.py PACK [--work FOLDER] [--seconds N] [--again]`, PACK being what
`make gpu-pack` made. Compiles the CUDA backend for the chip found, compares each operation with the CPU, times products and models of real
shapes, and PyTorch + PEFT beside. One JSON, FOLDER/gpu-check.json (FOLDER is target/gpu), in $OUT too if that is set.
It needs no network and stops after N seconds (540); the next run goes on with what is left. Without nvcc or a card it says so and does what
the CPU can do. Exit: 0 all the same, 1 something differs or failed, 75 run again."""
import argparse
import array
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "kernels/backends"))
import build  # noqa: E402

PRODUCTS = {"gpu": (4096, 4096, 512), "cpu": (1024, 1024, 128)}
MODELS = {"gpu": ["135m", "7b"], "cpu": ["tiny"]}
# Squared differences of a model's logits to the CPU's over their squares: rounding in another order stays far below, a
# wrong kernel gives about one.
LOGITS_ERROR_MAX = 0.1
# A step is not begun with less time than this.
STEP_SECONDS_MIN = 20


class Later(Exception):
    """Time ran out."""


class Check:
    def __init__(self, pack, work, seconds, again):
        self.pack, self.work, self.deadline = pack, work, time.monotonic() + seconds
        self.path = work / "gpu-check.json"
        self.manifest = json.loads((pack / "manifest.json").read_text())
        work.mkdir(parents=True, exist_ok=True)
        known = json.loads(self.path.read_text()) if self.path.exists() and not again else {}
        same = known.get("pack", {}).get("digest") == self.manifest["digest"]
        if not same:
            # Models of another pack may have another shape.
            for old in work.glob("*.gguf"):
                old.unlink()
        self.report = known if same else {"pack": self.manifest, "steps": {}}
        # Looked at anew each time: the machine may be another one.
        self.report["missing"] = []
        # None leaves the choice to hone.
        self.device = os.environ.get("HONE_DEVICE")
        self.backends = pathlib.Path(os.environ.get("HONE_BACKENDS") or work / "backends").absolute()

    def left(self):
        return self.deadline - time.monotonic()

    def save(self):
        self.path.write_text(json.dumps(self.report, indent=1) + "\n")
        if os.environ.get("OUT"):
            shutil.copy(self.path, os.environ["OUT"])

    def lacks(self, sentence):
        self.report["missing"].append(sentence)
        print(f"gpu-check: {sentence}", file=sys.stderr)

    def step(self, name, function):
        """Runs a step unless an earlier run did; one that has nothing to say is looked at again next time."""
        if name in self.report["steps"]:
            return
        if self.left() < STEP_SECONDS_MIN:
            raise Later
        print(f"gpu-check: {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            found = function()
        except subprocess.TimeoutExpired:
            raise Later from None
        except subprocess.CalledProcessError as error:
            # Not kept as done: the next run tries again.
            self.report.setdefault("failed", {})[name] = str(error)
            print(f"gpu-check: {name} failed: {error}", file=sys.stderr)
            return
        self.report.get("failed", {}).pop(name, None)
        if found is None:
            return
        self.report["steps"][name] = {"seconds": round(time.monotonic() - started, 1), **found}
        self.save()

    def start(self, *words, device=None, **how):
        """One of the pack's programs, to its end."""
        environment = {**os.environ, "HONE_BACKENDS": str(self.backends)}
        if device or self.device:
            environment["HONE_DEVICE"] = device or self.device
        command = [self.pack / "bin" / words[0], *map(str, words[1:])]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=max(self.left(), 1),
                              **how)

    def tool(self, *words, device=None):
        """What a program of the pack says, as JSON, if it says anything."""
        text = self.start(*words, device=device, check=True).stdout
        return json.loads(text.splitlines()[-1]) if text.strip() else {}

    def parity(self):
        """Every operation on the device and on the CPU. One that ends the process (a driver's fault) is a result too,
        and the ones after it still run."""
        results = []
        while True:
            ended = self.start("gpu-check", "parity", len(results), stderr=subprocess.PIPE)
            results += [json.loads(line) for line in ended.stdout.splitlines()]
            begun = [line for line in ended.stderr.splitlines() if line.startswith("parity: ")]
            if ended.returncode == 0:
                return {"results": results}
            sys.stderr.write(ended.stderr[-2000:])
            if not begun:
                ended.check_returncode()
            results.append({"operation": begun[-1].removeprefix("parity: "), "supported": True, "error": None,
                            "same": False, "ended_the_process": ended.returncode})

    def source(self):
        """ggml's source in a copy whose files keep their times while they stay the same. What brings a pack here may
        write it anew each time, and then all would be compiled again."""
        there, here = self.pack / "ggml", self.work / "ggml"
        files = {path.relative_to(there): path for path in there.rglob("*") if path.is_file()}
        for old in list(filter(pathlib.Path.is_file, here.rglob("*"))):
            if old.relative_to(here) not in files:
                old.unlink()
        for name, path in files.items():
            own = here / name
            if not own.exists() or own.read_bytes() != path.read_bytes():
                own.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, own)
        return here

    def compile(self):
        """The CUDA module, unless modules were named, it is there or it cannot be built."""
        if os.environ.get("HONE_BACKENDS"):
            return
        (self.work / "backends").mkdir(parents=True, exist_ok=True)
        why = build.missing("cuda")
        if why:
            return self.lacks(f"{why}; no CUDA backend is compiled")
        module = self.work / "backends/libggml-cuda.so"
        stamp = self.work / "built-from"
        if module.exists() and stamp.exists() and stamp.read_text() == self.manifest["digest"]:
            return
        flash = "--flash" if os.environ.get("HONE_GPU_FLASH") else "--no-flash"
        started = time.monotonic()
        command = [sys.executable, ROOT / "kernels/backends/build.py", "--ggml", self.source(), "--stamp",
                   self.manifest["stamp"], "--build", self.work / "build", "--out", self.work / "backends", "--seconds",
                   str(max(self.left() - STEP_SECONDS_MIN, 1)), flash, "cuda"]
        status = subprocess.run(command).returncode
        self.report["compile_seconds"] = self.report.get("compile_seconds", 0) + round(time.monotonic() - started, 1)
        if status == build.UNFINISHED:
            raise Later
        if status:
            self.report.setdefault("failed", {})["compile"] = "the CUDA backend does not compile here"
            return
        self.report.get("failed", {}).pop("compile", None)
        stamp.write_text(self.manifest["digest"])

    def choose(self):
        """The device that is checked: the one hone would choose."""
        named = self.device
        found = self.tool("gpu-check", "devices")
        self.device = found["chosen"]
        self.report |= {"devices": found["devices"], "device": self.device}
        # Steps of another device are no steps of this one.
        if self.report.get("measured") not in (None, self.device):
            self.report["steps"] = {}
        self.report["measured"] = self.device
        self.report.get("failed", {}).pop("devices", None)
        if self.kind() == "cpu":
            if not named and any(self.backends.glob("libggml-*")):
                self.report.setdefault("failed", {})["devices"] = "there are modules but no card of theirs can be used"
            self.lacks("no GPU can be used here: the CPU is compared with itself, which says nothing about a GPU")

    def kind(self):
        return "cpu" if self.device.upper() == "CPU" else "gpu"

    def model(self, shape):
        """A seeded model of a real shape: speed here and on the CPU, and how far their answers are apart."""
        file, logits = self.work / f"{shape}.gguf", {}
        if not file.exists():
            # Renamed when whole: time may run out while it is written.
            part = file.with_suffix(".part")
            self.tool("generate-gguf", shape, part)
            part.rename(file)
        found = {}
        for device in dict.fromkeys([self.device, "CPU"]):
            path = self.work / f"{shape}.{device}.f32"
            found[device] = self.tool("gpu-check", "model", file, path, device=device)
            logits[device] = array.array("f", path.read_bytes())
        reference, values = logits["CPU"], logits[self.device]
        size = sum(value * value for value in reference)
        error = sum((a - b) ** 2 for a, b in zip(reference, values)) / size if size else math.nan
        first = [max(range(len(all)), key=all.__getitem__) for all in (reference, values)]
        return {"speeds": found, "logits_error": error if math.isfinite(error) else None, "same_first_choice": first[0] == first[1]}

    def torch(self):
        """PyTorch + PEFT beside, in the Python that has them."""
        python = os.environ.get("HONE_TORCH_PYTHON", "python3")
        if not shutil.which(python) or subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
            self.lacks(f"{python} has no PyTorch: set HONE_TORCH_PYTHON to one that has, to compare with it")
            return None
        text = subprocess.run([python, HERE / "torch_gpu.py", *MODELS[self.kind()]], stdout=subprocess.PIPE, text=True,
                              check=True, timeout=max(self.left(), 1)).stdout
        found = json.loads(text.splitlines()[-1])
        if "missing" in found:
            self.lacks(found["missing"])
        # hone's own trainer computes on the CPU only, so there is no figure of it to put beside.
        return {"peer": found, "hone_train_tok_s": None}

    def run(self):
        self.compile()
        self.choose()
        kind = self.kind()
        self.step("parity", self.parity)
        self.step("products", lambda: self.tool("gpu-check", "products", *PRODUCTS[kind]))
        for shape in MODELS[kind]:
            self.step(f"model {shape}", lambda: self.model(shape))
        self.step("torch", self.torch)

    def verdict(self):
        """Prints what was found and returns the exit status."""
        results = self.report["steps"].get("parity", {}).get("results", [])
        differ = [result["operation"] for result in results if result["supported"] and not result["same"]]
        absent = [result["operation"] for result in results if not result["supported"]]
        models = {name: step for name, step in self.report["steps"].items() if name.startswith("model ")}
        # None is not a number, and no agreement.
        differ += [name for name, step in models.items()
                   if step["logits_error"] is None or step["logits_error"] > LOGITS_ERROR_MAX]
        print(f"device {self.device}: {len(results)} operations, {len(differ)} differ, {len(absent)} not supported")
        for title, names in (("differ", differ), ("not supported", absent)):
            if names:
                print(f"{title}: {', '.join(names)}")
        for name, step in models.items():
            print(f"{name}: logits {step['logits_error']} from the CPU's, {LOGITS_ERROR_MAX} at most")
            for device, speed in step["speeds"].items():
                print(f"{name} on {device}: prompt {speed['prefill_tok_s']:.1f} tok/s, "
                      f"answer {speed['decode_tok_s']:.1f} tok/s")
        failed = self.report.get("failed") or {}
        print(json.dumps({"gpu-check": {"device": self.device, "report": str(self.path),
                                        "operations": len(results), "differ": differ, "not_supported": absent,
                                        "failed": sorted(failed), "missing": self.report["missing"]}}))
        return 1 if differ or failed or not results else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target/gpu")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--again", action="store_true", help="forget what earlier runs found")
    arguments = parser.parse_args()
    if not (arguments.pack / "manifest.json").exists():
        sys.exit(f"gpu-check: {arguments.pack} is no pack: run `make gpu-pack` where hone is built and bring it here")
    check = Check(arguments.pack.resolve(), arguments.work.resolve(), arguments.seconds, arguments.again)
    try:
        check.run()
    except subprocess.CalledProcessError as error:
        sys.exit(f"gpu-check: {error}; what it said stands above")
    except Later:
        check.save()
        print("gpu-check: time is up; run this again and it goes on from here", file=sys.stderr)
        sys.exit(build.UNFINISHED)
    check.save()
    sys.exit(check.verdict())


if __name__ == "__main__":
    main()
