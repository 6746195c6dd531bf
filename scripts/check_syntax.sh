#!/usr/bin/env bash
# Compiles every source of cepe by another compiler as far as its errors and warnings, without making code: what g++ 12
# takes, clang may not. Warnings are errors.
#
# scripts/check_syntax.sh [compiler] [pattern]   the compiler (default clang++-16, with libclang-rt-16-dev and
#                                                libomp-16-dev); a regular expression that the paths
#                                                of the sources match (default all). CEPE_JOBS: at once (default nproc).
set -euo pipefail
cd "$(dirname "$0")/.."
compiler=${1:-clang++-16} pattern=${2:-.} build=build-syntax

stop() {
  echo "check_syntax.sh: $1" >&2
  exit 1
}
command -v "$compiler" >/dev/null || stop "$compiler is not installed"
mkdir -p "$build"
CXX=$compiler cmake --preset cpu -B "$build" -DCEPE_BENCH=ON >"$build/configure.log" 2>&1 ||
  stop "configuring failed: $build/configure.log"

python3 - "$build" "$pattern" "${CEPE_JOBS:-$(nproc)}" <<'PY'
import concurrent.futures, json, re, shlex, subprocess, sys

build, pattern, jobs = sys.argv[1:]
commands = [c for c in json.load(open(f"{build}/compile_commands.json")) if re.search(pattern, c["file"])]
if any("cmake_pch" in c["command"] for c in commands):  # what sees LibTorch shares one precompiled header
    made = subprocess.run(["ninja", "-C", build, "cepe_torch_pch"], capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit(f"check_syntax.sh: the precompiled header does not compile:\n{made.stdout}{made.stderr}")


def check(command):
    words = shlex.split(command["command"])
    at = words.index("-o")
    words = words[:at] + words[at + 2:] + ["-fsyntax-only", "-Werror", "-Wno-unknown-warning-option"]
    run = subprocess.run([w for w in words if w != "-c"], cwd=command["directory"], capture_output=True, text=True)
    return command["file"], run.returncode, run.stderr


failed = 0
with concurrent.futures.ThreadPoolExecutor(int(jobs)) as pool:
    for path, code, text in pool.map(check, commands):
        if code != 0:
            failed += 1
            print(text, file=sys.stderr)
print(f"syntax: {len(commands)} sources checked, {failed} with errors or warnings")
sys.exit(failed > 0)
PY
