#!/usr/bin/env bash
# Everything that needs a GPU, in one call. Prepared where the compiler is, built and run where the GPU is:
#   scripts/gpu_check.sh --prepare   compiles the plans into build-cuda and collects what the GPU machine may lack
#   scripts/gpu_check.sh             on the GPU machine, with the tree and build-cuda: builds, tests, prints a table
#   scripts/gpu_check.sh --built DIR the same with what was built elsewhere: a build folder of the preset cuda, with tests
# ONLY=tests or ONLY=figures does half of it. ONLY=sanitize: the kernels' tests under memcheck and racecheck instead, in 500 s.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly fixtures=(llama-mha llama-gqa llama-tied llama3-rope mistral qwen2)
readonly meshes=(1x1 2x1 4x1 8x1 1x2 2x2 4x2 8x2)
readonly families=(llama-bias mistral-window qwen2-window qwen3 smollm3 granite gemma gemma2 olmo2 phi3 phi4 gpt2 mixtral mixtral-even qwen3-moe rope-linear
  rope-yarn rope-yarn-mscale rope-dynamic)
readonly long=(llama-gqa qwen2 mistral qwen3 smollm3 phi4 olmo2 granite gemma2 mixtral-even) # also with prompts so long that prefill is fused
source scripts/gpu_lib.sh

# The end-to-end tests of test/e2e for sm_90, each a line; with --only compile or run.
end_to_end() { # NAME COMMAND...
  local fixture data=test/data story=test/data/stories260K
  for fixture in "${fixtures[@]}"; do
    "$@" "golden-$fixture" check_golden.py "$data/fixtures/$fixture" "${meshes[@]}"
  done
  for fixture in "${families[@]}"; do
    "$@" "golden-$fixture" check_golden.py "$data/fixtures/$fixture" 1x1 4x1 2x2
  done
  for fixture in "${fixtures[@]}" qwen3 gemma2 olmo2 phi3 gpt2 mixtral; do
    "$@" "scattered-$fixture" check_golden.py --with=--sequence-parallel "$data/fixtures/$fixture" 4x1 2x2
  done
  for fixture in llama-gqa qwen2; do
    "$@" "chunks-$fixture" check_golden.py --with="--overlap-chunks 3" "$data/fixtures/$fixture" 2x1 4x1 2x3
    "$@" "micro-batches-$fixture" check_golden.py --with="--micro-batches 2 --decode-micro-batches 2" "$data/fixtures/$fixture" 1x2 2x3
  done
  "$@" micro-batches-mixtral-even check_golden.py --with="--micro-batches 2 --decode-micro-batches 2" "$data/fixtures/mixtral-even" 1x2 2x2
  "$@" scattered check_sequence_parallel.py $data/fixtures/qwen2 2x1 4x1 8x1 4x3
  "$@" stories check_story.py $story/stories260K-f32.gguf $story/expected-greedy-runc-200.txt 1x1 2x1 4x1 2x2
  "$@" batch check_batch.py $story/stories260K-f32.gguf 2x2
  for fixture in gpt2 gemma gemma2 llama-gqa qwen2; do
    "$@" "together-$fixture" check_together.py "$data/fixtures/$fixture" 1x1 2x1
  done
  "$@" uneven-9-3 check_uneven.py $data/uneven-9-3 2x1 4x1 8x1 2x2
  "$@" uneven-14-2 check_uneven.py $data/uneven-14-2 2x1 4x1 8x1 4x2
  "$@" gguf check_gguf.py $data/fixtures/llama3-rope
  "$@" gguf-families check_gguf_family.py $data/fixtures/{qwen3,smollm3,granite,gemma,gemma2,olmo2}
  "$@" gguf-more check_gguf_families.py $data/fixtures
  [[ ! -f build/models/SmolLM2-135M-Instruct.Q4_1.gguf ]] || "$@" smollm2 check_smollm2.py build/models/SmolLM2-135M-Instruct.Q4_1.gguf 1x1 3x1 # where scripts/quickstart.sh puts it
}

prepare() {
  collect_packages
  PATH="$(dirname "$(realpath "$distc")"):$PATH" end_to_end check compile
  # What is timed, with random weights: name, model, the largest batch and sequence.
  while read -r name model batch sequence; do
    "$distc" compile "$model" --weights none --target sm_90 --max-batch "$batch" --max-tokens "$((batch > 8 ? 2048 : 4096))" \
      --max-seq "$sequence" -o "$out/plans/$name" >/dev/null
  done <<'END'
llama-3-1b llama-3-1b 1 9216
llama-3-8b llama-3-8b 1 33280
llama-3-8b-batch llama-3-8b 64 1024
llama-2-7b llama-2-7b 1 4096
qwen3-8b qwen3-8b 8 2048
gemma-2-9b gemma-2-9b 8 2048
mixtral-8x7b mixtral-8x7b 8 4096
qwen3-30b-a3b qwen3-30b-a3b 8 4096
llama-3-70b-tp4 bench/slices/llama-3-70b-tp4 1 2048
llama-3-70b-tp8 bench/slices/llama-3-70b-tp8 1 2048
END
  # For a checkpoint of the same header that the GPU machine makes: only headers are read here.
  local sparse fixture tokens
  sparse=$(mktemp -d)
  python3 bench/make_checkpoint.py llama-3-8b "$sparse/8b" --sparse
  "$distc" compile "$sparse/8b" --target sm_90 --max-batch 1 --max-seq 2048 -o "$out/plans/load-8b" >/dev/null
  rm -r "$sparse"
  for fixture in "${long[@]}"; do
    "$distc" compile "test/data/fixtures/$fixture" -o "$out/plans/$fixture.cpu" >/dev/null
  done
  while read -r model tokens; do # prompts that fill one step, which is replayed
    "$distc" compile "$model" --weights none --target sm_90 --max-batch 1 --max-seq 8192 --max-tokens "$tokens" \
      -o "$out/plans/$(basename "$model").$tokens" >/dev/null
  done <<'END'
llama-3-1b 512
llama-3-8b 512
llama-3-8b 2048
llama-3-8b 4096
bench/slices/llama-3-70b-tp4 512
bench/slices/llama-3-70b-tp8 512
END
}

[[ ${ONLY:-tests} =~ ^(tests|figures|sanitize)$ ]] || { echo "$0: ONLY is '$ONLY', expected tests, figures or sanitize" >&2 && exit 2; }
case "${1:-}" in
--prepare) prepare && exit 0 ;;
--built) use_build "${2:?a build folder}" ;;
'') use_build ;;
*) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
tests() {
  run kernels "$built/test/unit/KernelsCudaTest" --gtest_brief=1
  run loading "$built/test/unit/CudaBackendTest" --gtest_brief=1
  started=$SECONDS
  end_to_end started
  wait
  printf '== end to end, %d s\n' $((SECONDS - started))
  end_to_end collect
  for fixture in "${long[@]}"; do
    for mesh in tp1pp1 tp2pp1; do
      run "400 tokens $fixture $mesh" python3 test/e2e/check_targets.py "$out/plans/$fixture.cpu" \
        "$out/plans/$fixture.$mesh" --tokens 400 --vocabulary 256 --fixture test/data/fixtures/$fixture $([[ $fixture != mixtral* ]] || echo --routed)
    done
  done
}
figures() {
  bench() { # PLANS PROMPT BATCH
    figure "$1, context $2, batch $3" "decode ms" "$out/plans/$1" --prompt-tokens "$2" --new-tokens 48 --batch "$3" --repeat 3
  }
  bench llama-3-1b 512 1
  bench llama-3-1b 8192 1
  bench llama-3-8b 512 1
  bench llama-3-8b 8192 1
  bench llama-3-8b 32768 1
  bench llama-3-8b-batch 512 8
  bench llama-3-8b-batch 512 16
  bench llama-3-8b-batch 512 32
  bench llama-3-8b-batch 512 64
  bench llama-2-7b 512 1
  for model in qwen3-8b gemma-2-9b mixtral-8x7b qwen3-30b-a3b; do
    bench $model 512 1
    bench $model 512 8
  done
  bench llama-3-70b-tp4 512 1
  bench llama-3-70b-tp8 512 1
  for plans in llama-3-1b.512:512 llama-3-8b.{512:512,2048:2048,4096:4096} llama-3-70b-tp{4,8}.512:512 qwen3-8b:512 gemma-2-9b:512 mixtral-8x7b:{512,2048} qwen3-30b-a3b:{512,2048}; do
    figure "prefill $plans" "prefill tok/s" "$out/plans/${plans%:*}" --prompt-tokens "${plans#*:}" --new-tokens 8 --batch 1 --repeat 8 # the first two are not replayed
  done
  # From the page cache, where a checkpoint has just been written to.
  checkpoint=$(mktemp -d /dev/shm/distc.XXXXXX)
  load() { # the time of the whole process; then where it went
    local start=$EPOCHREALTIME
    DISTC_LOG=info distrun generate "$@" --tokens 1,2,3 --print-ids --max-new-tokens 2
    awk "BEGIN { printf \"whole process %.2f s\n\", $EPOCHREALTIME - $start }"
  }
  if python3 bench/make_checkpoint.py llama-3-8b "$checkpoint/8b" --repeat; then
    run "load 8B" load "$out/plans/load-8b" --weights "$checkpoint/8b"
  fi
  rm -rf "$checkpoint"
  run "random 8B" load "$out/plans/load-8b" --random-weights 1
  run "kernel bench" "$built/bin/kernels-cuda-bench"
  if python3 -c 'import torch' 2>/dev/null; then
    peers
  fi
}
peers() { # each figure that came in time is a line of the table
  local lines=$out/peers.txt line
  limit=120 run "PyTorch" bash -c 'set -o pipefail; python3 bench/peer_torch.py | tee "$1"' bash "$lines"
  while IFS= read -r line; do
    table+=("$(printf '%-34s %-7s %s' "${line%%: *}" PyTorch "${line#*: }")")
  done <"$lines"
}
sanitize() {
  local tests=$built/test/unit/KernelsCudaTest tool name log status names=() jobs=()
  export logs=$out/sanitize last=$((EPOCHSECONDS - SECONDS + 485)) # the second by which all has ended
  rm -rf "$logs" && mkdir -p "$logs"
  mapfile -t names < <("$tests" --gtest_list_tests | awk '/^[^ ]/ { suite = $1 } /^ / { print suite $1 }')
  for tool in racecheck memcheck; do # the slower one first
    for name in "${names[@]}"; do
      jobs+=("$tool" "$name")
    done
  done
  sanitized() { # TESTS TOOL NAME
    local left=$((last - EPOCHSECONDS)) log=$logs/$2.${3//\//-} status=0
    timeout --kill-after=5 $((left > 280 ? 280 : left > 0 ? left : 1)) compute-sanitizer --tool "$2" --error-exitcode 9 \
      "$1" --gtest_filter="$3" --gtest_brief=1 >"$log" 2>&1 || status=$?
    echo "$status" >"$log.status"
  }
  export -f sanitized
  printf '%s\0' "${jobs[@]}" | xargs -0 -n 2 -P 12 bash -c 'sanitized "$@"' bash "$tests"
  for ((i = 0; i < ${#jobs[@]}; i += 2)); do
    log=$logs/${jobs[i]}.${jobs[i + 1]//\//-}
    case $(cat "$log.status") in
    0) status=ok ;;
    124 | 137) status='not ended' ;;
    *) status=FAILED && printf '== %s %s\n%s\n' "${jobs[@]:i:2}" "$(tail -n 30 "$log")" ;;
    esac
    table+=("$(printf '%-9s %-64s %-9s %s' "${jobs[@]:i:2}" "$status" "$(sed -n 's/.*SUMMARY: //p' "$log" | tail -n 1)")")
  done
}
[[ ${ONLY:-tests} != tests ]] || tests
[[ ${ONLY:-figures} != figures ]] || figures
[[ ${ONLY:-} != sanitize ]] || sanitize
printf '\n'
printf '%s\n' "${table[@]}"
