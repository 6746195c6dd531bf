"""Records a tiny GGUF model and the ids that Hugging Face's tokenizers gives with the files that cepe exports from it.

    python record.py CEPE        (the cepe binary; needs gguf, numpy, safetensors, tokenizers)

tiny.gguf   ../generate/plain in float16, its tokenizer with the pre-tokenizer of Llama 3 and that family's begin token
ids.json    what tokenizers made of some texts with the exported tokenizer.json, and the SHA-256 of the exported files
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HERE = Path(__file__).parent
SOURCE = HERE.parent / "generate" / "plain"
TEXTS = [
    "",
    "The harbour lay quiet under a grey sky. Who goes there?",
    "<|im_start|>user\nIt's 12345 o'clock, WE'LL see<|im_end|>\n\n  <|endoftext|>",
    "  two  spaces\tand a tab\r\n\r\n\u00e9\u4e2d\u6587 e\u0301 \U0001f600\u200d\U0001f525 ...!?",
]
NAMES = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)


def write_gguf(path):
    config = json.loads((SOURCE / "config.json").read_text())
    tokenizer = json.loads((SOURCE / "tokenizer.json").read_text())
    heads = dict(q=config["num_attention_heads"], k=config["num_key_value_heads"])
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_head_count(heads["q"])
    out.add_head_count_kv(heads["k"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("llama-bpe")
    out.add_token_list(vocabulary)
    out.add_token_types([3 if token in special else 1 for token in vocabulary])
    out.add_token_merges(merges)
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_pad_token_id(0)
    out.add_chat_template(json.loads((SOURCE / "tokenizer_config.json").read_text())["chat_template"])
    for name, value in load_file(SOURCE / "model.safetensors").items():
        for kind, count in heads.items():  # rotary pairs side by side, as llama.cpp keeps them
            if f"self_attn.{kind}_proj" in name:
                value = value.reshape(count, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        kept = value.astype(np.float16 if value.ndim > 1 else np.float32)
        out.add_tensor(NAMES.get_name(name, try_suffixes=(".weight",)), kept)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    write_gguf(HERE / "tiny.gguf")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        subprocess.run([sys.argv[1], "export", "--model", str(HERE / "tiny.gguf"), "--out", str(out)], check=True)
        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
        files = ("config.json", "tokenizer.json", "tokenizer_config.json")
        hashes = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files}
    cases = [
        dict(text=text, ids=tokenizer.encode(text, add_special_tokens=False).ids, with_ends=tokenizer.encode(text).ids)
        for text in TEXTS
    ]
    assert all(case["with_ends"] == [1, *case["ids"]] for case in cases)
    (HERE / "ids.json").write_text(json.dumps(dict(sha256=hashes, cases=cases), indent=1) + "\n")


main()
