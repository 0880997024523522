"""A trained model as one file to take away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.places_named import Named
from spt_jax.commands.screen import Bars


@dataclass(frozen=True)
class Export:
    """Put a trained model into one file, for use on another machine, at a beamline or in another program.

    It holds the network with its weights as StableHLO (jax.export; CPU, CUDA and TPU, any batch size) and all that
    `spt-jax predict FILE xmu.dat` and `spt_jax.load("FILE")` need: they then work without flax, orbax and the run.

    With --compiled-batch also programs compiled ahead of time, for one kind of device and one version of jax: with
    `spt-jax predict --compiled` a process that finds one answers without compiling, any other compiles and says so.
    They are machine code, and only those who would run your programs should use them; the file serves all others too.

      spt-jax export run --out model.spt --compiled-batch 1 64
      spt-jax export run --out model.spt --compiled-batch 4096 --chip h200
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Run folder made by `spt-jax train`, folder of `spt-jax ensemble`, file of `spt-jax pack`, or a name of `spt-jax
    models`."""
    out: Named
    """File to write, for instance model.spt."""
    compiled_batch: Annotated[tuple[int, ...], Range(least=1), tyro.conf.arg(metavar="B...")] = ()
    """Sizes of batches to compile ahead of time: 1 is what one spectrum asks for, 64 what several do."""
    chip: Annotated[str, tyro.conf.arg(metavar="CHIP")] = ""
    """Chip they are compiled for, which need not be here: v5e, v5p, v6e, h100, h200; this machine where not given."""
    source: Annotated[str | None, tyro.conf.arg(metavar="VERSION|average|unknown")] = None
    """As of `spt-jax predict`; the file answers for this one source."""

    def __post_init__(self) -> None:
        check(self)
        if self.chip and not self.compiled_batch:
            raise UserError("--chip says for which chip; say for which batches with --compiled-batch 1 64")

    def run(self) -> None:
        import jax

        from spt_jax.inference.predict import load
        from spt_jax.runs.ahead import compile_ahead
        from spt_jax.runs.export import export
        from spt_jax.runs.targets import device_of

        if self.out.is_dir():
            raise UserError(f"{self.out} is a folder; name a file, for instance --out {self.out / 'model.spt'}")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        device = device_of(self.chip) if self.chip else None
        model = load(self.model, source=self.source)
        with Bars() as report:
            sizes, programs = dict.fromkeys(self.compiled_batch), []
            for number, size in enumerate(sizes):
                report("compiling", number, len(sizes))
                place = device or jax.devices()[0]
                programs.append(compile_ahead(model.network, size, model.blueprint.grid.length, place))
        export(model.blueprint, model.network, self.out, programs=programs, domain=model.domain)
        print(f"{self.out}: {self.out.stat().st_size / 1e6:.1f} MB")
        print(f"Next: spt-jax predict {self.out} xmu.dat")
