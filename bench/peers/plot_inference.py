"""Draws what beside_pytorch.py measured: python3 bench/peers/plot_inference.py IN.json OUT.svg   (needs matplotlib)

Time of reading, time of a written token and peak memory while writing, over the number of tokens; of each peer's kernels
the fastest.
"""
import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

PEERS = (("full attention", "s", "tab:gray"), ("published algorithm", "^", "tab:orange"), ("cepe", "o", "tab:blue"))
# The test, what of a record is drawn and over how much, the axes' labels, and whether the scale is a logarithm's.
PANELS = (("read", "ms", 1e3, "tokens read", "s to read", True),
          ("write", "ms", 1, "tokens of context", "ms a written token", True),
          ("write", "peak_memory_bytes", 1e9, "tokens of context", "peak memory while writing, GB", False))


def fastest(records, peer):
    """A peer's records by their number of tokens, each of its fastest kernel."""
    best = {}
    for record in sorted((each for each in records if each["peer"] == peer), key=lambda each: -each["ms"]):
        best[record["tokens"]] = record
    return [best[tokens] for tokens in sorted(best)]


with open(sys.argv[1], encoding="utf-8") as file:
    result = json.load(file)
figure, all_axes = plt.subplots(1, len(PANELS), figsize=(13, 3.6))
for axes, (test, key, unit, of_tokens, label, logarithmic) in zip(all_axes, PANELS):
    measured = [record for record in result["records"] if record["test"] == test and "ms" in record]
    for peer, marker, colour in PEERS:
        points = [(record["tokens"], record[key] / unit) for record in fastest(measured, peer) if record.get(key)]
        axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, color=colour, label=peer)
    counts = sorted({record["tokens"] for record in measured})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [f"{tokens:,}" for tokens in counts])
    axes.minorticks_off()
    axes.set_xlabel(of_tokens)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
all_axes[0].legend()
figure.suptitle(f"{result['shape']}, {result.get('device', '')}", fontsize=9)
figure.tight_layout()
figure.savefig(sys.argv[2], metadata={"Date": None})
