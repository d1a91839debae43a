#!/usr/bin/env python3
"""Installs the peer of `make bench-gateway`, litellm's proxy, pinned, into a folder of its own: `litellm_proxy.py FOLDER`
prints the program's path. A second run finds it there. `HONE_LITELLM` names another one instead."""
import os
import pathlib
import subprocess
import sys
import venv

VERSION = "1.106.2"


def main():
    if given := os.environ.get("HONE_LITELLM"):
        print(given)
        return
    folder = pathlib.Path(sys.argv[1]).absolute() / f"litellm-{VERSION}"
    program = folder / "bin/litellm"
    ready = folder / "ready"
    if not ready.exists():
        print(f"peers: installing litellm[proxy] {VERSION}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"litellm[proxy]=={VERSION}"], check=True, stdout=sys.stderr)
        ready.touch()
    print(program)


if __name__ == "__main__":
    main()
