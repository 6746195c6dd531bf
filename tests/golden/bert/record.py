#!/usr/bin/env python3
"""Records what the reference makes of texts: WordPiece ids and embeddings.

    python3 -m venv v && v/bin/pip install numpy torch==2.11.0 transformers==5.24.0 tokenizers==0.23.3 safetensors
    v/bin/python tests/golden/bert/record.py [ALL-MINILM-L6-V2 DIRECTORY]

Without a directory: tests/golden/bert/tiny, a random BERT with a vocabulary trained on the texts below, and cases.json.
With one (scripts/eval-data.sh prints it): minilm.json, the same of the real model. The formula of the embedding is that
of sentence-transformers: the mean of the last layer's states over the real tokens, divided by its length.
"""

import json
import pathlib
import sys

import tokenizers
import torch
import transformers

here = pathlib.Path(__file__).parent
TEXTS = [
    "The lamp was lit by Anna Hale.",
    "who  lit\tthe lamp?\r\nAnna\u00a0Hale did",
    "Crème brûlée, naïve façade; Ångström's Übermut: ÉCOLE ŁÓDŹ",
    "東京タワーは1958年に完成した。中文字符和English混排",
    "한국어 문장과 हिन्दी वाक्य, Tiếng Việt, ภาษาไทย",
    "İstanbul ISPARTA ığdır ΣΊΣΥΦΟΣ ς straße STRASSE ŒUVRE ǅ",
    "co-operate don't e.g. 3.14 $5,000 50% #tag @name a_b ^~`|<>+=",
    "zero\u200bwidth soft\u00adhyphen \ufeffmark \u202eright\u202c nul\u0000 \ufffd \u0007bell",
    "emoji 😀 👩‍👩‍👧 🇫🇷 and — dashes … “quotes” ‘single’ «guillemets» ¿qué?",
    "x" * 100 + " " + "y" * 101 + " end",
    "[CLS] [SEP] [UNK] [PAD] [MASK] are words here",
    "e\u0301 a\u0308 o\u0302\u0323 combining e\u20dd\u0338 marks",
    "\u2028line\u2029paragraph\u3000ideographic\u2003em\u1680ogham\u180evowel\x85next\x0bvt\x0cff",
    "",
    "  \n ",
    "a",
    "The quick brown fox jumps over the lazy dog while the engineers measure the retrieval of passages. " * 12,
]


def embed(model, tokenizer, texts, limit):
    """Each text by itself, so that no padding enters."""
    result = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            states = model(**inputs).last_hidden_state[0].double()
        mean = states.mean(0)
        result.append([float(f"{x:.9g}") for x in (mean / mean.norm()).tolist()])
    return result


def record_tiny():
    directory = here / "tiny"
    directory.mkdir(exist_ok=True)
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=600, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False)
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(TEXTS[:9] + TEXTS[16:], trainer)
    pieces = sorted(made.get_vocab().items(), key=lambda entry: entry[1])
    (directory / "vocab.txt").write_text("".join(piece + "\n" for piece, _ in pieces), encoding="utf8")
    torch.manual_seed(5)
    config = transformers.BertConfig(vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                     intermediate_size=48, max_position_embeddings=64, layer_norm_eps=1e-6)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():  # biases and norms that a mistake would show
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 64}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}) + "\n")
    return directory, 64


def wordpiece(directory, **normalizer):
    model = tokenizers.models.WordPiece.from_file(str(directory / "vocab.txt"), unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.normalizer = tokenizers.normalizers.BertNormalizer(**normalizer)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", made.token_to_id("[SEP]")), ("[CLS]", made.token_to_id("[CLS]")))
    return made


def main():
    real = len(sys.argv) > 1
    directory, limit = (pathlib.Path(sys.argv[1]), 256) if real else record_tiny()
    model = transformers.BertModel.from_pretrained(directory, add_pooling_layer=False).eval().float()
    tokenizer = wordpiece(directory, lowercase=True)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    texts = [text for text in TEXTS if tokenizer.encode(text, add_special_tokens=False).ids]
    record = {"versions": {m.__name__: m.__version__ for m in (tokenizers, transformers, torch)},
              "texts": TEXTS,
              "ids": [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS],
              "embedded": texts, "embeddings": embed(model, fast, texts[:6] if real else texts, limit)}
    record["embedded"] = texts[:len(record["embeddings"])]
    if not real:
        cased = wordpiece(directory, lowercase=False, strip_accents=False, handle_chinese_chars=False)
        record["cased_ids"] = [cased.encode(text, add_special_tokens=False).ids for text in TEXTS]
    name = "minilm.json" if real else "cases.json"
    (here / name).write_text(json.dumps(record, ensure_ascii=True) + "\n")


main()
