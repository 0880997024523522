"""Processes that train together must have one configuration and the same data: each compares before any step."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import jax

from data_pipelines.dataset.data import Data
from data_pipelines.errors import RunError
from spt_jax.config import Config
from spt_jax.training.together import texts

# Fields that are named of those that differ.
NAMED = 5


def agree(config: Config, dataset: Data) -> None:
    """Returns where all processes have the same; else each raises RunError that says which field differs, and how."""
    if jax.process_count() == 1:
        return
    fields = {**_flat(asdict(config)), **_flat({"data": {"fingerprint": dataset.fingerprint, **dataset.examples}})}
    fields |= {"objective": type(config.objective).__name__, "model": type(config.model).__name__}
    everyone = [json.loads(text) for text in texts(json.dumps({**fields, "version of jax": jax.__version__}))]
    if words := differing(everyone):
        raise RunError(f"the processes do not agree: {words}; start all with the same command, data and JAX")


def differing(everyone: list[dict[str, Any]]) -> str:
    """Which fields differ between processes, and who has what; empty where none does."""
    found = []
    for name in dict.fromkeys(name for own in everyone for name in own):
        holders: dict[str, list[int]] = {}
        for number, own in enumerate(everyone):
            holders.setdefault(json.dumps(own[name]) if name in own else "none", []).append(number)
        if len(holders) > 1:
            who = " and ".join(f"{value} in process {_some(numbers)}" for value, numbers in holders.items())
            found.append(f"{name} is {who}")
    more = [f"{len(found) - NAMED} fields more"] if len(found) > NAMED else []
    return ", ".join([*found[:NAMED], *more])


def _some(numbers: list[int]) -> str:
    some = ", ".join(map(str, numbers[:NAMED]))
    return f"{some} and {len(numbers) - NAMED} more" if len(numbers) > NAMED else some


def _flat(fields: dict, before: str = "") -> dict[str, Any]:
    """Nested fields by their names from the outside in, with dots between."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found
