"""Training speed: one table of tokens/s, MFU and peak GPU memory of `cepe train`.

    python bench/training.py --cepe build-cuda/cepe --tokens data/tokens/train --ask data/tokens/ask/train

Cases: SmolLM2-135M's stages standard and ask on one GPU and on two (configs/smollm2-135m), and one sample a step at the
sizes of Llama-2-7B with the published encoder (4,096 tokens and 16 chunks of 256; 24 layers of 1,024; cross-attention in all
32 layers), with random weights, in bfloat16 and with the frozen decoder in fp8. `--cases standard-1,7b` chooses some.

A case of one GPU runs until it has done its steps and is then killed, so that no checkpoint is written; one of two ends as any run. Tokens/s are those of the
steps after --skip, by the times of log.jsonl; peak memory is what nvidia-smi reports of the GPU that uses most. The random model
(14 GB) and the runs lie in --work (default /dev/shm) until the end. `--sizes tiny` in place of Llama-2-7B's is a check on a CPU.
Two GPUs are started by torch.distributed.run of this Python.
"""
import argparse
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

SIZES = {  # decoder: layers, width, heads, feed-forward; encoder: the same
    "7b": {"decoder": (32, 4096, 32, 11008), "encoder": (24, 1024, 16, 4096), "chunks": 16, "chunk": 256, "tokens": 4096},
    "tiny": {"decoder": (2, 64, 4, 96), "encoder": (2, 32, 4, 48), "chunks": 2, "chunk": 16, "tokens": 32},
}


def layer_shapes(layers, width, intermediate):
    for i in range(layers):
        prefix = f"model.layers.{i}."
        yield prefix + "input_layernorm.weight", (width,)
        for name in "qkvo":
            yield f"{prefix}self_attn.{name}_proj.weight", (width, width)
        yield prefix + "post_attention_layernorm.weight", (width,)
        for name in ("gate", "up"):
            yield f"{prefix}mlp.{name}_proj.weight", (intermediate, width)
        yield prefix + "mlp.down_proj.weight", (width, intermediate)
    yield "model.norm.weight", (width,)


def random_block():
    """Some 32 MiB of bfloat16 values of random sign between 2^-6 and 2^-5; a prime number of them, so that no two rows that
    are cut from its repetitions are alike."""
    count, random_bytes = 16777213, random.Random(1)
    low = random_bytes.randbytes(count).translate(bytes(0x80 | b & 0x7F for b in range(256)))
    high = random_bytes.randbytes(count).translate(bytes(0x3C | b & 0x80 for b in range(256)))
    block = bytearray(2 * count)
    block[0::2], block[1::2] = low, high
    return memoryview(block)


def write_safetensors(path, shapes):
    """Matrices of random bfloat16 values; vectors are ones."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block, at = random_block(), 0
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            left = 2 * math.prod(shape)
            if len(shape) == 1:
                out.write(b"\x80\x3f" * shape[0])
                continue
            while left > 0:
                piece = block[at:at + left]
                out.write(piece)
                left, at = left - len(piece), (at + len(piece)) % len(block)


def write_model(directory, architecture, size, vocabulary):
    layers, width, heads, intermediate = size
    os.makedirs(directory)
    encoder = architecture == "LlamaForMLM"
    config = {
        "architectures": [architecture], "model_type": "llama", "hidden_act": "silu", "vocab_size": vocabulary,
        "hidden_size": width, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": heads, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 512 if encoder else 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2,
    }
    shapes = {"model.embed_tokens.weight": (vocabulary, width), "lm_head.weight": (vocabulary, width)}
    shapes.update(layer_shapes(layers, width, intermediate))
    if encoder:
        shapes.update({"lm_dense.weight": (width, width), "lm_dense.bias": (width,), "lm_layer_norm.weight": (width,),
                       "lm_bias": (vocabulary,), "lm_head.bias": (vocabulary,)})
    write_safetensors(os.path.join(directory, "model.safetensors"), shapes)
    with open(os.path.join(directory, "config.json"), "w") as out:
        json.dump(config, out)


def vocabulary_of(tokens):
    """The first shard's, from its header (docs/formats/tokens.md)."""
    path = tokens
    if os.path.isdir(path):
        path = os.path.join(path, sorted(name for name in os.listdir(path) if name.endswith(".tokens"))[0])
    with open(path, "rb") as file:
        return int.from_bytes(file.read(24)[16:24], "little")


class PeakMemory(threading.Thread):
    """The most MiB that any GPU held, asked several times a second; 0 where there is none."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.done = 0, threading.Event()

    def run(self):
        while not self.done.wait(0.3):
            try:
                asked = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                                       capture_output=True, text=True, timeout=10)
                self.peak = max([self.peak] + [int(line) for line in asked.stdout.split()])
            except (OSError, ValueError, subprocess.TimeoutExpired):
                return


def steps_of(log):
    if not os.path.exists(log):
        return []
    with open(log) as file:
        lines = [line for line in file if line.endswith("\n")]
    return [record for record in map(json.loads, lines) if "loss" in record]


def stop(process, gpus):
    """torchrun's processes have sessions of their own and end with it where it is asked to end."""
    if process.poll() is not None:
        return
    if gpus > 1:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_case(args, case, settings, gpus):
    """Returns the steps' records and the peak in MiB; kills the run when it has done its steps."""
    config, settings = settings
    run = os.path.join(args.work, "run-" + case)
    command = [args.cepe, "train", config, "--run", run] + settings + [
        f"--train.steps={args.steps if gpus > 1 else args.steps + 100000}", "--run.checkpoint_every=0", "--run.checkpoint_minutes=0",
        "--run.validate_every=0", "--data.validation=[]"] + args.more
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "8")}
    if gpus == 2:
        command = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc-per-node", "2",
                   "--"] + command
    else:
        environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
    log, memory, start = os.path.join(run, "log.jsonl"), PeakMemory(), time.time()
    memory.start()
    with open(os.path.join(args.work, case + ".out"), "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        while process.poll() is None and (gpus > 1 or len(steps_of(log)) < args.steps) and time.time() - start < args.seconds:
            time.sleep(0.2)
        memory.done.set()
        memory.join()
        stop(process, gpus)
    records = steps_of(log)
    if len(records) <= args.skip:
        with open(os.path.join(args.work, case + ".out")) as file:
            print(f"{case}: {len(records)} steps in {time.time() - start:.0f} s:\n{''.join(file.readlines()[-8:])}",
                  file=sys.stderr)
    shutil.rmtree(run, ignore_errors=True)
    return records, memory.peak


def cases(args):
    """Each case's configuration, settings and number of GPUs."""
    configs = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs", "smollm2-135m")
    base = [f"--model.base={args.base}"] if args.base else []
    plain = base + [f'--data.train=["{args.tokens}"]']
    size = SIZES[args.sizes]
    big = [f"--model.base={args.work}/decoder", f"--model.encoder={args.work}/encoder", f'--data.train=["{args.tokens}"]',
           f"--model.cross_attention_layers={size['decoder'][0]}", "--train.batch=1", "--train.micro_batch=1",
           f"--train.decoder_tokens={size['tokens']}", f"--train.context_chunks=[{size['chunks']}]",
           f"--train.chunk_length={size['chunk']}", "--data.filtered=0", "--data.concatenated=1"]
    standard, ask = os.path.join(configs, "standard.toml"), os.path.join(configs, "ask.toml")
    found = {}
    for gpus in (1, 2):
        found[f"standard-{gpus}"] = (standard, plain + [f"--train.batch={16 * gpus}"]), gpus
        if args.ask:
            asked = [f'--data.ask=["{args.ask}"]', "--data.ask_validation=[]", "--model.parts=",
                     f"--train.batch={32 * gpus}"]
            found[f"ask-{gpus}"] = (ask, plain + asked), gpus
    found["7b"] = (standard, big), 1
    found["7b-fp8"] = (standard, big + ["--train.fp8_frozen=true"]), 1
    return found


def row(case, records, peak, skip):
    used = records[skip:]
    if not used:
        return [case, "-", "-", "-", "-", "-", f"{peak * 2**20 / 1e9:.1f}"]
    seconds = sum(r["milliseconds"] for r in used) / 1e3
    mfu = [r["mfu"] * r["milliseconds"] for r in used if "mfu" in r]
    return [case, str(len(used)), f"{sum(r['tokens'] for r in used) / seconds:,.0f}",
            f"{statistics.median(r['milliseconds'] for r in used):.1f}",
            f"{100 * sum(mfu) / (seconds * 1e3):.1f}" if mfu else "-", f"{used[-1]['loss']:.3f}", f"{peak * 2**20 / 1e9:.1f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cepe", default="build/cepe")
    parser.add_argument("--tokens", required=True, help="token shards of documents")
    parser.add_argument("--ask", help="token shards of samples; without them no stage ask")
    parser.add_argument("--base", help="SmolLM2's file; else as configs/smollm2-135m names it")
    parser.add_argument("--cases", help="comma-separated; else all")
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--skip", type=int, default=20, help="first steps that do not count")
    parser.add_argument("--seconds", type=float, default=120, help="the longest a case may take")
    parser.add_argument("--work", help="directory for the random model and the runs; else a new one in /dev/shm")
    parser.add_argument("--sizes", choices=SIZES, default="7b")
    parser.add_argument("--more", action="append", default=[], help="a further setting of every case, --more=--section.key=value")
    args = parser.parse_args()
    own = args.work is None
    args.work = args.work or tempfile.mkdtemp(prefix="cepe-training-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    os.makedirs(args.work, exist_ok=True)
    found = cases(args)
    chosen = args.cases.split(",") if args.cases else list(found)
    unknown = [case for case in chosen if case not in found]
    if unknown:
        parser.error(f"--cases: expected {', '.join(found)}, found {', '.join(unknown)}")
    header = ["case", "steps", "tokens/s", "ms a step", "MFU %", "loss", "peak GB"]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|", flush=True)
    try:
        for case in chosen:
            if case.startswith("7b") and not os.path.exists(os.path.join(args.work, "encoder", "config.json")):
                size, vocabulary = SIZES[args.sizes], vocabulary_of(args.tokens)
                write_model(os.path.join(args.work, "decoder"), "LlamaForCausalLM", size["decoder"], vocabulary)
                write_model(os.path.join(args.work, "encoder"), "LlamaForMLM", size["encoder"], vocabulary)
            settings, gpus = found[case]
            print("| " + " | ".join(row(case, *run_case(args, case, settings, gpus), args.skip)) + " |", flush=True)
    finally:
        if own:
            shutil.rmtree(args.work, ignore_errors=True)


if __name__ == "__main__":
    main()
