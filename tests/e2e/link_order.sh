#!/usr/bin/env bash
# A program that uses LibTorch must load the system's libstdc++ before the wheel's libraries, which export a
# std::filesystem of an older one (cmake/torch.cmake).
#
# tests/e2e/link_order.sh PROGRAM
set -euo pipefail
needed=$(LC_ALL=C readelf --dynamic "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
first=$(grep -nm1 -x "libstdc++\.so\..*" <<<"$needed" | cut -d: -f1 || true)
torch=$(grep -nm1 -E "^lib(torch|c10)" <<<"$needed" | cut -d: -f1 || true)
[ -n "$torch" ] || { echo "$1: expected to need LibTorch, found: $needed" >&2; exit 1; }
[ -n "$first" ] && [ "$first" -lt "$torch" ] && exit 0
echo "$1: expected libstdc++ before LibTorch among the libraries it needs, found: $needed" >&2
exit 1
