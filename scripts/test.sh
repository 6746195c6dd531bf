#!/usr/bin/env bash
# Installs what is missing, builds cepe for the CPU and runs every test that needs no GPU; then the tests of the
# parsers once more under the address and undefined-behaviour sanitizers. Of the benchmarks, which are built, one
# runs at the end: the guard of our speed beside LibTorch's (docs/bench.md). With CI=true a warning of the compiler is
# an error, threads that share a model run under the thread sanitizer, the CPU preset is configured once with nvcc out of
# sight, and the sources without LibTorch are checked by clang where it is installed. The tests that need a GPU are in the cuda preset's build: ctest --test-dir build-cuda -L gpu.
set -euo pipefail
source "$(dirname "$0")/steps.sh"

# configure_without_nvcc: the CPU preset must not need a CUDA toolkit, nor pick up one that happens to be installed.
configure_without_nvcc() {
  local bin=$root/.cache/plain-path build=$root/build-plain directory program
  rm -rf "$bin" "$build"
  mkdir -p "$bin"
  local IFS=:
  for directory in $PATH; do
    for program in "$directory"/*; do
      if [ -x "$program" ] && [ ! -d "$program" ] && [ "${program##*/}" != nvcc ] && [ ! -e "$bin/${program##*/}" ]; then
        ln -s "$program" "$bin/"
      fi
    done
  done
  unset IFS
  if PATH=$bin command -v nvcc; then stop "nvcc is still in sight in $bin"; fi
  env -u CUDACXX -u CUDA_HOME -u CUDA_PATH -u CUDA_ROOT -u CUDAToolkit_ROOT PATH="$bin" \
    cmake --preset cpu -B "$build" || stop "the CPU preset does not configure without nvcc"
  if grep -E '^[^#/].*(nvcc|CUDAToolkit|cuda_runtime)' "$build/CMakeCache.txt"; then
    stop "the CPU configuration refers to a CUDA toolkit (above, from $build/CMakeCache.txt)"
  fi
  rm -rf "$bin" "$build"
}

# other_compilers: of Debian 12.
other_compilers() {
  apt-get -q update -o DPkg::Lock::Timeout=300 &&
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
      clang-16 libclang-rt-16-dev libomp-16-dev g++-aarch64-linux-gnu qemu-user
}

# check_with_other_compilers <jobs>: where one cannot be had, its check is left out, and a line says so.
check_with_other_compilers() {
  if { ! command -v clang++-16 || ! command -v qemu-aarch64; } >/dev/null && [ "$(id -u)" -eq 0 ]; then
    quietly other-compilers other_compilers || last_lines other-compilers
  fi
  step "sources without LibTorch by clang"
  if command -v clang++-16 >/dev/null; then
    CEPE_JOBS=$1 scripts/check_syntax.sh clang++-16 'src/(base|vectors|text|io|report|tasks|data|ask|ops/cpu)/'
  else
    echo "   not checked: clang++-16 is not installed (apt-get install clang-16 libclang-rt-16-dev libomp-16-dev)"
  fi
  step "the CPU's kernels for aarch64"
  if scripts/check_aarch64.sh fetch; then
    scripts/check_aarch64.sh
  else
    echo "   not checked, for what the line above says"
  fi
}

# check_libraries <program>: of CUDA only what libtorch_cpu itself wants, one OpenMP runtime, nothing unresolved.
check_libraries() {
  local libraries openmp cuda
  libraries=$(ldd "$1")
  if grep 'not found' <<<"$libraries"; then stop "$1 needs libraries that are not installed (above)"; fi
  cuda=$(grep -E 'lib(cu|nv|nccl|torch_cuda|c10_cuda|caffe2_nvrtc)' <<<"$libraries" |
    grep -vE 'lib(cudart|cupti|curl)\.so' || true)
  if [ -n "$cuda" ]; then stop "$1, a CPU build, needs CUDA libraries: $cuda"; fi
  openmp=$(grep -cE 'lib(gomp|iomp5|omp)[.-]' <<<"$libraries" || true)
  if [ "$openmp" -ne 1 ]; then stop "$1 loads $openmp OpenMP runtimes, expected 1: $libraries"; fi
  grep -E 'lib(gomp|cudart|cupti|torch_cpu)' <<<"$libraries" | sed 's/^[[:space:]]*/   /'
}

"$root/scripts/setup.sh"
jobs=$(build_jobs)

step "style"
scripts/check_style.sh
step "configure (preset cpu)"
in_ci=$([ "${CI:-}" = true ] && echo ON || echo OFF)
cmake --preset cpu -DCEPE_BENCH=ON -DCMAKE_COMPILE_WARNING_AS_ERROR="$in_ci" -DCEPE_THREAD_SANITIZER="$in_ci"
if [ "${CI:-}" = true ]; then
  step "configure with nvcc out of sight"
  quietly configure-without-nvcc configure_without_nvcc || { last_lines configure-without-nvcc; exit 1; }
fi
if [ "${CI:-}" = true ]; then
  step "other compilers"
  check_with_other_compilers "$jobs"
fi
step "build ($jobs jobs)"
ninja -C build -j "$jobs"
step "libraries of build/cepe"
check_libraries build/cepe
step "build with sanitizers ($jobs jobs)"
cmake --preset sanitize
ninja -C build-sanitize -j "$jobs"
step "tests with sanitizers"
ctest --test-dir build-sanitize --output-on-failure --no-tests=error
step "tests"
OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} ctest --test-dir build -LE gpu -j "$jobs" --output-on-failure --no-tests=error
step "speed beside LibTorch, by ratio"
build/bench/speed_guard
end_step
