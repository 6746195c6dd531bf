"""Records what Hugging Face's Llama computes with SmolLM2's dequantised weights, for tests/model/smollm2_test.cc.

usage: record.py SmolLM2-135M-Instruct.Q4_1.gguf OUT.safetensors
needs: torch, transformers, gguf, safetensors, accelerate (development only)

For each of three texts: the token ids, the best token and the log of the sum of exponentials at every position, and every
24th logit of every position (float32).
"""
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife. "
    "However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is",
    "Theorem 2.1. Let $f : X \\to Y$ be a morphism of schemes. Then $f$ is proper if and only if it is separated, of finite "
    "type and universally closed. Proof. Suppose first that $f$ is proper",
    "def merge_sort(items):\n    if len(items) <= 1:\n        return items\n    middle = len(items) // 2\n"
    "    left = merge_sort(items[:middle])\n    right = merge_sort(items[middle:])\n    return",
]

folder, file = sys.argv[1].rsplit("/", 1)
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
out = {}
for i, text in enumerate(TEXTS):
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = model(ids).logits[0].double()
    print(i, ids.shape[1], "tokens", tokenizer.decode(logits[-1].argmax()))
    out[f"{i}.ids"] = ids[0].contiguous()
    out[f"{i}.best"] = logits.argmax(-1)
    out[f"{i}.logsumexp"] = logits.logsumexp(-1).float()
    out[f"{i}.logits"] = logits[:, ::24].float().contiguous()
save_file(out, sys.argv[2], metadata={f"{i}.text": t for i, t in enumerate(TEXTS)})
