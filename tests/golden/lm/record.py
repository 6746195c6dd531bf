"""Records baselines.json, the golden of tests/eval/baselines_test.cc: baselines of `cepe eval lm` by their definitions.

    python record.py            (needs numpy)

Decoders of tests/golden (weights as they are in the files, arithmetic in float64) score the last tokens of a random text
with a context before it. Everything is written here from the papers and Hugging Face's modeling_rope_utils:

full       causal attention over context and text
pi         frequencies / s                                        s = tokens / window
ntk        base * s^(d / (d - 2))
dynamic    base * (s * tokens / window - (s - 1))^(d / (d - 2))
yarn       beta_fast 32, beta_slow 1, attention factor 0.1 ln s + 1
streaming  a token at a time: a cache of keys before rotation, evicted after each token to the sinks and the most recent
           ones; all keys rotated at their places in the cache
replug     each passage before the text; log of the weighted sum of probabilities; weights the softmax of BM25 scores
           (k1 1.2, b 0.75) divided by the temperature, or equal; passages are the chunks of the context with the best
           scores against the text before the scored tokens, whose words are the tokens' ids
"""
import json
import struct
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent
TEXT, SCORED, WINDOW = 32, 8, 48


def read_tensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", name
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin:8 + size + end], dtype="<f4").astype(np.float64)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


class Decoder:
    def __init__(self, name):
        self.config = json.loads((GOLDEN / name / "config.json").read_text())
        self.weights = read_tensors(GOLDEN / name / "model.safetensors")
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.size = self.config["hidden_size"] // self.heads
        self.layers = self.config["num_hidden_layers"]
        self.theta = self.config["rope_theta"]

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"]) * self.weights[name]

    def project(self, x, layer, name, heads):
        return (x @ self.weights[f"model.layers.{layer}.self_attn.{name}_proj.weight"].T).reshape(-1, heads, self.size)

    def feed_forward(self, x, layer):
        weight = {part: self.weights[f"model.layers.{layer}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down")}
        gate = x @ weight["gate"].T
        return (gate / (1 + np.exp(-gate)) * (x @ weight["up"].T)) @ weight["down"].T

    def layer(self, x, index, attend):
        prefix = f"model.layers.{index}."
        normed = self.norm(x, prefix + "input_layernorm.weight")
        q = self.project(normed, index, "q", self.heads)
        k, v = (self.project(normed, index, name, self.kv_heads) for name in "kv")
        x = x + attend(index, q, k, v).reshape(len(x), -1) @ self.weights[prefix + "self_attn.o_proj.weight"].T
        return x + self.feed_forward(self.norm(x, prefix + "post_attention_layernorm.weight"), index)

    def log_probs(self, x):
        logits = self.norm(x, "model.norm.weight") @ self.weights["lm_head.weight"].T
        logits -= logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def frequencies(self):
        return self.theta ** (-np.arange(0, self.size, 2) / self.size)


def rotate(x, positions, frequencies, scale=1.0):
    angles = np.outer(positions, frequencies)
    cos, sin = np.cos(angles)[:, None] * scale, np.sin(angles)[:, None] * scale
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def softmax_values(q, k, v, allowed):
    """q (T, H, K), k and v (S, G, K), allowed (T, S) -> (T, H, K)"""
    shared = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, shared, 1), np.repeat(v, shared, 1)
    scores = np.einsum("thk,shk->hts", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(allowed[None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hts,shk->thk", weights / weights.sum(-1, keepdims=True), v)


def forward(decoder, tokens, frequencies, scale=1.0):
    places = np.arange(len(tokens))
    causal = places[None] <= places[:, None]

    def attend(_, q, k, v):
        return softmax_values(rotate(q, places, frequencies, scale), rotate(k, places, frequencies, scale), v, causal)

    x = decoder.weights["model.embed_tokens.weight"][tokens]
    for layer in range(decoder.layers):
        x = decoder.layer(x, layer, attend)
    return decoder.log_probs(x)


def stretched(decoder, kind, tokens):
    d, s = decoder.size, tokens / WINDOW
    plain = decoder.frequencies()
    if kind == "full":
        return plain, 1.0
    if kind == "pi":
        return plain / s, 1.0
    if kind in ("ntk", "dynamic"):
        growth = s if kind == "ntk" else s * tokens / WINDOW - (s - 1)
        return (decoder.theta * growth ** (d / (d - 2))) ** (-np.arange(0, d, 2) / d), 1.0

    def dimension(turns):
        return d * np.log(WINDOW / (turns * 2 * np.pi)) / (2 * np.log(decoder.theta))

    low, high = max(np.floor(dimension(32)), 0), min(np.ceil(dimension(1)), d - 1)
    ramp = np.clip((np.arange(d // 2) - low) / (high - low if high > low else 0.001), 0, 1)
    return plain / s * ramp + plain * (1 - ramp), 0.1 * np.log(s) + 1


def streaming(decoder, tokens, sinks, recent):
    frequencies = decoder.frequencies()
    cache = [None] * decoder.layers
    rows = []

    def attend(layer, q, k, v):
        if cache[layer] is not None:
            k, v = np.concatenate([cache[layer][0], k]), np.concatenate([cache[layer][1], v])
        kept = len(k)
        out = softmax_values(rotate(q, [kept - 1], frequencies), rotate(k, np.arange(kept), frequencies), v,
                             np.ones((1, kept), bool))
        if kept > sinks + recent:
            k, v = (np.concatenate([x[:sinks], x[kept - recent:]]) for x in (k, v))
        cache[layer] = (k, v)
        return out

    for token in tokens:
        x = decoder.weights["model.embed_tokens.weight"][[token]]
        for layer in range(decoder.layers):
            x = decoder.layer(x, layer, attend)
        rows.append(decoder.log_probs(x)[0])
    return np.stack(rows)


def bm25(passages, query):
    mean = np.mean([len(passage) for passage in passages])
    scores = np.zeros(len(passages))
    for word in set(query):
        df = sum(word in passage for passage in passages)
        idf = np.log(1 + (len(passages) - df + 0.5) / (df + 0.5))
        for i, passage in enumerate(passages):
            tf = passage.count(word)
            scores[i] += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(passage) / mean))
    return scores


def replug(decoder, context, text, chunk, passages, temperature, uniform):
    chunks = [context[i:i + chunk] for i in range(0, len(context), chunk)]
    scores = bm25(chunks, text[:TEXT - SCORED + 1])
    best = np.argsort(-scores, kind="stable")[:passages or None]
    weights = np.zeros(len(best)) if uniform else scores[best] / temperature
    weights = np.exp(weights - weights.max())
    weights /= weights.sum()
    mixture = sum(weight * np.exp(forward(decoder, chunks[i] + text, decoder.frequencies()))[-TEXT:]
                  for weight, i in zip(weights, best))
    return np.log(mixture)


def loss(log_probs, labels):
    return float(-np.mean([log_probs[len(log_probs) - SCORED + i][label] for i, label in enumerate(labels)]))


def main():
    rng = np.random.default_rng(11)
    document = rng.integers(3, 128, 24).tolist()  # words repeat, so that passages differ in their scores
    document = [document[i] for i in rng.integers(0, 24, 64 + TEXT + 1)]
    cases = []
    for name in ("replug", "cepe-gqa-last2"):
        decoder = Decoder(name)
        for n in (16, 40, 64):
            context, text, labels = document[64 - n:64], document[64:64 + TEXT], document[-SCORED:]
            whole = context + text

            def case(baseline, log_probs, **options):
                cases.append({"model": name, "baseline": baseline, "context_tokens": n, **options,
                              "loss": loss(log_probs, labels)})

            for kind in ("full",) if len(whole) <= WINDOW else ("pi", "ntk", "dynamic", "yarn"):
                case(kind, forward(decoder, whole, *stretched(decoder, kind, len(whole))))
            for sinks, recent in ((4, 11), (0, 20), (3, 40)):
                case("streaming", streaming(decoder, whole, sinks, recent), sinks=sinks, recent=recent)
            for passages, uniform in ((3, False), (0, False), (2, True)):
                case("replug", replug(decoder, context, text, 8, passages, 2.5, uniform), chunk=8, passages=passages,
                     temperature=2.5, uniform=uniform)
    golden = {"tokens": document, "decoder_tokens": TEXT, "scored_tokens": SCORED, "window": WINDOW}
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("baselines.json").write_text(f'{json.dumps(golden)[:-1]}, "cases": [\n{lines}\n]}}\n')


main()
