"""Records events.tfevents and crc32c.json, the goldens of tests/train/event_file_test.cc: what TensorBoard's own classes
write for the records of log.jsonl that stand beside them.

    python record.py               (needs tensorboard 2.21.0)
    python record.py --check RUN   reads a run's event files with TensorBoard's reader, which forgets what was done again
                                   after a restart, and compares what is left with RUN/log.jsonl
"""

import io
import json
import math
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = Path(__file__).parent
TRAIN = ("loss", "loss_text", "loss_answers", "gradient_norm", "learning_rate")


def scalars(record):
    """(tag, value) of a record of log.jsonl, as docs/training.md names them."""
    for key, value in sorted(record.items()):
        if isinstance(value, list):
            for row in value:
                size = f"/{row['chunks']}" if "chunks" in row else ""
                for name, number in sorted(row.items()):
                    if name not in ("domain", "samples", "chunks"):
                        yield f"{key}/{name}/{row['domain']}{size}", number
        elif key != "step":
            prefix = "speed/validation_" if "loss" not in record else "train/" if key in TRAIN else "speed/"
            yield prefix + key, value


def as_float(value):
    return math.nan if value is None else struct.unpack("<f", struct.pack("<f", value))[0]


def record_goldens():
    out = io.BytesIO()
    writer = RecordWriter(out)
    clock = 1764530000.25
    writer.write(Event(wall_time=clock, file_version="brain.Event:2").SerializeToString())
    start = Event(wall_time=clock, step=1, session_log=SessionLog(status=SessionLog.START))
    writer.write(start.SerializeToString())
    for line in (HERE / "log.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        values = [Summary.Value(tag=tag, simple_value=as_float(value)) for tag, value in scalars(record)]
        event = Event(wall_time=clock, step=record["step"], summary=Summary(value=values))
        writer.write(event.SerializeToString())
    (HERE / "events.tfevents").write_bytes(out.getvalue())
    texts = ["", "a", "123456789", "brain.Event:2", "\0" * 32, "\u00e9\u20ac" * 100]
    (HERE / "crc32c.json").write_text(json.dumps([[text, crc32c(text.encode())] for text in texts]) + "\n")


def check(run):
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})
    accumulator.Reload()
    found = {}
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            assert (tag, event.step) not in found, f"{tag}: step {event.step} twice"
            found[tag, event.step] = event.value
    wanted = {}
    for line in (run / "log.jsonl").read_text().split("\n")[:-1]:  # without a line that was cut off
        record = json.loads(line)
        for tag, value in scalars(record):
            wanted[tag, record["step"]] = as_float(value)
    differ = found.keys() ^ wanted.keys()
    assert not differ, f"{len(differ)} scalars are in one of them alone, the first {min(differ)}"
    for key, value in wanted.items():
        assert found[key] == value or math.isnan(found[key]) and math.isnan(value), (key, found[key], value)
    print(f"{run}: {len(wanted)} scalars of {len({step for _, step in wanted})} steps, all as in log.jsonl")


if len(sys.argv) == 3 and sys.argv[1] == "--check":
    check(Path(sys.argv[2]))
else:
    record_goldens()
