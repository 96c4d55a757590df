#!/usr/bin/env bash
# Everything that needs a GPU, in one call. Prepared where the compiler is, built and run where the GPU is:
#   scripts/gpu_check.sh --prepare   compiles the plans into build-cuda and collects what the GPU machine may lack
#   scripts/gpu_check.sh             on the GPU machine, with the tree and build-cuda: builds, tests, prints a table
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly fixtures=(llama-mha llama-gqa llama-tied llama3-rope mistral qwen2)
readonly meshes=(1x1 2x1 4x1 8x1 1x2 2x2 4x2 8x2)
readonly long=(llama-gqa qwen2 mistral) # also with prompts so long that prefill is fused
readonly out=build-cuda deps=build-cuda/deps distc=${DISTC:-build/bin/distc}

prepare() {
  # The runtime's development packages, as a tree: the GPU machine has CUDA, CMake and a compiler, and no network.
  local packages=(flatbuffers-compiler libflatbuffers-dev libflatbuffers2 libhwy-dev libhwy1 libxxhash-dev libpcre2-dev
    libpcre2-8-0 libutf8proc-dev libutf8proc2 nlohmann-json3-dev libgtest-dev libgmock-dev)
  mkdir -p "$deps"
  dpkg -L "${packages[@]}" | grep -E '^/usr/(include|bin|lib|share/cmake)' | while IFS= read -r file; do
    [[ -d $file && ! -L $file ]] || printf '%s\n' "$file"
  done | tar -C / --no-recursion -cf - -T - | tar -C "$deps" -xf -
  local fixture mesh
  for fixture in "${fixtures[@]}"; do
    for mesh in "${meshes[@]}"; do
      "$distc" compile "test/data/fixtures/$fixture" --target sm_90 --tp "${mesh%x*}" --pp "${mesh#*x}" \
        -o "$out/plans/$fixture.tp${mesh%x*}pp${mesh#*x}" >/dev/null
    done
  done
  for fixture in "${long[@]}"; do
    "$distc" compile "test/data/fixtures/$fixture" -o "$out/plans/$fixture.cpu" >/dev/null
  done
  "$distc" compile test/data/stories260K/stories260K-f32.gguf --target sm_90 -o "$out/plans/stories" >/dev/null
  local shape tokens
  for shape in llama-3-1b llama-3-8b; do
    "$distc" compile "$shape" --weights none --target sm_90 --max-batch 1 --max-seq 2048 -o "$out/plans/$shape" >/dev/null
  done
  for tokens in 2048 4096; do # prompts that fit one step
    "$distc" compile llama-3-8b --weights none --target sm_90 --max-batch 1 --max-seq 8192 --max-tokens "$tokens" \
      -o "$out/plans/llama-3-8b.$tokens" >/dev/null
  done
}

case "${1:-}" in
--prepare) prepare && exit 0 ;;
'') ;;
*) sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac

export LD_LIBRARY_PATH="$PWD/$deps/usr/lib/x86_64-linux-gnu:${LD_LIBRARY_PATH:-}"
export CPLUS_INCLUDE_PATH="$PWD/$deps/usr/include" # headers that the system would have in a place of its own
export PATH="$PWD/$out/bin:$PWD/$deps/usr/bin:$PATH"
cmake --preset cuda -DDISTC_TESTS=ON -DCMAKE_PREFIX_PATH="$PWD/$deps/usr" >"$out/configure.log" ||
  { cat "$out/configure.log" && exit 1; }
ninja -C "$out" --quiet distrun KernelsCudaTest kernels-cuda-bench
table=()
run() { # NAME COMMAND...: the command's last line goes into the table
  local name=$1 log status=0
  shift
  log=$("$@" 2>&1) || status=$?
  printf '== %s\n%s\n' "$name" "$log"
  table+=("$(printf '%-28s %-7s %s' "$name" "$([[ $status == 0 ]] && echo ok || echo FAILED)" "$(tail -n 1 <<<"$log")")")
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
run kernels "$out/test/unit/KernelsCudaTest" --gtest_brief=1
# Side by side: most of their time is starting processes.
for fixture in "${fixtures[@]}"; do
  python3 test/e2e/check_golden.py --plans "$out/plans" --bound 2e-2 --margin 0.1 "test/data/fixtures/$fixture" \
    "${meshes[@]}" >"$out/$fixture.log" 2>&1 || echo "FAILED, see above" >>"$out/$fixture.log" &
done
wait
for fixture in "${fixtures[@]}"; do
  run "golden $fixture" sh -c 'cat "$1" && ! grep -q FAILED "$1"' sh "$out/$fixture.log"
done
for fixture in "${long[@]}"; do
  for mesh in tp1pp1 tp2pp1; do
    run "400 tokens $fixture $mesh" python3 test/e2e/check_targets.py "$out/plans/$fixture.cpu" \
      "$out/plans/$fixture.$mesh" --tokens 400 --vocabulary 256
  done
done
run stories distrun generate "$out/plans/stories" --prompt "Once upon a time" --max-new-tokens 60
for shape in llama-3-1b llama-3-8b; do
  run "bench $shape" sh -c 'distrun bench "$@" | tee /dev/stderr | grep "decode ms"' sh "$out/plans/$shape" --random-weights 1 \
    --prompt-tokens 512 --new-tokens 64 --batch 1 --repeat 3
done
for plans in llama-3-1b:512 llama-3-8b:512 llama-3-8b.2048:2048 llama-3-8b.4096:4096; do
  run "prefill $plans" sh -c 'distrun bench "$@" | tee /dev/stderr | grep "prefill tok/s"' sh "$out/plans/${plans%:*}" \
    --random-weights 1 --prompt-tokens "${plans#*:}" --new-tokens 8 --batch 1 --repeat 3
done
run "kernel bench" "$out/bin/kernels-cuda-bench"
printf '\n'
printf '%s\n' "${table[@]}"
