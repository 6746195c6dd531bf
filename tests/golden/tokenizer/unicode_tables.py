"""Every code point: how the reference cuts and normalizes it, and the tables of src/text/unicode_additions.cc."""

import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

NORMAL_FORMS = {"NFC": normalizers.NFC, "NFD": normalizers.NFD, "NFKC": normalizers.NFKC, "NFKD": normalizers.NFKD}
STAND_INS = {
    "Lu": (0x1E00, 0x10400),
    "Ll": (0x1E01, 0x10428),
    "Lm": (0x1D2C, 0x16B40),
    "Lo": (0x1000, 0x10000),
    "Lo/Han": (0x4E00, 0x20000),
    "Mn": (0x1DC0, 0x101FD),
    "Mc": (0x103B, 0x11000),
    "Nd": (0x1040, 0x104A0),
    "No": (0x2460, 0x10107),
    "Po": (0x2020, 0x10100),
    "Pd": (0x2010, 0x10EAD),
    "So": (0x2605, 0x1F300),
    "Sm": (0x2200, 0x1D6C1),
    "Cf": (0x200B, 0x1D173),
}
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cf".split()


def code_points(block):
    return [c for c in range(block * 4096, block * 4096 + 4096) if c != 0 and not 0xD800 <= c < 0xE000]


def code_point_texts(block):
    for x in map(chr, code_points(block)):
        yield f"{x}a{x}1{x}{x} {x}!{x}\n{x}"


def ranges(values):
    """[first, last, value] for runs of neighbouring keys with one value."""
    result = []
    for key in sorted(values):
        if result and result[-1][1] == key - 1 and result[-1][2] == values[key]:
            result[-1][1] = key
        else:
            result.append([key, key, values[key]])
    return result


def print_unicode_tables():
    assert unicodedata.unidata_version == "14.0.0", "the first table holds what Unicode 14 lacks"
    unassigned = [c for c in range(0x800, 0x110000) if unicodedata.category(chr(c)) == "Cn"]
    text = "".join(map(chr, unassigned))
    matches = lambda name: [
        c
        for _, (a, b) in pre_tokenizers.Split(Regex(rf"[^\p{{{name}}}]+"), "removed").pre_tokenize_str(text)
        for c in unassigned[a:b]
    ]
    han = set(matches("Han"))
    category = {c: name + ("/Han" if c in han else "") for name in CATEGORIES for c in matches(name)}
    for first, last, stand_in in ranges({c: STAND_INS[name][c > 0xFFFF] for c, name in category.items()}):
        print(f"{{0x{first:X}, 0x{last:X}, 0x{stand_in:X}}},")
    print()
    differing = {0x11930: 0, 0x11935: 0}  # these two compose since Unicode 13
    for name, form in NORMAL_FORMS.items():
        for block in range(0x110):
            for c in code_points(block):
                sample = f"a{chr(c)}\u0301\u0327{chr(c)}"
                if form().normalize_str(sample) != unicodedata.normalize(name, sample):
                    differing[c] = 0
    for first, last, _ in ranges(differing):
        print(f"{{0x{first:X}, 0x{last:X}}},")
