#!/usr/bin/env bash
# From a clean clone to the main result: installs what is missing, builds build/cepe, asks the model a question about a
# whole book, and measures how perplexity falls as more of the book goes through the encoder.
set -euo pipefail
source "$(dirname "$0")/steps.sh"

model=models/smollm2-135m-cepe
books=(examples/books/the-merry-adventures-of-robin-hood.txt examples/books/the-leavenworth-case.txt)
results=runs/quickstart

generate=(build/cepe generate --model "$model" --context "${books[0]}"
  --form question --expand 3 --prompt "What weapon was Eric o' Lincoln famous for?" --max-tokens 32)
perplexity=(build/cepe perplexity --model "$model" --text "${books[@]}" --decoder-tokens 2048
  --context-tokens 0,2048,6144,14336,30720 --control other-document --full-window --windows 4
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

   What will happen, and how long it takes on 2 cores (AVX-512) with a fast network:
     1. scripts/setup.sh installs Debian packages, LibTorch (550 MB) and SmolLM2-135M (90 MB)   about 3 minutes
     2. build/cepe is built                                                                    about 6 minutes
     3. the model reads a whole book and answers a question about it                           about 2 minutes
     4. perplexity of two books with 0 to 30,720 tokens of context: a table and a plot         about 9 minutes
   What is there already is not done again. A processor without AVX-512, or with other work, takes up to twice as long.
PLAN

"$root/scripts/setup.sh"
jobs=$(build_jobs)
step "configure (preset cpu)"
cmake --preset cpu
step "build build/cepe ($jobs jobs)"
ninja -C build -j "$jobs" cepe
mkdir -p "$results"
step "a question to a whole book"
show "${generate[@]}"
step "perplexity over the length of the context"
show "${perplexity[@]}"
printf '\n   plot: %s   figures: %s\n' "$results/perplexity.svg" "$results/perplexity.json"
end_step
