#!/usr/bin/env bash
# The rules of CONTRIBUTING.md that a program can check (scripts/check_style.py says which), with the pinned tools of
# scripts/setup.sh. One line for each place to mend; a step of scripts/test.sh.
set -euo pipefail
source "$(dirname "$0")/steps.sh"

[ -x .venv/bin/clang-format ] || stop "clang-format is not in .venv: run scripts/setup.sh"
exec .venv/bin/python scripts/check_style.py
