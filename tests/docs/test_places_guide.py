"""The commands of docs/places.md, one after the other."""

import re
import shlex
from pathlib import Path

from data_pipelines.faults import TRIES
from data_pipelines.library import EXAMPLE, LIBRARY
from spt_jax.cli import main
from tests.conftest import SMALL
from tests.data_pipelines.dataset.test_remote import put
from tests.data_pipelines.stores import NEEDS_S3, Store

GUIDE = (Path(__file__).parents[2] / "docs" / "places.md").read_text(encoding="utf-8")


@NEEDS_S3
def test_the_commands_run(s3_store: Store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "xmu.dat").write_bytes(EXAMPLE.read_bytes())
    put(LIBRARY, s3_store.root.parent / "dataset")  # in the place of the first command, whose sources are a group's own
    lines = re.findall(r"^spt-jax (.*)$", GUIDE, re.MULTILINE)
    assert len(lines) == 6 and lines[0].startswith("prepare")
    for line in lines[1:]:
        main([*shlex.split(line), *(SMALL if line.startswith("train") else [])])
    assert "MBL" in capsys.readouterr().out
    names = {path.name for path in (s3_store.root.parent / "run").iterdir()}
    assert names == {"config.json", "train_log.jsonl", "attempts.jsonl", "metrics.json", "checkpoints", "model"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["xmu.dat"]


def test_the_numbers_are_those_of_the_code():
    words = {6: "six"}
    assert f"asked again up to {words[TRIES - 1]} times" in " ".join(GUIDE.split())
