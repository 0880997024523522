"""The first command that a newcomer runs: it learns, says how much, and can be run again."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.reports.trivial import trivial_answers
from spt_jax.runs.folder import read_log
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.scoring.names import COMMON
from tests.pages import Page

# Of the mean of weighted F1 and R2 on 75 spectra, of descriptors with ten labels there; this run is ahead by 0.27.
MARGIN = 0.2


# Half as long as the command trains, else the same; what is printed at each of two runs.
PROGRAM = """
import io, json, sys
from dataclasses import replace
from pathlib import Path
from rich.console import Console
from spt_jax.presets import PRESETS
from spt_jax.quickstart import quickstart
tiny, said = PRESETS["tiny"](), []
for _ in range(2):
    text = io.StringIO()
    quickstart(Path(sys.argv[1]), Console(file=text, width=80), replace(tiny, train=replace(tiny.train, epochs=40)))
    said.append(text.getvalue())
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder, and what was said; of programs as XLA compiles them for a user, which train fastest."""
    out, environment = tmp_path_factory.mktemp("quick") / "start", {**os.environ, "XLA_FLAGS": ""}
    line = [sys.executable, "-c", PROGRAM, str(out)]
    ended = subprocess.run(line, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return out, json.loads(ended.stdout.splitlines()[-1])


def test_it_beats_the_trivial_answer_by_the_stated_margin(done):
    out, _ = done
    train, test = (Dataset(LIBRARY).split(name).batch for name in ("train", "test"))
    trivial = score_answers(trivial_answers(train, test), test)
    found = json.loads((out / "metrics.json").read_text())["descriptors"]
    judged = {name: scores for name, scores in found.items() if scores["n"] >= COMMON}
    ahead = {name: main_score(scores) - main_score(trivial[name]) for name, scores in judged.items()}
    assert found.keys() - ahead.keys() == {"NNOSM"} and np.mean(list(ahead.values())) > MARGIN, ahead


def test_the_loss_falls_below_what_a_constant_guess_costs(done):
    losses = [line["loss"] for line in read_log(done[0])]
    assert losses[0] > 1 > 0.6 > losses[-1]


def test_it_says_all_in_80_columns_and_the_same_when_run_again(done):
    out, (first, second) = done
    report = first[first.index("test split") :]
    assert second.endswith(report), "nothing is trained again"
    long = [line for line in first.splitlines() if len(line) > 80]
    assert all(str(out) in line for line in long), "only paths may be longer"
    assert Page((out / "report.html").read_text(encoding="utf-8")).text
