#!/usr/bin/env bash
# Makes a machine able to build and test hone, and writes what the build must know to FILE (its first argument) as
# lines of `export NAME := value` for make. What is present is used; else apt as root or with passwordless sudo; else
# wheels of the Python package index in a private folder; else one sentence names the packages.
set -euo pipefail
out=$1
tools=${HONE_TOOLS:-$(dirname "$out")/tools}
mkdir -p "$(dirname "$out")"
say() { printf 'setup: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# A tool that is there but does not run is as good as missing.
runs() { "$1" --version >/dev/null 2>&1; }

# rustup puts cargo where a fresh shell may not look yet.
if ! have cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  extra_path="${CARGO_HOME:-$HOME/.cargo}/bin"
fi
have cargo || stop "cargo is missing: install Rust 1.95 or later with rustup, then run this again"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo && sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}
apt_updated=
apt() {
  have apt-get || return 1
  as_root true || return 1
  if [ -z "$apt_updated" ]; then
    say "apt-get update"
    as_root apt-get update -qq >/dev/null || return 1
    apt_updated=1
  fi
  say "apt-get install $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
libclang() {
  local dir
  for dir in "${LIBCLANG_PATH:-}" /usr/lib/llvm-*/lib /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu /usr/lib64 /usr/local/lib; do
    [ -n "$dir" ] && ls "$dir"/libclang.so* "$dir"/libclang-*.so* >/dev/null 2>&1 && { echo "$dir"; return 0; }
  done
  return 1
}
wheel() { # package: into the private folder, by pip
  python3 -m pip --version >/dev/null 2>&1 || return 1
  say "pip install $1 into $tools"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$tools" "$1" >&2
}

have c++ || have g++ || apt g++ || stop "a C++ compiler is missing: install g++ (Debian, Ubuntu: g++)"
have make || apt make || stop "make is missing: install make"
have python3 || apt python3 python3-pip || stop "python3 is missing: install python3 and python3-pip"
python3 -m pip --version >/dev/null 2>&1 || apt python3-pip || python3 -m ensurepip --user >/dev/null 2>&1 ||
  stop "pip for python3 is missing: install python3-pip"

cmake_dir=
if ! runs cmake; then
  if ! apt cmake; then
    [ -x "$tools/cmake/data/bin/cmake" ] || wheel cmake || stop "cmake is missing: install cmake (Debian, Ubuntu: cmake)"
    cmake_dir="$tools/cmake/data/bin"
  fi
fi
clang_dir=$(libclang) || {
  apt libclang-dev && clang_dir=$(libclang)
} || {
  ls "$tools"/clang/native/libclang.so* >/dev/null 2>&1 || wheel libclang ||
    stop "libclang is missing: install libclang (Debian, Ubuntu: libclang-dev)"
  clang_dir="$tools/clang/native"
}
# A compiler cache saves minutes when it can be had without asking; nothing depends on it.
have ccache || [ -n "${HONE_NO_CCACHE:-}" ] || apt ccache >/dev/null 2>&1 || true

path="$PATH"
[ -n "$cmake_dir" ] && path="$cmake_dir:$path"
{
  echo "export PATH := $path"
  echo "export LIBCLANG_PATH := $clang_dir"
  # libclang from a wheel brings no headers of its own: the compiler's serve.
  echo "export BINDGEN_EXTRA_CLANG_ARGS := -I$(c++ -print-file-name=include)"
} >"$out.tmp"
mv "$out.tmp" "$out"
say "ready: $(cargo --version), cmake $(PATH="$path" cmake --version | head -n1 | cut -d' ' -f3), libclang in $clang_dir"
