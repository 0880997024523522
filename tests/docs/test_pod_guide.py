"""What docs/pod.md names is there: options, exit statuses, commands; tests/benchmarks/test_faults.py runs what it says of faults."""

import re
from dataclasses import fields
from pathlib import Path

from data_pipelines.errors import LostError
from spt_jax.cli import COMMANDS
from spt_jax.config import ExecutionConfig, TrainConfig

GUIDE = (Path(__file__).parents[2] / "docs" / "pod.md").read_text(encoding="utf-8")


def test_options_are_those_of_train():
    known = {"train": TrainConfig, "execution": ExecutionConfig}
    named = re.findall(r"--(train|execution)\.([a-z-]+)", GUIDE)
    assert len(set(named)) >= 9
    for part, option in named:
        assert option.replace("-", "_") in {field.name for field in fields(known[part])}, option


def test_commands_and_statuses_are_those_of_the_program():
    commands = set(re.findall(r"spt-jax ([a-z]+)", GUIDE))
    assert {"prepare", "train", "runs", "evaluate", "export"} <= commands
    assert all(any(name.split()[0] == command for name in COMMANDS) for command in commands)
    assert f"{LostError.status} another process is gone" in GUIDE
