"""One small model of each format that was ever written, with what it answered: they load for ever."""

from pathlib import Path

from data_pipelines.chemistry import OXIDATION_STATES

HERE = Path(__file__).parent
EXPORT_1 = HERE / "export_1.spt"


def as_of_today(name: str, was: dict) -> dict[str, float]:
    """Probabilities that were stored then, of a Co site, without the oxidation states that Co does not have."""
    chances = was.get("probabilities", {})
    if name != "OS":
        return chances
    left = {state: p * (int(state) in OXIDATION_STATES["Co"]) for state, p in chances.items()}
    return {state: p / sum(left.values()) for state, p in left.items()}
