"""Records pickled checkpoints as torch.save writes them, and the tensors that torch.load finds in them.

    python record.py            (needs torch, safetensors)

types.bin, types.safetensors      every element type; scalars, empty, tied, sliced and transposed tensors
ordered.bin, ordered.safetensors  a module's state_dict(): an OrderedDict with its _metadata, of parameters
legacy.bin                        the format of before torch 1.6
plain/                            the weights of ../generate/plain as two shards of float16 and their index
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent


def record(name, tensors):
    torch.save(tensors, HERE / f"{name}.bin")
    found = torch.load(HERE / f"{name}.bin", weights_only=True)
    save_file({key: value.detach().clone().contiguous() for key, value in found.items()}, HERE / f"{name}.safetensors")


torch.manual_seed(1)
base = torch.randn(6, 5)
types = {
    "f64": torch.randn(3, 2, dtype=torch.float64),
    "f32": torch.randn(3, 2),
    "f16": torch.randn(3, 2).half(),
    "bf16": torch.randn(3, 2).bfloat16(),
    "i64": torch.tensor([-(2**62), -1, 0, 2**62]),
    "i32": torch.tensor([-(2**31), 7], dtype=torch.int32),
    "i16": torch.tensor([-(2**15), 7], dtype=torch.int16),
    "i8": torch.tensor([-128, 7], dtype=torch.int8),
    "u8": torch.tensor([255, 7], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 3),
    "whole": base,
    "tied": base,
    "rows": base[2:4],
    "columns": base[:, 1:4:2],
    "transposed": base.t(),
    "permuted": torch.randn(2, 3, 1, 4).permute(3, 2, 0, 1),
    "parameter": torch.nn.Parameter(torch.randn(4)),
}
record("types", types)

module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
record("ordered", module.state_dict(keep_vars=True))

torch.save({"f32": types["f32"]}, HERE / "legacy.bin", _use_new_zipfile_serialization=False)

weights = load_file(HERE.parent / "generate/plain/model.safetensors")
names = sorted(weights)
shards = {"pytorch_model-00001-of-00002.bin": names[: len(names) // 2], "pytorch_model-00002-of-00002.bin": names[len(names) // 2 :]}
(HERE / "plain").mkdir(exist_ok=True)
for file, held in shards.items():
    torch.save({name: weights[name].half() for name in held}, HERE / "plain" / file)
index = {
    "metadata": {"total_size": sum(2 * value.numel() for value in weights.values())},
    "weight_map": {name: file for file, held in shards.items() for name in held},
}
(HERE / "plain/pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")
