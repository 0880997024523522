"""In which settings runs differ, as their config.json have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields

from spt_jax.config import ExecutionConfig, ImagesConfig, JointConfig, LabelsConfig, MaskedConfig, TrainConfig
from spt_jax.network_config import FusionConfig, LatentConfig, ModelConfig, PeerConfig
from spt_jax.runs.folder import CHANGES, completed, defaults_of
from spt_jax.runs.formats import execution_of_today

# Of each part of the settings the kinds that it may be of, by what a user calls them.
KINDS: dict[str, dict[str, type]] = {
    "model": {"spt": ModelConfig, "peer": PeerConfig, "fusion": FusionConfig, "latent": LatentConfig},
    "objective": {"labels": LabelsConfig, "masked": MaskedConfig, "joint": JointConfig, "images": ImagesConfig},
    "train": {"": TrainConfig},
    "execution": {"": ExecutionConfig},
}
UNSET = "not set"


def differing(configs: Sequence[dict]) -> dict[str, list[str]]:
    """By name of the setting, what each says.

    A setting that came after a run was made had its default then. Of parts that are of several kinds, as two networks,
    the kinds are named and the settings compared that all have.
    """
    parts = dict.fromkeys(part for config in configs for part in config if part not in (CHANGES, "main_score"))
    found: dict[str, list[str]] = {}
    for part in parts:
        own = [_whole(part, config.get(part, {})) for config in configs]
        kinds = [kind for kind, _ in own]
        flat = [_flat(settings, f"{part}.") for _, settings in own]
        names = list(dict.fromkeys(name for each in flat for name in each))
        if len(set(kinds)) > 1:
            found[part] = [kind or "unknown" for kind in kinds]
            names = [name for name in names if all(name in each for each in flat)]
        for name in names:
            said = [each.get(name, UNSET) for each in flat]
            if len(set(said)) > 1:
                found[name] = said
    return found


def _whole(part: str, settings: dict) -> tuple[str, dict]:
    """Of which kind the settings of a part are, and all of them; as they are for a kind that is not known."""
    settings = execution_of_today(settings) if part == "execution" else settings
    for kind, config in KINDS.get(part, {}).items():
        if settings.keys() <= {field.name for field in fields(config)}:
            return kind, completed(settings, json.loads(json.dumps(defaults_of(config))))
    return "", settings


def _flat(settings: dict, before: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = (" ".join(map(str, value)) if isinstance(value, list) else str(value)) or UNSET
    return found
