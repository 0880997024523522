"""LixCoO2: what is left out of training, and the numbers on sites with a known answer."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.lixcoo2 import by_content, cobalt, delithiated, leave_out, show, summary, told
from spt_jax.inference.load import load_folder

LIXCOO2 = Path(__file__).parents[2].parent / "shared" / "data" / "feff10" / "lixcoo2.parquet"


def test_only_partly_delithiated_cells_are_left_out(tmp_path):
    assert [delithiated(each) for each in ("LiCoO2", "Co4 O8", "Li1 Co2 O4", "Li11 Co12 O24", "Li2CoO3")] == [
        False,
        False,
        True,
        True,
        False,
    ]
    pq.write_table(pa.table({"formula": ["LiCoO2", "Li1 Co2 O4", "NiO"], "id": [0, 1, 2]}), tmp_path / "in.parquet")
    assert leave_out(tmp_path / "in.parquet", tmp_path / "out.parquet") == 1
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == [0, 2]


def test_steps_errors_and_recall_are_counted(capsys):
    own = pd.DataFrame(
        {
            "phase": ["O3"] * 4 + ["O1"],
            "tag": list("abbcd"),
            "x": [1.0, 0.5, 0.5, 0.0, 0.0],
            "charge": [3, 4, None, 4, 4],
            "mean": [3.1, 3.0, 3.4, 3.9, 4.0],
            "decided": [3, 3, 4, 4, 4],
        }
    )
    means = by_content(own)
    assert means[["phase", "x"]].to_numpy().tolist() == [["O3", 1.0], ["O3", 0.5], ["O3", 0.0], ["O1", 0.0]]
    found = summary(own, means)
    assert found["mae_mean"] == pytest.approx((0.1 + 0.3 + 0.1 + 0) / 4)
    assert found["mae_decided"] == pytest.approx(0)
    assert (found["wrong_steps_mean"], found["steps"]) == (0, 2)
    assert found["co4_recall_x0"] == (2, 2) and found["co4_recall_O3"] == (1, 2)
    show(own, means, found)
    assert "all      +3   +4    Co4+ recall 2 of 3" in capsys.readouterr().out


@pytest.mark.skipif(not LIXCOO2.exists(), reason=f"{LIXCOO2} is not here")
def test_every_cobalt_site_is_answered(trained):
    own = cobalt(LIXCOO2)
    assert len(own) == 99 and own.charge.notna().sum() == 44
    found = told(load_folder(trained), own)
    assert found["mean"].between(1, 5).all() and found.decided.isin(range(1, 6)).all()
    assert (found.tag == own.tag).all()
