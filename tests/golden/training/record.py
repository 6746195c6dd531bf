"""Records the losses of short training runs: tests/golden/training/record.py build/cepe

Writes corpus.jsonl (words drawn with a fixed seed) and losses.json beside this file. losses.json holds, for each base
and precision, the loss of each of 20 steps, as log.jsonl gives it. The settings are train.toml's. Run on a CPU.
tests/train/losses_test.cc repeats the runs and compares.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASES = {name: HERE.parent / "generate" / name for name in ("plain", "published")}
WORDS = "the road to town harbour said and was long grey quiet sky who goes there".split()


def write_corpus(path):
    rnd = random.Random(7)
    records = []
    for domain in ("letters", "tales") * 3:
        length = rnd.choice((12, 60, 90))
        records.append({"text": " ".join(rnd.choice(WORDS) for _ in range(length)), "domain": domain})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def losses(cepe, base, precision, work):
    shards, run = work / f"shards-{base}", work / f"{base}-{precision}"
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}

    def call(*arguments):
        subprocess.run([cepe, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, env=environment)

    call("data", "--model", BASES[base], "--out", shards, HERE / "corpus.jsonl")
    call("train", HERE / "train.toml", "--run", run, "--device", "cpu", f"--model.base={BASES[base]}",
         f"--data.train={shards}", f"--train.precision={precision}")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def main():
    cepe = str(Path(sys.argv[1]).resolve())
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "losses.json"
    write_corpus(HERE / "corpus.jsonl")
    with tempfile.TemporaryDirectory() as work:
        recorded = {f"{base} {precision}": losses(cepe, base, precision, Path(work))
                    for base in BASES for precision in ("float32", "bfloat16")}
    out.write_text(json.dumps(recorded, indent=1) + "\n")


main()
