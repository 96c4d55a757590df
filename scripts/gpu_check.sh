#!/usr/bin/env bash
# Everything that needs a GPU, in one call. Prepared where the compiler is, run where the GPU is:
#   scripts/gpu_check.sh --prepare   builds build-cuda and compiles the plans into it; needs distc in build/bin and nvcc
#   scripts/gpu_check.sh             on the GPU machine, with the tree and build-cuda: tests, then a table
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly fixtures=(llama-mha llama-gqa llama-tied llama3-rope mistral qwen2)
readonly meshes=(1x1 2x1 4x1 8x1 1x2 2x2 4x2 8x2)
readonly out=build-cuda

prepare() {
  cmake --preset cuda -DDISTC_TESTS=ON
  ninja -C "$out" distrun KernelsCudaTest kernels-cuda-bench
  # Libraries that a machine without development packages may lack.
  mkdir -p "$out/lib"
  ldd "$out/bin/distrun" "$out/test/unit/KernelsCudaTest" | awk '/=> \/.*(hwy|pcre2|utf8proc)/ {print $3}' | sort -u |
    xargs -I{} cp -L {} "$out/lib/"
  local fixture mesh
  for fixture in "${fixtures[@]}"; do
    for mesh in "${meshes[@]}"; do
      build/bin/distc compile "test/data/fixtures/$fixture" --target sm_90 --tp "${mesh%x*}" --pp "${mesh#*x}" \
        -o "$out/plans/$fixture.tp${mesh%x*}pp${mesh#*x}" >/dev/null
    done
  done
  build/bin/distc compile test/data/stories260K/stories260K-f32.gguf --target sm_90 -o "$out/plans/stories" >/dev/null
  local shape
  for shape in llama-3-1b llama-3-8b; do
    build/bin/distc compile "$shape" --weights none --target sm_90 --max-batch 1 --max-seq 2048 -o "$out/plans/$shape" >/dev/null
  done
}

case "${1:-}" in
--prepare) prepare && exit 0 ;;
'') ;;
*) sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac

export LD_LIBRARY_PATH="$PWD/$out/lib:${LD_LIBRARY_PATH:-}" PATH="$PWD/$out/bin:$PATH"
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
for fixture in "${fixtures[@]}"; do
  run "golden $fixture" python3 test/e2e/check_golden.py --plans "$out/plans" --bound 3e-2 --margin 0.1 \
    "test/data/fixtures/$fixture" "${meshes[@]}"
done
run stories distrun generate "$out/plans/stories" --prompt "Once upon a time" --max-new-tokens 60
for shape in llama-3-1b llama-3-8b; do
  run "bench $shape" distrun bench "$out/plans/$shape" --random-weights 1 --prompt-tokens 512 --new-tokens 32 --batch 1 --repeat 2
done
run "kernel bench" "$out/bench/kernels-cuda-bench"
printf '\n'
printf '%s\n' "${table[@]}"
