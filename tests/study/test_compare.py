"""Models side by side: the scores are those of evaluation, and who is ahead is told with its chance."""

import json

import numpy as np
import pytest

import spt_jax
from data_pipelines.dataset.loading import Dataset
from data_pipelines.errors import RunError
from data_pipelines.library import LIBRARY
from data_pipelines.schema import NAMES
from spt_jax.cli import main
from spt_jax.scoring.metrics import main_score, score_answers
from spt_jax.study.compare import compare


@pytest.fixture
def split():
    return Dataset(LIBRARY).split("test")


def answers(rng, split, wrong: float) -> dict:
    """Of CN and MBL: the truth, but for a share of sites."""
    truth = split.batch.labels[:, 1].astype(int)
    said = np.where(rng.random(len(truth)) < wrong, rng.integers(0, 11, len(truth)), truth)
    return {"CN": np.eye(11)[said], "MBL": split.batch.labels[:, 8] + wrong * rng.normal(0, 0.1, len(truth))}


def test_scores_are_those_of_evaluation_and_the_better_one_is_ahead(rng, split):
    good, bad = [answers(rng, split, 0.1) for _ in range(2)], [answers(rng, split, 0.6)]
    found = compare({"bad": bad, "good": good}, split)
    for name, each in (("bad", bad), ("good", good)):
        own = [[main_score(s) for s in score_answers(one, split.batch).values()] for one in each]
        assert found[name].seeds == pytest.approx(np.mean(own, axis=1).tolist())
        assert (
            found[name].score
            == pytest.approx(np.mean(own))
            == pytest.approx(np.mean(list(found[name].descriptors.values())))
        )
    ahead = found["good"].ahead
    assert found["bad"].ahead is None and ahead.score == pytest.approx(found["good"].score - found["bad"].score)
    assert 0 < ahead.low < ahead.score < ahead.high and ahead.share > 0.99
    assert found["good"].elements.keys() == found["bad"].elements.keys() and len(found["good"].elements) > 3


def test_a_model_is_not_ahead_of_itself(rng, split):
    own = answers(rng, split, 0.3)
    ahead = compare({"one": [own], "same": [own]}, split)["same"].ahead
    assert (ahead.score, ahead.low, ahead.high, ahead.share) == (0, 0, 0, 0.5)


def test_what_has_no_score_and_what_not_all_answer_is_left_out(rng, split):
    one, more = answers(rng, split, 0.3), answers(rng, split, 0.3)
    more["OS"] = np.eye(13)[rng.integers(0, 13, len(split.ids))]
    column = NAMES.index("MBL")
    split.batch.mask[:, column] &= np.arange(len(split.ids)) == int(np.argmax(split.batch.mask[:, column]))
    found = compare({"both": [more, one], "one": [one]}, split)
    assert all(own.descriptors.keys() == {"CN"} for own in found.values())
    only = {"OCN": np.eye(12)[rng.integers(0, 12, len(split.ids))]}
    elements = compare({"a": [only], "b": [only]}, split)["a"].elements
    assert "O" not in elements and np.isfinite(list(elements.values())).all()


def test_models_of_other_questions_cannot_be_compared(rng, split):
    own = answers(rng, split, 0.3)
    with pytest.raises(RunError, match="no descriptor"):
        compare({"one": [{"CN": own["CN"]}], "other": [{"MBL": own["MBL"]}]}, split)


def test_by_the_command(trained, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    same = ["compare", f"a={trained}", f"b={trained},{trained}", "--data", str(LIBRARY), "--json", str(out)]
    main([*same, "--split", "test"])
    said = capsys.readouterr().out
    assert "+0.000 (+0.000 to +0.000)" in said and max(map(len, said.splitlines())) <= 80
    document = json.loads(out.read_text())
    model, split = spt_jax.load(trained), Dataset(LIBRARY).split("test")
    scores = score_answers(model.answers(split.batch.spectrum, split.batch.atomic_number), split.batch)
    mains = [main_score(each) for each in scores.values() if main_score(each) is not None]
    assert document["a"]["score"] == pytest.approx(np.mean(mains))
    main(["compare", f"a={trained}", "trees=decision_tree,decision_tree", "--data", str(LIBRARY)])
    assert "ahead of a" in capsys.readouterr().out
    main([*same, "--elements", "Co"])
    few = capsys.readouterr().out
    assert "validation split, 4 spectra" in few and "By element" not in few


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a=x"], "two competitors"),
        (["a=x", "a=y"], "name of its own"),
        (["x", "b=y"], "name it"),
        (["a=x,", "b=y"], "name it"),
        (["a=nowhere", "b=nowhere"], "nowhere: not a run folder"),
    ],
)
def test_wrong_comparisons_cost_one_line(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        main(["compare", *arguments, "--data", str(LIBRARY)])
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
