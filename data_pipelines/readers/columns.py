"""A table and what its header says -> (energy, mu), by the names of its columns or as the user says it.

Ion chambers become mu by a stated formula, ln(i0/itrans) or ifluor/i0, and of the channels that a file holds the one
with the largest edge step over noise is taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.beamlines import preset_of, recognised
from data_pipelines.readers.formula import evaluate, listing
from data_pipelines.readers.header import Stated
from data_pipelines.readers.measured import Channel, Measured, ReadAs
from data_pipelines.readers.names import line_of, role_of
from data_pipelines.readers.text import Table

# hc in eV Angstrom (CODATA 2018).
HC = 12398.419843
# Of two channels the second is taken where its edge step over noise is so much larger: the first is the better known.
MUCH_BETTER = 3.0
# A transmitted beam weaker than e^-4 is leakage and harmonics (absorption lengths of the edge step).
THICKEST = 4.0
HELP = 'say which with --columns "energy=1 mu=ln(2/3)", a column by its number or name'
ROLES = ("energy", "angle", "k", "chi", "mu", "i0", "itrans", "irefer", "ifluor")
_ALIASES = {
    "i1": "itrans",
    "it": "itrans",
    "i2": "irefer",
    "ir": "irefer",
    "iref": "irefer",
    "if": "ifluor",
    "e": "energy",
}


def measured(table: Table, says: Stated, read_as: ReadAs, name: str) -> Measured:
    """The spectrum in a table. Raises SpectrumError, with the columns named, where it is not clear which it is."""
    values, names = table.values, list(says.names)
    # A scan that was stopped leaves rows without a number in them.
    given, note = _given(read_as, table, names, values)
    notes = [*table.notes, *note]
    if "energy" not in given and "angle" not in given:
        given |= _energy_column(names, values, says, name)
    if "angle" in given:
        energy, how = _from_angle(evaluate(given["angle"], values, names), says.spacing, name)
        told = f"energy={given['angle']}"
        notes.append(how)
    else:
        energy, told = evaluate(given["energy"], values, names), f"energy={_named(given['energy'], names)}"
    if re.fullmatch(r"\d+", given.get("energy", "")) and says.units[int(given["energy"]) - 1].lower() == "kev":
        energy = energy * 1000
        notes.append("energies given in keV, read as eV")
    if "mu" in given:
        mu = evaluate(given["mu"], values, names)
        channel = read_as.channel or _channel_of(given["mu"])
        return Measured(energy, mu, columns=f"{told} mu={given['mu']}", channel=channel, notes=tuple(notes))
    element = read_as.element or says.element
    offered = _offered(given, says, element)
    behind = next((each for each in offered if each.channel == "reference"), None)
    if read_as.channel:
        offered = [each for each in offered if each.channel == read_as.channel]
    elif any(each.channel != "reference" for each in offered):
        offered = [each for each in offered if each.channel != "reference"]
    if not offered:
        wanted = f"no {read_as.channel} channel" if read_as.channel else "it is not clear which columns are mu"
        raise SpectrumError("columns", f"{name}: {wanted} in {listing(names)}; {HELP}")
    chosen, mu, why = _best(energy, offered, values, names)
    lines = sorted({symbol for each in names if (symbol := line_of(each))})
    several = f"fluorescence of {', '.join(lines)}" if not element and len(lines) > 1 else ""
    height, noise = edge_and_noise(energy, mu) if several else (1.0, 0.0)
    if several and height < 10 * noise:
        raise SpectrumError("columns", f"{name} holds {several}, and no edge in {chosen.channel}: --element says whose")
    if why:
        notes.append(why)
    if len(names) > 2:
        ready = any(names[column] == chosen.formula for column in says.normalised if column < len(names))
        notes.append(
            f"{chosen.channel or 'mu'} taken, {chosen.formula}{', divided by i0 in the file' if ready else ''}"
        )
    if several:
        notes.append(f"{several} not looked at: --element says whose")
    written = f"{told} mu={chosen.formula}"
    reference = (energy, evaluate(behind.formula, values, names)) if behind and behind != chosen else None
    return Measured(energy, mu, columns=written, channel=chosen.channel, notes=tuple(notes), reference=reference)


class _Offer(NamedTuple):
    channel: str
    formula: str


def _given(read_as: ReadAs, table: Table, names: list[str], values: np.ndarray) -> tuple[dict[str, str], list[str]]:
    """Roles and formulas that the user or a preset gives, and what is to be told of it."""
    if read_as.columns:
        return parse(read_as.columns), []
    preset = read_as.beamline or recognised(table.header)
    if not preset:
        return {}, []
    ways = preset_of(preset).columns
    for number, written in enumerate(ways):
        given = parse(written)
        try:
            for formula in given.values():
                evaluate(formula, values[:1], names)
        except SpectrumError:
            if read_as.beamline and number + 1 == len(ways):
                raise
            continue
        return given, [f"columns as of the beamline preset {preset}"]
    return {}, []


def parse(columns: str) -> dict[str, str]:
    """ "energy=1 mu=ln(i0/i1)" -> formula by role.

    >>> parse("energy=1 i0=2 i1=3")
    {'energy': '1', 'i0': '2', 'itrans': '3'}
    """
    parts = re.split(r"(?:^|[\s,;]+)([A-Za-z]\w*)\s*=\s*", columns.strip())
    given = {
        _ALIASES.get(role.lower(), role.lower()): text for role, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    if (
        parts[0].strip()
        or not given
        or set(given) - set(ROLES)
        or not all(given.values())
        or "=" in "".join(given.values())
    ):
        known = ", ".join(role for role in ROLES if role not in ("k", "chi"))
        raise SpectrumError("columns", f'{columns!r} is not as "energy=1 mu=ln(i0/i1)"; roles are {known}')
    return given


def _energy_column(names: list[str], values: np.ndarray, says: Stated, name: str) -> dict[str, str]:
    roles = [role_of(each) for each in names]
    if "energy" in roles:
        # What was reached, before what was asked for; the plain word before others.
        def rank(column: int) -> tuple[bool, bool, int]:
            small = names[column].lower()
            return (
                "request" in small or ":sp" in small,
                not re.fullmatch(r"(mono[ _])?energy.*|.*achieved.*", small),
                column,
            )

        columns = [column for column, role in enumerate(roles) if role == "energy"]
        varied = [column for column in columns if np.ptp(np.nan_to_num(values[:, column])) > 0] or columns
        return {"energy": str(min(varied, key=rank) + 1)}
    if "angle" in roles and (says.spacing or "k" not in roles):
        return {"angle": str(max(column for column, role in enumerate(roles) if role == "angle") + 1)}
    if "k" in roles:
        raise SpectrumError("chi(k)", f"{name} holds {listing(names)}: the oscillations over k, not mu over energy")
    if any(names) and len(names) > 2:
        raise SpectrumError("columns", f"{name}: no energy in {listing(names)}; {HELP}")
    if names[0] and not re.fullmatch(r"[xX1]|col\w*1?", names[0]) and says.units[0].lower() not in ("", "ev", "kev"):
        raise SpectrumError("columns", f"{name}: {names[0]} in {says.units[0]} is no energy; {HELP}")
    return {"energy": "1"}


def _from_angle(angle: np.ndarray, spacing: float | None, name: str) -> tuple[np.ndarray, str]:
    if spacing is None:
        raise SpectrumError("columns", f"{name} gives angles, and not the lattice spacing of the monochromator")
    with np.errstate(all="ignore"):
        energy = HC / (2 * spacing * np.sin(np.radians(angle)))
    return energy, f"energies computed from angles and the lattice spacing, {spacing:g} Å"


def _offered(given: dict[str, str], says: Stated, element: str | None) -> list[_Offer]:
    """The ways to mu that the columns offer, the surest first."""
    names = list(says.names)
    roles = [role_of(each) for each in names]
    own = {role: formula for role, formula in given.items() if role not in ("energy", "angle")}
    found: dict[str, list[int]] = defaultdict(list)
    for column, role in enumerate(roles):
        found[role].append(column)
    if not own and not found["mu"] and len(names) == 2:
        return [_Offer("", "2")]

    def one(role: str) -> str:
        # Who names some says it all.
        return own.get(role, "") if own or not found[role] else _quoted(names[found[role][0]])

    i0, trans, refer = one("i0"), one("itrans"), one("irefer")
    offers = [_Offer(_channel_of(names[c]), _quoted(names[c])) for c in found["mu"]] if not own else []
    if i0 and trans:
        offers.append(_Offer("transmission", f"ln({i0}/{trans})"))
    fluorescence = own.get("ifluor", "") if own else _summed(found["ifluor"], names, element)
    ready = fluorescence.strip("'") in {names[column] for column in says.normalised if column < len(names)}
    if fluorescence and (i0 or ready):
        offers.append(_Offer("fluorescence", fluorescence if ready else f"{fluorescence}/{i0}"))
    if refer:
        if re.match(r"'?x?mu", refer, re.IGNORECASE):
            offers.append(_Offer("reference", refer))
        elif trans:
            offers.append(_Offer("reference", f"ln({trans}/{refer})"))
    return offers


def _summed(columns: list[int], names: list[str], element: str | None) -> str:
    """Formula of the fluorescence in these columns: the elements of a detector summed, dead time corrected if it is."""
    lines = {column: symbol for column in columns if (symbol := line_of(names[column]))}
    wanted = {c for c, symbol in lines.items() if symbol == element}
    if wanted:
        columns = [column for column in columns if column in wanted]
    elif len(set(lines.values())) > 1:
        return ""
    groups: dict[str, list[int]] = defaultdict(list)
    for column in columns:
        groups[re.sub(r"\d+", "#", names[column].lower())].append(column)
    if not groups:
        return ""

    def rank(stem: str) -> tuple[bool, bool, int]:
        corrected = re.search(r"corr|dtc|_c$|_c\b|_dt\b", stem) is not None
        return corrected, re.search(r"sum|tot|avg|mean", stem) is not None, len(groups[stem])

    chosen = groups[max(groups, key=rank)]
    if len(chosen) == 1:
        return _quoted(names[chosen[0]])
    first, last = names[min(chosen, key=names.__getitem__)], names[max(chosen, key=names.__getitem__)]
    begin = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    alike = [column for column, each in enumerate(names) if each.lower().startswith(begin.lower())]
    return (
        f"{begin}*"
        if alike == chosen and _quoted(begin) == begin
        else "(" + "+".join(_quoted(names[c]) for c in chosen) + ")"
    )


def _best(
    energy: np.ndarray, offers: list[_Offer], values: np.ndarray, names: list[str]
) -> tuple[_Offer, np.ndarray, str]:
    """The first of the offers that none is much better than, its mu, and how they compare."""
    found = [evaluate(offer.formula, values, names) for offer in offers]
    if len(offers) == 1:
        return offers[0], found[0], ""
    quality, told = [], []
    channels = [offer.channel for offer in offers]
    for offer, mu in zip(offers, found, strict=True):
        height, noise = edge_and_noise(energy, mu)
        thick = offer.formula.startswith("ln(") and height > THICKEST
        known = np.isfinite(mu).mean() > 0.9
        quality.append(0.0 if thick else height / noise if known else -1.0)
        alone = channels.count(offer.channel) == 1
        told.append(f"{offer.channel if alone else offer.formula} {height / noise:.0f}")
        told[-1] += f" (too thick: {height:.1f} absorption lengths)" if thick else ""
    enough = min(max(quality), max(quality) / MUCH_BETTER)
    best = next(i for i, each in enumerate(quality) if each >= enough)
    return offers[best], found[best], f"edge step over noise: {', '.join(told)}"


def edge_and_noise(energy: np.ndarray, mu: np.ndarray) -> tuple[float, float]:
    """Height of the largest rise of (N,) mu, 0 where there is none, and the scatter of its points.

    The height is from the median below the steepest rise to that above it. The scatter is what a point is off the line
    through its neighbours, in the median, times 1.48/1.22 (of a normal distribution), on the worse side of the rise; a
    detector that stands still at its end for a tenth of the points shows no edge.
    """
    known = np.isfinite(energy) & np.isfinite(mu)
    order = np.argsort(energy[known], kind="stable")
    x, y = energy[known][order], mu[known][order]
    if len(x) < 20 or known.mean() < 0.9 or not np.ptp(y) > 0 or np.isclose(y, y.max(), 1e-9).mean() > 0.1:
        return 0.0, 1.0
    grid = np.linspace(x[0], x[-1], 201)
    smooth = np.convolve(np.interp(grid, x, y), np.ones(5) / 5, mode="valid")
    at = int(np.argmax(np.diff(smooth[2:-2]))) + 4
    below, above = smooth[max(at - 20, 0) : max(at - 4, 1)], smooth[at + 5 : at + 30]
    with np.errstate(all="ignore"):
        between = y[:-2] + (y[2:] - y[:-2]) * np.where(x[2:] > x[:-2], (x[1:-1] - x[:-2]) / (x[2:] - x[:-2]), 0.5)
    off = np.abs(y[1:-1] - between)
    upper = x[1:-1] > grid[min(at + 2, 200)]
    noise = max(float(np.median(off[side])) if side.sum() > 8 else 0.0 for side in (upper, ~upper))
    height = float(np.median(above) - np.median(below)) if len(above) else 0.0
    return max(0.0, height), 1.21 * noise + 1e-6 * float(np.ptp(y))


def _channel_of(formula: str) -> Channel | str:
    small = formula.lower()
    if re.search(r"mu_?t|trans|mu_?01", small):
        return "transmission"
    if re.search(r"mu_?f|fluo", small):
        return "fluorescence"
    if "ref" in small:
        return "reference"
    return "transmission" if re.search(r"\bln\(|\blog\(", small) else ""


def _quoted(name: str) -> str:
    """A name as a formula can hold it."""
    return name if re.fullmatch(r"[A-Za-z_][\w.:]*", name) else f"'{name}'"


def _named(formula: str, names: list[str]) -> str:
    if formula.isdigit() and 0 < int(formula) <= len(names) and names[int(formula) - 1]:
        return _quoted(names[int(formula) - 1])
    return formula
