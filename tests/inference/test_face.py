"""What `import spt_jax` offers does what the commands do: from FEFF runs to answers, with paths as a user types them."""

from pathlib import Path

import spt_jax
from data_pipelines.library import EXAMPLE, LIBRARY
from data_pipelines.schema import EnergyGrid
from spt_jax.config import Config, LabelsConfig, ModelConfig, TrainConfig

RUNS = Path(__file__).parents[1] / "data_pipelines" / "runs"


def test_from_runs_to_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = spt_jax.prepare([str(RUNS)], "dataset")
    assert card["records"]["kept"] > 0 and spt_jax.Dataset("dataset").grid == EnergyGrid()
    # Neither bands nor graph: these compile fastest.
    model = ModelConfig(width=8, blocks=1, bands=0, attention="none", readout_channels=2, hidden=16)
    config = Config(
        model, LabelsConfig(descriptors=("CN", "MBL")), TrainConfig(epochs=1, warmup_epochs=0, batch_size=64)
    )
    last = spt_jax.train(config, spt_jax.Dataset(LIBRARY), "run")
    assert last["epoch"] == 1
    metrics = spt_jax.evaluate("run", str(LIBRARY)).metrics
    assert metrics["descriptors"].keys() == {"CN", "MBL"}
    assert metrics["classes"] == "by the rule fitted on the validation materials"
    [found] = spt_jax.predict("run", str(EXAMPLE))
    assert found.values["MBL"].interval
