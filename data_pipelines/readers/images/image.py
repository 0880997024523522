"""One spectrum image, whatever file it came from: counts that stay on disk, loss energies, size of a pixel.

A reader says what a file holds, its axes as they are stored (`StoredImage`). Which of them is the energy, which are rows,
columns and time is decided here, once for all formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.ranges import Range, check

# Of one unit of energy, eV.
ENERGY_UNITS = {"ev": 1.0, "kev": 1e3, "mev": 1e-3, "electronvolt": 1.0, "electron_volt": 1.0}
# Of one unit of time, s.
_TIME_UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_ENERGY_NAMES = re.compile(r"energy|e[ -]?loss|^e$", re.IGNORECASE)
_TIME_NAMES = re.compile(r"\btime\b|frame|stack", re.IGNORECASE)
# Fewer are no spectrum.
FEWEST_CHANNELS = 16
# Counts of a piece that is read at once.
PIECE = 8_000_000
# Rows of a sample, and its pixels.
SAMPLE_ROWS, SAMPLE = 8, 512


class Stored(Protocol):
    """What numpy's memory maps and h5py's datasets have in common."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, key: Any) -> Any: ...


class StoredAxis(NamedTuple):
    """One axis as it is stored: point i lies at offset + i * scale, in `unit`. name and unit: "" where the file says none.
    energies: (size,) where the file writes each point out."""

    name: str
    unit: str
    scale: float
    offset: float
    size: int
    energies: np.ndarray | None = None


@dataclass(frozen=True)
class StoredImage:
    """What a file holds, as it holds it. Counts are (stored - origin) * scale; axes in the order of the array."""

    stored: Stored
    axes: tuple[StoredAxis, ...]
    scale: float = 1.0
    origin: float = 0.0
    seconds: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    title: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageCalibration:
    """What the user knows better than the file."""

    energy_axis: Annotated[int | None, Range()] = None
    """Which stored axis is the energy, from 0, or from the end from -1."""
    offset: Annotated[float | None, Range()] = None
    """Energy of the first channel, eV."""
    step: Annotated[float | None, Range()] = None
    """Energy between two channels, eV."""
    pixel: Annotated[float | None, Range(above=0)] = None
    """Size of a pixel."""
    unit: str = "nm"
    """Unit of the size of a pixel."""
    seconds: Annotated[float | None, Range(above=0)] = None
    """Time of one pixel, s."""
    part: Annotated[int | None, Range(least=1)] = None
    """Which of several images of an HDF5 file, from 1, as a note lists them."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class SpectrumImage:
    """Counts (T, H, W, E) that are read piece by piece. A line has H = 1, a spectrum also W = 1, one image T = 1.

    energy: (E,) eV, ascending. pixel: size of a pixel down and across, in `unit`, None where nobody says it. seconds: of one
    pixel, or None. times: (T,) s or numbers of frames. facts: what is said of the instrument. notes: what was guessed, or put right.
    """

    stored: Stored
    # For each of T, H, W, E the stored axis, None where there is none.
    order: tuple[int | None, int | None, int | None, int]
    energy: np.ndarray
    descending: bool
    scale: float
    origin: float
    pixel: tuple[float, float] | None
    unit: str
    seconds: float | None
    times: np.ndarray
    title: str
    facts: dict[str, str]
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """T, H, W, E."""
        time, row, column, energy = (1 if axis is None else self.stored.shape[axis] for axis in self.order)
        return time, row, column, energy

    @property
    def nbytes(self) -> int:
        """Of the counts on disk."""
        return int(np.prod(self.shape, dtype=object)) * self.stored.dtype.itemsize

    def rows(self, time: int, start: int, stop: int) -> np.ndarray:
        """(rows, W, E) float32 counts of rows start to stop of one image of the series."""
        t, h, w, e = self.order
        key: list[Any] = [slice(None)] * len(self.stored.shape)
        if t is not None:
            key[t] = slice(time, time + 1)
        if h is not None:
            key[h] = slice(start, stop)
        piece = np.asarray(self.stored[tuple(key)])
        present = [axis for axis in (t, h, w, e) if axis is not None]
        # What is left has one point each.
        present += [axis for axis in range(piece.ndim) if axis not in present]
        piece = piece.transpose(present).reshape(1 if h is None else piece.shape[h], -1, len(self.energy))
        counts = np.ascontiguousarray(piece[..., ::-1] if self.descending else piece, np.float32)
        if (self.scale, self.origin) != (1.0, 0.0):
            # A damaged scale makes counts that are no numbers, which are left out as any.
            with np.errstate(over="ignore", invalid="ignore"):
                counts = (counts - np.float32(self.origin)) * np.float32(self.scale)
        return counts

    def sample(self) -> np.ndarray:
        """(N, E) counts of pixels from all over the image: what a detector is like is seen by a few."""
        times, height, *_ = self.shape
        places = np.unique(np.linspace(0, times * height - 1, SAMPLE_ROWS).astype(int)).tolist()
        rows = [self.rows(at // height, at % height, at % height + 1)[0] for at in places]
        return np.concatenate([row[:: max(1, len(row) * len(rows) // SAMPLE)] for row in rows])

    def pieces(self, largest: int = PIECE) -> Iterator[tuple[int, int, np.ndarray]]:
        """(time, first row, (rows, W, E) counts), of at most `largest` counts where a row has no more."""
        times, height, width, channels = self.shape
        rows = max(1, largest // (width * channels))
        for time in range(times):
            for start in range(0, height, rows):
                yield time, start, self.rows(time, start, min(start + rows, height))


def arranged(found: StoredImage, name: str, given: ImageCalibration) -> SpectrumImage:
    """Raises SpectrumError where no axis is one of energies, or where there are more than three others."""
    axes, notes = list(found.axes), list(found.notes)
    if any(axis.size == 0 for axis in axes):
        raise SpectrumError("empty", f"{name} holds an image of {_sizes(axes)} values")
    if found.stored.dtype.kind not in "iufb":
        raise SpectrumError("unreadable", f"{name}: its values are no real numbers but {found.stored.dtype}")
    energy_at = _energy_axis(axes, name, given, notes)
    energy = _energies(axes[energy_at], name, given, notes)
    descending = bool(energy[0] > energy[-1])
    if descending:
        energy = energy[::-1]
        notes.append("energies were stored from high to low; turned round")
    # An axis of one point is none.
    others = [i for i, axis in enumerate(axes) if i != energy_at and axis.size > 1]
    if energy_at != len(axes) - 1 and any(i > energy_at for i in others):
        notes.append(
            f"the energy was axis {energy_at + 1} of {len(axes)} as stored, not the last; put right by its unit"
        )
    time = next((i for i in others if _is_time(axes[i])), None)
    if time is None and len(others) == 3:
        time = others[0]
        notes.append("took the first axis for time: three others are no energy")
    places = [i for i in others if i != time]
    if len(places) > 2:
        raise SpectrumError("dimensions", f"{name}: {_sizes(axes)} are more than time, rows, columns and energies")
    row, column = (None, *places)[-2:] if places else (None, None)
    pixel, unit = _pixel(axes, row, column, given, notes)
    if found.origin or found.scale != 1.0:
        notes.append(f"counts are (stored - {found.origin:g}) * {found.scale:g}, as the file says")
    return SpectrumImage(
        found.stored,
        (time, row, column, energy_at),
        energy,
        descending,
        found.scale,
        found.origin,
        pixel,
        unit,
        given.seconds or found.seconds,
        _times(axes[time]) if time is not None else np.zeros(1),
        found.title,
        found.facts,
        tuple(notes),
    )


def _energy_axis(axes: list[StoredAxis], name: str, given: ImageCalibration, notes: list[str]) -> int:
    if given.energy_axis is not None:
        if not -len(axes) <= given.energy_axis < len(axes):
            raise SpectrumError("dimensions", f"{name} has {len(axes)} axes, --energy-axis is {given.energy_axis}")
        return given.energy_axis % len(axes)
    found = [i for i, axis in enumerate(axes) if _energy_unit(axis) and axis.size > 1]
    found += [i for i, axis in enumerate(axes) if is_energy(axis) and axis.size > 1]
    if found:
        return found[0]
    if given.step is not None:
        notes.append("no axis says that it is the energy; took the last one, --energy-axis overrules it")
        return len(axes) - 1
    units = ", ".join(f"{axis.size} ({axis.unit or axis.name or 'no unit'})" for axis in axes)
    raise SpectrumError(
        "no calibration",
        f"{name}: no axis is one of energies: {units}; say --offset and --step in eV, and --energy-axis",
    )


def _energies(axis: StoredAxis, name: str, given: ImageCalibration, notes: list[str]) -> np.ndarray:
    """(E,) eV as stored."""
    if axis.size < FEWEST_CHANNELS:
        raise SpectrumError(
            "channels", f"{name}: {axis.size} channels are no spectrum, {FEWEST_CHANNELS} are the fewest"
        )
    unit, said = _energy_unit(axis), given.step is not None
    if (
        not said
        and axis.energies is None
        and (axis.scale == 0 or ((axis.scale, axis.offset) == (1.0, 0.0) and not unit))
    ):
        raise SpectrumError("no calibration", f"{name}: its energies are not calibrated; say --offset and --step in eV")
    if not unit and not said:
        notes.append(f"the energies have no unit known here ({axis.unit!r}); read as eV")
    if axis.energies is not None and not said:
        energy = np.asarray(axis.energies, float) * (unit or 1.0)
    else:
        step = given.step if given.step is not None else axis.scale * (unit or 1.0)
        offset = axis.offset * (unit or 1.0) if given.offset is None else given.offset
        energy = offset + step * np.arange(axis.size)
    if axis.energies is not None and given.offset is not None and not said:
        energy = energy - energy[0] + given.offset
    steps = np.diff(energy)
    if not np.isfinite(energy).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise SpectrumError("no calibration", f"{name}: its energies do not rise or fall throughout")
    return energy


def _pixel(
    axes: list[StoredAxis], row: int | None, column: int | None, given: ImageCalibration, notes: list[str]
) -> tuple[tuple[float, float] | None, str]:
    if given.pixel is not None:
        return (given.pixel, given.pixel), given.unit
    own = [axes[i] for i in (row, column) if i is not None]
    units = {_length_unit(axis.unit) for axis in own if axis.unit}
    if not own or len(units) != 1 or any(axis.scale == 0 for axis in own):
        if own:
            notes.append("the size of a pixel is not known: no scale bar")
        return None, ""
    (unit,), down, across = units, abs(own[0].scale), abs(own[-1].scale)
    if unit == "μm" and across < 0.1:
        return (down * 1000, across * 1000), "nm"
    return (down, across), unit


def _times(axis: StoredAxis) -> np.ndarray:
    if axis.energies is not None:
        return np.asarray(axis.energies, float)
    return (axis.offset + axis.scale * np.arange(axis.size)) * _TIME_UNITS.get(axis.unit.lower(), 1.0)


def _is_time(axis: StoredAxis) -> bool:
    return axis.unit.lower() in _TIME_UNITS or bool(_TIME_NAMES.search(axis.name))


def is_energy(axis: StoredAxis) -> bool:
    """By its unit or its name."""
    return _energy_unit(axis) is not None or _ENERGY_NAMES.search(axis.name) is not None


def _energy_unit(axis: StoredAxis) -> float | None:
    # Milli and mega differ by the case of a letter; nobody measures losses of a megaelectronvolt.
    unit = axis.unit.strip().lower()
    within = re.search(r"\((\w+)\)$", unit)
    return ENERGY_UNITS.get(within[1] if within else unit)


def _length_unit(unit: str) -> str:
    unit = unit.strip().replace("µ", "μ")
    return {"um": "μm", "angstrom": "Å", "A": "Å", "nanometer": "nm", "nanometers": "nm"}.get(unit, unit)


def _sizes(axes: list[StoredAxis]) -> str:
    return " x ".join(str(axis.size) for axis in axes)
