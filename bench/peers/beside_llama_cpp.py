"""Reading a prompt and writing on a CPU: cepe beside llama.cpp, with the same GGUF file, in turns in one run.

    python3 -m venv peers && peers/bin/pip install llama-cpp-python    # compiles llama.cpp: over half an hour on 2 cores
    peers/bin/python bench/peers/beside_llama_cpp.py SmolLM2-135M-Instruct.Q4_1.gguf [--cepe build/cepe] [--threads 2] [--rounds 3]

Prints a table: tokens/s of each round's median, and the ratio of the medians over all rounds. Both read 512 tokens and
write 64 after a window of 128; both choose nothing: the next token is given. llama.cpp computes with the file's own blocks;
cepe with --weights int8 and int4 (docs/weights.md) and with bfloat16.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time


def llama_rates(llama, prompt, window, steps):
    llama.reset()
    start = time.perf_counter()
    llama.eval(prompt)
    read = len(prompt) / (time.perf_counter() - start)
    llama.reset()
    llama.eval(window)
    start = time.perf_counter()
    for token in steps:
        llama.eval([token])
    return read, len(steps) / (time.perf_counter() - start)


def cepe_rates(args, weights):
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "bench.json")
        command = [args.cepe, "bench", "--model", args.gguf, "--tests", "pp512,tg64", "--weights", weights,
                   "--repetitions", "3", "--json", out]
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(out) as file:
            records = json.load(file)["records"]
    return tuple(record["tokens_per_second"] for record in records)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("--cepe", default="build/cepe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    from llama_cpp import Llama, __version__
    llama = Llama(model_path=args.gguf, n_threads=args.threads, n_threads_batch=args.threads, n_ctx=2048, n_batch=512,
                  verbose=False)
    random.seed(1)
    token = lambda: random.randrange(100, llama.n_vocab() - 100)
    prompt, window, steps = ([token() for _ in range(n)] for n in (512, 128, 64))
    llama.eval(prompt[:16])  # warm-up
    found = {}
    for _ in range(args.rounds):
        found.setdefault("llama.cpp", []).append(llama_rates(llama, prompt, window, steps))
        for weights in ("stored", "int8", "int4"):
            found.setdefault(f"cepe, {weights}", []).append(cepe_rates(args, weights))
    medians = {name: [statistics.median(column) for column in zip(*rates)] for name, rates in found.items()}
    base = medians["llama.cpp"]
    print(f"llama-cpp-python {__version__}, {args.threads} threads, {args.rounds} rounds, medians")
    print(f"{'':14} {'read 512':>10} {'ratio':>6} {'write 64':>10} {'ratio':>6}   tokens/s")
    for name, (read, write) in medians.items():
        print(f"{name:14} {read:10.0f} {read / base[0]:6.2f} {write:10.1f} {write / base[1]:6.2f}")


if __name__ == "__main__":
    main()
