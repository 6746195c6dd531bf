"""Full attention's answers to the questions of `cepe eval`: llama.cpp reads what an example's decoder would read.

    python3 -m venv peers && peers/bin/pip install xllamacpp
    build/cepe eval qa --model M --data squad.json --decoder-passages 1 --encoder-passages 0 ... --inputs-only --out inputs
    peers/bin/python bench/peers/answers_of_llama_cpp.py SmolLM2-135M-Instruct.Q4_1.gguf inputs/inputs.jsonl answers.jsonl
    build/cepe eval qa (the same options) --answers answers.jsonl --out runs/llama

The last command ends and scores the answers as it does cepe's own, and writes the same files. Answers are greedy. Every
prompt is read anew: nothing is kept from one to the next. Examples of the form chat go through the model's chat
template. Examples with documents for an encoder are refused: full attention would not see them. A run that was
interrupted goes on. Prints seconds of wall and processor time, tokens, and the process's peak memory.
"""
import argparse
import json
import os
import resource
import sys
import time


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_server(args):
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = args.gguf
    params.n_ctx, params.n_batch, params.n_ubatch = args.window, 512, 512
    params.n_parallel, params.n_gpu_layers = 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.cache_prompt, params.warmup = False, True
    params.cache_ram_mib, params.ctx_shift = 0, False
    return xllamacpp.Server(params)


def ask(server, record):
    request = {"n_predict": record["max_tokens"], "max_tokens": record["max_tokens"], "temperature": 0, "top_k": 1,
               "cache_prompt": False}
    # An answer whose leading white space is dropped must not end at a line break before it: cepe ends it.
    dropped = record["leading_space"] == "dropped"
    request["stop"] = [stop for stop in record["stop"] if not (dropped and not stop.strip())]
    if record["form"] != "chat":
        request["prompt"] = record["prompt"]
        answer = server.handle_completions(request)
        choice = answer["choices"][0] if "choices" in answer else None
        text = choice["text"] if choice else answer.get("content")
    else:
        request["messages"] = [{"role": "user", "content": record["prompt"]}]
        if record["answer_prefix"]:
            request["messages"].append({"role": "assistant", "content": record["answer_prefix"]})
        answer = server.handle_chat_completions(request)
        text = answer["choices"][0]["message"].get("content") if "choices" in answer else None
    if text is None:
        sys.exit(f"answers_of_llama_cpp.py: {record['id']}: llama.cpp gave no answer: {json.dumps(answer)[:300]}")
    return text, answer.get("usage", {})


def answered_before(path):
    if not os.path.exists(path):
        return set()
    with open(path, "rb+") as file:
        whole = file.read()
        whole = whole[:whole.rfind(b"\n") + 1]  # a line that was being written is written again
        file.truncate(len(whole))
    return {json.loads(line)["id"] for line in whole.splitlines()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("inputs")
    parser.add_argument("answers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--window", type=int, default=8192)
    args = parser.parse_args()

    with open(args.inputs, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    with_documents = [record["id"] for record in records if record["documents"]]
    if with_documents:
        sys.exit(f"answers_of_llama_cpp.py: {args.inputs}: {with_documents[0]}: expected no documents for an encoder")
    done = answered_before(args.answers)
    server = open_server(args)
    wall = cpu = read = written = count = 0
    with open(args.answers, "a", encoding="utf-8") as file:
        for record in records:
            if record["id"] in done:
                continue
            start, start_cpu = time.perf_counter(), time.process_time()
            text, usage = ask(server, record)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
            file.write(json.dumps({"id": record["id"], "input": record["input"], "text": text, "seconds": seconds, "cpu_seconds": cpu_seconds,
                                   "prompt_tokens": usage.get("prompt_tokens"), "peak_memory_bytes": peak_memory()},
                                  ensure_ascii=False) + "\n")
            file.flush()
            count, wall, cpu = count + 1, wall + seconds, cpu + cpu_seconds
            read += usage.get("prompt_tokens", 0)
            written += usage.get("completion_tokens", 0)
    print(f"{count} answers, {len(done)} from before: {wall:.1f} s, {cpu:.1f} s of processor time, {read} tokens read, "
          f"{written} written, {peak_memory() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
