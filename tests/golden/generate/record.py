"""Records the goldens of tests/generate and tests/e2e: what Hugging Face's transformers computes.

    python record.py            (needs torch, transformers, tokenizers, safetensors)

sampler.json   probabilities after the logits processors that transformers' generate() would apply, in its order
plain/         a tiny random Llama with a byte-level BPE tokenizer and a ChatML template
published/     the same decoder with a random encoder and cross-attention, in the published CEPE layout
trained/       that encoder and cross-attention as cepe's trained parts on plain/
greedy.json    greedy tokens and text of plain/ by transformers
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.generation import logits_process as processors

HERE = Path(__file__).parent
TEXT = """The harbour lay quiet under a grey sky. "Who goes there?" said the watchman, and the boats said nothing.
A town of three hundred houses stood on the hill; the road to the town was long, and the rain was longer.
"""
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIZES = dict(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
)
ENCODER = dict(
    vocab_size=300,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=32,
    rms_norm_eps=1e-6,
)
CROSS_LAYERS = 1


def json_config(sizes):
    return dict(
        sizes,
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        hidden_act="silu",
        rope_theta=10000.0,
        rope_scaling=None,
        attention_bias=False,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        torch_dtype="float32",
    )


def write_json(path, value, **options):
    path.write_text(json.dumps(value, **options) + "\n")


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES["vocab_size"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def record_sampler():
    generator = torch.Generator().manual_seed(1)
    vocabulary, cases = 60, []
    options = [
        dict(temperature=1.0),
        dict(temperature=0.7),
        dict(temperature=2.5, repetition_penalty=1.3),
        dict(temperature=1.0, top_k=5),
        dict(temperature=0.9, top_k=1000),
        dict(temperature=1.0, top_p=0.9),
        dict(temperature=1.0, top_p=0.05),
        dict(temperature=1.5, top_p=0.999),
        dict(temperature=1.0, min_p=0.1),
        dict(temperature=1.3, min_p=0.02, repetition_penalty=0.8),
        dict(temperature=1.0, min_p=1.0),
        dict(temperature=0.8, top_k=20, top_p=0.8, min_p=0.05, repetition_penalty=1.2),
        dict(temperature=1.7, top_k=30, top_p=0.95, min_p=0.01, repetition_penalty=1.1),
    ]
    for flat in (False, True):
        logits = torch.randn(1, vocabulary, generator=generator) * (0.5 if flat else 3.0)
        logits[0, 7] = logits[0, 11]  # equal logits
        seen = torch.randint(vocabulary, (1, 12), generator=generator)
        for option in options:
            scores = logits.clone()
            if "repetition_penalty" in option:
                scores = processors.RepetitionPenaltyLogitsProcessor(option["repetition_penalty"])(seen, scores)
            scores = processors.TemperatureLogitsWarper(option["temperature"])(seen, scores)
            if "top_k" in option:
                scores = processors.TopKLogitsWarper(option["top_k"])(seen, scores)
            if "top_p" in option:
                scores = processors.TopPLogitsWarper(option["top_p"])(seen, scores)
            if "min_p" in option:
                scores = processors.MinPLogitsWarper(option["min_p"])(seen, scores)
            probabilities = scores.double().softmax(-1)[0].tolist()
            cases.append(
                dict(
                    options=option,
                    flat=flat,
                    seen=seen[0].tolist(),
                    logits=logits[0].tolist(),
                    kept={str(i): round(p, 9) for i, p in enumerate(probabilities) if p > 0},
                )
            )
    write_json(HERE / "sampler.json", cases, separators=(",", ":"))


def scaled(model, seed):
    # Weights large enough that the model's choices vary from token to token.
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.1 * noise if value.dim() == 1 else noise / value.shape[1] ** 0.5 * 1.4)
    return {name: value.detach().contiguous() for name, value in model.state_dict().items()}


def cross_attention(seed):
    generator = torch.Generator().manual_seed(seed)
    width, states, head = (
        SIZES["hidden_size"],
        ENCODER["hidden_size"],
        SIZES["hidden_size"] // SIZES["num_attention_heads"],
    )
    kv = SIZES["num_key_value_heads"] * head
    shapes = dict(q_proj=(width, width), k_proj=(kv, states), v_proj=(kv, states), o_proj=(width, width))
    tensors = {}
    for layer in range(SIZES["num_hidden_layers"] - CROSS_LAYERS, SIZES["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.cross_attn."
        tensors[prefix + "layernorm.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        for name, shape in shapes.items():
            tensors[f"{prefix}{name}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5 * 1.4
    return tensors


def greedy(model, tokenizer, prompt, **options):
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=40,
        eos_token_id=2,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    out = model.generate(ids, generation_config=config)
    tokens = out.sequences[0, ids.shape[1] :].tolist()
    for logits in out.logits:  # a tie would make the golden a matter of rounding
        best = logits[0].topk(2).values
        assert best[0] - best[1] > 1e-3, best
    ended = tokens[-1] == 2
    if ended:
        tokens.pop()
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return dict(options, prompt_tokens=ids[0].tolist(), tokens=tokens, text=text, ended=ended)


def main():
    torch.manual_seed(0)
    record_sampler()
    tokenizer = make_tokenizer()
    plain, published, trained = (HERE / name for name in ("plain", "published", "trained"))
    for directory in (plain, published, trained):
        directory.mkdir(exist_ok=True)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>", chat_template=TEMPLATE
    )
    for directory in (plain, published):
        tokenizer.save(str(directory / "tokenizer.json"))
        write_json(
            directory / "tokenizer_config.json",
            dict(
                bos_token="<|im_start|>",
                eos_token="<|im_end|>",
                chat_template=TEMPLATE,
                tokenizer_class="PreTrainedTokenizerFast",
            ),
            indent=1,
        )

    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)).eval()
    decoder = scaled(model, 2)
    save_file(decoder, plain / "model.safetensors", {"format": "pt"})
    write_json(plain / "config.json", json_config(SIZES), indent=1)

    encoder_model = LlamaForCausalLM(LlamaConfig(**ENCODER, tie_word_embeddings=False))
    encoder = {
        name.replace("model.", "encoder.", 1): value
        for name, value in scaled(encoder_model, 3).items()
        if name.startswith("model.")
    }
    parts = {**encoder, **cross_attention(4)}
    addition = dict(
        do_cross_attention=True,
        num_cross_attn_layers=CROSS_LAYERS,
        num_cross_attn_hidden_states=1,
        encoder_hidden_size=ENCODER["hidden_size"],
        encoder_config=json_config(ENCODER),
    )
    save_file({**decoder, **parts}, published / "model.safetensors", {"format": "pt"})
    write_json(
        published / "config.json",
        {**json_config(SIZES), **addition, "architectures": ["LlamaForCausalContextLM"]},
        indent=1,
    )

    # The hash of a directory: SHA-256 of the line "<sha256>  <file name>" of each weight file.
    digest = hashlib.sha256((plain / "model.safetensors").read_bytes()).hexdigest()
    base_hash = hashlib.sha256(f"{digest}  model.safetensors\n".encode()).hexdigest()
    save_file(parts, trained / "model.safetensors", {"format": "pt"})
    write_json(
        trained / "config.json",
        dict(
            cepe_format="trained-parts",
            cepe_format_version=1,
            base_model_name_or_path="plain",
            base_model_sha256=base_hash,
            base_config=json_config(SIZES),
            encoder_embeddings="own",
            encoder_config=json_config(ENCODER),
            encoder_hidden_size=ENCODER["hidden_size"],
            num_cross_attn_layers=CROSS_LAYERS,
            chunk_length=32,
            weights="float32",
            training=dict(steps=7),
        ),
        indent=1,
    )

    chat = fast.apply_chat_template(
        [dict(role="system", content="Be brief."), dict(role="user", content="Who goes there?")],
        tokenize=False,
        add_generation_prompt=True,
    )
    records = [
        dict(raw=True, prompt="The road to the town", **greedy(model, fast, "The road to the town")),
        dict(
            raw=True,
            prompt="The road to the town",
            **greedy(model, fast, "The road to the town", repetition_penalty=1.5),
        ),
        dict(
            raw=False, prompt="Who goes there?", system="Be brief.", **greedy(model, fast, chat, repetition_penalty=1.2)
        ),
    ]
    write_json(HERE / "greedy.json", records, indent=1)


main()
