"""Records chunk_keys.json, the golden of tests/context/chunk_key_test.cc: keys of chunks by Python's hashlib.

    python record.py

keys    [the encoder's fingerprint in hex, token ids, the key in hex]; the format stands in src/context/chunk_key.h
"""

import hashlib
import json
import struct
from pathlib import Path


def field(tag, value):
    return struct.pack("<Q", len(tag)) + tag + struct.pack("<Q", len(value)) + value


def key(encoder, tokens):
    ids = b"".join(struct.pack("<i", token) for token in tokens)
    return hashlib.sha256(field(b"cepe chunk", b"1") + field(b"encoder", encoder) + field(b"tokens", ids)).hexdigest()


encoders = [bytes(32), bytes(range(32)), hashlib.sha256(b"an encoder").digest()]
chunks = [[0], [1, 2, 3], [3, 2, 1], [49151, 65536, 2147483647], list(range(1000, 1256))]
keys = [[encoder.hex(), tokens, key(encoder, tokens)] for encoder in encoders for tokens in chunks]
lines = ",\n".join("  " + json.dumps(entry) for entry in keys)
Path(__file__).with_name("chunk_keys.json").write_text('{"keys": [\n' + lines + "\n]}\n")
