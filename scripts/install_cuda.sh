#!/usr/bin/env bash
# Where no CUDA toolkit is installed: what it takes to compile and link the CUDA code, from pinned wheels of PyPI. No GPU
# and no driver are needed, nor anything outside of DIR. Prints the path of nvcc as its last line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<TEXT
usage: scripts/install_cuda.sh [DIR]

  DIR   where to (build-toolkit); then: CUDACXX=DIR/bin/nvcc cmake --preset cuda
TEXT
}
case "${1:-}" in
-h | --help) usage && exit 0 ;;
-*) usage >&2 && exit 2 ;;
esac

readonly dir=${1:-build-toolkit}
# Compiler and runtime are of one release of CUDA; the libraries are those that it was released with.
readonly wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.0.3 nvidia-nccl-cu13==2.28.9)

if [[ $(cat "$dir/wheels.txt" 2>/dev/null) != "${wheels[*]}" ]]; then
  if [[ -n $(ls -A "$dir" 2>/dev/null) && ! -e $dir/wheels.txt ]]; then
    echo "install_cuda: $dir: not empty, and not from this script; name another folder" >&2
    exit 1
  fi
  echo "+ pip install ${wheels[*]}" >&2
  rm -rf "$dir"
  mkdir -p "$dir"
  touch "$dir/wheels.txt" # whatever is interrupted is begun again
  python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-deps --only-binary=:all: \
    --target "$dir/wheels" "${wheels[@]}" >&2
  # The wheels of one release share a folder, NCCL has its own; a toolkit has names without versions, lib64 and targets.
  mv "$dir"/wheels/nvidia/cu13/* "$dir"
  mv "$dir"/wheels/nvidia/nccl/include/* "$dir/include"
  mv "$dir"/wheels/nvidia/nccl/lib/* "$dir/lib"
  rm -rf "$dir/wheels"
  chmod +x "$dir"/bin/* "$dir"/nvvm/bin/*
  for library in "$dir"/lib/lib*.so.*; do
    ln -sf "$(basename "$library")" "${library%.so.*}.so"
  done
  ln -s lib "$dir/lib64"
  mkdir -p "$dir/targets/x86_64-linux"
  ln -s ../../lib ../../include "$dir/targets/x86_64-linux"
  echo "${wheels[*]}" >"$dir/wheels.txt"
fi
realpath "$dir/bin/nvcc"
