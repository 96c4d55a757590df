#!/usr/bin/env bash
# Tensor and pipeline parallel over N GPUs of one host, through NCCL and the memory of peers: tests, then figures.
#   scripts/multi_gpu_check.sh N --prepare    where the compiler is: compiles the plans into build-cuda
#   scripts/multi_gpu_check.sh N              on the machine with the GPUs: builds, runs, prints a table
#   scripts/multi_gpu_check.sh N --built DIR  the same with what was built elsewhere (gpu_check.sh)
# ONLY=tests or ONLY=figures does half of it, TPS='4 8' takes figures of those degrees of tensor parallelism alone: with four GPUs and more all
# of it takes over ten minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2; }
readonly gpus=$1
[[ ${ONLY:-tests} =~ ^(tests|figures)$ ]] || { echo "$0: ONLY is '$ONLY', expected tests or figures" >&2 && exit 2; }
source scripts/gpu_lib.sh
# NVLink multicast can put GPUs that others share out of service.
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1

# Of these what needs no more GPUs than there are, and more than one.
fitting() { # MESH...
  local mesh
  for mesh in "$@"; do
    ((${mesh%x*} * ${mesh#*x} <= gpus && ${mesh%x*} * ${mesh#*x} > 1)) && printf '%s ' "$mesh"
  done
}
ranks() { echo $((${1%x*} * ${1#*x})); } # of a mesh
readonly tps=${TPS:-$(for tp in 1 2 4 8; do ((tp <= gpus)) && printf '%s ' $tp; done)}
readonly fixture_meshes=$(fitting 2x1 4x1 8x1 1x2 2x2 4x2 1x3 2x3) model_meshes=$(fitting 2x1 4x1 8x1 1x2 2x2 4x2 1x4 2x4 1x8)

end_to_end() { # COMMAND...
  local fixture data=test/data/fixtures
  for fixture in llama-mha llama-gqa llama-tied llama3-rope mistral qwen2; do
    "$@" "gpus-$fixture" check_golden.py "$data/$fixture" $fixture_meshes
  done
  "$@" gpus-chunks check_golden.py --with="--overlap-chunks 3" $data/llama-gqa $(fitting 2x1 4x1 2x2 8x1)
  "$@" gpus-scattered check_golden.py --with=--sequence-parallel $data/qwen2 $(fitting 2x1 4x1 2x2 8x1)
  "$@" gpus-micro-batches check_golden.py --with="--micro-batches 2 --decode-micro-batches 2" $data/llama-gqa $(fitting 1x2 2x2 4x2)
}

compile() { # NAME MODEL MESH FLAGS...
  local name=$1 model=$2 mesh=$3
  shift 3
  "$distc" compile "$model" --weights none --target sm_90 --tp "${mesh%x*}" --pp "${mesh#*x}" -o "$out/plans/$name.$mesh" "$@" >/dev/null
}
# What is timed, each a line: NAME MODEL MESH FLAGS…, and what it is for.
decoding() { # COMMAND...
  local model tp
  for model in llama-2-7b llama-3-8b llama-3-70b; do
    for tp in $tps; do
      [[ $model$tp == llama-3-70b1 ]] || "$@" "decode-$model" $model "${tp}x1" --max-batch 32 --max-seq 1024 --max-tokens 2048
    done
  done
  ((gpus < 4)) || "$@" decode-llama-3-70b llama-3-70b $((gpus / 2))x2 --max-batch 32 --max-seq 1024 --max-tokens 2048
}
readonly widest=$(for tp in $tps; do echo "$tp"; done | tail -n 1)
prefilling() { # COMMAND...
  local tokens
  for tokens in 1024 4096 16384; do
    local shape=(llama-3-8b "${widest}x1" --max-batch 1 --max-seq 20480 --max-tokens $tokens)
    "$@" prefill-$tokens "${shape[@]}"
    "$@" prefill-$tokens-chunks2 "${shape[@]}" --overlap-chunks 2
    "$@" prefill-$tokens-chunks4 "${shape[@]}" --overlap-chunks 4
    "$@" prefill-$tokens-scattered "${shape[@]}" --sequence-parallel
  done
}
pipelining() { # COMMAND...
  local parts
  for parts in 1 2 4 8; do
    "$@" pipeline-$parts llama-3-8b 1x2 --max-batch 8 --max-seq 1280 --max-tokens 8192 --micro-batches $parts
  done
}

prepare() {
  local mesh
  collect_packages
  PATH="$(dirname "$(realpath "$distc")"):$PATH" end_to_end check compile
  for mesh in 1x1 $model_meshes; do
    compile same llama-3-1b "$mesh" --max-seq 2048
  done
  decoding compile
  prefilling compile
  pipelining compile
}

case "${2:-}" in
--prepare) prepare && exit 0 ;;
--built) use_build "${3:?a build folder}" ;;
*) use_build ;;
esac
((gpus > 1)) || { echo "$0: for more than one GPU; on one: scripts/gpu_check.sh" >&2 && exit 2; }
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
nvidia-smi topo -m | head -n $((gpus + 1))

share() { # PLANS FLAGS...: of communication in its steps, as the trace shows it
  local plans=$1 trace=$out/traces/$(basename "$1")
  shift
  mkdir -p "$out/traces"
  timeout "$limit" distrun bench "$plans" --random-weights 1 --repeat 4 --trace "$trace" "$@" >/dev/null
  python3 bench/trace_share.py "$trace"
}
decode() { # NAME MODEL MESH ...
  local plans=$out/plans/$1.$3 batch
  for batch in 1 32; do
    figure "$1 $3, batch $batch" "decode ms" "$plans" --prompt-tokens 512 --new-tokens 48 --batch $batch --repeat 2
  done
}
prefill() { figure "$1 $3" "prefill tok/s" "$out/plans/$1.$3" --prompt-tokens "$(cut -d- -f2 <<<"$1")" --new-tokens 2 --batch 1 --repeat 4; }
pipeline() { figure "$1 $3, 8 prompts of 1024" "prefill tok/s" "$out/plans/$1.$3" --prompt-tokens 1024 --new-tokens 2 --batch 8 --repeat 3; }

tests() {
  end_to_end started
  wait
  end_to_end collect
  tokens=$(seq -s, 1 200)
  for mesh in $model_meshes; do
    run "values of llama-3-1b $mesh" distrun diff "$out/plans/same.1x1" "$out/plans/same.$mesh" --random-weights 1 --tokens "$tokens" \
      --new-tokens 2 --tolerance 0.03 # of bf16 after sixteen layers
  done
  for mesh in "${widest}x1" $(fitting 2x2 4x2); do # one GPU, one each, a process each: the same bits; a process killed, or stopped
    ln -sfn "same.$mesh" "$out/plans/llama-3-1b.$mesh"
    run "ranks of llama-3-1b $mesh" python3 test/e2e/check_ranks.py "$out/plans/llama-3-1b.$mesh"
  done
}
figures() {
  decoding decode
  for model in llama-3-8b llama-3-70b; do
    run "communication, $model ${widest}x1" share "$out/plans/decode-$model.${widest}x1" --prompt-tokens 512 --new-tokens 16 --batch 1
  done
  prefilling prefill
  for chunks in 4096 4096-chunks2 16384 16384-chunks2 16384-chunks4; do
    run "communication, prefill $chunks" share "$out/plans/prefill-$chunks.${widest}x1" --prompt-tokens ${chunks%-*} --new-tokens 2 --batch 1
  done
  pipelining pipeline
  for parts in 1 2 4 8; do
    run "bubble of $parts micro-batches" share "$out/plans/pipeline-$parts.1x2" --prompt-tokens 1024 --new-tokens 2 --batch 8
  done
  run "all-reduce" "$built/bin/kernels-cuda-bench" exchange
}
[[ ${ONLY:-tests} != tests ]] || tests
[[ ${ONLY:-figures} != figures ]] || figures
printf '\n'
printf '%s\n' "${table[@]}"
