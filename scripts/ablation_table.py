"""One Markdown table of what scripts/ablations.sh ran: scripts/ablations.sh --list | python3 scripts/ablation_table.py OUT

A loss is nats a token of the validation at a run's end; exact is the share of samples whose scored tokens are all the most
likely ones. Differences from `base` (of fresh parts: from `fresh`) stand in brackets.
"""
import json
import os
import statistics
import sys

KINDS = ["facts", "needles", "pairs", "variables", "recall", "cloze", "natural", "questions"]


def records(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Run:
    def __init__(self, out, name, kind):
        self.name, self.kind = name, kind
        lines = records(os.path.join(out, name, "run", "log.jsonl"))
        speeds = [line["tokens_per_second"] for line in lines if "loss" in line]
        self.speed = statistics.median(speeds[min(20, len(speeds) // 2):]) if speeds else None
        self.losses, self.exact = {}, None
        for line in lines:
            for row in line.get("validation", []):
                self.losses["text " + row["domain"]] = row["loss_context"]
                if row["domain"] == "all":
                    self.losses["alone"] = row["loss_no_context"]
            for row in line.get("ask_validation", []):
                self.losses[row["domain"]] = row["loss"]
                if row["domain"] == "all":
                    self.exact = row["exact"]
            for row in line.get("ask_validation_by_chunks", []):
                if row["domain"] == "all":
                    self.losses["chunks %d" % row["chunks"]] = row["loss"]
        self.recall = {}
        path = os.path.join(out, name, "recall", "results.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for row in json.load(file)["results"]:
                    tags = row["tags"]
                    if tags["task"].startswith("niah"):
                        self.recall[(int(tags["length"]), tags["task"])] = row["value"]


def row_of(cells):
    return "| " + " | ".join(cells) + " |"


def loss_table(runs):
    sizes = sorted({key for run in runs for key in run.losses if key.startswith("chunks ")}, key=lambda key: int(key[7:]))
    texts = sorted(key for key in {key for run in runs for key in run.losses} if key.startswith("text ") and key != "text all")
    keys = ["all"] + [kind for kind in KINDS if any(kind in run.losses for run in runs)] + sizes + ["text all"] + texts
    by_name = {run.name: run for run in runs}
    print(row_of(["run", "k tokens/s", "exact %"] + ["answers" if key == "all" else key for key in keys]))
    print("|" + "---|" * (len(keys) + 3))
    for run in runs:
        if not run.losses:
            continue
        against = by_name.get("fresh" if run.kind.startswith("fresh") else "base")
        cells = [run.name, "%.0f" % (run.speed / 1e3) if run.speed else "", "" if run.exact is None else "%.1f" % (100 * run.exact)]
        for key in keys:
            if key not in run.losses:
                cells.append("")
                continue
            text = "%.4f" % run.losses[key]
            if against and against is not run and key in against.losses:
                text += " (%+.4f)" % (run.losses[key] - against.losses[key])
            cells.append(text)
        print(row_of(cells))


def recall_table(runs):
    keys = sorted({key for run in runs for key in run.recall})
    if not keys:
        return
    print("\nFound again by `cepe eval recall`, percent:\n")
    print(row_of(["run"] + ["%s, %d tokens" % (task.removeprefix("niah_"), length) for length, task in keys]))
    print("|" + "---|" * (len(keys) + 1))
    for run in runs:
        if run.recall:
            print(row_of([run.name] + ["%.0f" % (100 * run.recall[key]) if key in run.recall else "" for key in keys]))


fields = [line.rstrip("\n").split("|") for line in sys.stdin if "|" in line]
found = [Run(sys.argv[1], line[0].strip(), line[1].strip()) for line in fields]
loss_table(found)
recall_table(found)
