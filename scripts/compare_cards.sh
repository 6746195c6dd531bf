#!/usr/bin/env bash
# On a Hopper GPU: the build for it beside a build for compute capability 8.0 alone, which the driver translates, so that
# what an A100 or a later card runs is tested and measured without one. Runs every test of the label gpu in the second
# build, then measures writing at Llama-2-7B's sizes over 126,976 context tokens by both, and attention on latents beside
# LibTorch's two products and softmax.
#
# scripts/compare_cards.sh [build|test|bench]    without an argument all three. CEPE_PYTHON names a Python with torch.
set -euo pipefail
cd "$(dirname "$0")/.."
hopper=${CEPE_HOPPER_BUILD:-build-cuda} any=${CEPE_ANY_BUILD:-build-80}
what=${1:-all}

stop() {
  echo "compare_cards.sh: $1" >&2
  exit 1
}
case $what in build | test | bench | all) ;; *) stop "expected build, test or bench, found \"$what\"" ;; esac

# Their programs; tests that call cepe itself have none.
gpu_tests() { ctest --test-dir "$1" -N -L gpu | sed -n 's/^ *Test *#[0-9]*: //p' | grep '_test$'; }
configure() {  # <directory> <architectures>
  mkdir -p "$1"
  cmake --preset cuda -B "$1" -DCEPE_CUDA_ARCHITECTURES="$2" -DCEPE_BENCH=ON -DCEPE_EXAMPLES=OFF -DCEPE_MPI=OFF \
    ${CEPE_PYTHON:+-DCEPE_PYTHON="$CEPE_PYTHON"} >"$1/configure.log" 2>&1 || stop "configuring failed: $1/configure.log"
}

if [ "$what" = build ] || [ "$what" = all ]; then
  configure "$hopper" 90a
  configure "$any" 80-virtual
  # shellcheck disable=SC2046
  ninja -C "$any" cepe latent_attention_bench $(gpu_tests "$any")
  ninja -C "$hopper" cepe latent_attention_bench latent_attention_cuda_test
fi
if [ "$what" = test ] || [ "$what" = all ]; then
  ctest --test-dir "$any" -L gpu --output-on-failure
  ctest --test-dir "$hopper" -R '^latent_attention_cuda_test$' --output-on-failure
fi
if [ "$what" = bench ] || [ "$what" = all ]; then
  for build in "$hopper" "$any"; do
    echo "== $build: a token, Llama-2-7B's sizes"
    "$build/cepe" bench --shape llama-2-7b+mlm-large --tests tg32,tg32@c4096,tg32@c126976 --device cuda --chain never
    echo "== $build: attention on latents; \"any us\" is the kernel that every GPU runs"
    "$build/bench/latent_attention_bench" | grep -E 'copy|kernel us|bfloat16 .* (1|2|16) x (1|2) |1 x 4 '
  done
  echo "== $hopper with GEMV chains"
  "$hopper/cepe" bench --shape llama-2-7b+mlm-large --tests tg32@c126976 --device cuda --exclusive-gpu
fi
