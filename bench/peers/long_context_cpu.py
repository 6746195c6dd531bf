"""A long text on a CPU: cepe, which encodes all but its last 2,048 tokens, beside full attention in llama.cpp, with the
same base model (its flash attention, which is the faster one), each measurement in a process of its own, in one run.

    python3 -m venv peers && peers/bin/pip install llama-cpp-python    # compiles llama.cpp: over half an hour on 2 cores
    peers/bin/python bench/peers/long_context_cpu.py --model models/smollm2-135m-cepe --base SmolLM2-135M-Instruct.Q4_1.gguf

Prints, for each length: seconds to read the text to the last token's logits, milliseconds for each of 16 tokens written
after it, peak resident memory, and their ratios. SmolLM2 was trained on 8,192 tokens: beyond, full attention is timed, but
would not write sense. --json FILE keeps the figures.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

WINDOW, WRITTEN = 2048, 16


def run(command, threads):
    """-> (seconds of CPU time, peak resident bytes) of a process that must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"long_context_cpu.py: {' '.join(command)} ended with status {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def llama_child(args):
    from llama_cpp import Llama
    llama = Llama(model_path=args.base, n_threads=args.threads, n_threads_batch=args.threads,
                  n_ctx=args.child + 64, n_batch=512, flash_attn=True, verbose=False)
    random.seed(1)
    ids = [random.randrange(100, llama.n_vocab() - 100) for _ in range(args.child + WRITTEN)]
    start = time.perf_counter()
    llama.eval(ids[:args.child])
    read = time.perf_counter() - start
    start = time.perf_counter()
    for token in ids[args.child:]:
        llama.eval([token])
    with open(args.json, "w") as file:
        json.dump({"read_s": read, "write_ms": 1e3 * (time.perf_counter() - start) / WRITTEN}, file)


def llama_figures(args, length):
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "out.json")
        command = [sys.executable, os.path.abspath(__file__), "--model", args.model, "--base", args.base, "--json", out,
                   "--child", str(length), "--threads", str(args.threads)]
        cpu, memory = run(command, args.threads)
        with open(out) as file:
            return {**json.load(file), "cpu_s": cpu, "peak_bytes": memory}


def cepe_figures(args, length, weights):
    context = length - WINDOW
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "out.json")
        command = [args.cepe, "bench", "--model", args.model, "--base", args.base, "--weights", weights,
                   "--tests", f"enc{context},pp{WINDOW}@c{context},tg{WRITTEN}@c{context}",
                   "--window-tokens", str(WINDOW), "--repetitions", "1", "--json", out]
        cpu, memory = run(command, args.threads)
        with open(out) as file:
            records = json.load(file)["records"]
    encode, prefill, write = (record["ms"] for record in records)
    # The bench sets the process's own peak back before each test, so that the system's figure is the last one's alone.
    memory = max(memory, *(record["peak_memory_bytes"] for record in records))
    return {"read_s": (encode + prefill) / 1e3, "write_ms": write, "encode_s": encode / 1e3, "cpu_s": cpu,
            "peak_bytes": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--cepe", default="build/cepe")
    parser.add_argument("--lengths", default="4096,8192,16384,32768")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)   # this process reads so many tokens by llama.cpp
    args = parser.parse_args()
    if args.child:
        return llama_child(args)
    found = []
    print(f"{'tokens':>7} {'':24} {'read s':>9} {'ratio':>6} {'write ms':>9} {'ratio':>6} {'peak GB':>8}", flush=True)
    for length in map(int, args.lengths.split(",")):
        rows = {"llama.cpp": lambda: llama_figures(args, length),
                "cepe, stored": lambda: cepe_figures(args, length, "stored"),
                "cepe, int4": lambda: cepe_figures(args, length, "int4")}
        base = None
        for name, measure in rows.items():
            got = measure()
            base = base or got
            found.append({"tokens": length, "name": name, **got})
            print(f"{length:7} {name:24} {got['read_s']:9.1f} {base['read_s'] / got['read_s']:6.2f} "
                  f"{got['write_ms']:9.1f} {base['write_ms'] / got['write_ms']:6.2f} {got['peak_bytes'] / 1e9:8.2f}", flush=True)
            if args.json:
                with open(args.json, "w") as file:
                    json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
