"""Records how transformers reads a lone tokenizer.model with a tokenizer_config.json beside it.

python record_transformers.py   (transformers 5.24, sentencepiece, protobuf) writes transformers.json beside itself: for
each tokenizer_config.json the ids and the decoded text of each text. Also added_token_spaces.json: what the tokenizers
package makes of added tokens that take the white space beside them.
"""

import json
import pathlib
import shutil
import tempfile

from tokenizers import AddedToken, Tokenizer, models
from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).parent

LLAMA = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
CONFIGS = [
    None,
    LLAMA,
    {**LLAMA, "legacy": True},
    {**LLAMA, "legacy": False},
    {**LLAMA, "add_prefix_space": False},
    {**LLAMA, "legacy": True, "add_prefix_space": False},
    {**LLAMA, "legacy": None, "add_prefix_space": None},
    {**LLAMA, "tokenizer_class": "LlamaTokenizerFast", "add_bos_token": False, "add_eos_token": True},
    {**LLAMA, "add_bos_token": None},
    {"legacy": False, "add_bos_token": True},
    {"add_prefix_space": False, "add_bos_token": True},
    {"tokenizer_class": "PreTrainedTokenizerFast", "legacy": False, "add_bos_token": False},
]
TEXTS = [
    "hello world", " hello", "  two  spaces ", "hello</s>world", "hello</s> world", "</s> x", "<s>[INST] hi [/INST] yes</s>", "",
    " ", "\n", "\n a\tb", "\u2581x", "na\u00efve \u65e5\u672c\u8a9e \U0001f600", "a<s><s>b", "The quick brown fox, 1234 times.",
]

LINES = "a \n\n  \n b\n c \t\n\nd \n"
ADDED = [
    [dict(content="\n", lstrip=True, rstrip=True)],
    [dict(content="\n", lstrip=True)],
    [dict(content="\n", rstrip=True)],
    [dict(content="\n", rstrip=True), dict(content=" ")],
    [dict(content="\n"), dict(content=" \n", lstrip=True, rstrip=True)],
    [dict(content="b", lstrip=True, rstrip=True), dict(content="\n", lstrip=True, rstrip=True)],
]


def read(config):
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(HERE / "bpe.model", pathlib.Path(directory) / "tokenizer.model")
        (pathlib.Path(directory) / "config.json").write_text('{"model_type": "llama"}')
        if config is not None:
            (pathlib.Path(directory) / "tokenizer_config.json").write_text(json.dumps(config))
        tokenizer = AutoTokenizer.from_pretrained(directory)
    # Where no file says anything, transformers adds no begin token; cepe does (docs/tokenizers.md).
    with_special = config is not None
    ids = [tokenizer(text, add_special_tokens=with_special)["input_ids"] for text in TEXTS]
    return {"config": config, "ids": ids, "decoded": [tokenizer.decode(i, skip_special_tokens=True) for i in ids]}


def cut(added):
    """The texts of the tokens: a vocabulary of single bytes, each its own token."""
    vocab = {chr(c): i for i, c in enumerate(range(1, 128))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_tokens([AddedToken(**token, normalized=False) for token in added])
    return {"added": added, "text": LINES, "tokens": tokenizer.encode(LINES).tokens}


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=None, ensure_ascii=True).replace("}, {", "},\n{") + "\n")


write("transformers.json", {"texts": TEXTS, "cases": [read(config) for config in CONFIGS]})
write("added_token_spaces.json", [cut(added) for added in ADDED])
