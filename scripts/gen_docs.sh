#!/usr/bin/env bash
# Writes docs/generated from the .td files. With --check it changes nothing and fails where the committed pages differ.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check=false
case "${1:-}" in
'') ;;
--check) check=true ;;
-h | --help) echo "usage: scripts/gen_docs.sh [--check] [--help]" && exit 0 ;;
*) echo "usage: scripts/gen_docs.sh [--check] [--help]" >&2 && exit 2 ;;
esac

readonly llvm=${LLVM_PREFIX:-/usr/lib/llvm-22}
readonly committed=docs/generated
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

generate() { # PAGE TITLE ARGUMENTS...
  local page=$out/$1 title=$2
  shift 2
  printf '# %s\n\n' "$title" >"$page"
  "$llvm/bin/mlir-tblgen" -I. -I"$llvm/include" "$@" >>"$page"
}

for dialect in LLM Dist Plan; do
  name=${dialect,,}
  generate "$name-dialect.md" "The $name dialect" -gen-dialect-doc "-dialect=$name" "dialects/$dialect/${dialect}Ops.td"
done
if [[ -f compiler/Transforms/Passes.td ]]; then
  generate passes.md 'The passes' -gen-pass-doc compiler/Transforms/Passes.td
fi

if ! $check; then
  mkdir -p "$committed"
  cp "$out"/*.md "$committed/"
elif ! diff -ru "$committed" "$out"; then
  echo "gen_docs: $committed differs from the .td files; run scripts/gen_docs.sh and commit the result" >&2
  exit 1
fi
