"""The comparison with TimesNet runs on whatever a checkout holds, and leaves none of it among our modules."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.workload import config_of, make

# As far as it is asked for; a stand-in with the names of the real one.
LAYERS = """
from torch import nn

class Inception_Block_V1(nn.Conv2d):
    pass
"""
MODEL = """
import torch
from torch import nn
from layers.Conv_Blocks import Inception_Block_V1

class Model(nn.Module):
    def __init__(self, configs):
        super().__init__()
        assert (configs.task_name, configs.enc_in, configs.num_kernels) == ("classification", 1, 2)
        self.embed = nn.Linear(configs.enc_in, configs.d_model)
        self.out = nn.Linear(configs.d_model * configs.seq_len, configs.num_class)

    def forward(self, x, mark, dec, mark_dec):
        return self.out((self.embed(x) * mark.unsqueeze(-1)).flatten(1))
"""


@pytest.fixture
def timesnet():
    pytest.importorskip("torch", reason="needs the extra `torch`")
    from benchmarks import timesnet

    return timesnet


@pytest.fixture
def source(tmp_path):
    for folder, name, text in (("layers", "Conv_Blocks", LAYERS), ("models", "TimesNet", MODEL)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / f"{name}.py").write_text(text)
    return tmp_path


def test_small_run_measures_training_and_inference(timesnet, source, tmp_path, capsys):
    before = list(sys.path), {name for name in sys.modules if name.split(".")[0] in timesnet.NAMES}
    fields = [
        "--small",
        "--mode",
        "fixed",
        "--length",
        "24",
        "--repeats",
        "2",
        "--json",
        str(tmp_path / "results.jsonl"),
    ]
    lines = timesnet.main(["--source", str(source), *fields])
    assert before == (sys.path, {name for name in sys.modules if name.split(".")[0] in timesnet.NAMES})
    assert [(line["benchmark"], line["batch"], line["length"]) for line in lines] == [
        ("timesnet", batch, 24) for batch in (8, 8, 1)
    ]
    for line in lines:
        assert line["vs"]["timesnet"] == pytest.approx(line["timesnet_ms"] / line["median_ms"])
        assert line["case"].endswith(f"fixed kernels 2 L24 B{line['batch']}") and line["timesnet_parameters"] > 0
    assert "TimesNet/ours" in capsys.readouterr().out


def test_its_outputs_are_those_of_our_heads(timesnet, source):
    work = make(config_of("base", "float32", small=True), 8, 24)
    network = timesnet.network_of(source)
    outputs = timesnet.inference(timesnet.build(network, work, 2), work)()
    for task in work.tasks:
        assert outputs[task.name].shape == ((8, task.classes) if task.classes else (8,))
        assert np.isfinite(outputs[task.name].numpy()).all()


def test_other_folders_are_refused_in_one_line(timesnet, source, tmp_path):
    with pytest.raises(SystemExit, match=r"no models/TimesNet\.py here; give a checkout"):
        timesnet.network_of(tmp_path / "nowhere")
    (source / "models" / "TimesNet.py").write_text("from layers.Conv_Blocks import Missing\n")
    with pytest.raises(SystemExit, match="cannot be imported: cannot import name 'Missing'"):
        timesnet.network_of(source)


def test_without_pytorch_the_extra_is_named():
    code = "import sys; sys.modules['torch'] = None; import benchmarks.timesnet"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "the extra `torch`" in done.stderr and done.stderr.count("\n") == 1
