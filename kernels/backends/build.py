#!/usr/bin/env python3
"""Builds ggml backends as modules for hone-worker: `build.py [--ggml FOLDER --stamp LINE] --build FOLDER --out FOLDER
NAME...`, NAME being cuda, vulkan or rpc, or none for cuda and vulkan, each where its compiler is here. Without --ggml,
the source is that of the llama-cpp-sys-2 in Cargo.lock. CUDA is compiled for the chips found, or for
CUDA_ARCHITECTURES. `--seconds N` stops after so long; another run goes on where that one stopped. Never here: anything
that runs a module."""
import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# Exit status when time ran out and another run will go on.
UNFINISHED = 75


def stop(why, status=1):
    print(f"backends: {why}", file=sys.stderr)
    sys.exit(status)


def locked_source():
    """Folder and stamp of the ggml that the program is built from."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform",
               "x86_64-unknown-linux-gnu"]
    try:
        found = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        stop("cargo is missing, and with it the source of ggml: pass --ggml and --stamp, or install Rust")
    except subprocess.CalledProcessError as error:
        stop(f"cargo metadata failed: {error.stderr.strip()}")
    package = next(p for p in json.loads(found)["packages"] if p["name"] == "llama-cpp-sys-2")
    return pathlib.Path(package["manifest_path"]).parent / "llama.cpp/ggml", f"llama-cpp-sys-2 {package['version']}"


def nvcc():
    """CUDA's compiler, from the path or where its installer puts it."""
    usual = [f"{os.environ.get(name, '')}/bin" for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda/bin"]
    return shutil.which("nvcc") or shutil.which("nvcc", path=os.pathsep.join(usual))


def chips():
    """Compute capabilities of the cards here without the dot, 90 for an H100."""
    try:
        command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return []
    return sorted({chip.replace(".", "") for chip in found})


def missing(name):
    """What building this backend needs and is not here, as words; None when all is."""
    if not shutil.which("cmake"):
        return "cmake is missing: install cmake"
    if name == "cuda":
        if not nvcc():
            return "nvcc is missing: install NVIDIA's CUDA toolkit, or set CUDA_HOME"
        if not chips() and not os.environ.get("CUDA_ARCHITECTURES"):
            return "no NVIDIA card was found (nvidia-smi): set CUDA_ARCHITECTURES, for instance to 90"
    if name == "vulkan" and not shutil.which("glslc"):
        return "glslc is missing: install the Vulkan SDK (Debian, Ubuntu: glslc libvulkan-dev spirv-headers)"
    return None


def configure(arguments, names):
    command = ["cmake", "-S", HERE, "-B", arguments.build, f"-DGGML={arguments.ggml.resolve()}",
               f"-DSTAMP={arguments.stamp}", f"-DBACKENDS={';'.join(names)}"]
    if shutil.which("ninja"):
        command += ["-G", "Ninja"]
    if "cuda" in names:
        architectures = os.environ.get("CUDA_ARCHITECTURES") or ";".join(f"{chip}-real" for chip in chips())
        flash = "ON" if arguments.flash else "OFF"
        command += [f"-DCMAKE_CUDA_COMPILER={nvcc()}", f"-DCMAKE_CUDA_ARCHITECTURES={architectures}",
                    f"-DGGML_CUDA_FA={flash}"]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        stop("cmake could not configure the modules; its lines above say why")


def compile_all(arguments):
    # A group of its own, so that the compilers end with it.
    command = ["cmake", "--build", arguments.build, "--parallel", str(os.cpu_count())]
    child = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    try:
        if child.wait(timeout=arguments.seconds):
            stop("compiling the modules failed; the lines above say why")
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        stop(f"not finished after {arguments.seconds} s; run this again and it goes on from there", UNFINISHED)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--ggml", type=pathlib.Path)
    parser.add_argument("--stamp")
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--flash", action=argparse.BooleanOptionalAction, default=True, help="FlashAttention on CUDA")
    arguments = parser.parse_args()
    if arguments.ggml is None or arguments.stamp is None:
        arguments.ggml, arguments.stamp = locked_source()
    lacks = {name: missing(name) for name in arguments.names or ["cuda", "vulkan"]}
    names = [name for name, why in lacks.items() if why is None]
    for why in filter(None, lacks.values()):
        print(f"backends: {why}", file=sys.stderr)
    if not names or (arguments.names and any(lacks.values())):
        stop("nothing was built; hone runs on the CPU without modules" if not arguments.names else "nothing was built")
    configure(arguments, names)
    compile_all(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for module in sorted((arguments.build / "modules").glob("libggml-*")):
        # Beside and renamed: a process may have the old one mapped.
        shutil.copy2(module, arguments.out / f".{module.name}")
        (arguments.out / f".{module.name}").rename(arguments.out / module.name)
        print(f"backends: {arguments.out / module.name} ({module.stat().st_size / 2**20:.1f} MiB)", file=sys.stderr)


if __name__ == "__main__":
    main()
