"""The texts of the tokenizer goldens: stretches of documents, and made-up text of everything that is odd."""

import json
import random

import zstandard

SCRIPTS = [
    "敏捷的棕色狐狸跳过了懒狗。人工智能（AI）在2024年取得了3.5%的增长，价格是￥1,234。",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。ｶﾀｶﾅ１２３",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ประเทศไทยรวมเลือดเนื้อชาติเชื้อไทย ๑๒๓๔",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता १२३",
    "يُولَدُ جَمِيعُ النَّاسِ أَحْرَارًا مُتَسَاوِينَ ٠١٢٣٤٥",
    "כל בני האדם נולדו בני חורין ושווים בערכם",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm",
    "Þjóð Íslendinga ÆØÅ æøå ßẞ ŁÓDŹ łódź ĲSSELMEER",
    "I'm sure it's what they'd've said; WE'LL SEE, DON'T they'RE I'Ve It’s ’tis 'ſ 'LL'd",
    "½ ² ³ ¼ Ⅷ ⅷ ① ⑳ 〇 一二三 ٣ १२ 1,000,000.00 0x1F 1e-9 3rd",
    "👨‍👩‍👧‍👦 👩🏽‍💻 🏳️‍🌈 🇫🇷🇯🇵 1️⃣ ❤️‍🔥 🧑🏿‍🤝‍🧑🏻 😀😃 🫠🩷 ☃︎ ☃️",
    "ﬁne ﬂow ﬃ Å Å Å Ω Ω é é ấ ấ ậ q̣̇ q̣̇ ẛ̣ 가 가 각 각 각",
    "𝒜𝓑 𝟘𝟙 𐍈 𒀀 𐌰 𝄞 🜁 \U000323af \U00031350 \U0001e4d0 \u2ffc \U0001fae8",
]
SPACES = list(
    " \t\n\r\v\f\u0085\u00a0\u1680\u180e\u2000\u2003\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u2060"
)
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_start|>user\n",
    "<|begin_of_text|>",
    "<s>",
    "</s>",
    "<unk>",
    "<|eot_id|>",
    "<tool_call>",
    "</tool_call>",
    "<repo_name>",
    "<0x0A>",
    "[LEFT]",
    "[RIGHT]",
    "[BOTH]",
    "Wort",
    "café",
]
CODE = [
    "def f(x):\n\tif x:\n\t\treturn  x**2  # note\n",
    "int main(){\n    std::cout<<\"\\t\"<<x[i][j]<<'\\n';\n}\n",
    "\tfor (i=0;i<10;i++) {a[i]+=1;}\r\n",
    "SELECT * FROM t WHERE a>=10 AND b!='x';--\n",
    '{"k": [1,2.5e-3,null,true], "ключ": "値"}\n',
    "https://example.org/a?b=c&d=%20#e\n",
]


def random_character(rng):
    kind = rng.random()
    if kind < 0.5:
        return chr(
            rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0x700), rng.randrange(0x900, 0x1200)])
        )
    if kind < 0.8:
        return chr(
            rng.choice(
                [rng.randrange(0x1E00, 0x3100), rng.randrange(0x4E00, 0x4F00), rng.randrange(0xA000, 0xD7A4)]
            )
        )
    return chr(
        rng.choice(
            [rng.randrange(0xE000, 0x10000), rng.randrange(0x10000, 0x20000), rng.randrange(0x20000, 0x110000)]
        )
    )


def odd_texts():
    rng = random.Random(20240607)
    texts = ["", " ", "\n", "a", " a", "a ", "▁", "\0", "\ufeff", "<|endoftext|>", "  \n", "\u0301", "é"[1:]]
    texts += SCRIPTS + CODE
    makers = {
        "scripts": lambda: rng.choice(SCRIPTS)[rng.randrange(20) :][: rng.randrange(1, 60)] + rng.choice(SPACES),
        "spaces": lambda: "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 6)))
        + rng.choice(["a", "Zz", "7", "!", ""]),
        "controls": lambda: chr(rng.choice([*range(0x20), *range(0x7F, 0xA0)])) + rng.choice(["x", "", " ", "42"]),
        "combining": lambda: rng.choice("aeoqZ가각ァ़ก")
        + "".join(
            chr(rng.choice([*range(0x300, 0x345), 0x5B0, 0x591, 0x94D, 0x3099, 0x11A8, 0x1161]))
            for _ in range(rng.randrange(4))
        ),
        "special": lambda: rng.choice(["", " ", "  ", "x", "\n"])
        + rng.choice(SPECIAL)
        + rng.choice(["", " ", "  ", "y", "\t "]),
        "code": lambda: rng.choice(CODE),
        "random": lambda: "".join(random_character(rng) for _ in range(rng.randrange(1, 8)))
        + rng.choice(["", " "]),
        "numbers": lambda: "".join(rng.choice("0123456789٣½Ⅷ१①,.'") for _ in range(rng.randrange(1, 9)))
        + rng.choice([" ", "st", ""]),
    }
    for name, make in makers.items():
        for _ in range(14):
            texts.append("".join(make() for _ in range(120)))
    for _ in range(12):  # of everything
        texts.append("".join(rng.choice(list(makers.values()))() for _ in range(150)))
    texts += [
        " " * 3000,
        "a" * 3000,
        "=" * 2000 + " ",
        "\n" * 1000,
        "\t \n" * 300,
        "漢字" * 1500,
        "xX" * 40 + "▁" * 500,
        "é" * 900,
        "".join(rng.choice("ABCDEFabcdef0123456789+/") for _ in range(4000)),
        "ha" * 2500,
        "<|im_start|>" * 200,
        "👍🏽" * 300,
    ]
    return texts


def domain_texts(directory):
    # Documents whose licences allow to pass them on: public domain, CC0, MIT, Apache, BSD (docs/tokenizers.md).
    allowed = {
        "books": ["cbm-"],
        "papers": ["peps-", "rustrfcs-"],
        "code": ["sqlalchemy", "rustc", "go-", "scipy", "sympy-physics", "twisted"],
        "general": ["nltk-"],
    }
    texts, used = [], []
    for domain, prefixes in allowed.items():
        raw = (
            zstandard.ZstdDecompressor(max_window_size=2**31)
            .stream_reader(open(directory / f"{domain}-00.jsonl.zst", "rb"))
            .read()
        )
        documents = [json.loads(line) for line in raw.decode().splitlines() if line]
        documents = [d for d in documents if any(d["id"].startswith(p) for p in prefixes)][:9]
        budget, size = 265_000, 265_000 // len(documents)
        for document in documents:
            used.append(f"{document['id']}: {document['source']}")
            start = min(len(document["text"]) // 3, max(0, len(document["text"]) - size))
            part = document["text"][start : start + size]
            cuts = [0, min(len(part), 15_000), len(part)]
            texts += [part[a:b] for a, b in zip(cuts, cuts[1:]) if b > a]
    return texts, used
