"""Writes the small files of tests/tasks/questions_test.cc beside it: the first records of files as they are published, with
their texts cut short, so that the forms are the real ones.

    python excerpts.py RECALL QA

RECALL  the directory of scripts/eval-data.sh that holds hotpotqa.json (its SQuAD is in tests/golden/ruler, made up)
QA      a directory with nq_open/NQ-open.dev.jsonl.zst, lost_in_the_middle/nq-open-oracle.jsonl.gz, popqa_1000_gold/popqa.json.zst
        and openqa_subsample_1000/triviaqa/test.jsonl.zst (NQ-open, "Lost in the middle", PopQA with paragraphs, FlashRAG)

Sources and licences: HotpotQA, CC BY-SA 4.0; NQ-open and its passages, CC BY-SA 3.0; PopQA, MIT, its paragraphs of
Wikipedia, CC BY-SA; TriviaQA's questions, from FlashRAG's copy. squad.json, dpr.json, triviaqa.json and plain.jsonl are made
up here after the published descriptions of their forms.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path

here, recall, qa = Path(__file__).resolve().parent, Path(sys.argv[1]), Path(sys.argv[2])


def zstd(name):
    return subprocess.run(["zstd", "-dcq", qa / name], check=True, capture_output=True).stdout.decode()


def cut(text, answers, length=160):
    """The text's first characters, and what is around the first answer in it."""
    for answer in answers:
        at = text.find(answer)
        if at >= length:
            return text[:length // 2] + " ... " + text[max(0, at - 40):at + len(answer) + 20]
    return text[:length]


def lines(name, records):
    (here / name).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf8")


def whole(name, value):
    (here / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf8")


lines("nq_open.jsonl", [json.loads(l) for l in zstd("nq_open/NQ-open.dev.jsonl.zst").splitlines()[:5]])
lines("flashrag.jsonl", [json.loads(l) for l in zstd("openqa_subsample_1000/triviaqa/test.jsonl.zst").splitlines()[:3]])

middle = []
for line in gzip.decompress((qa / "lost_in_the_middle/nq-open-oracle.jsonl.gz").read_bytes()).decode().splitlines()[:4]:
    record = json.loads(line)
    del record["nq_annotated_gold"]
    for passage in record["ctxs"]:
        passage["text"] = cut(passage["text"], record["answers"])
    middle.append(record)
lines("lost_in_the_middle.jsonl", middle)

popqa = json.loads(zstd("popqa_1000_gold/popqa.json.zst"))[:3]
for record in popqa:
    for passage in record["paragraphs"]:
        passage["text"] = cut(passage["text"], json.loads(record["possible_answers"]), 120)
whole("popqa.json", popqa)

hotpot = [r for r in json.loads((recall / "hotpotqa.json").read_text())[:40] if int(r["_id"], 16) % 5 in (0, 1)][:6]
for record in hotpot:
    gold = {title for title, _ in record["supporting_facts"]}
    record["context"] = [[title, [cut(s, [record["answer"]], 80) for s in sentences[:3]]]
                         for title, sentences in record["context"] if title in gold or len(title) % 2]
whole("hotpotqa.json", hotpot)

towns = [("Baro", "Dola", 1801), ("Kisu", "Meve", 1802), ("Luna", "Rata", 1803)]
squad = {"version": "v2.0", "data": [
    {"title": "Towns", "paragraphs": [
        {"context": f"{town} is a town. Its mayor in {year} was {mayor}.",
         "qas": [{"id": f"{town}-1", "question": f"Who was the mayor of {town}?", "is_impossible": False,
                  "answers": [{"text": mayor, "answer_start": 40}, {"text": mayor, "answer_start": 40}]},
                 {"id": f"{town}-2", "question": f"Who painted\n {town}?", "is_impossible": True, "answers": [],
                  "plausible_answers": [{"text": mayor, "answer_start": 40}]}]} for town, mayor, year in towns]},
    {"title": "Rivers", "paragraphs": [
        {"context": "The Tiva ends in the sea.",
         "qas": [{"id": "Tiva-1", "question": "Where does the Tiva end?", "answers": [{"text": "the sea", "answer_start": 17}]}]}]}]}
whole("squad.json", squad)
whole("dpr.json", [
    {"question": "who was mayor of baro", "answers": ["Dola"],
     "ctxs": [{"id": "7", "title": "Kisu", "text": "Its mayor was Meve.", "score": "81.5", "has_answer": False},
              {"id": "9", "title": "Baro", "text": "Its mayor was Dola.", "score": "80.1", "has_answer": True},
              {"id": "11", "title": "Dola", "text": "Dola was a mayor.", "score": "79.9", "has_answer": True}]}])
whole("triviaqa.json", {"Domain": "Web", "Split": "dev", "VerifiedEval": False, "Version": 1.0, "Data": [
    {"QuestionId": "tc_0", "QuestionSource": "http://example.org", "Question": "Where do rivers end?",
     "EntityPages": [], "SearchResults": [],
     "Answer": {"Type": "FreeForm", "Value": "Sea", "NormalizedValue": "sea", "Aliases": ["Ocean", "Sea"],
                "NormalizedAliases": ["ocean", "sea"], "HumanAnswers": ["the sea"]}}]})
lines("plain.jsonl", [
    {"id": 3, "question": "Who?", "answer": "Dola", "documents": ["Dola is one.", {"title": "Meve", "text": "Meve is two."}],
     "gold": [0]},
    {"question": "Which?", "answers": ["one", "two"], "passages": [{"text": "Nothing of it."}, "That is two."]},
    {"question": "Why?", "answers": [], "context": "Nobody knows."}])
