#!/usr/bin/env bash
# Before a release: sets cepe up, builds it and runs its tests in an empty chroot of each Debian release, as on a fresh
# machine. What is committed is what is checked.
#
# scripts/check_systems.sh [release...]   default: bookworm trixie. Needs root, debootstrap, Debian's packages and PyPI,
#                                         and some 8 GB of disk for each. CEPE_SYSTEMS: where the chroots stand (default
#                                         .cache/systems), kept for the next run; CEPE_CHECK: the command that is run
#                                         inside (default scripts/test.sh)
set -euo pipefail
source "$(dirname "$0")/steps.sh"
releases=("$@")
if [ ${#releases[@]} -eq 0 ]; then releases=(bookworm trixie); fi
systems=${CEPE_SYSTEMS:-$root/.cache/systems}

[ "$(id -u)" -eq 0 ] || stop "a chroot needs root"
for program in debootstrap chroot git; do
  command -v "$program" >/dev/null || stop "$program is not installed: as root, apt-get install debootstrap coreutils git"
done

for release in "${releases[@]}"; do
  system=$systems/$release
  step "$release: an empty system"
  if [ ! -x "$system/usr/bin/apt-get" ]; then
    mkdir -p "$system"
    quietly "debootstrap-$release" debootstrap --variant=minbase "$release" "$system" || {
      last_lines "debootstrap-$release"
      stop "debootstrap failed: is $release a Debian release, and are Debian's packages within reach?"
    }
  fi
  cp -L /etc/resolv.conf "$system/etc/resolv.conf"
  step "$release: cepe"
  rm -rf "$system/cepe"
  git clone --quiet --depth 1 "file://$root" "$system/cepe"
  quietly "check-$release" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 unshare --mount bash -c \
    'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" bash -c "cd /cepe && $1"' \
    "$system" "${CEPE_CHECK:-scripts/test.sh}" || {
    last_lines "check-$release"
    stop "$release: it failed; the whole log is $log_dir/check-$release.log"
  }
done
end_step
