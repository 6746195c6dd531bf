#!/usr/bin/env bash
# What cpack packs works from another folder, without what it was built from: the program verifies recorded outputs, and
# a program that knows nothing but pkg-config's answer compiles against headers and libraries and writes what is recorded.
#
# tests/e2e/installed/installed.sh BUILD COMPILER
set -euo pipefail
build=$1 compiler=$2
golden=$PWD/tests/golden consumer=$PWD/tests/e2e/installed/consumer.cc
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

stop() {
  echo "installed.sh: $1" >&2
  exit 1
}
# zstd, since gzip takes a minute over LibTorch; the tree is the same.
cpack --config "$build/CPackConfig.cmake" -G TZST -B "$scratch" >"$scratch/log" 2>&1 || stop "cpack failed: $(cat "$scratch/log")"
mkdir "$scratch/elsewhere"
(cd "$scratch/elsewhere" && cmake -E tar xf "$scratch"/cepe-*.tar.zst)
rm -r "$scratch"/cepe-*.tar.zst "$scratch/_CPack_Packages"
tree=$(echo "$scratch"/elsewhere/cepe-*)

# check_libraries PROGRAM: LibTorch comes from the tree, and nothing is missing.
check_libraries() {
  local libraries
  libraries=$(ldd "$1")
  if grep 'not found' <<<"$libraries"; then stop "$1 needs libraries that are not there (above)"; fi
  if grep -E 'lib(torch_cpu|c10|gomp|cudart|cupti)\.so' <<<"$libraries" | grep -vF "$tree"; then
    stop "$1 loads these (above), expected those of $tree/lib/cepe"
  fi
}
check_libraries "$tree/bin/cepe"
if LC_ALL=C readelf --dynamic "$tree/bin/cepe" | grep -E 'R(UN)?PATH' | grep -vF '[$ORIGIN/../lib/cepe]'; then
  stop "expected no run path but \$ORIGIN/../lib/cepe"
fi
(cd "$scratch" && "$tree/bin/cepe" verify "$golden/cepe-mha" >"$scratch/log") || stop "verify failed: $(cat "$scratch/log")"
for folder in configs models; do diff -r "$folder" "$tree/share/cepe/$folder" || stop "share/cepe/$folder differs (above)"; done

export PKG_CONFIG_PATH=$tree/lib/pkgconfig
read -ra flags < <(pkg-config --cflags cepe)
read -ra libraries < <(pkg-config --libs cepe)
"$compiler" -std=c++20 "${flags[@]}" "$consumer" -o "$scratch/consumer" "${libraries[@]}"
check_libraries "$scratch/consumer"
tests/e2e/link_order.sh "$scratch/consumer"
said=$(cd "$scratch" && ./consumer "$golden/generate/plain" "$golden/generate/greedy.json")
[ "$said" = "40 tokens, as recorded" ] || stop "expected 40 tokens as recorded, found: $said"
