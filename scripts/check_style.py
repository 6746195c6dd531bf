#!/usr/bin/env python3
"""The rules of CONTRIBUTING.md that a program can check. Prints a line for each place that breaks one; exit status 1.

Needs clang-format and lizard as scripts/setup.sh installs them: run scripts/check_style.sh.
"""

import pathlib
import re
import subprocess
import sys

import lizard

COLUMNS, FUNCTION_LINES, PARAMETERS, FOLDER_FILES = 120, 60, 5, 30
FILE_LINES, KERNEL_LINES = 500, 800
# Device functions are inlined: their parameters are registers, and a struct of them is no clearer.
KERNEL_FUNCTION_LINES, KERNEL_PARAMETERS = 75, 9
CODE = {".cc", ".h", ".cu", ".cuh"}
KERNEL = {".cu", ".cuh"}
root = pathlib.Path(__file__).resolve().parent.parent
broken = []


def git(*arguments):
    return subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True).stdout


def tell(place, what):
    broken.append(f"{place}: {what}")


def check_layout(files):
    found = subprocess.run([pathlib.Path(sys.executable).parent / "clang-format", "--dry-run", "--Werror", *files],
                           cwd=root, capture_output=True, text=True)
    for name in sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", found.stderr, re.M))):
        tell(name, "is not laid out as .clang-format says: run clang-format -i on it")
    if found.returncode != 0 and not found.stderr.strip():
        tell("clang-format", f"ended with status {found.returncode}")


def check_lengths(name, text):
    limit = KERNEL_LINES if pathlib.Path(name).suffix in KERNEL else FILE_LINES
    lines = text.split("\n")
    if len(lines) - 1 > limit and not name.startswith("tests/"):
        tell(name, f"{len(lines) - 1} lines, at most {limit} are allowed")
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            tell(f"{name}:{number}", f"{len(line)} columns, at most {COLUMNS} are allowed")


def check_functions(name, text):
    if name.startswith("tests/"):
        return
    kernel = pathlib.Path(name).suffix in KERNEL
    lines, parameters = (KERNEL_FUNCTION_LINES, KERNEL_PARAMETERS) if kernel else (FUNCTION_LINES, PARAMETERS)
    # lizard knows a language by the file's ending; CUDA reads as C++.
    for function in lizard.analyze_file.analyze_source_code(name + ".cc", text).function_list:
        place = f"{name}:{function.start_line}"
        if function.length > lines:
            tell(place, f"{function.name}() has {function.length} lines, at most {lines} are allowed")
        if function.parameter_count > parameters:
            tell(place, f"{function.name}() has {function.parameter_count} parameters, at most {parameters} are allowed")


def check_conditionals(name, text):
    """Builds differ in src/ops and cmake alone; a header is the same in all of them.

    An -inl.h is compiled once for each instruction set (Highway's foreach_target.h)."""
    free = name.startswith("src/ops/") and pathlib.Path(name).suffix != ".h"
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line) and not free and "__CUDACC__" not in line:
            if "__x86_64__" not in line and not name.endswith("-inl.h"):
                tell(f"{name}:{number}", "a conditional of the preprocessor outside src/ops and cmake")
        if "CEPE_CUDA" in line and line.lstrip().startswith("#"):
            tell(f"{name}:{number}", "CEPE_CUDA in code: a build without CUDA has src/ops/cuda/no_cuda.cc instead")


def check_option_names(name, text):
    """Names of options belong to apps/: the code below does not know how it is called."""
    if not name.startswith("src/"):
        return
    for number, line in enumerate(text.split("\n"), 1):
        for literal in re.findall(r'"((?:[^"\\]|\\.)*)"', line.split("//")[0]):
            if re.search(r"(?<![\w-])--[a-z][a-z-]+", literal):
                tell(f"{name}:{number}", f"an option's name below apps/: \"{literal}\"")


def anchors(text):
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "").strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def check_links(name, text):
    here = (root / name).parent
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (here / path).resolve() if path else root / name
        if not target.exists():
            tell(name, f"the link {link} leads nowhere")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf8")):
            tell(name, f"the link {link}: there is no such heading")


def check_folders(names):
    count = {}
    for name in names:
        if name.startswith("src/"):
            folder = str(pathlib.Path(name).parent)
            count[folder] = count.get(folder, 0) + 1
    for folder, files in sorted(count.items()):
        if files > FOLDER_FILES:
            tell(folder, f"{files} files, at most {FOLDER_FILES} are allowed: it wants wings")


def check_cycles(texts):
    """No two units include each other, directly or through others. A header and its .cc are one unit; a .cu and a .cuh
    are one each, for the parts of a kernel include the header that the kernel implements."""
    def unit(name):
        return name if pathlib.Path(name).suffix in KERNEL else str(pathlib.Path(name).with_suffix(""))
    uses = {}
    for name, text in texts.items():
        if name.startswith("src/"):
            edges = uses.setdefault(unit(name), set())
            edges.update("src/" + unit(include) for include in re.findall(r'^#include "([^"]+)"', text, re.M))
    for one in uses:
        uses[one].discard(one)
    done, path = set(), []

    def walk(one):
        if one in path:
            tell(" -> ".join(path[path.index(one):] + [one]), "include each other")
            return
        if one in done or one not in uses:
            return
        path.append(one)
        for other in sorted(uses[one]):
            walk(other)
        path.pop()
        done.add(one)
    for one in sorted(uses):
        walk(one)


def check_subjects():
    """Commits since this file exists; a clone without history has none to check."""
    first = git("log", "--diff-filter=A", "--format=%H", "--", "scripts/check_style.py").split()
    for line in git("log", "--format=%h %s", f"{first[-1]}..HEAD").splitlines() if first else []:
        commit, _, subject = line.partition(" ")
        if len(subject) > 72:
            tell(f"commit {commit}", f"its subject has {len(subject)} characters, at most 72 are allowed")


def main():
    names = [name for name in git("ls-files").splitlines() if (root / name).exists()]
    code = [name for name in names if pathlib.Path(name).suffix in CODE]
    texts = {name: (root / name).read_text(encoding="utf8") for name in code}
    check_layout(code)
    for name, text in texts.items():
        check_lengths(name, text)
        check_functions(name, text)
        check_conditionals(name, text)
        check_option_names(name, text)
    for name in names:
        if name.endswith(".md"):
            check_links(name, (root / name).read_text(encoding="utf8"))
    check_folders(names)
    check_cycles(texts)
    check_subjects()
    for line in broken:
        print(line)
    print(f"style: {len(code)} files of code checked, {len(broken)} places to mend")
    return 1 if broken else 0


sys.exit(main())
