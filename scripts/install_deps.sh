#!/usr/bin/env bash
# Installs what distc is built and tested with, on Debian 12 as root. Does nothing, and needs no network, where all of it
# is there already.
set -euo pipefail

usage() {
  cat <<TEXT
usage: scripts/install_deps.sh [--runtime] [--help]

  --runtime   only what the runtime needs (no LLVM), to build with: cmake --preset runtime
TEXT
}

# One list for each reason to need a package.
build=(g++ cmake ninja-build ccache)
runtime=(flatbuffers-compiler libflatbuffers-dev libhwy-dev libxxhash-dev libpcre2-dev libutf8proc-dev
  nlohmann-json3-dev)
compiler=(libmlir-22-dev mlir-22-tools llvm-22-dev llvm-22-tools zlib1g-dev libzstd-dev libxml2-dev libcli11-dev)
tests=(libgtest-dev libgmock-dev libbenchmark-dev liblzma-dev python3 python3-numpy clang-tidy-22 clang-format-22
  git)
fuzzers=(clang-22 libclang-rt-22-dev)
mpi=(libopenmpi-dev openmpi-bin) # ranks as processes of mpirun; the build does without where it is not there
models=(python3-pip ca-certificates)

packages=("${build[@]}" "${runtime[@]}" "${compiler[@]}" "${tests[@]}" "${fuzzers[@]}" "${mpi[@]}"
  "${models[@]}")
case "${1:-}" in
'') ;;
--runtime) packages=("${build[@]}" "${runtime[@]}" libgtest-dev libgmock-dev python3) ;;
-h | --help) usage && exit 0 ;;
*) usage >&2 && exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  exit 0
fi
if ((EUID != 0)); then
  echo "install_deps: run as root, or install: ${missing[*]}" >&2
  exit 1
fi

# A candidate of "(none)" means that no configured source has the package.
# grep reads to the end: with -q it would close the pipe, and apt-cache would fail of that.
has_candidate() { apt-cache policy "$1" 2>/dev/null | grep 'Candidate: [^(]' >/dev/null; }

# Without the option, apt-get ends with success also where a source could not be reached, and its packages are then missing.
update() { apt-get update -qq -o APT::Update::Error-Mode=any; }

update_patiently() {
  local wait
  for wait in 2 10 30; do
    if update; then return; fi
    echo "install_deps: the package lists could not be read; again in $wait s" >&2
    sleep "$wait"
  done
  apt-get update -qq # of several sources perhaps one that is not needed here
}

# LLVM 22 comes to Debian 12 through its security suite. The mirror that is configured is the one that can be reached.
enable_security() {
  local main security
  main=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    grep -v '^[[:space:]]*#' | grep -oE '[a-z+]+://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
  main=${main:-http://deb.debian.org/debian}
  security="${main%/}-security"
  echo "+ deb $security bookworm-security main"
  echo "deb $security bookworm-security main" >/etc/apt/sources.list.d/distc-bookworm-security.list
  if ! update && [[ $security != http://deb.debian.org/debian-security ]]; then
    echo "deb http://deb.debian.org/debian-security bookworm-security main" \
      >/etc/apt/sources.list.d/distc-bookworm-security.list
    update
  fi
}

export DEBIAN_FRONTEND=noninteractive
echo "+ apt-get install ${missing[*]}"
update_patiently
if [[ " ${missing[*]} " == *-22-* ]] && ! has_candidate libmlir-22-dev; then
  enable_security
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
