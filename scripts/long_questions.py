#!/usr/bin/env python3
"""Joins models/long_questions.jsonl with the documents that its questions are about.

usage: scripts/long_questions.py DOCUMENTS.jsonl... > questions.jsonl     (then: cepe eval qa --data questions.jsonl)

Each file of documents holds JSON lines with "id" and "text". The documents are, by id: enwiki-8816, the English Wikipedia's
article "Double bass" (2015); cbm-..., books of github.com/mlschmitt/classic-books-markdown; peps-0244-0253, these PEPs of
github.com/python/peps one after the other. Error when a document is missing.
"""
import json
import pathlib
import sys

questions = pathlib.Path(__file__).resolve().parent.parent / "models" / "long_questions.jsonl"


def main():
    texts = {}
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                record = json.loads(line)
                if not isinstance(record.get("id"), str) or not isinstance(record.get("text"), str):
                    sys.exit(f'{path}:{number}: expected an object with "id" and "text"')
                texts[record["id"]] = record["text"]
    for line in questions.read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        document = question.pop("document")
        if document not in texts:
            sys.exit(f"{document}: no such document in {', '.join(sys.argv[1:]) or 'no files'}")
        question["documents"] = [{"title": document, "text": texts[document]}]
        question["cluster"] = document
        print(json.dumps(question, ensure_ascii=False))


main()
