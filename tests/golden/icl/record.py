"""Records scores.json, the golden of tests/eval/icl_scores_test.cc: accuracy and macro F1 as scikit-learn computes them.

    python record.py      (needs scikit-learn 1.9.1)

None of cepe's code is used. Each case has some texts, each labelled with several seeds:

    right, chosen   [seed][text] the labels
    accuracy, f1    means over the seeds of accuracy_score and of f1_score(average="macro")
    accuracy_error, f1_error
                    standard errors, texts being the independent units (Liang and Zeger's clustered variance with the
                    factor G / (G - 1)): of the influence of each choice on the mean, which is the numerical derivative of
                    scikit-learn's score by the choice's sample_weight
"""

import json
import math
import random
from pathlib import Path

from sklearn.metrics import accuracy_score, f1_score


def macro_f1(right, chosen, weights=None):
    return f1_score(right, chosen, average="macro", sample_weight=weights)


def accuracy(right, chosen, weights=None):
    return accuracy_score(right, chosen, sample_weight=weights)


def mean_and_error(score, right, chosen):
    texts = len(right[0])
    moved = [0.0] * texts
    mean = 0.0
    step = 1e-5
    for gold, guess in zip(right, chosen):
        mean += score(gold, guess) / len(right)
        for text in range(texts):
            up, down = [1.0] * texts, [1.0] * texts
            up[text] += step
            down[text] -= step
            moved[text] += (score(gold, guess, up) - score(gold, guess, down)) / (2 * step) / len(right)
    return mean, math.sqrt(texts / (texts - 1) * sum(m * m for m in moved))


def case(draw, labels, texts, seeds, skill):
    right = [draw.choice(labels) for _ in range(texts)]
    chosen = [[gold if draw.random() < skill else draw.choice(labels) for gold in right] for _ in range(seeds)]
    made = {"right": [right] * seeds, "chosen": chosen}
    for name, score in [("accuracy", accuracy), ("f1", macro_f1)]:
        made[name], made[name + "_error"] = mean_and_error(score, made["right"], chosen)
    return made


def main():
    draw = random.Random(18)
    kinds = [(2, 12, 3, 0.5), (2, 40, 1, 0.9), (6, 30, 3, 0.4), (4, 25, 2, 0.0), (20, 18, 3, 0.5), (3, 10, 3, 1.0)]
    cases = [case(draw, [f"label {i}" for i in range(n)], texts, seeds, skill) for n, texts, seeds, skill in kinds]
    path = Path(__file__).parent / "scores.json"
    path.write_text(json.dumps(cases, indent=0) + "\n")


main()
