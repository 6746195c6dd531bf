#!/usr/bin/env bash
# Compiles the CPU's kernels (src/ops/cpu) for aarch64 with Debian's cross-compiler and runs their tests under qemu: what
# Highway makes of them for NEON. Needs the packages g++-aarch64-linux-gnu and qemu-user, and Debian's sources within
# reach: Highway and GoogleTest for arm64 are unpacked into a folder of their own, nothing is installed.
#
# scripts/check_aarch64.sh [fetch]   fetch: only fetches these
set -euo pipefail
source "$(dirname "$0")/steps.sh"

compiler=aarch64-linux-gnu-g++
for program in "$compiler" qemu-aarch64 apt-get dpkg-deb; do
  command -v "$program" >/dev/null ||
    stop "$program is missing: as root, apt-get install g++-aarch64-linux-gnu qemu-user (on Debian 12)"
done
build=$root/build-aarch64
packages=(libhwy1 libhwy-dev libgtest-dev)

# arm64_packages: the lists and packages of arm64 in a state of apt's own.
arm64_packages() {
  local apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64
    -o Dir::State="$build/apt" -o Dir::State::status="$build/apt/status" -o Dir::Cache="$build/apt/cache")
  mkdir -p "$build/apt/lists/partial" "$build/apt/cache/archives/partial" "$build/debs"
  : >"$build/apt/status"
  "${apt[@]}" update
  (cd "$build/debs" && "${apt[@]}" download "${packages[@]}")
  local package
  for package in "$build"/debs/*.deb; do dpkg-deb -x "$package" "$build/arm64"; done
}

step "Highway and GoogleTest for arm64"
if [ ! -f "$build/arm64/usr/include/gtest/gtest.h" ] || [ ! -d "$build/arm64/usr/include/hwy" ]; then
  quietly aarch64-packages arm64_packages || {
    last_lines aarch64-packages
    stop "the arm64 packages ${packages[*]} could not be fetched: are Debian's sources within reach?"
  }
fi
if [ "${1:-}" = fetch ]; then
  end_step
  exit 0
fi
step "compile"
mkdir -p "$build/include/ops"
ln -sfn "$root/src/ops/cpu" "$build/include/ops/cpu"
libraries=$build/arm64/usr/lib/aarch64-linux-gnu
# The targets that src/ops/cpu/CMakeLists.txt leaves out.
"$compiler" -std=c++20 -O2 -Wall -Wextra -Wno-missing-field-initializers -Wno-psabi \
  "-DHWY_DISABLED_TARGETS=(HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)" -DHWY_SHARED_DEFINE \
  -I"$build/include" -isystem "$build/arm64/usr/include" \
  src/ops/cpu/*.cc tests/ops/{cpu_kernels,flash_attention}_test.cc -o "$build/cpu_kernels_test" \
  -L"$libraries" -lgtest_main -lgtest -lhwy -lpthread
step "tests under qemu"
LD_LIBRARY_PATH='' qemu-aarch64 -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH="$libraries" "$build/cpu_kernels_test" --gtest_brief=1
end_step
