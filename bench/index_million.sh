#!/usr/bin/env bash
# An index of many passages of at most 100 words: building it, then searching it (docs/retrieval.md, "A million passages").
#
# usage: bench/index_million.sh CEPE SEARCH_BENCH ENCODER QUESTIONS INDEX TEXTS...
#
#   CEPE, SEARCH_BENCH   build/cepe, build/bench/index_search_bench
#   ENCODER              a BERT-family directory, such as ~/.cache/cepe/eval/encoders/all-MiniLM-L6-v2
#   QUESTIONS            what is asked: ~/.cache/cepe/eval/recall/squad.json
#   INDEX                a directory that is made anew: some 3 KB a passage
#   TEXTS                files that cepe index reads; records are cut into passages
#
# DEVICE=cpu|cuda embeds (auto). Prints passages, seconds and peak memory of building, the sizes of the files, and the
# table of the search.
set -euo pipefail
[ $# -ge 6 ] || { sed -n '4,13s/^# \?//p' "$0" >&2; exit 2; }
cepe=$1 bench=$2 encoder=$3 questions=$4 index=$5
shift 5

rm -rf "$index"
"$cepe" index build --out "$index" --encoder "$encoder" --hnsw --cut-records --device "${DEVICE:-auto}" "$@" 2> "$index.log" ||
  { tail -n 3 "$index.log" >&2; exit 1; }
du -h "$index"/*
"$bench" "$index" "$questions" 300 cpu
