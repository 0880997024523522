"""Columns of a table in a formula: "ln(i0/i1)", "$5/$2", "sum(Fe_Ka*)/I0"."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import numpy as np

from data_pipelines.errors import SpectrumError

_WORDS = re.compile(
    r"\s*(?:(?P<column>\$?\d+(?![\w.]))|(?P<number>\d+\.\d*(?:[eE][-+]?\d+)?|\.\d+)|'(?P<quoted>[^']+)'"
    r"|(?P<name>[A-Za-z_][\w.:]*(?:\*(?!\s*[\w.('$]))?)|(?P<sign>[-+*/()]))"
)
# ln as beamlines take it: detectors may count downwards from zero, and then do so all of them.
_FUNCTIONS = {"ln": lambda x: np.log(np.abs(x)), "exp": np.exp, "abs": np.abs, "sqrt": np.sqrt, "sum": lambda x: x}
_FUNCTIONS["log"] = _FUNCTIONS["ln"]


def evaluate(formula: str, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) of a formula of the columns of (N, C) values. A whole number is a column, counted from 1.

    A name is one in the header, in any case; with * at its end, the sum of all that begin so. Names with other signs
    stand in 'quotes', and there a * may be anywhere. Raises SpectrumError for what is no formula, and for a column that is not there.

    >>> evaluate("2 / 'I 0' - 1.0", np.array([[2.0, 6.0]]), ["I 0", "If"])
    array([2.])
    """
    words, at = [], 0
    while formula[at:].strip():
        if not (found := _WORDS.match(formula, at)):
            raise _wrong(formula, f"at {formula[at:].strip()[:20]!r}")
        words.append((found.lastgroup or "", found[found.lastgroup or 0]))
        at = found.end()
    tree = _Parser(formula, words, values, list(names))
    with np.errstate(all="ignore"):
        result = tree.sum()
    if words := tree.words:
        raise _wrong(formula, f"at {words[0][1]!r}")
    return np.broadcast_to(result, len(values)).astype(float)


def _wrong(formula: str, why: str) -> SpectrumError:
    return SpectrumError("columns", f"{formula!r} is no formula of columns, {why}")


class _Parser:
    """sum := product {+- product}; product := factor {*/ factor}; factor := - factor | column | f(sum) | (sum)."""

    def __init__(self, formula: str, words: list[tuple[str, str]], values: np.ndarray, names: list[str]):
        self.formula, self.words, self.values, self.names = formula, words, values, names
        self.depth = 0

    def sum(self) -> np.ndarray:
        self.depth += 1
        if self.depth > 50:
            raise _wrong(self.formula, "too deep")
        found = self.product()
        while sign := self.take("+-"):
            found = found + self.product() if sign == "+" else found - self.product()
        self.depth -= 1
        return found

    def product(self) -> np.ndarray:
        found = self.factor()
        while sign := self.take("*/"):
            found = found * self.factor() if sign == "*" else found / self.factor()
        return found

    def factor(self) -> np.ndarray:
        negative = False
        while sign := self.take("+-"):
            negative ^= sign == "-"
        found = self.term()
        return -found if negative else found

    def term(self) -> np.ndarray:
        if not self.words:
            raise _wrong(self.formula, "it ends early")
        kind, word = self.words.pop(0)
        if kind == "number":
            return np.float64(word)
        if kind == "column":
            return self.column(int(word.strip("$")) - 1)
        if word == "(":
            return self.closed()
        if kind == "name" and word.lower() in _FUNCTIONS and self.take("("):
            return _FUNCTIONS[word.lower()](self.closed())
        if kind in ("name", "quoted"):
            return self.named(word)
        raise _wrong(self.formula, f"at {word!r}")

    def closed(self) -> np.ndarray:
        found = self.sum()
        if not self.take(")"):
            raise _wrong(self.formula, "a bracket is not closed")
        return found

    def take(self, signs: str) -> str:
        if self.words and self.words[0][0] == "sign" and self.words[0][1] in signs:
            return self.words.pop(0)[1]
        return ""

    def column(self, number: int) -> np.ndarray:
        if not 0 <= number < self.values.shape[1]:
            raise SpectrumError("columns", f"no column {number + 1}; the table has {listing(self.names)}")
        return self.values[:, number]

    def named(self, word: str) -> np.ndarray:
        small = [name.lower() for name in self.names]
        fits = [i for i, name in enumerate(small) if name == word.lower()]
        if not fits and "*" in word:
            fits = [i for i, name in enumerate(small) if fnmatch.fnmatchcase(name, word.lower())]
        if not fits:
            raise SpectrumError("columns", f"no column {word}; the table has {listing(self.names)}")
        return self.values[:, fits].sum(axis=1)


def listing(names: Sequence[str]) -> str:
    """Columns by number and name, for an error message."""
    told = [f"{number} {name}".strip() for number, name in enumerate(names, start=1)]
    return ", ".join(told if len(told) <= 30 else [*told[:28], "...", told[-1]])
