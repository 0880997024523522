"""What a number of a setting may be, written beside its type and nowhere else.

@dataclass(frozen=True)
class Settings:
    width: Annotated[int, Range(least=1)] = 48
    dropout: Annotated[float, Range(least=0, below=1)] = 0.1

    def __post_init__(self) -> None:
        check(self)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from data_pipelines.errors import UserError


@dataclass(frozen=True)
class Range:
    """Limits of a number, or of each number of a tuple. Without limits it is any number but NaN and infinity."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        limits = [f"{word} {limit:g}" for word, limit in words.items() if limit is not None]
        return " and ".join(limits) or "finite"


def check(record: Any) -> None:
    """Raise UserError at the first number of a dataclass that is outside its range; None is outside no range, nor is a
    word that the type has beside numbers.

    A field of whole numbers takes no fraction, and no number is a text or a truth value.
    """
    for name, hint in get_type_hints(type(record), include_extras=True).items():
        if limits := range_of(hint):
            value, whole = getattr(record, name), not has(hint, float)
            for number in value if isinstance(value, tuple | list) else (value,):
                if number is not None and not (isinstance(number, str) and number in _words(hint)):
                    _check(name, limits, whole, number)


def range_of(hint: Any) -> Range | None:
    """The Range beside a type."""
    return next((limits for limits in getattr(hint, "__metadata__", ()) if isinstance(limits, Range)), None)


def has(hint: Any, kind: type) -> bool:
    """Does a type hold `kind`: itself, in a union or in a tuple?"""
    return hint is kind or any(has(part, kind) for part in get_args(hint))


def _words(hint: Any) -> tuple[Any, ...]:
    """What the Literals in a type hold."""
    parts = get_args(hint)
    return parts if get_origin(hint) is Literal else sum(map(_words, parts), ())


def _check(name: str, limits: Range, whole: bool, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, Real):
        raise UserError(f"{name} must be a number, got {number!r}")
    if number not in limits:
        raise UserError(f"{name} must be {limits}, got {number}")
    if whole and not isinstance(number, Integral):
        raise UserError(f"{name} must be a whole number, got {number}")
