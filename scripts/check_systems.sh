#!/usr/bin/env bash
# Before a release: sets cepe up, builds it and runs its tests in an empty chroot of each Debian release, as on a fresh
# machine. What is committed is what is checked.
#
# scripts/check_systems.sh [release...]   default: bookworm trixie. Needs root, debootstrap, Debian's packages and PyPI,
#                                         and some 8 GB of disk for each.
#   CEPE_SYSTEMS   where the chroots stand (default .cache/systems), kept for the next run
#   CEPE_CHECK     the command that is run inside (default scripts/test.sh)
#   CEPE_MIRROR    the mirror of Debian's packages (default: the one that apt of this system reads, else debootstrap's)
# What the network of this machine needs goes in with them: http_proxy, https_proxy, no_proxy, PIP_INDEX_URL, and
# PIP_CERT, whose file is copied.
set -euo pipefail
source "$(dirname "$0")/steps.sh"
releases=("$@")
if [ ${#releases[@]} -eq 0 ]; then releases=(bookworm trixie); fi
systems=${CEPE_SYSTEMS:-$root/.cache/systems}
mirror=${CEPE_MIRROR:-}
if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | sed -n '/^https\?:/{p;q}') || true
fi
network=()
for name in http_proxy https_proxy no_proxy PIP_INDEX_URL; do
  if [ -n "${!name:-}" ]; then network+=("$name=${!name}"); fi
done
if [ -n "${PIP_CERT:-}" ]; then network+=(PIP_CERT=/etc/cepe-certificates.pem); fi

[ "$(id -u)" -eq 0 ] || stop "a chroot needs root"
for program in debootstrap chroot git; do
  command -v "$program" >/dev/null || stop "$program is not installed: as root, apt-get install debootstrap coreutils git"
done

for release in "${releases[@]}"; do
  system=$systems/$release
  step "$release: an empty system"
  if [ ! -x "$system/usr/bin/apt-get" ]; then
    rm -rf "$system" "$system.unfinished"
    mkdir -p "$systems"
    quietly "debootstrap-$release" debootstrap --variant=minbase "$release" "$system.unfinished" ${mirror:+"$mirror"} || {
      last_lines "debootstrap-$release"
      stop "debootstrap failed: is $release a Debian release, and are Debian's packages within reach?"
    }
    mv "$system.unfinished" "$system"
  fi
  cp -L /etc/resolv.conf "$system/etc/resolv.conf"
  if [ -n "${PIP_CERT:-}" ]; then cp "$PIP_CERT" "$system/etc/cepe-certificates.pem"; fi
  step "$release: cepe"
  rm -rf "$system/cepe"
  git clone --quiet --depth 1 "file://$root" "$system/cepe"
  quietly "check-$release" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "${network[@]}" unshare --mount bash -c \
    'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" bash -c "cd /cepe && $1"' \
    "$system" "${CEPE_CHECK:-scripts/test.sh}" || {
    last_lines "check-$release"
    stop "$release: it failed; the whole log is $log_dir/check-$release.log"
  }
done
end_step
