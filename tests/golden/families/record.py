"""Records tiny random models of every supported family and rope kind, and the logits that Hugging Face computes with them.

usage: record.py OUT_DIRECTORY      needs: torch, transformers, safetensors (development only)

Each directory OUT/<name> is a Hugging Face model directory with expected.safetensors beside it: input_ids and logits. Sequences are
longer than the original window wherever the rope kind scales, so that the scaling shows; beside some of them continued.safetensors: tokens,
what greedy generation makes of the first 24.
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

SIZES = dict(vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=32, rms_norm_eps=1e-5)


def rope(**scaling):
    return {"rope_parameters": dict(rope_theta=10000.0, **scaling)}


MODELS = {
    "llama-mqa": (LlamaConfig, LlamaForCausalLM, dict(num_key_value_heads=1, head_dim=20)),
    "llama-bias": (LlamaConfig, LlamaForCausalLM, dict(attention_bias=True)),
    "llama-linear": (LlamaConfig, LlamaForCausalLM, rope(rope_type="linear", factor=4.0)),
    "llama-dynamic": (LlamaConfig, LlamaForCausalLM, rope(rope_type="dynamic", factor=2.0)),
    "llama-yarn": (LlamaConfig, LlamaForCausalLM, dict(max_position_embeddings=128, **rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32))),
    "llama-llama3": (LlamaConfig, LlamaForCausalLM, dict(max_position_embeddings=128, **rope(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))),
    "mistral": (MistralConfig, MistralForCausalLM, dict(head_dim=16, sliding_window=None)),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, dict(tie_word_embeddings=True)),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, dict(head_dim=16, tie_word_embeddings=True)),
    "llama-yarn-mscale": (LlamaConfig, LlamaForCausalLM, dict(max_position_embeddings=128, **rope(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=32, mscale=1.3, mscale_all_dim=0.4, truncate=False))),
    "llama-yarn-betas": (LlamaConfig, LlamaForCausalLM, dict(max_position_embeddings=128, **rope(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=32, attention_factor=1.4, beta_fast=3.0, beta_slow=0.5))),
    # As Qwen2.5's model card writes it: max_position_embeddings stays the window before the extension.
    "qwen2-yarn": (Qwen2Config, Qwen2ForCausalLM, rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
}
# Greedy continuations with a cache, from within the original window to beyond it: 24 tokens and 24 more.
CONTINUED = ("llama-dynamic", "qwen2-yarn")

for seed, (name, (config_type, model_type, changes)) in enumerate(MODELS.items()):
    torch.manual_seed(seed)
    config = config_type(**{**SIZES, **changes})
    model = model_type(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases away from their trivial initial values
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if parameter.dim() == 1 else 0.0))
    ids = torch.randint(0, config.vocab_size, (2, 56))
    with torch.no_grad():
        logits = model(ids).logits
    folder = os.path.join(sys.argv[1], name)
    model.save_pretrained(folder)
    for extra in os.listdir(folder):
        if extra not in ("config.json", "model.safetensors"):
            os.remove(os.path.join(folder, extra))
    save_file({"input_ids": ids, "logits": logits}, os.path.join(folder, "expected.safetensors"))
    if name in CONTINUED:
        told = model.generate(ids[:1, :24], max_new_tokens=24, min_new_tokens=24, do_sample=False, eos_token_id=None)
        save_file({"tokens": told}, os.path.join(folder, "continued.safetensors"))
    print(name, sum(p.numel() for p in model.parameters()), float(logits.norm()))
