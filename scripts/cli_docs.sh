#!/usr/bin/env bash
# Writes docs/cli.md from the help of the binary. tests/e2e/cli_docs_test.cc compares the two.
# usage: scripts/cli_docs.sh [build/cepe]
set -euo pipefail
cd "$(dirname "$0")/.."
cepe=${1:-build/cepe}

section() {
  printf '\n## %s\n\n```text\n' "$*"
  "$cepe" "${@:2}" --help
  printf '```\n'
}

# The commands of a command, each with its own after it.
walk() {
  local command
  for command in $("$cepe" "$@" --help | sed -n '/^Commands:/,$ s/^  \([a-z][a-z-]*\) .*/\1/p'); do
    section cepe "$@" "$command"
    walk "$@" "$command"
  done
}

written=$(mktemp docs/cli.XXXXXX)
trap 'rm -f "$written"' EXIT
{
  cat <<'TEXT'
# The command line

What `--help` prints, made by `scripts/cli_docs.sh`. All commands share:

* A name of a model without a directory is looked for in `$CEPE_MODELS`, then in `~/.cache/cepe/models`.
* Strings are taken as they are typed. `--option=` is the empty string, and an error where that has no meaning.
* Numbers are decimal (whole ones also hexadecimal, `0x10`).
* `--json` writes one JSON object: into the file that follows, or on standard output (`-`, or no file). Strings that are
  not UTF-8 have U+FFFD in place of the faulty bytes.
* Results come on standard output, notes and progress on standard error. The exit status is 0 when all of the result
  was written, else 1, with one line that begins with `cepe:`.
TEXT
  section cepe
  walk
} > "$written"
chmod 644 "$written"
mv "$written" docs/cli.md
