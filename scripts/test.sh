#!/usr/bin/env bash
# Installs, builds everything and runs all tests. The last line is the count: "N passed, N failed".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
'') ;;
-h | --help) echo "usage: scripts/test.sh [--help]    builds in build/ and runs every test" && exit 0 ;;
*) echo "usage: scripts/test.sh [--help]" >&2 && exit 2 ;;
esac

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  "$@"
}

# Of an earlier run; whoever reads the count after this run must not find that one.
rm -f build/test/summary.txt
scripts/install_deps.sh
# CUDA is out of reach, also where it is installed: the compiler needs none.
run cmake --preset default --no-warn-unused-cli -DDISTC_TESTS=ON -DDISTC_CUDA=OFF -DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON
run ninja -C build --quiet

# The count is printed after ninja, which adds a line of its own when a test fails.
status=0
run ninja -C build --quiet check-distc || status=$?
if [[ ! -s build/test/summary.txt ]]; then
  echo "test: the tests did not run to their end" >&2
  exit 1
fi
cat build/test/summary.txt
exit "$status"
