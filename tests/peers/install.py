#!/usr/bin/env python3
"""Installs the pinned peers of the benchmarks into a virtual environment of their own: `install.py FOLDER`. A second
run finds it there.

PyPI's PyTorch wheel for Linux is the CUDA build and asks for 3 GB of CUDA wheels, none of which a CPU needs. It is
installed without them; the libraries that its loader wants are replaced by empty ones that name the same symbols, so
that it starts and finds no GPU. Needs a C compiler and readelf, which building hone needs anyway."""
import pathlib
import re
import subprocess
import sys
import venv

TORCH = "torch==2.15.0"
PEERS = ["transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0"]
# What they import, without what asks for torch's CUDA wheels again.
REST = [
    "filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec", "numpy", "setuptools<82", "psutil",
    "pyyaml", "tqdm", "packaging", "safetensors", "tokenizers", "regex", "huggingface-hub", "gguf==0.19.0",
]
STAMP = " ".join([TORCH, *PEERS, *REST])


def pip(folder, *words):
    subprocess.run([folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *words],
                   check=True)


def undefined(libraries):
    """Needed libraries, the version nodes asked of each, the symbols of each node, and symbols without one."""
    needed, nodes, symbols, free = set(), {}, {}, set()
    for library in libraries:
        text = subprocess.run(["readelf", "-dVW", "--dyn-syms", library], capture_output=True, text=True).stdout
        needed |= set(re.findall(r"NEEDED.*\[(.*)\]", text))
        asked = None
        for line in text.splitlines():
            if found := re.search(r"Version: 1  File: (\S+)", line):
                asked = found[1]
            elif found := re.search(r"Name: (\S+)  Flags: \S+  Version", line):
                nodes.setdefault(asked, set()).add(found[1])
            elif found := re.search(r" UND ((?:cu|nccl|nv)[A-Za-z]\w*)$", line):
                free.add(found[1])
            elif found := re.search(r" UND (\S+?)@(\S+?)(?: \(\d+\))?$", line):
                symbols.setdefault(found[2], set()).add(found[1])
    return needed, nodes, symbols, free


def stubs(folder):
    """Libraries that say "no device" to every call."""
    home = next(folder.glob("lib/python3*/site-packages/torch/lib"))
    libraries = sorted(home.glob("*.so*"))
    needed, nodes, symbols, free = undefined(libraries)
    out = folder / "stubs"
    out.mkdir(exist_ok=True)
    for name in sorted(needed - {library.name for library in libraries}):
        if not re.match(r"lib(cu|nv|nccl)", name):
            continue
        versions = sorted(nodes.get(name, ()))
        by_version = {version: sorted(symbols.get(version, ())) for version in versions} or {"": sorted(free)}
        source = "".join(f"int {symbol}(void) {{ return 100; }}\n" for all in by_version.values() for symbol in all)
        (out / f"{name}.c").write_text(source)
        script = "".join(f"{version} {{ global: {' '.join(f'{symbol};' for symbol in by_version[version])} }};\n"
                         for version in versions)
        (out / f"{name}.map").write_text(script)
        flags = [f"-Wl,--version-script={out / name}.map"] if versions else []
        subprocess.run(["cc", "-w", "-fno-builtin", "-shared", "-fPIC", "-o", out / name, out / f"{name}.c",
                        f"-Wl,-soname,{name}", *flags], check=True)


def main():
    folder = pathlib.Path(sys.argv[1]).absolute()
    stamp = folder / "peers.txt"
    if stamp.exists() and stamp.read_text() == STAMP:
        return
    print("peers: installing PyTorch, transformers and PEFT (1.6 GB, once)", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    pip(folder, "--no-deps", TORCH)
    pip(folder, *REST)
    pip(folder, "--no-deps", *PEERS)
    stubs(folder)
    stamp.write_text(STAMP)


if __name__ == "__main__":
    main()
