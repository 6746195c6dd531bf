"""One Markdown table of what scripts/ablations.sh ran: scripts/ablations.sh --list | python3 scripts/ablation_table.py OUT

Columns: `answers` and kinds, a loss in nats a scored token of the validation at a run's end; `exact`, percent of the samples
whose scored tokens are all the most likely ones, by kind; `ppl`, perplexity of held-out text with its own context, and `gain`,
the reading gain in percent, by domain; `found`, percent of what `cepe eval recall` asks for, by task and length. Differences
from `base` (of fresh parts: from `fresh`) stand in brackets.
"""
import json
import math
import os
import statistics
import sys

KINDS = ["all", "facts", "needles", "pairs", "variables", "recall", "cloze", "natural", "questions"]


def records(run):
    """Of a run that is finished."""
    if not os.path.exists(os.path.join(run, "final", "config.json")):
        return []
    with open(os.path.join(run, "log.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Run:
    """values: of each column, (group, name) -> number."""

    def __init__(self, out, name, kind):
        self.name, self.kind, self.values = name, kind, {}
        lines = records(os.path.join(out, name, "run"))
        speeds = [line["tokens_per_second"] for line in lines if "loss" in line]
        if speeds:
            self.values["", "k tokens/s"] = statistics.median(speeds[min(20, len(speeds) // 2):]) / 1e3
        for line in lines:
            self.read_validation(line)
        path = os.path.join(out, name, "recall", "results.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for row in json.load(file)["results"]:
                    task, length = row["tags"]["task"], int(row["tags"]["length"])
                    if task.startswith("niah"):
                        self.values["found", (length, task.removeprefix("niah_"))] = 100 * row["value"]

    def read_validation(self, line):
        for row in line.get("ask_validation", []):
            self.values["answers", row["domain"]] = row["loss"]
            self.values["exact", row["domain"]] = 100 * row["exact"]
        for row in line.get("ask_validation_by_chunks", []):
            if row["domain"] == "all":
                self.values["chunks", row["chunks"]] = row["loss"]
        for row in line.get("validation", []):
            self.values["ppl", row["domain"]] = math.exp(row["loss_context"])
            if "reading_gain" in row:
                self.values["gain", row["domain"]] = 100 * row["reading_gain"]
            if row["domain"] == "all":
                self.values["ppl", "alone"] = math.exp(row["loss_no_context"])


# Of each group: how many digits, the names that come first and in which order, and a column's title.
GROUPS = {
    "": (0, [], lambda name: name),
    "answers": (4, KINDS, lambda name: "answers" if name == "all" else name),
    "chunks": (4, [], lambda name: "%d chunks" % name),
    "exact": (1, KINDS, lambda name: "exact %" if name == "all" else "exact % " + name),
    "ppl": (2, ["all"], lambda name: "ppl" if name == "all" else "ppl " + name),
    "gain": (1, ["all"], lambda name: "gain %" if name == "all" else "gain % " + name),
    "found": (0, [], lambda name: "found %% %s, %d tokens" % (name[1], name[0])),
}


def columns_of(runs):
    for group, (_, first, _) in GROUPS.items():
        names = {name for run in runs for kind, name in run.values if kind == group}
        for name in [name for name in first if name in names] + sorted(names - set(first)):
            yield group, name


def cell(run, against, column):
    if column not in run.values:
        return ""
    digits, value = GROUPS[column[0]][0], run.values[column]
    text = "%.*f" % (digits, value)
    if column[0] and against not in (None, run) and column in against.values:
        text += " (%+.*f)" % (digits, value - against.values[column])
    return text


def main():
    fields = [line.rstrip("\n").split("|") for line in sys.stdin if "|" in line]
    runs = [Run(sys.argv[1], line[0].strip(), line[1].strip()) for line in fields]
    columns, by_name = list(columns_of(runs)), {run.name: run for run in runs}
    rows = [["run"] + [GROUPS[group][2](name) for group, name in columns]]
    for run in runs:
        if run.values:
            against = by_name.get("fresh" if run.kind.startswith("fresh") else "base")
            rows.append([run.name] + [cell(run, against, column) for column in columns])
    rows.insert(1, ["---"] * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row) + " |")


main()
