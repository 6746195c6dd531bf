"""Reading and writing at Llama-2-7B's sizes on one GPU: cepe beside full attention and the published algorithm in
PyTorch.

    python3 bench/peers/beside_pytorch.py [--cepe build-cuda/cepe] [--json F.json] [--compile]
    python3 bench/peers/plot_inference.py F.json F.svg                              # needs matplotlib
    python3 bench/peers/beside_pytorch.py --check                                   # are the peers what they say?
    python3 bench/peers/beside_pytorch.py --tiny --device cpu --cepe build/cepe     # the whole path in seconds;
                                            # cepe's sizes are others there, the ratios mean nothing

Random weights in bfloat16: a decoder of 32 layers and width 4096, an encoder of 24 layers and width 1024. Needs 100
GB for full attention over 131,072 tokens; what does not fit or has no kernel says so, and the others go on.

Every peer has a process of its own, so that none pays for another's memory. Full attention and the published
algorithm run with the flash and the cuDNN kernel, chosen by name; a written token is one CUDA graph over a cache that
was allocated before (torch_llama.py, torch_cepe.py). Rows of a test see the same tokens: `read n` has the first n -
4096 in the encoder (all in the decoder with full attention), `write` follows the context and a window of 128. Full
attention computes the last token's logits when it reads, the two others the last 4096 tokens'. It projects 16,384
rows at a time, which bounds its scratch.

A time is the median of 5 repetitions after one for warm-up; a test stops early once it has taken 10 s (--seconds),
and the table says how many repetitions it had. Full attention's warm-up is its first layer.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from torch_cepe import PublishedCepe
from torch_llama import Llama, Sizes, fill_random

WINDOW, CHUNK, REPETITIONS = 128, 256, 5
LARGE = {"decoder": Sizes(32000, 4096, 11008, 32, 32, 32, 1e-5), "encoder": Sizes(32000, 1024, 4096, 24, 16, 16, 1e-6),
         "contexts": (4096, 32768, 126976), "read": (4096, 32768, 131072), "last": 4096, "steps": 16, "slow_steps": 4,
         "dtype": torch.bfloat16, "shape": "llama-2-7b+mlm-large"}
TINY = {"decoder": Sizes(512, 64, 96, 2, 4, 4, 1e-5), "encoder": Sizes(512, 32, 64, 2, 2, 2, 1e-6),
        "contexts": (256, 512, 1024), "read": (256, 512, 1280), "last": 256, "steps": 2, "slow_steps": 2,
        "dtype": torch.float32, "shape": "smollm2-135m+2x2"}


class Clock:
    """Times calls on a device that is idle before and after, and what tensors occupied at most."""

    def __init__(self, args, peer, kernel):
        self.args, self.peer, self.kernel, self.records = args, peer, kernel, []
        self.cuda = args.device == "cuda"

    def finish(self):
        if self.cuda:
            torch.cuda.synchronize()

    def once(self, call):
        self.finish()
        start = time.perf_counter()
        call()
        self.finish()
        return time.perf_counter() - start

    def measure(self, test, tokens, prepare, calls=1):
        """prepare() -> (the call to time, its warm-up); `calls` of them are one repetition."""
        record = {"peer": self.peer, "kernel": self.kernel, "test": test, "tokens": tokens}
        self.records.append(record)
        try:
            if self.cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            call, warm_up = prepare()
            self.once(warm_up)
            seconds = []
            while len(seconds) < REPETITIONS and sum(seconds) < self.args.seconds:
                seconds.append(self.once(lambda: [call() for _ in range(calls)]))
            record["ms_repetitions"] = [1e3 * each / calls for each in seconds]
            record["ms"] = statistics.median(record["ms_repetitions"])
            record["peak_memory_bytes"] = torch.cuda.max_memory_allocated() if self.cuda else None
        except torch.OutOfMemoryError:
            record["error"] = "out of memory"
        except RuntimeError as error:
            record["error"] = str(error).strip().splitlines()[0]
        print(f"{self.peer} {self.kernel}: {test} {tokens}: {record.get('ms', record.get('error'))}", file=sys.stderr)


def recorded(step, cuda):
    """A CUDA graph of the step, as torch's documentation records one: warmed up on a stream of its own."""
    if not cuda:
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def greedy_step(decoder, token_1, position, cache, backend, context=None):
    def step():
        token_1.copy_(decoder.step(token_1, position, cache, backend, context).argmax(-1))
    return step


def time_full(clock, sizes, backend):
    decoder = Llama(sizes["decoder"])
    fill_random(decoder)
    decoder.prepare(max(sizes["read"]) + WINDOW)
    token = torch.zeros(1, dtype=torch.long)
    for read, context in zip(sizes["read"], sizes["contexts"]):
        try:
            cache = decoder.make_cache(read)
        except torch.OutOfMemoryError:
            failed = {"peer": clock.peer, "kernel": backend, "error": "out of memory"}
            clock.records += [{**failed, "test": "read", "tokens": read},
                              {**failed, "test": "write", "tokens": context}]
            continue
        tokens = torch.randint(sizes["decoder"].vocabulary, (1, read))
        reading = lambda layers=None: decoder.logits(decoder.read(tokens, backend, cache=cache, layers=layers)[-1:])
        clock.measure("read", read, lambda: (reading, lambda: reading(1)))
        del cache  # writing's peak counts a cache of just the tokens that it sees
        cache = decoder.make_cache(context + WINDOW)
        write = lambda: [recorded(greedy_step(decoder, token, context + WINDOW - 1, cache, backend), clock.cuda)] * 2
        clock.measure("write", context, write, sizes["steps"])
        del cache, reading, write


def time_published(clock, sizes, backend):
    model = PublishedCepe(sizes["decoder"], sizes["encoder"], sizes["decoder"].layers)
    fill_random(model)
    model.prepare(sizes["last"] + WINDOW, CHUNK)
    vocabulary = sizes["decoder"].vocabulary
    tokens = torch.randint(vocabulary, (1, sizes["last"]))
    token = torch.zeros(1, dtype=torch.long)
    for read in sizes["read"][1:]:
        chunks = torch.randint(vocabulary, ((read - sizes["last"]) // CHUNK, CHUNK))
        scoring = lambda: model.score(chunks, tokens, backend)
        clock.measure("read", read, lambda: (scoring, scoring))
    for context in sizes["contexts"]:
        latents = torch.empty(1, context, sizes["encoder"].width).normal_()
        cache = model.decoder.make_cache(WINDOW)
        step = greedy_step(model.decoder, token, WINDOW - 1, cache, backend, latents)
        clock.measure("write", context, lambda: [recorded(step, clock.cuda)] * 2, sizes["slow_steps"])
        del latents, step


def time_cepe(args, sizes):
    last, steps = sizes["last"], sizes["steps"]
    names = {f"pp{last}@c0": ("read", last)}
    names |= {f"score{last}@c{read - last}": ("read", read) for read in sizes["read"][1:]}
    names |= {f"tg{steps}@c{context}": ("write", context) for context in sizes["contexts"]}
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "bench.json")
        subprocess.run([*shlex.split(args.cepe), "bench", "--shape", sizes["shape"], "--tests", ",".join(names),
                        "--window-tokens", str(WINDOW), "--repetitions", str(REPETITIONS), "--exclusive-gpu", "--json",
                        out],  # the peers of this program wait meanwhile
                       check=True, stdout=subprocess.DEVNULL)
        with open(out, encoding="utf-8") as file:
            result = json.load(file)
    records = []
    for found in result["records"]:
        test, tokens = names[found["test"]]
        kept = {"error": found["failure"]} if "failure" in found else {
            key: found[key] for key in ("ms", "ms_repetitions", "peak_memory_bytes")}
        records.append({"peer": "cepe", "kernel": found["form"] or "-", "test": test, "tokens": tokens, **kept})
    return records, {"device": result["device"], "peak": result["peak"], "version": result["version"]}


def run_one(args, sizes):
    """The peer of --one, in this process; its records go to --json."""
    peer, backend = args.one.split(":")
    if args.compile:
        import torch_llama
        torch_llama.rotate, torch_llama.gated = torch.compile(torch_llama.rotate), torch.compile(torch_llama.gated)
    torch.manual_seed(1)
    torch.set_default_dtype(sizes["dtype"])
    torch.set_default_device(args.device)
    clock = Clock(args, {"full": "full attention", "published": "published algorithm"}[peer], backend)
    with torch.no_grad():
        {"full": time_full, "published": time_published}[peer](clock, sizes, backend)
    with open(args.json, "w", encoding="utf-8") as file:
        json.dump(clock.records, file)


def time_peer(args, name):
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "peer.json")
        flags = [flag for flag, given in (("--tiny", args.tiny), ("--compile", args.compile)) if given]
        done = subprocess.run([sys.executable, os.path.abspath(__file__), "--one", name, "--device", args.device,
                               "--json", out, "--seconds", str(args.seconds), *flags])
        if done.returncode:
            return []
        with open(out, encoding="utf-8") as file:
            return json.load(file)


def print_table(records):
    ours = {(each["test"], each["tokens"]): each.get("ms") for each in records if each["peer"] == "cepe"}
    print(f"{'what':14} {'peer':20} {'kernel':13} {'ms':>10} {'repetitions':>11} {'peak GB':>8} {'times cepe':>10}")
    for record in sorted(records, key=lambda each: (each["test"], each["tokens"])):
        what = f"{record['test']} {record['tokens']:,}"
        start = f"{what:14} {record['peer']:20} {record['kernel']:13} "
        if "error" in record:
            print(start + record["error"])
            continue
        base, peak = ours.get((record["test"], record["tokens"])), record.get("peak_memory_bytes")
        print(start + f"{record['ms']:10.2f} {len(record['ms_repetitions']):11} "
              f"{format(peak / 1e9, '.1f') if peak else '-':>8} "
              f"{format(record['ms'] / base, '.2f') if base else '-':>10}")
    print("read n: all n tokens, the last ones in cepe's decoder; write n: one token after a context of n and a window "
          f"of {WINDOW}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cepe", default="build-cuda/cepe", help="how cepe is called; empty: not at all")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=10, help="no further repetition of a test after these")
    parser.add_argument("--kernels", default=None, help="default flash,cudnn; on a CPU math")
    parser.add_argument("--compile", action="store_true", help="torch.compile for rotary positions and gate")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU does in seconds")
    parser.add_argument("--check", action="store_true", help="compare with transformers and recorded outputs")
    parser.add_argument("--json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = TINY if args.tiny else LARGE
    if args.check:
        import check_peers
        return check_peers.main()
    if args.one:
        return run_one(args, sizes)
    records, about = time_cepe(args, sizes) if args.cepe else ([], {})
    kernels = (args.kernels or ("flash,cudnn" if args.device == "cuda" else "math")).split(",")
    for peer in ("published", "full"):
        for kernel in kernels:
            records += time_peer(args, f"{peer}:{kernel}")
    print_table(records)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            about = {"shape": sizes["shape"], "torch": torch.__version__, **about}
            json.dump({**about, "records": records}, file, indent=2)


if __name__ == "__main__":
    main()
