"""The command that makes a dataset of images: where it may write, what it leaves behind, and that it can go on."""

import pytest

from data_pipelines.dataset import images
from data_pipelines.dataset.opening import open_data
from spt_jax.cli import main
from tests.eels.planted_phases import planted, write_image, write_theory
from tests.test_cli import fails


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    file = write_image(folder / "map.npy", planted().counts)
    return ["--theory", str(write_theory(folder / "theory")), "--edge", "O K", "--images", str(file)]


def test_a_failed_try_does_not_stand_in_the_way(given, tmp_path, capsys):
    out = ["--out", str(tmp_path / "data")]
    assert "no such folder" in fails(capsys, "image-data", "--theory", str(tmp_path / "no"), "--edge", "O K", *out)
    assert "no edge 'Xx K'" in fails(capsys, "image-data", *given, *out, "--edge", "Xx K")
    main(["image-data", *given, *out])
    assert "168 of 168 pixels" in capsys.readouterr().out and open_data(tmp_path / "data").examples["train"]
    # And again over itself.
    main(["image-data", *given, *out, "--pixels", "20"])


def test_a_stop_leaves_no_dataset_and_the_command_can_be_given_again(given, tmp_path, capsys, monkeypatch):
    command = ["image-data", *given, "--out", str(tmp_path / "data")]
    main(command)
    saved = images.np.save

    def stop(file, array):
        saved(file, array)
        raise KeyboardInterrupt

    monkeypatch.setattr(images.np, "save", stop)
    fails_with_a_signal(capsys, *command)
    monkeypatch.undo()
    assert "no data_card.json" in fails(capsys, "train", "live", "--data", str(tmp_path / "data"), "--out", "nowhere")
    main(command)
    assert open_data(tmp_path / "data").split("validation").ids


def fails_with_a_signal(capsys, *command):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(command))
    assert stop.value.code == 130


def test_what_belongs_to_somebody_else_is_left_alone(given, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    assert "holds something else" in fails(capsys, "image-data", *given, "--out", str(tmp_path / "other"))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.txt"]
    assert "thesis.txt" in fails(capsys, "image-data", *given, "--out", str(tmp_path / "other" / "thesis.txt"))
