"""Draws what beside_pytorch.py measured: python3 bench/peers/plot_inference.py IN.json OUT.svg   (needs matplotlib)

Time of a written token and peak memory while writing, over the tokens of context; of each peer's kernels the fastest.
"""
import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

PEERS = (("full attention", "s", "tab:gray"), ("published algorithm", "^", "tab:orange"), ("cepe", "o", "tab:blue"))

with open(sys.argv[1], encoding="utf-8") as file:
    result = json.load(file)
written = [record for record in result["records"] if record["test"] == "write" and "ms" in record]
figure, (time_axes, memory_axes) = plt.subplots(1, 2, figsize=(9, 3.6))
for peer, marker, colour in PEERS:
    fastest = {}
    for record in sorted((each for each in written if each["peer"] == peer), key=lambda each: -each["ms"]):
        fastest[record["tokens"]] = record
    records = [fastest[tokens] for tokens in sorted(fastest)]
    for axes, key, unit in ((time_axes, "ms", 1), (memory_axes, "peak_memory_bytes", 1e9)):
        points = [(record["tokens"], record[key] / unit) for record in records if record.get(key)]
        axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, color=colour, label=peer)
contexts = sorted({record["tokens"] for record in written})
for axes, label in ((time_axes, "ms a written token"), (memory_axes, "peak memory, GB")):
    axes.set_xscale("log", base=2)
    axes.set_xticks(contexts, [f"{tokens:,}" for tokens in contexts])
    axes.minorticks_off()
    axes.set_xlabel("tokens of context")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
time_axes.set_yscale("log")
memory_axes.set_ylim(bottom=0)
time_axes.legend()
figure.suptitle(f"{result['shape']}, {result.get('device', '')}", fontsize=9)
figure.tight_layout()
figure.savefig(sys.argv[2], metadata={"Date": None})
