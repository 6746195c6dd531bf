"""Records scores.json, the golden of tests/tasks/long_scores_test.cc: published definitions on made-up answers.

    git clone https://github.com/THUDM/LongBench      (commit 2e00731)
    python record.py LongBench/LongBench     (needs rouge-score 0.1.2, rouge 1.0.1, nltk 3.10.4, thefuzz 0.22.1)

None of cepe's code is used:

    rouge1, rouge2, rougeL           rouge_score.RougeScorer, without and with its stemmer, score_multi
    rouge-1, rouge-2, rouge-l        the package rouge, as LongBench calls it: 0 where it raises
    f1, classification, count,       LongBench's metrics.py (Bai et al. 2023): qa_f1_score, classification_score,
    retrieval, similarity            count_score, retrieval_score, code_sim_score. An empty module stands for jieba,
                                     which only Chinese needs, thefuzz for fuzzywuzzy, its older name
    stems                            nltk's PorterStemmer, of words that its rules take apart
"""

import itertools
import json
import random
import sys
import types
from pathlib import Path

from nltk.stem.porter import PorterStemmer
from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer
from thefuzz import fuzz

sys.path.insert(0, sys.argv[1])
sys.modules["jieba"] = types.ModuleType("jieba")
sys.modules["fuzzywuzzy"] = types.ModuleType("fuzzywuzzy")
sys.modules["fuzzywuzzy"].fuzz = fuzz
import metrics  # noqa: E402  (LongBench's)

draw = random.Random(7)

SENTENCES = [
    "The committee reported that federal agencies spent $1,200.50 on travel in 2019.",
    "Agencies have not yet implemented the recommendations; GAO made nine of them.",
    "It was the best of times, it was the worst of times.",
    "Officials said the programme's costs were rising steadily... and nobody knew why.",
    "Running quickly, the dogs were chasing happily relational databases!",
    "Señor Müller ate 3.5 crêpes at the café — naïvely.",
    "The the the the the.",
    "A fox jumps over the lazy dog while the lazy dog sleeps",
    "Nothing",
    "El Niño's effects (2015-16) were severe; El Niño's effects were studied.",
    "The report   has\tdouble  spaces\nand line breaks. ",
    "Conditional probabilities generalizations operators formalities sensibilities.",
    "日本語の文章です。 It mixes scripts",
    "...",
    "",
    " ",
    "3.14 is pi. 2.72 is e. 1.41 is not.",
]
WORDS = ("the a report agency cost rises rising rose in of 2019 federal spending dog dogs sleeping sleeps lazy . , "
         "to").split()


def text():
    kind = draw.random()
    if kind < 0.4:
        return " ".join(draw.choice(SENTENCES) for _ in range(draw.randint(1, 3)))
    if kind < 0.8:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 60)))
    words = draw.choice(SENTENCES).split()
    draw.shuffle(words)
    return " ".join(words)


def plain(prediction, reference):
    try:
        scores = Rouge().get_scores([prediction], [reference], avg=True)
    except ValueError:
        return [0.0, 0.0, 0.0]
    return [scores[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l")]


def google(prediction, references, stem):
    names = ["rouge1", "rouge2", "rougeL"]
    scores = RougeScorer(names, use_stemmer=stem).score_multi(references, prediction)
    return [scores[name].fmeasure for name in names]


rouges = []
for n in range(160):
    references = [text() for _ in range(draw.choice([1, 1, 2, 3]))]
    prediction = draw.choice([text(), references[0], references[0][:40] + text()])
    assert metrics.rouge_score(prediction, references[0]) == plain(prediction, references[0])[2]
    rouges.append({
        "prediction": prediction,
        "references": references,
        "google": google(prediction, references, False),
        "stemmed": google(prediction, references, True),
        "plain": [max(column) for column in zip(*(plain(prediction, reference) for reference in references))],
    })

CLASSES = ["Food", "Food and drink", "Country", "City", "Other city", "Other location", "Sport", "Date"]
CODE = ["x = compute(a, b)", "return self.value", "// a comment", "# another", "```python", "int main() {", "",
        "naïve = 'é'"]
others = []
for n in range(120):
    numbers = " ".join(str(draw.randint(1, 12)) for _ in range(draw.randint(0, 4)))
    wanted = draw.choice(CLASSES)
    named = " ".join(draw.sample(CLASSES, draw.randint(0, 3)))
    code = "\n".join(draw.choice(CODE) for _ in range(draw.randint(1, 4)))
    line = draw.choice([draw.choice(CODE), "x = compute(b, c)", "return self.values[0]"])
    number = str(draw.randint(1, 12))
    answer, truth = text(), text()
    others.append({
        "f1": [answer, truth, float(metrics.qa_f1_score(answer, truth))],
        "classification": [named, wanted, metrics.classification_score(named, wanted, all_classes=CLASSES)],
        "count": ["There are " + numbers, number, metrics.count_score("There are " + numbers, number)],
        "retrieval": ["Paragraph " + numbers, "Paragraph " + number,
                      metrics.retrieval_score("Paragraph " + numbers, "Paragraph " + number)],
        "similarity": [code, line, metrics.code_sim_score(code, line)],
    })

STEMS = """
sky skies dying lying tying news innings outing cannings howe proceed exceed succeed dies ties flies cries died tied
cried agreed feed bleed freed plastered bled motoring sing ring king hopping tanned falling hissing fizzed failing
filing sized troubled conflated happy sky enjoy spy try by say relational conditional rational valenci hesitanci
digitizer conformabli radicalli differentli vileli analogousli vietnamization predication operator feudalism
decisiveness hopefulness callousness formaliti sensitiviti sensibiliti electriciti electrical hopeful goodness
triplicate formative formalize revival allowance inference airliner gyroscopic adjustable defensible irritant
replacement adjustment dependent adoption mission religion homologou communism activate angulariti homologous
effective bowdlerize probate rate cease controll roll psychology biologi analogy geologi logi skilfully successfulli
generally personally finally rally alli internationally institutional organization organizations governmental yyyy
syzygy toying boyish yes eyes eyeing oats ivy ion onion union possibly terribly abli nobly dog dogs caress caresses
ponies cats gas this was its bus buses uses used using being seeing been ed ing red bed ding thing owed oxen rowing
boxing saying w2 2nds 1990s covid19 a ab abs
""".split()
alphabet = ["a", "e", "i", "o", "y", "l", "s", "t", "ll", "r", "b", "ing", "ed", "ational", "alli", "ment", "ness",
            "ful", "e"]
made = ["".join(draw.choice(alphabet) for _ in range(draw.randint(2, 6))) for _ in range(600)]
stemmer = PorterStemmer()
stems = {word: stemmer.stem(word) for word in itertools.chain(STEMS, made)}

Path(__file__).with_name("scores.json").write_text(
    json.dumps({"rouge": rouges, "classes": CLASSES, "longbench": others, "stems": stems}, ensure_ascii=False,
               separators=(",", ":")) + "\n", encoding="utf-8")
