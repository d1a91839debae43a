#!/usr/bin/env python3
"""Installs the peers of `make bench-data`, pyarrow and Hugging Face datasets, pinned, into a folder of their own:
`data_tools.py FOLDER` prints its Python. A second run finds it there."""
import pathlib
import subprocess
import sys
import venv

PACKAGES = ["pyarrow==26.0.1", "datasets==5.2.0", "polars==2.1.0", "rensa==0.5.0"]


def main():
    folder = pathlib.Path(sys.argv[1]).absolute() / "-".join(PACKAGES).replace("==", "-")
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists():
        print(f"peers: installing {' '.join(PACKAGES)}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True, stdout=sys.stderr)
        ready.touch()
    print(python)


if __name__ == "__main__":
    main()
