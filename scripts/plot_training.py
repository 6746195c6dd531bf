"""Draws the loss of a training run: python3 scripts/plot_training.py RUN/log.jsonl OUT.svg   (needs matplotlib)"""
import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

WINDOW = 50  # steps of the moving average

steps, losses = [], []
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        record = json.loads(line)
        if "loss" in record:
            steps.append(record["step"])
            losses.append(record["loss"])
means = [sum(losses[max(0, i - WINDOW):i]) / min(WINDOW, i) for i in range(1, len(losses) + 1)]
plt.figure(figsize=(7, 3.5))
plt.plot(steps, losses, linewidth=0.3, alpha=0.4, label="a step's batch")
plt.plot(steps, means, linewidth=1.2, label=f"mean of {WINDOW} steps")
plt.xlabel("step")
plt.ylabel("next-token loss, nats")
plt.ylim(min(means) - 0.3, means[WINDOW] + 0.3)
plt.legend()
plt.tight_layout()
plt.savefig(sys.argv[2], metadata={"Date": None})
