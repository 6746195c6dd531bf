"""Records what the published CEPE code computes with a model that `cepe export --format published` wrote.

    python record.py PUBLISHED CEPE

PUBLISHED  a checkout of github.com/princeton-nlp/CEPE, commit 53ca69b757b84872a234a4272e217ed453516616, which has
           modeling_llama_flash.py. Needs the transformers that it names, 4.34.1, and torch, safetensors; no flash-attn.
CEPE       the cepe binary

base/                 a tiny random Llama: grouped queries, linear rotary scaling, the head tied to the embedding
trained/              an encoder on base's embedding and cross-attention in the last two layers, as cepe's trained parts
export.json           SHA-256 of the files that the export wrote and the published code read
expected.safetensors  inputs, encoder states, logits and losses with full, padded and no context, greedy tokens; one
                      chunk of the padded context is padding alone

The published encoder asks for flash-attn, which rounds float32 to float16; here its attention becomes the published
LlamaAttention, which has the same weights. That this changes nothing is checked with the published flash classes in
float64, which they do not round, on plain functions in flash_attn's place; all but the encoder of padded chunks, which
they cannot run with grouped queries (_upad_input gives the queries the keys' number of heads). And all of it must first
reproduce what was recorded in ../cepe-mha and ../cepe-gqa-last2.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, sys.argv[1])
import modeling_llama_flash as published  # noqa: E402

HERE = Path(__file__).parent
FILES = ("config.json", "model.safetensors")
SIZES = dict(vocab_size=80, hidden_size=24, intermediate_size=32, num_attention_heads=4, num_key_value_heads=2,
             rms_norm_eps=1e-5)
BASE = dict(SIZES, num_hidden_layers=3, max_position_embeddings=64, rope_theta=50000.0, tie_word_embeddings=True,
            rope_scaling=dict(type="linear", factor=2.0))
ENCODER = dict(SIZES, num_hidden_layers=2, max_position_embeddings=32, rope_theta=10000.0, tie_word_embeddings=False)
CROSS_LAYERS = 2


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False):  # (batch, length, heads, width)
    group = q.shape[2] // k.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q, k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)))
    scores = q @ k.transpose(2, 3) * (softmax_scale or q.shape[-1] ** -0.5)
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + scores.shape[-1] - scores.shape[-2])
        scores = scores.masked_fill(later, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2)


def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **options):
    rows, columns = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
    parts = zip(rows, rows[1:], columns, columns[1:])
    return torch.cat([flash_attn_func(q[None, a:b], k[None, c:d], v[None, c:d], **options)[0] for a, b, c, d in parts])


def index_first_axis(values, indices):
    return values[indices]


def pad_input(values, indices, batch, length):
    out = values.new_zeros(batch * length, *values.shape[1:])
    out[indices] = values
    return out.view(batch, length, *values.shape[1:])


def unpad_input(values, mask):
    indices, *lengths = published._get_unpad_data(mask)
    return (values.flatten(0, 1)[indices], indices, *lengths)


for function in (flash_attn_func, flash_attn_varlen_func, index_first_axis, pad_input, unpad_input):
    setattr(published, function.__name__, function)


def open_published(directory, flash=False):
    settings = json.loads((directory / "config.json").read_text())
    for config in (settings, settings["encoder_config"]):
        config.pop("use_return_dict", None)  # a property, which the older fixtures wrote down
    config = published.LlamaConfig(**settings)
    config._flash_attn_2_enabled = flash
    torch.set_default_dtype(torch.float64 if flash else torch.float32)
    model, info = published.LlamaForCausalContextLM.from_pretrained(directory, config=config, output_loading_info=True)
    assert not any(info.values()), info  # nothing missing, superfluous or of another shape
    return model.to(torch.get_default_dtype()).eval()


def set_encoder_attention(model, padded):
    flash = model.config._flash_attn_2_enabled
    encoder = model.encoder.config
    if padded and encoder.num_key_value_heads != encoder.num_attention_heads:
        flash = False
    for layer in model.encoder.layers:
        layer.self_attn.__class__ = published.LlamaFlashAttention2 if flash else published.LlamaAttention


@torch.no_grad()
def compute(model, inputs):
    out = {}
    for case in ("full", "padded", "nocontext"):
        context = {}
        set_encoder_attention(model, padded=case == "padded")
        if case != "nocontext":
            context["encoder_input_ids"] = inputs["encoder_input_ids"]
        if case == "padded":
            context["encoder_attention_mask"] = inputs["encoder_attention_mask"]
        result = model(input_ids=inputs["input_ids"], labels=inputs["labels"], **context)
        out[case + ".logits"] = result.logits.contiguous()
        out[case + ".loss"] = result.loss.detach().reshape(1)
        if context:
            out[case + ".encoder_hidden_states"] = result.encoder_hidden_states[0].contiguous()
    prompt = inputs["greedy.prompt"]
    set_encoder_attention(model, padded=True)
    model.generation_config.eos_token_id = None  # a token like any other
    tokens = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
        max_new_tokens=24, pad_token_id=0,
        encoder_input_ids=inputs["encoder_input_ids"], encoder_attention_mask=inputs["encoder_attention_mask"],
    )
    out["greedy.tokens"] = tokens[:, prompt.shape[1]:].contiguous()
    return out


def compare(found, expected, inputs):
    kept = inputs["encoder_attention_mask"].flatten(1).bool()
    for name, value in found.items():
        reference = expected[name].double()
        if name == "padded.encoder_hidden_states":  # flash-attn leaves padding at zero
            value, reference = value[kept], reference[kept]
        error = ((value.double() - reference).norm() / reference.norm()).item()
        assert error < (1e-12 if name == "greedy.tokens" else 2e-6), (name, error)
        print(f"  {name:32} {error:.1e}")


def random_weights(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float32)
        # Large enough that the context and every layer show in the logits.
        out[name] = 1 + 0.1 * noise if len(shape) == 1 else noise * 1.4 / shape[-1] ** 0.5
    return out


def stack_shapes(sizes, prefix):
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    keys = width // sizes["num_attention_heads"] * sizes["num_key_value_heads"]
    shapes = {}
    for layer in range(sizes["num_hidden_layers"]):
        for name, shape in dict(q=(width, width), k=(keys, width), v=(keys, width), o=(width, width)).items():
            shapes[f"{prefix}layers.{layer}.self_attn.{name}_proj.weight"] = shape
        for name, shape in dict(gate=(inner, width), up=(inner, width), down=(width, inner)).items():
            shapes[f"{prefix}layers.{layer}.mlp.{name}_proj.weight"] = shape
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}layers.{layer}.{name}.weight"] = (width,)
    shapes[prefix + "norm.weight"] = (width,)
    return shapes


def cross_shapes():
    width = SIZES["hidden_size"]
    keys = width // SIZES["num_attention_heads"] * SIZES["num_key_value_heads"]
    shapes = {}
    for layer in range(BASE["num_hidden_layers"] - CROSS_LAYERS, BASE["num_hidden_layers"]):
        for name, shape in dict(q=(width, width), k=(keys, width), v=(keys, width), o=(width, width)).items():
            shapes[f"model.layers.{layer}.cross_attn.{name}_proj.weight"] = shape
        shapes[f"model.layers.{layer}.cross_attn.layernorm.weight"] = (width,)
    return shapes


def write_model(directory, weights, config):
    directory.mkdir(exist_ok=True)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def write_parts():
    llama = dict(model_type="llama", hidden_act="silu", attention_bias=False)
    embedding = {"model.embed_tokens.weight": (SIZES["vocab_size"], SIZES["hidden_size"])}
    weights = random_weights({**embedding, **stack_shapes(BASE, "model.")}, seed=1)
    write_model(HERE / "base", weights, dict(
        llama, **BASE, architectures=["LlamaForCausalLM"], bos_token_id=1, eos_token_id=2, torch_dtype="float32"))
    digest = hashlib.sha256((HERE / "base/model.safetensors").read_bytes()).hexdigest()
    weights = random_weights({**stack_shapes(ENCODER, "encoder."), **cross_shapes()}, seed=2)
    write_model(HERE / "trained", weights, dict(
        cepe_format="trained-parts", cepe_format_version=1, base_model_name_or_path="base",
        base_model_sha256=hashlib.sha256(f"{digest}  model.safetensors\n".encode()).hexdigest(),
        encoder_embeddings="decoder", encoder_config=dict(llama, **ENCODER), encoder_hidden_size=ENCODER["hidden_size"],
        num_cross_attn_layers=CROSS_LAYERS, chunk_length=16, weights="float32"))


def make_inputs():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, SIZES["vocab_size"], (2, 20), generator=generator)
    chunks = torch.randint(3, SIZES["vocab_size"], (2, 3, 16), generator=generator)
    labels, mask = ids.clone(), torch.ones_like(chunks)
    labels[:, :4] = -100
    mask[0, 1, 9:] = 0  # chunks that end early, and one that is all padding
    mask[1, 0, :5] = 0
    mask[1, 2] = 0
    return dict(input_ids=ids, labels=labels, encoder_input_ids=chunks, encoder_attention_mask=mask,
                **{"greedy.prompt": ids[:, :6].contiguous()})


def main():
    for name in ("cepe-mha", "cepe-gqa-last2"):
        recorded = load_file(HERE.parent / name / "expected.safetensors")
        for flash in (False, True):
            print(name, "flash classes, float64" if flash else "float32")
            compare(compute(open_published(HERE.parent / name, flash), recorded), recorded, recorded)
    write_parts()
    inputs = make_inputs()
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        command = [sys.argv[2], "export", "--model", HERE / "trained", "--base", HERE / "base", "--out", out]
        subprocess.run([*map(str, command), "--format", "published"], check=True)
        expected = compute(open_published(out), inputs)
        print("published-export, flash classes, float64")
        compare(compute(open_published(out, flash=True), inputs), expected, inputs)
        hashes = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}
    print("context shows:", (expected["full.logits"] - expected["nocontext.logits"]).norm() /
          expected["nocontext.logits"].norm())
    del expected["padded.encoder_hidden_states"]  # what stands in a chunk of padding alone is nobody's business
    save_file({**inputs, **expected}, HERE / "expected.safetensors", {"format": "pt"})
    (HERE / "expected.safetensors").chmod(0o644)
    (HERE / "export.json").write_text(json.dumps(hashes, indent=1) + "\n")


main()
