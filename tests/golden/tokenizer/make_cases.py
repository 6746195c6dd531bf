"""The cases of the tokenizer goldens: tokenizer.json files without "vocab" and "merges"."""

import json

from tokenizers import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
LLAMA_CPP_DEFAULT = [r"[\p{P}\$\+<=>\^~\|]+", GPT2.removesuffix(r"|\s+"), r"\p{N}+", r"[0-9][0-9][0-9]"]
PATTERNS = {"gpt2": GPT2, "llama3": LLAMA3, "qwen2": QWEN2, "tekken": TEKKEN, "deepseek": DEEPSEEK[2]}


def added(content, index, **options):
    token = dict(
        id=index, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True
    )
    return {**token, **options}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return dict(type="Split", pattern={kind: pattern}, behavior=behavior, invert=invert)


def byte_level(use_regex, add_prefix_space=False):
    return dict(type="ByteLevel", add_prefix_space=add_prefix_space, trim_offsets=True, use_regex=use_regex)


def sequence(*items, key="pretokenizers"):
    return {"type": "Sequence", key: list(items)}


def case(name, vocabulary, **parts):
    model = dict(
        type="BPE",
        dropout=None,
        unk_token=None,
        continuing_subword_prefix=None,
        end_of_word_suffix=None,
        fuse_unk=False,
        byte_fallback=False,
        ignore_merges=False,
    )
    model.update(parts.pop("model", {}))
    tokenizer = dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=[],
        normalizer=None,
        pre_tokenizer=None,
        post_processor=None,
        decoder=dict(byte_level(True), add_prefix_space=True),
        model=model,
    )
    gguf = parts.pop("gguf", None)
    pairs = parts.pop("merge_pairs", False)
    tokenizer.update(parts)
    return dict(name=name, vocabulary=vocabulary, merge_pairs=pairs, gguf=gguf, tokenizer=tokenizer)


def template(before, after, ids):
    single = (
        [{"SpecialToken": {"id": t, "type_id": 0}} for t in before]
        + [{"Sequence": {"id": "A", "type_id": 0}}]
        + [{"SpecialToken": {"id": t, "type_id": 0}} for t in after]
    )
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return dict(
        type="TemplateProcessing",
        single=single,
        pair=pair,
        special_tokens={t: dict(id=t, ids=[ids[t]], tokens=[t]) for t in [*before, *after]},
    )


def make_cases(smollm2, crossing, metaspace):
    n = len(crossing["tokens"]) + len(crossing["merges"])
    chat = [added(t, n + k) for k, t in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])]
    tools = [added(t, n + 3 + k, special=False) for k, t in enumerate(["<tool_call>", "</tool_call>"])]
    llama3_ids = {"<|begin_of_text|>": n, "<|eot_id|>": n + 1}
    llama3_added = [added(t, i) for t, i in llama3_ids.items()]
    choosy = [
        added("[LEFT]", n, lstrip=True),
        added("[RIGHT]", n + 1, rstrip=True),
        added("[BOTH]", n + 2, lstrip=True, rstrip=True, special=False),
        added("Wort", n + 3, single_word=True, special=False),
        added("café", n + 4, normalized=True, special=False),
        added("<|im_start|>", n + 5, normalized=True),
        added("<|im_start|>user", n + 6),
    ]
    nfc = dict(type="NFC")
    isolated = lambda *patterns: sequence(*[split(p) for p in patterns], byte_level(False))
    cases = [
        case(
            "smollm2",
            "smollm2",
            added_tokens=[added(t, i) for i, t in enumerate(smollm2["tokens"][:17])],
            pre_tokenizer=sequence(dict(type="Digits", individual_digits=True), byte_level(True)),
            gguf="smollm",
        ),
        case(
            "gpt2",
            "crossing",
            pre_tokenizer=byte_level(True),
            added_tokens=chat[:1],
            post_processor=byte_level(True),
            gguf="gpt-2",
        ),
        case("gpt2-prefix-space", "crossing", pre_tokenizer=byte_level(True, True), added_tokens=chat),
        case(
            "smollm",
            "crossing",
            pre_tokenizer=sequence(dict(type="Digits", individual_digits=True), byte_level(True)),
            added_tokens=chat,
            gguf="smollm",
        ),
        case(
            "llama3",
            "crossing",
            pre_tokenizer=isolated(LLAMA3),
            model=dict(ignore_merges=True),
            added_tokens=llama3_added,
            post_processor=sequence(
                byte_level(True), template(["<|begin_of_text|>"], [], llama3_ids), key="processors"
            ),
            merge_pairs=True,
            gguf="llama-bpe",
        ),
        case(
            "llama3-both-ends",
            "crossing",
            pre_tokenizer=isolated(LLAMA3),
            added_tokens=llama3_added,
            post_processor=template(["<|begin_of_text|>"], ["<|eot_id|>"], llama3_ids),
        ),
        case(
            "qwen2",
            "crossing",
            normalizer=nfc,
            pre_tokenizer=isolated(QWEN2),
            added_tokens=chat + tools,
            post_processor=byte_level(False),
            gguf="qwen2",
        ),
        case(
            "qwen3",
            "crossing",
            normalizer=sequence(nfc, key="normalizers"),
            pre_tokenizer=isolated(QWEN2),
            added_tokens=chat + tools,
            merge_pairs=True,
        ),
        case(
            "tekken",
            "crossing",
            pre_tokenizer=isolated(TEKKEN),
            model=dict(ignore_merges=True),
            added_tokens=[added("<s>", n), added("</s>", n + 1)],
            gguf="tekken",
        ),
        case("deepseek", "crossing", normalizer=sequence(key="normalizers"), pre_tokenizer=isolated(*DEEPSEEK)),
        case("llama-cpp-default", "crossing", pre_tokenizer=isolated(*LLAMA_CPP_DEFAULT), gguf="default"),
        case("added-tokens", "crossing", normalizer=nfc, pre_tokenizer=byte_level(True), added_tokens=choosy),
        case(
            "added-tokens-nfd",
            "crossing",
            normalizer=dict(type="NFD"),
            pre_tokenizer=byte_level(True, True),
            added_tokens=choosy,
        ),
        case("nfkc", "crossing", normalizer=dict(type="NFKC"), pre_tokenizer=isolated(LLAMA3)),
        case("nfkd", "crossing", normalizer=dict(type="NFKD"), pre_tokenizer=isolated(GPT2)),
        case(
            "digit-runs",
            "crossing",
            pre_tokenizer=sequence(dict(type="Digits", individual_digits=False), byte_level(False)),
        ),
        case("inverted", "crossing", pre_tokenizer=sequence(split(GPT2, "Removed", True), byte_level(False))),
        case("removed", "crossing", pre_tokenizer=sequence(split(r"\s+", "Removed"), byte_level(False))),
        case(
            "with-previous",
            "crossing",
            pre_tokenizer=sequence(split(" ", "MergedWithPrevious", kind="String"), byte_level(False)),
        ),
        case("with-next", "crossing", pre_tokenizer=sequence(split(r"\p{P}", "MergedWithNext"), byte_level(False))),
        case(
            "contiguous",
            "crossing",
            pre_tokenizer=sequence(
                split(r"[a-e]", "Contiguous"), split("x.", "Contiguous", kind="String"), byte_level(False)
            ),
        ),
        case("unsplit", "crossing", pre_tokenizer=byte_level(False)),
    ]
    return cases + metaspace_cases(metaspace)


def metaspace_cases(metaspace):
    ids = {"<unk>": 0, "<s>": 1, "</s>": 2}
    steps = [
        dict(type="Replace", pattern=dict(String="▁"), content=" "),
        dict(type="ByteFallback"),
        dict(type="Fuse"),
    ]
    strip = dict(type="Strip", content=" ", start=1, stop=0)
    common = dict(added_tokens=[added(t, i) for t, i in ids.items()], post_processor=template(["<s>"], [], ids))
    fallback = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    prepend = sequence(
        dict(type="Prepend", prepend="▁"),
        dict(type="Replace", pattern=dict(String=" "), content="▁"),
        key="normalizers",
    )
    metaspace = lambda scheme, split: dict(type="Metaspace", replacement="▁", prepend_scheme=scheme, split=split)
    stripped, plain = sequence(*steps, strip, key="decoders"), sequence(*steps, key="decoders")
    return [
        case("llama2", "metaspace", normalizer=prepend, decoder=stripped, model=fallback, **common),
        case(
            "metaspace-first",
            "metaspace",
            pre_tokenizer=metaspace("first", False),
            decoder=stripped,
            model=fallback,
            **common,
        ),
        case(
            "metaspace-split",
            "metaspace",
            pre_tokenizer=metaspace("always", True),
            decoder=plain,
            model=fallback,
            **common,
        ),
        case(
            "metaspace-never",
            "metaspace",
            pre_tokenizer=metaspace("never", False),
            decoder=plain,
            model=fallback,
            **common,
        ),
        case(
            "unknown-fused",
            "metaspace",
            normalizer=prepend,
            decoder=stripped,
            model=dict(fallback, byte_fallback=False),
            **common,
        ),
        case(
            "unknown-single",
            "metaspace",
            normalizer=prepend,
            decoder=stripped,
            model=dict(unk_token="<unk>"),
            **common,
        ),
    ]


def full_tokenizer(entry, vocabulary):
    tokenizer = json.loads(json.dumps(entry["tokenizer"]))
    tokens, merges = list(vocabulary["tokens"]), vocabulary["merges"]
    if entry["vocabulary"] != "metaspace":
        tokens += [merge.replace(" ", "") for merge in merges]
    tokenizer["model"]["vocab"] = {token: index for index, token in enumerate(tokens)}
    tokenizer["model"]["merges"] = [merge.split(" ") for merge in merges] if entry["merge_pairs"] else merges
    return Tokenizer.from_str(json.dumps(tokenizer))
