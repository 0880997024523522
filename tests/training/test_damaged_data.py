"""Training on a dataset of which a block is damaged: it stops with the block's name, or goes on without its rows if asked."""

import pytest

from spt_jax.cli import main
from spt_jax.runs.folder import read_log
from tests.conftest import SMALL
from tests.data_pipelines.dataset.test_damage import damaged
from tests.data_pipelines.dataset.test_hosts import library as library


def test_a_damaged_block_stops_training_or_is_left_out_if_asked(library, tmp_path, capsys):
    damaged(library, tmp_path / "data", 5)
    size = int(library.blocks("train").sizes[5])
    command = ["train", "tiny", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *SMALL]
    command += "--train.epochs 3 --train.warmup-epochs 0 --train.batch-size 33 --train.input stream".split()
    with pytest.raises(SystemExit):
        main(command)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert f"rows 80 to {79 + size} of train" in line and "--execution.skip-damaged" in line
    main([*command, "--execution.skip-damaged"])
    # 330 rows are ten whole batches: every epoch shows all.
    assert [line["replaced_rows"] for line in read_log(tmp_path / "run")] == [size] * 3
