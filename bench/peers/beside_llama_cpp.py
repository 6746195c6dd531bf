"""Reading a prompt and writing on a CPU: cepe beside llama.cpp, with the same GGUF file, in turns in one run.

    python3 -m venv peers && peers/bin/pip install xllamacpp           # llama.cpp as it is built for any x86-64 processor
    peers/bin/python bench/peers/beside_llama_cpp.py SmolLM2-135M-Instruct.Q4_1.gguf [--cepe build/cepe] [--threads 2] [--rounds 3]

Prints a table: tokens/s of each round's median, and the ratio of the medians over all rounds. Both read 512 tokens and
write 64 after a window of 128; greedy. llama.cpp computes with the file's own blocks;
cepe with --weights int8 and int4 (docs/weights.md) and with bfloat16.
"""
import argparse
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import tempfile


def open_server(args):
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = args.gguf
    params.n_ctx, params.n_batch, params.n_ubatch = 2048, 512, 512
    params.n_parallel, params.n_gpu_layers = 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.cache_prompt, params.warmup = False, True
    params.cache_ram_mib, params.ctx_shift = 0, False
    return xllamacpp.Server(params)


def llama_rates(server, prompt, window, steps):
    """By llama.cpp's own clock, which leaves the tokenizer and the server's queue out."""
    def timings(tokens, count):
        return server.handle_completions({"prompt": tokens, "n_predict": count, "max_tokens": count, "temperature": 0,
                                          "cache_prompt": False, "ignore_eos": True})["timings"]
    return timings(prompt, 1)["prompt_per_second"], timings(window, steps)["predicted_per_second"]


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

    llama = open_server(args)
    random.seed(1)
    prompt, window = ([random.randrange(1000, 40000) for _ in range(n)] for n in (512, 128))
    steps = 64
    found = {}
    for _ in range(args.rounds):
        found.setdefault("llama.cpp", []).append(llama_rates(llama, prompt, window, steps))
        for weights in ("stored", "int8", "int4"):
            found.setdefault(f"cepe, {weights}", []).append(cepe_rates(args, weights))
    medians = {name: [statistics.median(column) for column in zip(*rates)] for name, rates in found.items()}
    base = medians["llama.cpp"]
    print(f"xllamacpp {importlib.metadata.version('xllamacpp')}, {args.threads} threads, {args.rounds} rounds, medians")
    print(f"{'':14} {'read 512':>10} {'ratio':>6} {'write 64':>10} {'ratio':>6}   tokens/s")
    for name, (read, write) in medians.items():
        print(f"{name:14} {read:10.0f} {read / base[0]:6.2f} {write:10.1f} {write / base[1]:6.2f}")


if __name__ == "__main__":
    main()
