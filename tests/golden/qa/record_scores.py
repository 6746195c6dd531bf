"""Records scores.json, the golden of tests/tasks/question_scores_test.cc: published definitions on made-up answers.

    python record_scores.py      (needs transformers 4.57.1, regex 2024.11.6)

None of cepe's code is used:

    squad     normalize_answer, compute_exact and compute_f1 of SQuAD 2.0's evaluation script (Rajpurkar et al. 2018), as
              transformers has them. Its get_raw_scores is written again here: the greatest over the references, and a
              question without an answer has the reference ""
    hotpot    f1_score of HotpotQA's hotpot_evaluate_v1.py (Yang et al. 2018), written again here: 0 for "yes", "no" and
              "noanswer" that differ
    dpr       has_answer with match_type "string" of DPR (Karpukhin et al. 2020) on its SimpleTokenizer, written again here

"unanswerable" is cepe's own rule (question_scores.h), written again: what the model says instead of nothing.
"""

import json
import random
import unicodedata
from pathlib import Path

import regex
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1, normalize_answer


def raw_scores(prediction, answers):
    """SQuAD 2.0's get_raw_scores of one question."""
    gold = [a for a in answers if normalize_answer(a)] or [""]
    return max(compute_exact(a, prediction) for a in gold), max(compute_f1(a, prediction) for a in gold)


def hotpot_f1(prediction, truth):
    predicted, gold = normalize_answer(prediction), normalize_answer(truth)
    if predicted in ["yes", "no", "noanswer"] and predicted != gold:
        return 0
    if gold in ["yes", "no", "noanswer"] and predicted != gold:
        return 0
    return compute_f1(truth, prediction)


TOKENS = regex.compile(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", regex.IGNORECASE | regex.UNICODE | regex.MULTILINE)


def words(text):
    return [m.group().lower() for m in TOKENS.finditer(unicodedata.normalize("NFD", text))]


def has_answer(answers, text):
    text = words(text)
    for answer in answers:
        answer = words(answer)
        for i in range(len(text) - len(answer) + 1):
            if answer == text[i:i + len(answer)]:
                return True
    return False


def says_unanswerable(prediction):
    normal = normalize_answer(prediction)
    return normal in ["", "no answer"] or normal.split()[0] == "unanswerable"


rng = random.Random(7)
WORDS = ["Paris", "the", "The", "a", "an", "AN", "of", "U.S.", "12,000", "1234", "well-known", "Émile", "E\u0301mile", "Zola",
         "ÅNGSTRÖM", "straße", "Αθήνα", "Москва", "東京", "naïve", "theatre", "anthem", "d'Arc", "“quoted”", "(born", "1901)",
         "½", "x²", "co-op", "yes", "no", "$5", "a.m.", "tab\there", "no\u00a0break", "the-end", "A", "ﬁre", "Ⅳ", "e\u0301a",
         "—", "…", "’s", "noanswer", "an\u0301"]
WHOLE = ["", " ", "the", "...", "The.", "unanswerable", "Unanswerable.", "unanswerable because it is not said", "No answer",
         "no answer is given", "It is unanswerable", "yes", "no", "No.", "yes, of course"]


def text(least=1):
    return rng.choice([" ", "  ", " "]).join(rng.choice(WORDS) for _ in range(rng.randint(least, 5)))


def change(answer):
    """A prediction near an answer."""
    kind = rng.randrange(8)
    parts = answer.split()
    if kind == 0:
        return answer.upper().replace("SS", "ss")
    if kind == 1:
        return "the " + answer + "."
    if kind == 2:
        return text() + " " + answer + " " + text()
    if kind == 3:
        return " ".join(rng.sample(parts, len(parts)))
    if kind == 4:
        return " ".join(parts[:max(1, len(parts) - 1)])
    if kind == 5:
        return unicodedata.normalize(rng.choice(["NFC", "NFD"]), answer)
    if kind == 6:
        return " ".join(parts + parts)
    return answer


def case(i):
    answers = [] if i % 6 == 5 else [rng.choice(WHOLE[11:13]) if rng.random() < 0.15 else text() for _ in range(rng.randint(1, 4))]
    if i % 3 == 0:
        prediction = rng.choice(WHOLE)
    else:
        prediction = change(rng.choice(answers)) if answers and rng.random() < 0.8 else text()
    made = {"prediction": prediction, "answers": answers, "normal": normalize_answer(prediction)}
    if answers:
        # Without questions that have no answer, every reference counts.
        made["em"] = max(compute_exact(a, prediction) for a in answers)
        made["f1"] = max(compute_f1(a, prediction) for a in answers)
        made["hotpot_f1"] = max(hotpot_f1(prediction, a) for a in answers)
        made["has_answer"] = has_answer(answers, prediction)
    none = says_unanswerable(prediction)
    made["em2"], made["f12"] = raw_scores("" if none else prediction, answers)
    made["says_unanswerable"] = none
    return made


golden = json.dumps([case(i) for i in range(240)], ensure_ascii=False)
Path(__file__).with_name("scores.json").write_text(golden.replace("}, {", "},\n {") + "\n", encoding="utf8")
