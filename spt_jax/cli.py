"""spt-jax: the command line. Each command is one class; errors that the user can mend are one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from data_pipelines.errors import UserError
from spt_jax.commands.ablate import Ablate
from spt_jax.commands.data_card import DataCard
from spt_jax.commands.datasets import Prepare, Verify
from spt_jax.commands.explain import Explain
from spt_jax.commands.feff import Feff
from spt_jax.commands.inference import Evaluate, Export, Predict
from spt_jax.commands.screen import errors
from spt_jax.commands.structures import Structures
from spt_jax.commands.study import Study
from spt_jax.commands.training import Ensemble, Quickstart, Train
from spt_jax.config import PRESETS

OVERVIEW = """\
spt-jax: from X-ray absorption spectra to local structure.

  spt-jax quickstart [--out DIR]                    train on the embedded library
  spt-jax structures SOURCE... --out STRUCTURES     structures, variants, their sites
  spt-jax feff STRUCTURES --feff-cmd FEFF           structures -> FEFF runs of every site
  spt-jax prepare SOURCE... --out DATASET           FEFF runs -> labelled dataset
  spt-jax data card DATASET [--html [FILE]]         what a dataset holds, or a page of it
  spt-jax data verify DATASET                       is it whole?
  spt-jax train PRESET --data DATASET --out RUN     train a model
  spt-jax ensemble PRESET --data DATASET --out DIR  experts, or several seeds, at once
  spt-jax evaluate RUN --data DATASET --split test  scores per descriptor
  spt-jax study DATASET --out DIR [--quick]         against trees and other networks
  spt-jax ablate DATASET --out DIR                  what each part of SPT is worth
  spt-jax explain RUN --data DATASET                which energies and bands it looks at
  spt-jax predict RUN FILE...                       descriptors of spectra
  spt-jax export RUN --out FILE                     the model in one file

Each explains itself with --help. Presets of train and ensemble:
"""

COMMANDS = {
    "quickstart": Quickstart,
    "structures": Structures,
    "feff": Feff,
    "prepare": Prepare,
    "data card": DataCard,
    "data verify": Verify,
    "train": Train,
    "ensemble": Ensemble,
    "evaluate": Evaluate,
    "study": Study,
    "ablate": Ablate,
    "explain": Explain,
    "predict": Predict,
    "export": Export,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Exit status: 0 done, 1 an error the user can mend, 2 wrong usage, 130 Ctrl-C."""
    try:
        command = _parse(list(sys.argv[1:] if argv is None else argv))
        if command is not None:
            command.run()
    except UserError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("stopped; run the same command again to go on where it was", 130)
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:
        # Orbax and TFDS wrap a full disk in errors of their own.
        if "No space left on device" not in str(error):
            raise
        _fail("No space left on device; free some and run the same command again", 1)


def _parse(argv: list[str]) -> Any:
    """The command with its arguments; None where help was asked for and given."""
    presets = "".join(f"  {name:6s} {make.__doc__}\n" for name, make in PRESETS.items())
    if not argv or argv[0] in ("-h", "--help"):
        print(OVERVIEW + presets, end="")
        return None
    if argv[0] == "--version":
        from spt_jax import __version__

        print(f"spt-jax {__version__}")
        return None
    if argv[0] == "data" and (len(argv) == 1 or argv[1] in ("-h", "--help")):
        about = {name: command.__doc__.split("\n")[0] for name, command in COMMANDS.items() if name.startswith("data ")}
        print("\n".join(f"spt-jax {name:12s} {line}" for name, line in about.items()))
        return None
    words = 2 if argv[0] == "data" else 1
    name, rest = " ".join(argv[:words]), argv[words:]
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}; commands: {', '.join(COMMANDS)}")
    prog, default = f"spt-jax {name}", {}
    if name in ("train", "ensemble"):
        if not rest or rest[0] in ("-h", "--help"):
            print(
                f"{prog} PRESET --data DATASET --out RUN [--model.FIELD ...] [--objective.FIELD ...]\n    [--train.FIELD ...] [--execution.FIELD ...]\n\n{presets}"
            )
            print(f"All fields with their defaults: {prog} PRESET --help")
            return None
        preset, *rest = rest
        if preset not in PRESETS:
            raise UserError(f"unknown preset {preset!r}; presets: {', '.join(PRESETS)}")
        config = PRESETS[preset]()
        prog, default = (
            f"{prog} {preset}",
            {
                "default": COMMANDS[name](
                    tyro.MISSING, tyro.MISSING, config.model, config.objective, config.train, config.execution
                )
            },
        )
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(COMMANDS[name], prog=prog, args=rest, **default)
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro frames its complaint under a title; one plain line is easier to read in a log.
        text = re.sub(r"╭─.*?─╮|[─│╰╯]+", " ", complaint.getvalue())
        _fail(" ".join(text.split()), 2)


def _fail(message: str, status: int) -> None:
    errors.print(f"spt-jax: error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)
