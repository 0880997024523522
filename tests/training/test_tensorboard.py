"""The log for TensorBoard holds what the JSON lines hold; and a trace of some steps is written."""

import json
import struct

import pytest

from data_pipelines.library import LIBRARY
from spt_jax.cli import main
from spt_jax.runs.folder import LOG
from tests.training.test_train import MODEL


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("tensorboardX", reason="needs the extra `tensorboard`")
    out = tmp_path_factory.mktemp("board") / "run"
    fields = [word for name, value in MODEL.items() for word in (f"--model.{name.replace('_', '-')}", str(value))]
    schedule = ["--train.epochs", "3", "--train.validate-every", "2", "--train.schedule", "stable"]
    extra = ["--tensorboard", "--profile", "2"]
    main(["train", "tiny", "--data", str(LIBRARY), "--out", str(out), *fields, *schedule, *extra])
    return out


def test_every_number_of_the_log_is_a_scalar_of_its_epoch(run):
    from tensorboardX.proto.event_pb2 import Event

    [path] = (run / "tensorboard").iterdir()
    data, place, found = path.read_bytes(), 0, {}
    while place < len(data):  # length, its checksum, the event, its checksum
        [length] = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + length])
        found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        place += 16 + length
    lines = [json.loads(text) for text in (run / LOG).read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        for name in ("loss", "learning_rate", "gradient_norm", "spectra_per_s", "input_wait", "seconds"):
            assert found[line["epoch"], name] == pytest.approx(line[name], rel=1e-5)
    for line in lines[1:]:
        known = {name: score for name, score in line["validation"].items() if score is not None}
        assert len(known) >= 6
        for name, score in known.items():
            assert found[line["epoch"], f"validation/{name}"] == pytest.approx(score, rel=1e-5, abs=1e-6), name


def test_a_trace_of_some_steps_is_written_and_changes_nothing(run):
    assert list((run / "profile").rglob("*.xplane.pb"))
    assert [json.loads(text)["step"] for text in (run / LOG).read_text().splitlines()] == [10, 20, 30]
