"""Every number that a user can set states its range, and a number outside it is one line that names both."""

from __future__ import annotations

import re
from dataclasses import dataclass, is_dataclass
from typing import Annotated, get_args, get_type_hints

import pytest

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check, has, range_of
from data_pipelines.schema import EnergyGrid
from data_pipelines.structures.options import Options
from spt_jax import config
from spt_jax.cli import COMMANDS
from spt_jax.study.baselines import Baselines


def reached(kind: type) -> set[type]:
    """A dataclass and those that its fields hold."""
    found = {kind}
    for hint in get_type_hints(kind).values():
        for part in (hint, *get_args(hint)):
            if is_dataclass(part):
                found |= reached(part)
    return found


SETTINGS = sorted(
    set().union(
        *map(reached, (*COMMANDS.values(), Baselines, Options)),
        (kind for kind in vars(config).values() if is_dataclass(kind) and kind.__module__ == config.__name__),
    ),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_every_number_states_its_range(kind):
    hints = get_type_hints(kind, include_extras=True)
    numbers = [name for name, hint in hints.items() if has(hint, int) or has(hint, float)]
    assert not [name for name in numbers if not range_of(hints[name])]
    if numbers:
        record = object.__new__(kind)
        for name in numbers:
            object.__setattr__(record, name, float("nan"))
        with pytest.raises(UserError, match=f"{numbers[0]} must be"):
            record.__post_init__()


@dataclass(frozen=True)
class Example:
    width: Annotated[int, Range(least=1)] = 48
    dropout: Annotated[float, Range(least=0, below=1)] = 0.1
    share: Annotated[float | None, Range(above=0, most=1)] = None
    start: Annotated[float, Range()] = -2
    parts: Annotated[tuple[float, ...], Range(above=0, most=1)] = ()

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"dropout": 1.5}, "dropout must be at least 0 and below 1, got 1.5"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1, got 1"),
        ({"dropout": float("nan")}, "dropout must be at least 0 and below 1, got nan"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"width": 2.5}, "width must be a whole number, got 2.5"),
        ({"width": float("inf")}, "width must be at least 1, got inf"),
        ({"width": True}, "width must be a number, got True"),
        ({"width": "48"}, "width must be a number, got '48'"),
        ({"share": 0.0}, "share must be above 0 and at most 1, got 0.0"),
        ({"start": float("-inf")}, "start must be finite, got -inf"),
        ({"parts": (0.5, 1.5)}, "parts must be above 0 and at most 1, got 1.5"),
    ],
)
def test_what_is_outside_is_named_with_its_range(wrong, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Example(**wrong)


def test_what_is_inside_is_taken():
    Example(width=1, dropout=0, share=1, start=-1e9, parts=(0.1, 1))
    assert EnergyGrid(-5, 1, 16).points == 16
