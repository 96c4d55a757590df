#!/usr/bin/env bash
# Builds the fuzzers with clang 22, in build-fuzz/, and runs each for a while on its seeds (test/fuzz/corpus).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<TEXT
usage: scripts/fuzz.sh [--seconds N] [--runs N] [--keep DIR] [NAME...]

  --seconds N  how long each runs (default 20)
  --runs N     executions instead
  --keep DIR   begin with what DIR/NAME holds, and keep there what is new; default: nothing is kept
  NAME...      plan, config, tokenizer-json, tokenizer-model, tokenizer-gguf, chat, gguf, json, safetensors; default: all

What a fuzzer found lies in build-fuzz/findings/; run it again with build-fuzz/test/fuzz/fuzz-NAME FILE.
TEXT
}

limit=(-max_total_time=20)
keep=
names=()
while (($# > 0)); do
  case $1 in
  --seconds | --runs | --keep)
    (($# > 1)) || { usage >&2 && exit 2; }
    case $1 in
    --seconds) limit=("-max_total_time=$2") ;;
    --runs) limit=("-runs=$2") ;;
    --keep) keep=$2 ;;
    esac
    shift
    ;;
  -h | --help) usage && exit 0 ;;
  -*) usage >&2 && exit 2 ;;
  *) names+=("$1") ;;
  esac
  shift
done
((${#names[@]} > 0)) || names=(plan config tokenizer-json tokenizer-model tokenizer-gguf chat gguf json safetensors)

# Optimized, with symbols for reports; the compiler proper and MPI are not needed.
cmake --preset asan -B build-fuzz -DCMAKE_CXX_COMPILER=clang++-22 -DDISTC_FUZZ=ON -DDISTC_MPI=OFF \
  -DDISTC_SANITIZE=address,undefined,fuzzer-no-link -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O2 -g1" -DCMAKE_CXX_FLAGS=-Wno-deprecated-declarations >/dev/null # of GCC 12's library
ninja -C build-fuzz --quiet "${names[@]/#/fuzz-}"
mkdir -p build-fuzz/findings

# An input that takes longer than -timeout is a finding, as is one that takes more than 2 GiB.
fuzz() { # NAME
  local name=$1 seeds=(test/fuzz/corpus/"$1") kept log=build-fuzz/findings/$1.log size=4096
  [[ $name == plan ]] && size=32768
  [[ $name == tokenizer-* ]] && size=16384
  [[ $name == config ]] && seeds+=(models/shapes)
  kept=${keep:+$keep/$name}
  kept=${kept:-$(mktemp -d)}
  mkdir -p "$kept"
  if build-fuzz/test/fuzz/fuzz-"$name" "${limit[@]}" -timeout=10 -rss_limit_mb=2048 -max_len=$size -print_final_stats=1 \
    -artifact_prefix=build-fuzz/findings/"$name"- "$kept" "${seeds[@]}" >"$log" 2>&1; then
    echo "$name: $(grep -oE 'number_of_executed_units: .*' "$log" | grep -oE '[0-9]+$') executions, $(
      grep -oE 'cov: [0-9]+' "$log" | tail -n 1)"
  else
    tail -n 60 "$log"
    echo "$name: FAILED; see $log"
    return 1
  fi
}
export -f fuzz
export keep
# Arrays are not exported.
declare -p limit >build-fuzz/findings/limit.sh
printf '%s\n' "${names[@]}" |
  xargs -P "$(nproc)" -I NAME bash -c 'set -euo pipefail; . build-fuzz/findings/limit.sh; fuzz NAME'
