"""Records the goldens of src/io from independent implementations: python3 record.py, in this directory.

blocks.gguf         a tensor of every type that cepe decodes, and a metadata value of every kind; written by gguf
blocks.safetensors  the same tensors as the gguf package dequantises them, float32
plain.safetensors   a tensor of every type of the safetensors format, and metadata; written by safetensors

Needs: pip install gguf==0.19.0 safetensors==0.8.0 torch==2.11.0 numpy
"""

import numpy as np
import gguf
import safetensors.numpy
import safetensors.torch
import torch

rng = np.random.default_rng(20240314)
Type = gguf.GGMLQuantizationType

# Byte offsets of the half-precision scales in each block; every other byte of a block may hold anything.
BLOCK_SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}


def random_blocks(qtype: Type, rows: int, blocks: int) -> np.ndarray:
    """(rows, bytes of a row): random bits with scales from 2^-24 (subnormal) to about 16, of both signs."""
    size = gguf.GGML_QUANT_SIZES[qtype][1]
    data = rng.integers(0, 256, (rows * blocks, size), dtype=np.uint8)
    for offset in BLOCK_SCALES[qtype]:
        scale = (rng.choice([-1, 1], rows * blocks) * np.exp2(rng.uniform(-24, 4, rows * blocks))).astype(np.float16)
        data[:, offset:offset + 2] = scale.view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, blocks * size)


def plain_values() -> np.ndarray:
    edges = [0.0, -0.0, 1.0, -1.0, 65504.0, -65504.0, 2.0**-14, 2.0**-24, -(2.0**-24), 2.0**-15 * 1.5, np.inf, -np.inf]
    return np.concatenate([np.array(edges), rng.normal(size=12)]).reshape(2, 3, 4)


def record_blocks() -> None:
    writer = gguf.GGUFWriter("blocks.gguf", arch="llama")
    writer.add_uint8("kinds.u8", 200)
    writer.add_int8("kinds.i8", -100)
    writer.add_uint16("kinds.u16", 60000)
    writer.add_int16("kinds.i16", -30000)
    writer.add_uint32("kinds.u32", 4000000000)
    writer.add_int32("kinds.i32", -2000000000)
    writer.add_float32("kinds.f32", 0.5)
    writer.add_bool("kinds.boolean", True)
    writer.add_string("kinds.string", "gr\u00fc\u00dfe \U0001f600")
    writer.add_uint64("kinds.u64", 2**63 + 1)
    writer.add_int64("kinds.i64", -(2**62))
    writer.add_float64("kinds.f64", 0.1)
    writer.add_array("kinds.strings", ["<s>", "", "\u0120the"])
    writer.add_array("kinds.integers", [-1, 0, 7])
    writer.add_array("kinds.numbers", [0.5, -2.25])
    writer.add_array("kinds.booleans", [True, False, True])

    expected = {}
    values = plain_values()
    halves = values.astype(np.float16)
    plain = {"f32": values.astype(np.float32), "f16": halves, "f64": values}
    for name, tensor in plain.items():
        writer.add_tensor(name, tensor)
        expected[name] = tensor.astype(np.float32)
    bf16 = gguf.quants.quantize(values.astype(np.float32), Type.BF16)
    writer.add_tensor("bf16", bf16, raw_dtype=Type.BF16)
    expected["bf16"] = gguf.quants.dequantize(bf16, Type.BF16)
    for qtype in BLOCK_SCALES:
        name = qtype.name.lower()
        data = random_blocks(qtype, rows=2, blocks=3 if gguf.GGML_QUANT_SIZES[qtype][0] == 256 else 8)
        writer.add_tensor(name, data, raw_dtype=qtype)
        expected[name] = gguf.quants.dequantize(data, qtype).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    safetensors.numpy.save_file(expected, "blocks.safetensors")


def record_plain() -> None:
    """Every type holds the values 0, 1, 2, ... (booleans 0, 1, 0, ...) in the shape (2, 3); one is empty, one a scalar."""
    counting = torch.arange(6).reshape(2, 3)
    kinds = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
        "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    }
    tensors = {f"tensor.{name}": counting.to(kind) for name, kind in kinds.items()}
    tensors["tensor.BOOL"] = counting % 2 == 1
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    safetensors.torch.save_file(tensors, "plain.safetensors", {"note": "caf\u00e9 \"quoted\""})


record_blocks()
record_plain()
