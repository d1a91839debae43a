#!/usr/bin/env python3
"""Gathers what a GPU machine without a network needs: `pack.py BIN OUT`. BIN holds portable programs; OUT gets them
stripped, the part of ggml's source that the CUDA backend is compiled from, and a manifest. Fails past 60 MiB, because
such a machine takes 64 MiB with the repository's own files. Never here: compiling."""
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "kernels/backends"))
from build import locked_source  # noqa: E402

LIMIT = 60 * 2**20
PROGRAMS = ["hone-worker", "gpu-check", "generate-gguf"]
# Relative to ggml's folder. Headers of ggml itself, and the CUDA backend whole: AMD's part is some headers.
SOURCES = ["include/*.h", "cmake/common.cmake", "src/*.h", "src/ggml-cuda/**/*"]


def bytes_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def copy_programs(binaries, out):
    (out / "bin").mkdir(parents=True)
    for name in PROGRAMS:
        if not (binaries / name).exists():
            sys.exit(f"pack: {binaries / name} is missing: run `make gpu-pack`, which builds it")
        subprocess.run(["strip", "-o", out / "bin" / name, binaries / name], check=True)


def copy_source(ggml, out):
    for pattern in SOURCES:
        for path in filter(pathlib.Path.is_file, ggml.glob(pattern)):
            target = out / "ggml" / path.relative_to(ggml)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copyfile(ggml.parent / "LICENSE", out / "ggml/LICENSE")


def digest(out):
    """Of all names and contents: results belong to exactly this pack."""
    total = hashlib.sha256()
    for path in sorted(filter(pathlib.Path.is_file, out.rglob("*"))):
        total.update(str(path.relative_to(out)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def main():
    binaries, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    shutil.rmtree(out, ignore_errors=True)
    ggml, stamp = locked_source()
    copy_programs(binaries, out)
    copy_source(ggml, out)
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    manifest = {"stamp": stamp, "commit": commit.stdout.strip(), "digest": digest(out)}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    parts = {path.name: bytes_of(path) for path in sorted(out.iterdir()) if path.is_dir()}
    total = bytes_of(out)
    for name, size in parts.items():
        print(f"{name:10} {size / 2**20:6.1f} MiB")
    print(f"{'total':10} {total / 2**20:6.1f} MiB of {LIMIT / 2**20:.0f}")
    print(json.dumps({"pack": {"bytes": total, "bytes_max": LIMIT, "parts": parts, **manifest}}))
    if total > LIMIT:
        sys.exit(f"pack: {total} bytes are more than {LIMIT}: leave out a program or a part of ggml's source")


if __name__ == "__main__":
    main()
