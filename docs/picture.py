"""Draw docs/model.svg: one real spectrum on its way through a trained model. Usage: python docs/picture.py RUN"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from data_pipelines.errors import RunError, UserError
from data_pipelines.files import write_atomic
from data_pipelines.library import EXAMPLE
from data_pipelines.pages.style import BLUE, GREY, ORANGE, RC, as_svg
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.schema import SYMBOLS
from spt_jax import load
from spt_jax.model.bands import band_strength, period
from spt_jax.model.folding import fold


@matplotlib.rc_context(RC)
def draw(run: Path) -> str:
    """The SVG of it. Settings of text count where it is written, hence here."""
    model, found = load(run), read_spectrum(EXAMPLE)
    if not (getattr(model.blueprint.model, "bands", 0) and hasattr(model.network, "band_input")):
        raise RunError(f"{run}: not the run folder of a network with bands, and the picture shows how they fold")
    absorber = model.absorber(found.element)
    mu = model.to_grid(found.energy, found.mu, absorber)
    energy = model.blueprint.grid.absolute(found.element)
    number = np.array([SYMBOLS.index(found.element)], np.int32)
    signal = np.asarray(model.network.band_input(jnp.asarray(mu[None]), jnp.asarray(number)))[0]
    chosen = model.outputs(mu[None], number)["bands"][0, 0]
    strength = np.asarray(band_strength(jnp.asarray(signal[:, None, None]), model.blueprint.model.highest_band))[0]

    figure = Figure(figsize=(10, 2.7), layout="constrained")
    spectrum, bands, folded, result = figure.subplots(1, 4, width_ratios=(1.3, 1, 1.1, 0.9))
    spectrum.plot(energy, mu, color=BLUE, label="mu")
    spectrum.plot(energy, signal / np.abs(signal).max(), color=ORANGE, linewidth=1, label="band input")
    spectrum.set(title=f"1. {absorber} spectrum", xlabel="energy (eV)")
    spectrum.legend(frameon=False, fontsize=8)
    frequencies = np.arange(1, len(strength) + 1)
    bands.bar(frequencies, strength, color=[ORANGE if f in chosen else GREY for f in frequencies])
    bands.set(title=f"2. its {len(chosen)} bands", xlabel="frequency", yticks=[])
    p = int(period(jnp.asarray(chosen[0]), len(mu)))
    grid = np.asarray(fold(jnp.asarray(signal[:, None, None]), p))[:, :, 0, 0]
    folded.imshow(grid, aspect="auto", cmap="RdBu_r", vmin=-np.abs(grid).max(), vmax=np.abs(grid).max())
    folded.set(
        title=f"3. folded at f = {chosen[0]}", xlabel=f"place in period of {p}", ylabel="row", yticks=range(len(grid))
    )
    result.axis("off")
    result.set_title("4. descriptors", loc="left")
    values = model.predict(found.energy, found.mu, found.element)
    said = [f"{v.value if v.probabilities else f'{v.value:.2f}'} {v.unit}".rstrip() for v in values.values()]
    # Two columns: SVG makes one space of many.
    result.text(0, 0.97, "\n".join(values), va="top", linespacing=1.5)
    result.text(0.4, 0.97, "\n".join(said), va="top", linespacing=1.5)
    return as_svg(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "model.svg")
    options = parser.parse_args(arguments)
    try:
        write_atomic(options.out, draw(options.run))
    except UserError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
