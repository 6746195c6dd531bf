#!/usr/bin/env python3
"""Records what Hugging Face `tokenizers` and `sentencepiece` make of tests/golden/tokenizer/texts.json.zst.

    record.py --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf [--texts DIRECTORY]

With --texts (a directory of {books,papers,code,general}-00.jsonl.zst) the texts themselves are made anew as well,
and with them the small vocabularies that are trained on them. Needs tokenizers, sentencepiece, gguf, zstandard, numpy.

Writes, all beside this file:
  texts.json.zst        the texts, a list of strings
  *.vocabulary.zst      {"tokens": those before the merged ones, "merges": [...]}; merged tokens follow in order
  *.model               SentencePiece models
  cases.json            tokenizer.json files without their vocabulary and merges
  hashes.bin            for each case and each text two 64-bit hashes (see `hashes`)
  code_points.bin       for each pattern of cases.json's "patterns", for Digits and for NFC, NFD, NFKC, NFKD a hash
                        for each 4096 code points

    record.py --unicode-tables

prints the two tables of src/text/unicode_additions.cc, for a Python whose unicodedata is version 14.
"""

import argparse
import json
import pathlib
import re

import numpy as np
import sentencepiece
import zstandard
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from make_cases import PATTERNS, full_tokenizer, make_cases
from make_texts import SCRIPTS, domain_texts, odd_texts
from unicode_tables import NORMAL_FORMS, code_point_texts, code_points, print_unicode_tables

HERE = pathlib.Path(__file__).resolve().parent


# --- Hashing: h = h * 6364136223846793005 + value + 1 over the values, modulo 2^64 ---------------------------------


def polynomial_hash(values):
    values = np.asarray(values, dtype=np.uint64)
    if len(values) == 0:
        return 0
    powers = np.full(len(values), 6364136223846793005, dtype=np.uint64)
    powers[-1] = 1
    powers = np.cumprod(powers[::-1], dtype=np.uint64)[::-1]
    with np.errstate(over="ignore"):
        return int(((values + np.uint64(1)) * powers).sum(dtype=np.uint64))


def hash_text(text):
    return polynomial_hash(np.frombuffer(text.encode(), dtype=np.uint8))


# --- Vocabularies -----------------------------------------------------------------------------------------------------


def write_zst(name, value):
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    (HERE / name).write_bytes(zstandard.ZstdCompressor(level=22).compress(data))


def read_zst(name):
    return json.loads(zstandard.ZstdDecompressor().decompress((HERE / name).read_bytes()))


def smollm2_vocabulary(path):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = fields["tokenizer.ggml.merges"].contents()
    first = len(tokens) - len(merges)
    assert tokens[first:] == [merge.replace(" ", "") for merge in merges]
    return {"tokens": tokens[:first], "merges": merges}


def crossing_vocabulary(texts):
    """Merges learnt across word boundaries, so that a word cut at another place gives other tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\S]{1,24}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=6000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(merge) for merge in model["merges"]]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    first = len(tokens) - len(merges)
    assert tokens[first:] == [merge.replace(" ", "") for merge in merges]
    return {"tokens": tokens[:first], "merges": merges}


def train_sentencepiece(texts):
    lines = [line for text in texts for line in text.split("\n") if line and "\0" not in line]
    common = dict(
        sentence_iterator=None,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=0.9995,
        minloglevel=2,
    )
    for name, options in {
        "bpe": dict(model_type="bpe", vocab_size=4000),
        "unigram": dict(model_type="unigram", vocab_size=1500),
    }.items():
        common["sentence_iterator"] = iter(lines)
        with open(HERE / f"{name}.model", "wb") as out:
            sentencepiece.SentencePieceTrainer.train(model_writer=out, **common, **options)


def metaspace_vocabulary():
    """The SentencePiece BPE model as transformers converts it: the merges in the order of the scores."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "bpe.model"))
    vocab = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    merges = []
    for piece, index in vocab.items():
        if model.is_control(index) or model.is_byte(index) or model.is_unknown(index):
            continue
        local = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
        merges += [
            (model.get_score(index), pair) for pair in sorted(local, key=lambda p: (vocab[p[0]], vocab[p[1]]))
        ]
    merges = [" ".join(pair) for _, pair in sorted(merges, key=lambda m: m[0], reverse=True)]
    return {"tokens": list(vocab), "merges": merges}


# --- Recording --------------------------------------------------------------------------------------------------------


def hashes(tokenizer, text):
    """Of the ids; of the text decoded without and with special tokens, then the ids with the template, unparsed."""
    tokenizer.encode_special_tokens = False
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded = [hash_text(tokenizer.decode(ids, skip_special_tokens=skip)) for skip in (True, False)]
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text, add_special_tokens=True).ids
    return [polynomial_hash(ids), polynomial_hash([*decoded, polynomial_hash(plain)])]


def sentencepiece_hashes(model, text):
    ids = model.encode(text)
    return [polynomial_hash(ids), hash_text(model.decode(ids))]


def unigram_hashes(model, text):
    """Short lines without runs of a character: where two ways to cut have (nearly) the same score, as with runs and in
    long texts, versions of sentencepiece differ in their choice."""
    lines = [
        model.encode(line.decode())
        for line in text.encode().split(b"\n")
        if len(line) <= 1000 and not re.search(rb"(.)\1\1|  ", line, re.DOTALL)
    ]
    return [
        polynomial_hash([token for line in lines for token in line]),
        hash_text("".join(map(model.decode, lines))),
    ]


def code_point_hashes():
    """Of the lengths in bytes of all pieces, and of the normalized text, for each 4096 code points."""
    splitters = [pre_tokenizers.Split(Regex(p), "isolated") for p in PATTERNS.values()] + [
        pre_tokenizers.Digits(individual_digits=True)
    ]
    lengths = [
        polynomial_hash(
            [
                len(piece.encode())
                for text in code_point_texts(block)
                for piece, _ in splitter.pre_tokenize_str(text)
            ]
        )
        for splitter in splitters
        for block in range(0x110)
    ]
    forms = [
        hash_text("".join(form().normalize_str(f"a{chr(c)}\u0301\u0327{chr(c)}") for c in code_points(block)))
        for form in NORMAL_FORMS.values()
        for block in range(0x110)
    ]
    return lengths + forms


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smollm2", type=pathlib.Path)
    parser.add_argument("--texts", type=pathlib.Path)
    parser.add_argument("--unicode-tables", action="store_true")
    options = parser.parse_args()
    if options.unicode_tables:
        return print_unicode_tables()
    if not options.smollm2:
        parser.error("--smollm2 is needed")
    if options.texts:
        texts, used = domain_texts(options.texts)
        print("\n".join(used))
        write_zst("texts.json.zst", texts + odd_texts())
        write_zst("crossing.vocabulary.zst", crossing_vocabulary(texts + SCRIPTS))
        train_sentencepiece(texts + SCRIPTS)
    write_zst("smollm2.vocabulary.zst", smollm2_vocabulary(options.smollm2))
    write_zst("metaspace.vocabulary.zst", metaspace_vocabulary())
    texts = read_zst("texts.json.zst")
    vocabularies = {name: read_zst(f"{name}.vocabulary.zst") for name in ("smollm2", "crossing", "metaspace")}
    cases = make_cases(*vocabularies.values())
    recorded = []
    for entry in cases:
        tokenizer = full_tokenizer(entry, vocabularies[entry["vocabulary"]])
        recorded += [h for text in texts for h in hashes(tokenizer, text)]
        print("recorded", entry["name"])
    for name, make_hashes in {"bpe": sentencepiece_hashes, "unigram": unigram_hashes}.items():
        model = sentencepiece.SentencePieceProcessor(model_file=str(HERE / f"{name}.model"))
        recorded += [h for text in texts for h in make_hashes(model, text)]
        print("recorded", name)
    (HERE / "cases.json").write_text(
        json.dumps(dict(patterns=PATTERNS, cases=cases), ensure_ascii=False, indent=1) + "\n"
    )
    (HERE / "hashes.bin").write_bytes(np.array(recorded, dtype="<u8").tobytes())
    (HERE / "code_points.bin").write_bytes(np.array(code_point_hashes(), dtype="<u8").tobytes())
    print(len(texts), "texts,", sum(len(t.encode()) for t in texts), "bytes,", len(cases) + 2, "cases")


if __name__ == "__main__":
    main()
