# shellcheck shell=bash
# What gpu_check.sh and multi_gpu_check.sh share; to be sourced at the root of the tree.
readonly out=build-cuda deps=build-cuda/deps distc=${DISTC:-build/bin/distc}
export PYTHONPATH=test/support PYTHONDONTWRITEBYTECODE=1

check() { # compile|run NAME SCRIPT ARGUMENTS...
  local half=$1 script=test/e2e/$3
  shift 3
  python3 "$script" --target sm_90 --plans "$out/plans" --only "$half" "$@"
}

collect_packages() {
  # The runtime's development packages, as a tree: the GPU machine has CUDA, CMake and a compiler, and no network.
  local packages=(flatbuffers-compiler libflatbuffers-dev libflatbuffers2 libhwy-dev libhwy1 libxxhash-dev libpcre2-dev
    libpcre2-8-0 libutf8proc-dev libutf8proc2 nlohmann-json3-dev libgtest-dev libgmock-dev)
  mkdir -p "$deps"
  dpkg -L "${packages[@]}" | grep -E '^/usr/(include|bin|lib|share/cmake)' | while IFS= read -r file; do
    [[ -d $file && ! -L $file ]] || printf '%s\n' "$file"
  done | tar -C / --no-recursion -cf - -T - | tar -C "$deps" -xf -
}

# Builds what is to run, unless DIR holds it: $built is where it lies, and its tools are in PATH.
use_build() { # [DIR]
  built=${1:-$out}
  export LD_LIBRARY_PATH="$PWD/$deps/usr/lib/x86_64-linux-gnu:${LD_LIBRARY_PATH:-}"
  local nccl # for ranks with a GPU each: PyTorch has one
  nccl=$(python3 -c 'import nvidia.nccl; print(nvidia.nccl.__path__[0] + "/lib")' 2>/dev/null || true)
  export LD_LIBRARY_PATH="$LD_LIBRARY_PATH${nccl:+:$nccl}"
  export CPLUS_INCLUDE_PATH="$PWD/$deps/usr/include" # headers that the system would have in a place of its own
  export PATH="$PWD/$built/bin:$PWD/$deps/usr/bin:$PATH"
  if [[ $built == "$out" ]]; then
    cmake --preset cuda -DDISTC_TESTS=ON -DCMAKE_PREFIX_PATH="$PWD/$deps/usr" >"$out/configure.log" ||
      { cat "$out/configure.log" && exit 1; }
    ninja -C "$out" --quiet distrun KernelsCudaTest CudaBackendTest kernels-cuda-bench
  fi
}

table=()
limit=150 # seconds of a command: one that hangs must not take the others' time
run() { # NAME COMMAND...: the command's last line goes into the table
  local name=$1 log status=0 start=$SECONDS
  shift
  [[ $(type -t "$1") == function ]] || set -- timeout --kill-after=5 "$limit" "$@"
  log=$("$@" 2>&1) || status=$?
  printf '== %s, %d s\n%s\n' "$name" $((SECONDS - start)) "$log"
  table+=("$(printf '%-34s %-7s %s' "$name" "$([[ $status == 0 ]] && echo ok || echo FAILED)" "$(tail -n 1 <<<"$log")")")
}

# Side by side: most of their time is starting processes.
started() { # NAME SCRIPT ARGUMENTS...
  (check run "$@" >"$out/$1.log" 2>&1 || echo "FAILED, see above" >>"$out/$1.log") &
}
collect() { run "$1" sh -c 'cat "$1" && ! grep -q FAILED "$1"' sh "$out/$1.log"; } # what has been started

# One figure of distrun bench into the table.
figure() { # NAME FIGURE PLANS FLAGS...
  local name=$1 figure=$2
  shift 2
  run "$name" sh -c 'figure=$1; shift; distrun bench "$@" --random-weights 1 | tee /dev/stderr | grep "$figure"' sh "$figure" "$@"
}
