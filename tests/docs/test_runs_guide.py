"""docs/runs.md says what the code does: its commands, the parts of the time, its numbers."""

import re
import shlex
from pathlib import Path

from spt_jax.cli import main
from spt_jax.runs import history, loss_spikes
from spt_jax.runs.attempts import ATTEMPTS
from spt_jax.runs.folder import LOG
from spt_jax.runs.goodput import PARTS
from tests.test_cli import fails

GUIDE = (Path(__file__).parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")
FLAT = " ".join(GUIDE.split())


def test_the_commands_run(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "a", "b", "c"):
        (tmp_path / name).symlink_to(trained)
    lines = re.findall(r"^spt-jax (runs .*)$", GUIDE, re.MULTILINE)
    assert len(lines) == 4
    for line in lines[:3]:
        main(shlex.split(line.replace("gs://BUCKET/", ""), comments=True))
    assert "done after epoch 4" in capsys.readouterr().out and (tmp_path / "runs.html").exists()
    assert "not a run folder" in fails(capsys, *shlex.split(lines[3]))


def test_the_words_and_numbers_are_those_of_the_code():
    assert re.findall(r"^\| (\w+) \|", GUIDE, re.MULTILINE) == list(PARTS)
    assert f"`{LOG}`" in GUIDE and f"`{ATTEMPTS}`" in GUIDE
    words = {3: "three", 5: "five", 7: "seven", 9: "nine", 120: "two minutes"}
    assert f"over the {words[loss_spikes.WINDOW]} epochs before" in FLAT
    assert f"by {words[loss_spikes.FAR]} standard deviations" in FLAT and f"last {loss_spikes.STRAY} epochs" in FLAT
    assert f"within {words[loss_spikes.LASTING]} epochs" in FLAT and f"first {words[loss_spikes.LEAST]} epochs" in FLAT
    assert f"younger than {words[history.QUIET]}, or than {words[history.TIMES]} times" in FLAT
