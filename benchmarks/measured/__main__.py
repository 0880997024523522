"""Measured references of known chemistry, answered by a model: python -m benchmarks.measured EXPERIMENT [MODEL] [--write] [--normalise mback]

EXPERIMENT: the folder with xdi_library.tar.xz and the others. Prints what the model says of every compound as it was
measured, with its energies moved as references say (each by all others), and with a foil besides; which spread of shifts
is best; and the metals, sulfides and molecules. --write: the constants of the model into spt_jax/zoo/measured.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import spt_jax
from benchmarks.measured.compounds import DOUBTFUL, FOREIGN, KNOWN, Compound
from benchmarks.measured.files import Scan, nickel_series, scans
from benchmarks.measured.fit import CANDIDATES, SIGMAS, SPREADS, Curves, curves, fitted, left_out, tables
from data_pipelines.readers.measured import Measured
from data_pipelines.schema import descriptor
from data_pipelines.spectra.normalise import normalise
from spt_jax.inference.measured import CONSTANTS, Calibration, Scale, correct
from spt_jax.inference.predict import Model

NAMES = ("OS", "CN")


def shown(each: Curves, shift: float, sigma: float, foil: bool) -> tuple[str, dict[str, bool], float]:
    """What is said of a compound, which of it is right, and the probability of what is right of OS."""
    words, right, chance = [], {}, 0.0
    for name in NAMES:
        said = each.said(name, shift, sigma, foil)
        truth = each.right(name, said)
        best = int(np.argmax(said))
        right[name] = bool(truth[best])
        words.append(f"{descriptor(name).classes[best]:2d} {said[best]:4.2f}{' ' if right[name] else '*'}")
        if name == "OS":
            chance = float(said[truth].sum())
    return "  ".join(words), right, chance


def compared(known: Sequence[Curves], sigma: float) -> None:
    """The table of all compounds, and its totals."""
    ways = {
        "as measured": (dict.fromkeys([each.compound.name for each in known], 0.0), 0.0, False),
        "moved, left out": (left_out(known, False, sigma, 0.0), sigma, False),
        "with foil, left out": (left_out(known, True, sigma, 0.0), sigma, True),
    }
    print("OS and CN: answer, its probability, * where wrong; truth before them")
    print(f"{'':24}{'OS':>6}{'CN':>6}  " + "".join(f"{way:24}" for way in ways))
    totals, behind = ({way: np.zeros(3) for way in ways} for _ in range(2))
    for each in known:
        line = []
        for way, (shift, width, foil) in ways.items():
            words, right, chance = shown(each, shift[each.compound.name], width, foil)
            counts = np.array([right["OS"], right["CN"], -np.log(chance + 0.001)])
            totals[way] += counts
            behind[way] += counts * each.behind
            line.append(f"{words:24}")
        one = each.compound
        truth = [",".join(map(str, values)) for values in (one.oxidation, one.coordination)]
        print(f"{one.element} {one.name:21}{truth[0]:>6}{truth[1]:>6}  " + "".join(line))
    for what, sums, of in (
        ("all", totals, len(known)),
        ("foil behind the sample", behind, sum(each.behind for each in known)),
    ):
        for way, (os, cn, nll) in sums.items():
            print(f"{what}, {way:24} OS {os:.0f}, CN {cn:.0f} of {of}; NLL of OS {nll / max(of, 1):.2f}")


def choices(known: Sequence[Curves]) -> dict[bool, tuple[float, float]]:
    """Common shift and sigma, without and with a foil: the best log-likelihood of compounds left out. Prints all.

    A sigma of 0 is shown, never chosen: the foils of these files alone scatter by 1 eV.
    """
    best = {}
    for foil in (False, True):
        tried = {}
        for sigma in SIGMAS:
            for spread in SPREADS:
                shift = left_out(known, foil, sigma, spread)
                tried[sigma, spread] = np.mean([e.likelihood(shift[e.compound.name], sigma, foil) for e in known])
        print(
            f"\nmean log-likelihood, compounds left out{', foil used' if foil else ''}; rows sigma, columns spread of elements"
        )
        print("      " + "".join(f"{spread:8g}" for spread in SPREADS))
        for sigma in SIGMAS:
            print(f"{sigma:6g}" + "".join(f"{tried[sigma, spread]:8.3f}" for spread in SPREADS))
        sigma = max((s for s in SIGMAS if s), key=lambda s: tried[s, 0.0])
        table = tables(known, foil, sigma)
        shift, _ = fitted(known, table, 0.0)
        draws = [_drawn(table, seed) for seed in range(200)]
        print(f"common shift {shift:+.2f} eV (bootstrap over compounds {np.std(draws):.2f}), sigma {sigma:g} eV")
        for spread in SPREADS[1:]:
            print(f"elements, spread {spread:g}: {fitted(known, table, spread)[1]}")
        best[foil] = shift, sigma
    return best


def _drawn(table: dict[str, np.ndarray], seed: int) -> float:
    rows = np.array(list(table.values()))
    some = np.random.default_rng(seed).integers(len(rows), size=len(rows))
    return float(CANDIDATES[np.argmax(rows[some].sum(axis=0))])


def nickel(model: Model, experiment: Path, calibration: Calibration) -> None:
    """Mean oxidation state of Ni along the charge of NMC cathodes."""
    series = nickel_series(experiment)
    classes = np.array(list(descriptor("OS").classes))
    given = [(scan.name, correct(Measured(scan.energy, scan.mu, "Ni", "K"), calibration)) for _, _, scan in series]
    print("\nNi of NMC: mean of OS")
    pairs = []
    for (kind, voltage, _), each in zip(series, model.predict_each(given), strict=True):
        if each.error:
            print(f"{each.name:20} {each.error}")
            continue
        mean = float(classes @ np.array(list(each.values["OS"].probabilities.values())))
        print(f"{each.name:20} {mean:.2f}")
        if voltage is not None:
            pairs.append((kind, voltage, mean))
    for kind in sorted({kind for kind, *_ in pairs}):
        own = [(voltage, mean) for other, voltage, mean in pairs if other == kind]
        print(
            f"{kind}: Spearman of voltage and mean OS {spearmanr(*zip(*own, strict=True)).statistic:.2f} of {len(own)}"
        )


def changed(scan: Scan, until: float, bend: float) -> Scan:
    """A scan that ends so many eV above its edge, on a background that bends."""
    found = normalise(scan.energy, scan.mu)
    x = scan.energy - found.e0
    mu = scan.mu + bend * found.step * (x / 100) ** 2
    foil = None if scan.foil is None else scan.foil[x <= until]
    return scan._replace(energy=scan.energy[x <= until], mu=mu[x <= until], foil=foil)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("model", nargs="?", default="spt-k")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--normalise", choices=("edges", "mback"), default="edges")
    parser.add_argument("--until", type=float, default=np.inf, help="cut scans here, eV above the edge")
    parser.add_argument("--bend", type=float, default=0.0, help="add a parabola of so many edge steps at 100 eV")
    options = parser.parse_args()
    model = spt_jax.load(options.model)

    def told(one: Compound) -> Curves | None:
        given = [changed(scan, options.until, options.bend) for scan in scans(one, options.experiment)]
        return curves(model, one, given, options.normalise)

    found = [told(one) for one in KNOWN]
    known = [each for each in found if each]
    for one, each in zip(KNOWN, found, strict=True):
        if each is None:
            print(f"{one.name}: no scan can be used")
    best = choices(known)
    print()
    compared(known, best[False][1])
    for title, group in (("not counted", DOUBTFUL), ("metals, sulfides, molecules", FOREIGN)):
        print(f"\n{title}, moved")
        for one in group:
            each = told(one)
            words = shown(each, *best[False], False)[0].replace("*", " ") if each else "no scan can be used"
            print(f"{one.element} {one.name:21}{','.join(map(str, one.oxidation)):>6}  {words}  {one.source}")
    calibration = Calibration(Scale(*best[False]), Scale(*best[True]), {}, len(known))
    nickel(model, options.experiment, calibration)
    if options.write:
        write(options.model, calibration, known)


def write(name: str, calibration: Calibration, known: Sequence[Curves]) -> None:
    document = (
        json.loads(CONSTANTS.read_text(encoding="utf-8")) if CONSTANTS.exists() else {"default": name, "models": {}}
    )
    document["models"][name] = {
        "common": calibration.common,
        "with_foil": calibration.with_foil,
        "elements": calibration.elements,
        "references": calibration.references,
        "compounds": [f"{each.compound.element}: {each.compound.name}" for each in known],
        "sources": [
            "XASDataLibrary (XraySpectroscopy)",
            "xraylarch examples (MIT)",
            "charlesll/xanes-mayotte (CC BY 4.0)",
            "Lightshow, anatase (BSD-3-Clause)",
        ],
        "made_with": "python -m benchmarks.measured EXPERIMENT " + name + " --write",
    }
    CONSTANTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(CONSTANTS)


if __name__ == "__main__":
    main()
