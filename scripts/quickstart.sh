#!/usr/bin/env bash
# From a clean clone to the main result: installs what is missing, builds build/cepe, asks the model a question about a
# whole book, and measures how perplexity falls as more of a book goes through the encoder.
#
# scripts/quickstart.sh [--full]   --full: the table of docs/perplexity.md instead of a short one
set -euo pipefail
source "$(dirname "$0")/steps.sh"
case "$*" in
  "") lengths=0,2048,6144 extent=(--windows 2) table="to 6,144 tokens" minutes=14 table_minutes=3 ;;
  --full) lengths=0,2048,6144,14336,30720 extent=(--windows 4 --full-window)
    table="to 30,720 tokens, full attention beside it" minutes=27 table_minutes=16 ;;
  *) stop "usage: scripts/quickstart.sh [--full]" ;;
esac

model=models/smollm2-135m-cepe
books=(examples/books/the-merry-adventures-of-robin-hood.txt examples/books/the-leavenworth-case.txt)
results=runs/quickstart

generate=(build/cepe generate --model "$model" --context "${books[0]}"
  --form question --expand 3 --prompt "What weapon was Eric o' Lincoln famous for?" --max-tokens 32)
perplexity=(build/cepe perplexity --model "$model" --text "${books[@]}" --decoder-tokens 2048
  --context-tokens "$lengths" --control other-document "${extent[@]}"
  --json "$results/perplexity.json" --plot "$results/perplexity.svg")

# show <command...>: prints the command as a user would type it, then runs it.
show() {
  local word
  printf '   $'
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./,=-]+$ ]] || word=${word@Q}
    printf ' %s' "$word"
  done
  printf '\n'
  "$@"
}

cat <<PLAN

   In some $minutes minutes on 2 cores, downloads aside, this builds cepe, asks a model a question about a whole book, and shows
   by how much the model reads better with more of a book before it. A processor with AVX-512 takes less.

     1. scripts/setup.sh: Debian packages, LibTorch (550 MB), SmolLM2-135M (90 MB)       about 3 minutes, once
     2. build/cepe                                                                       about 6 minutes, once
     3. the model reads a book of 146,382 tokens and answers a question about it         about 2 minutes
     4. perplexity of two books with context: a table ($table)       about $table_minutes minutes
PLAN

"$root/scripts/setup.sh"
jobs=$(build_jobs)
step "configure (preset cpu)"
quietly quickstart-configure cmake --preset cpu || { last_lines quickstart-configure; stop "configuring failed"; }
step "build build/cepe ($jobs jobs)"
ninja -C build -j "$jobs" cepe
mkdir -p "$results"
step "a question to a whole book"
show "${generate[@]}"
step "perplexity over the length of the context"
show "${perplexity[@]}"
printf '\n   plot: %s   figures: %s\n' "$results/perplexity.svg" "$results/perplexity.json"
end_step
