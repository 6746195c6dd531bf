"""Are the PyTorch peers what they say? Called by beside_pytorch.py --check, on a CPU in float32.

Llama against transformers (where it is installed), the published algorithm against outputs that the published code
recorded (tests/golden), steps with a cache against one pass, and projections in pieces against all rows at once.
"""
import json
import os
import struct

import torch

import torch_llama
from torch_cepe import PublishedCepe
from torch_llama import Llama, Sizes, fill_random, load_llama

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden")
TYPES = {"F32": torch.float32, "I64": torch.int64}


def expect(what, found, expected, limit=2e-5):
    difference = (found - expected).abs().max().item()
    print(f"{what}: largest difference {difference:.1e}, allowed {limit:.0e}")
    if not difference <= limit:
        raise SystemExit(f"{what}: differs")


def read_tensors(path):
    with open(path, "rb") as file:
        data = file.read()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    body = bytearray(data[8 + size:])
    return {name: torch.frombuffer(body[slice(*of["data_offsets"])], dtype=TYPES[of["dtype"]]).view(of["shape"])
            for name, of in header.items()}


def sizes_of(config):
    return Sizes(config["vocab_size"], config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"],
                 config["num_attention_heads"], config["num_key_value_heads"], config["rms_norm_eps"],
                 config["rope_theta"])


def check_steps(name, decoder, tokens_1T, context=None):
    """Every logit of a pass over all tokens, and the same tokens one by one."""
    whole = decoder.logits(decoder.read(tokens_1T, "math", context_BSE=context))
    cache = decoder.make_cache(tokens_1T.size(1))
    first = decoder.read(tokens_1T[:, :5], "math", cache=cache, context_BSE=context)
    steps = [decoder.step(tokens_1T[0, i:i + 1], i, cache, "math", context) for i in range(5, tokens_1T.size(1))]
    expect(f"{name}, steps with a cache", torch.cat([decoder.logits(first), *steps]), whole)


def check_llama():
    sizes = Sizes(97, 64, 96, 3, 4, 2, 1e-5)
    model = Llama(sizes)
    fill_random(model)
    model.prepare(40)
    tokens = torch.randint(97, (1, 40))
    check_steps("Llama", model, tokens)
    whole = model.logits(model.read(tokens, "math"))
    torch_llama.PIECE, kept = 7, torch_llama.PIECE
    expect("Llama, projections in pieces", model.logits(model.read(tokens, "math")), whole)
    torch_llama.PIECE = kept
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return print("transformers is not installed: not compared")
    theirs = LlamaForCausalLM(LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False)).eval()
    load_llama(model, theirs.state_dict(), "model.", "lm_head")
    expect("Llama against transformers", model.logits(model.read(tokens, "math")), theirs(tokens).logits[0])


def check_published(name):
    folder = os.path.join(GOLDEN, name)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    tensors, expected = (read_tensors(os.path.join(folder, f"{which}.safetensors")) for which in ("model", "expected"))
    model = PublishedCepe(sizes_of(config), sizes_of(config["encoder_config"]), config["num_cross_attn_layers"])
    load_llama(model.encoder, tensors, "encoder.")
    load_llama(model.decoder, tensors, "model.", "lm_head")
    tokens, chunks = expected["input_ids"], expected["encoder_input_ids"]
    model.prepare(tokens.size(1), chunks.size(2))
    for row in range(tokens.size(0)):
        of = f"{name}, sequence {row}"
        context, logits = model.encode(chunks[row], "math"), model.score(chunks[row], tokens[row:row + 1], "math")
        expect(f"{of}, encoder", context[0], expected["full.encoder_hidden_states"][row])
        expect(f"{of}, logits", logits, expected["full.logits"][row])
        check_steps(of, model.decoder, tokens[row:row + 1], context)


def main():
    torch.manual_seed(1)
    with torch.no_grad():
        check_llama()
        for name in ("cepe-mha", "cepe-gqa-last2"):
            check_published(name)
    print("the peers are what they say")
