"""Says in two sentences what `cepe perplexity --json` found: python3 scripts/say_result.py perplexity.json"""
import json
import sys


def percent(fraction):
    return f"{100 * abs(fraction):.1f} %"


def direction(change):
    return "lowers" if change < 0 else "raises"


def longest(rows, control):
    rows = [row for row in rows if row["control"] == control and row["context_tokens"] > 0]
    return max(rows, key=lambda row: row["context_tokens"], default=None)


def own_sentence(result, plain, own):
    error = "" if own["standard_error"] is None else f" (standard error {100 * own['standard_error']:.1f} points)"
    return (f"Reading the {own['context_tokens']:,} tokens that come before its own {result['decoder_tokens']:,} tokens "
            f"through the encoder {direction(own['change'])} the model's perplexity on the text that follows by "
            f"{percent(own['change'])}{error}, from {plain['perplexity']:.2f} to {own['perplexity']:.2f} over "
            f"{own['spans']} windows of {own['documents']} books.")


def reading_sentence(other, own, full):
    if other is None or own["reading_gain"] is None:
        return "Without a second book as a control it cannot be said how much of that is reading and how much is style."
    verb = "better" if own["reading_gain"] > 0 else "worse"
    text = (f"Given as many tokens of another book instead, perplexity is changed by {100 * other['change']:+.1f} %, so "
            f"the right book is {percent(own['reading_gain'])} {verb} than a wrong one: that part is what the model "
            "really reads")
    if full is not None and full["reading_gain"] is not None:
        text += f" (the plain decoder with all of its own window filled gains {100 * full['reading_gain']:.1f} %)"
    return text + "."


def main(path):
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    rows = result["rows"]
    plain = next((row for row in rows if row["control"] == "own" and row["context_tokens"] == 0), None)
    own = longest(rows, "own")
    if plain is None or own is None or own["change"] is None:
        sys.exit(f"{path}: no rows with and without context to compare")
    other = next((row for row in rows if row["control"] == "other-document"
                  and row["context_tokens"] == own["context_tokens"]), None)
    print(own_sentence(result, plain, own))
    print(reading_sentence(other, own, longest(rows, "full-window")))


if __name__ == "__main__":
    main(sys.argv[1])
