"""`spt-jax runs` on real runs: one that was killed and went on, one that is still training, an ensemble, copies of them."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipelines.dataset.loading import Dataset
from data_pipelines.library import LIBRARY
from spt_jax.cli import main
from spt_jax.config import Config, LabelsConfig, PeerConfig, TrainConfig
from spt_jax.reports import runs_figures
from spt_jax.reports.runs_page import runs_page
from spt_jax.reports.runs_text import short
from spt_jax.runs.attempts import ATTEMPTS, append_attempt, read_attempts
from spt_jax.runs.folder import LOG, append_log, read_log
from spt_jax.runs.goodput import PARTS
from spt_jax.runs.history import read_history
from spt_jax.training.ensemble import train_members
from spt_jax.training.loop import train
from tests.data_pipelines.stores import Store
from tests.pages import Page
from tests.test_cli import fails

CONFIG = Config(
    PeerConfig("mlp", width=8, depth=1), LabelsConfig(), TrainConfig(epochs=12, batch_size=64, validate_every=4)
)
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.reports.test_runs_page import CONFIG, LIBRARY, Dataset, train

def report(line):
    if line["epoch"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)

train(CONFIG, Dataset(LIBRARY), Path(sys.argv[1]), report)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """Killed after epoch 6, when the checkpoint of epoch 4 was whole or not; then to the end."""
    out = tmp_path_factory.mktemp("runs") / "killed <run>"
    assert subprocess.run([sys.executable, "-c", KILLED, str(out)], timeout=600, check=False).returncode == -9
    train(CONFIG, Dataset(LIBRARY), out)
    return out


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "ensemble"
    train_members(CONFIG, Dataset(LIBRARY), out, 2)
    return out


@pytest.fixture
def said(capsys, monkeypatch):
    """What the command prints, which has 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments) -> str:
        capsys.readouterr()
        main(["runs", *map(str, arguments)])
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        return text

    return run


def test_a_run_that_was_killed_and_went_on(killed, said):
    [run] = read_history(killed)
    steps = run.log[-1]["step"] // 12
    first, second = run.attempts
    assert (first.why, first.begin, first.repeated) == ("", 0, first.reached - second.begin)
    assert second.begin in (0, 4 * steps)
    # The kill came between the lines of epoch 6 in the log and of the attempt, whose order is not told here.
    assert first.reached in (5 * steps, 6 * steps) and second.reached == 12 * steps and second.why == "done"
    assert sum(run.shares.values()) == pytest.approx(1) and 0 < run.goodput < 1
    assert all(run.shares[part] > 0 for part in ("start", "restart", "compute", "validation", "checkpoint"))
    text = said(killed)
    assert f"done after epoch 12, step {12 * steps}" in text and "12/12" in text
    assert f"{first.repeated} steps done again" in text and "killed" in text
    for part, share in run.shares.items():
        assert (f"  {part} " in text) == (share > 0)
        assert not share or PARTS[part] in text
    assert "MBL" in text and "spike:" not in text


def test_an_undisturbed_run_loses_nothing(ensemble, said):
    [run] = read_history(ensemble)
    assert run.shares["restart"] == run.shares["stopped"] == 0 and len(run.attempts) == 1
    text = said(ensemble)
    assert "Members, last validation:  seed0 0." in text and "0 steps done again" in text


def test_what_was_told_the_noise_scale_skipped_batches_and_spikes(killed, tmp_path, said):
    out = shutil.copytree(killed, tmp_path / "run")
    log = read_log(out)
    log[8]["loss"] *= 100
    log[9]["skipped"] = log[10]["asked_again"] = 2
    log[11]["noise_scale"] = 1234.5
    (out / LOG).write_text("".join(json.dumps(line) + "\n" for line in log))
    word = "process 3 (host-a) waited 2.10 s of 3.00 s for its input, the others 0.10 s"
    append_attempt(out, {"at": time.time(), "attempt": 1, "event": "told", "text": word})
    flat = " ".join(said(out).split())
    for words in (
        word,
        "gradient noise scale about 1,200 rows (its batches have 64)",
        "2 batches were left out",
        "asked again: 2 times",
        "loss spike:",
        f"epoch 9 (step {log[8]['step']})",
    ):
        assert words in flat, words


def test_several_runs_are_compared(killed, ensemble, tmp_path, said):
    moved = shutil.copytree(killed, tmp_path / "another run with a name that is long")
    config = json.loads((moved / "config.json").read_text())
    config["train"]["learning_rate"] = 0.1
    (moved / "config.json").write_text(json.dumps(config))
    text = said(killed, ensemble, moved)
    assert "…" in text and "train.learning_rate  0.002 (killed <run>, ensemble)" in text
    assert "ensemble.members  not set" in text and "train.epochs" not in text
    assert "The settings of all are the same." in said(killed, shutil.copytree(killed, tmp_path / "copy"))


def test_what_cannot_be_shown_is_a_dash_or_one_line(killed, tmp_path, said, capsys):
    out = shutil.copytree(killed, tmp_path / "old")
    (out / ATTEMPTS).unlink()
    assert "no attempts.jsonl, as of older versions" in " ".join(said(out).split())
    text = (out / LOG).read_text().splitlines(keepends=True)
    (out / LOG).write_text("".join([*text[:5], "{\n", *text[5:]]))
    assert "train_log.jsonl: line 6 is damaged" in said(out)
    (out / LOG).write_text("")
    row = next(line for line in said(out).splitlines() if line.startswith(" old"))
    assert set(row.split()[1:-1]) == {"-"}
    Page(runs_page(read_history(out) + read_history(killed), time.time()))
    assert "not a run folder" in fails(capsys, "runs", str(killed), str(tmp_path))
    assert "no RUN given" in fails(capsys, "runs", status=2)


def test_runs_in_a_store(killed, store: Store, said):
    for name in ("config.json", LOG, ATTEMPTS):
        (store.root / "run" / name).write_bytes((killed / name).read_bytes())
    away, here = said(store.root / "run"), said(killed)
    assert away[away.index("Wall time") :] == here[here.index("Wall time") :]


@pytest.mark.parametrize("copies", [0, 1, 12])
def test_the_page(killed, ensemble, tmp_path, said, copies):
    runs = [killed, ensemble][: 1 if not copies else 2]
    runs += [shutil.copytree(killed, tmp_path / f"copy {i}") for i in range(copies - 1)]
    if copies:
        # A run that nothing is known of, and one that went wrong.
        shutil.copytree(killed, tmp_path / "empty")
        (tmp_path / "empty" / LOG).write_text("")
        (tmp_path / "empty" / ATTEMPTS).unlink()
        wrong = shutil.copytree(ensemble, tmp_path / "wrong")
        last = read_log(wrong)[-1]
        for i in range(1, 9):
            append_log(wrong, {**last, "epoch": 12 + i, "step": last["step"] + i, "loss": float("nan")})
        runs += [tmp_path / "empty", wrong]
    said(*runs, "--html", tmp_path / "runs.html")
    page = Page((tmp_path / "runs.html").read_text())
    for words in (
        "Training loss",
        "Learning rate",
        "Gradient norm",
        "Spectra a second",
        "Goodput",
        "Attempts",
        "SIGKILL",
    ):
        assert (words in page.text) == (words != "SIGKILL"), words
    assert "killed <run>" in page.text and ("Settings" in page.text) == bool(copies)
    assert ("loss diverged" in page.text) == bool(copies)


def test_colours_come_again_with_another_line():
    many = len(runs_figures.PALETTE)
    drawn = {(runs_figures.colour_of(i), runs_figures.dash_of(i)) for i in range(2 * many)}
    assert len(drawn) == 2 * many


def test_follow_until_it_is_done(killed, tmp_path, said):
    """A run that is being trained, as another process sees it."""
    out, page = tmp_path / "killed", tmp_path / "page.html"
    shutil.copytree(killed, out)
    lines = read_attempts(out)
    (out / ATTEMPTS).write_text("".join(json.dumps({**line, "at": time.time()}) + "\n" for line in lines[:-1]))
    arguments = ["runs", str(out), "--follow", "--every", "0.1", "--html", str(page)]
    code = f"from spt_jax.cli import main; main({arguments!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    while not page.exists():
        assert process.poll() is None
        time.sleep(0.05)
    assert 'http-equiv="refresh"' in page.read_text() and process.poll() is None
    append_attempt(out, {**lines[-1], "at": time.time()})
    assert "done after epoch 12" in process.communicate(timeout=60)[0] and process.returncode == 0


def test_looking_takes_no_device(killed):
    """A chip that a training holds is not asked for."""
    code = (
        "from spt_jax.cli import main\n"
        f"main(['runs', {str(killed)!r}])\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)


def test_counts_are_short():
    assert all(len(short(each)) <= 5 for each in (0, 9_999, 10_000, 999_499, 1e6, 99_949_999, 1e8, 9.9e9))
