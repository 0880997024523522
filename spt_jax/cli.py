"""spt-jax: the command line. Each command is one class; errors that the user can mend are one line."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from data_pipelines.errors import DoubtError, UserError
from data_pipelines.ranges import Range, range_of
from spt_jax.commands.ablate import Ablate
from spt_jax.commands.compare import Compare
from spt_jax.commands.data_card import DataCard
from spt_jax.commands.datasets import Prepare, Verify
from spt_jax.commands.explain import Explain
from spt_jax.commands.export import Export
from spt_jax.commands.feff import Feff
from spt_jax.commands.finetune import Finetune
from spt_jax.commands.image import Image
from spt_jax.commands.image_data import PrepareImages
from spt_jax.commands.inference import Evaluate, Predict
from spt_jax.commands.pdf import Pdf
from spt_jax.commands.places_named import refuse_remote
from spt_jax.commands.runs import Runs
from spt_jax.commands.screen import STOPPED, answering, errors
from spt_jax.commands.series import Series
from spt_jax.commands.serve import App, Serve
from spt_jax.commands.structures import Structures
from spt_jax.commands.study import Study
from spt_jax.commands.training import Ensemble, Quickstart, Train
from spt_jax.commands.zoo import Models, Pack
from spt_jax.config import OBJECTIVES, LabelsConfig, ObjectiveConfig
from spt_jax.presets import ALL_PRESETS

COMMANDS = {
    "quickstart": Quickstart,
    "structures": Structures,
    "feff": Feff,
    "pdf": Pdf,
    "prepare": Prepare,
    "data card": DataCard,
    "data verify": Verify,
    "train": Train,
    "ensemble": Ensemble,
    "finetune": Finetune,
    "runs": Runs,
    "evaluate": Evaluate,
    "compare": Compare,
    "study": Study,
    "ablate": Ablate,
    "explain": Explain,
    "predict": Predict,
    "app": App,
    "serve": Serve,
    "series": Series,
    "image": Image,
    "image-data": PrepareImages,
    "export": Export,
    "models": Models,
    "pack": Pack,
}
WITH_PRESET = ("train", "ensemble")
[_POSITIONAL] = tyro.conf.Positional[int].__metadata__
HELP = ("-h", "--help")


class WrongUsage(UserError):
    """A command line that no command takes."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Exit status: 0 done, 1 an error the user can mend, 2 wrong usage, 3 answers with a warning, 130 Ctrl-C,
    143 SIGTERM."""
    try:
        command = _parse(list(sys.argv[1:] if argv is None else argv))
        if command is not None:
            refuse_remote(command)
            with answering():
                command.run()
    except WrongUsage as error:
        _fail(str(error), 2)
    except DoubtError as doubt:
        errors.print(f"spt-jax: warning: {doubt}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        sys.exit(3)
    except UserError as error:
        _fail(str(error), error.status)
    except KeyboardInterrupt as stop:
        # Training knows which signal it was: a scheduler's is told apart from the user's.
        _fail(STOPPED, 128 + getattr(stop, "signal", signal.SIGINT))
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        # Orbax and TFDS wrap a full disk in errors of their own.
        if "No space left on device" in str(error):
            _fail("No space left on device; free some and run the same command again", 1)
        if not isinstance(error, OSError):
            raise
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)


def _parse(argv: list[str]) -> Any:
    """The command with its arguments; None where help was asked for and given. Raises WrongUsage for wrong usage."""
    if not argv or argv[0] in HELP:
        print(_overview())
        return None
    if argv[0] == "--version":
        from spt_jax import __version__

        print(f"spt-jax {__version__}")
        return None
    words = 2 if argv[0] == "data" else 1
    name, rest = " ".join(argv[:words]), argv[words:]
    if name == "data" or name in [f"data {word}" for word in HELP]:
        print("\n\n".join(_about(name) for name in COMMANDS if name.startswith("data ")))
        return None
    if name not in COMMANDS:
        raise WrongUsage(_unknown("command", name, COMMANDS))
    if name not in WITH_PRESET:
        return _construct(COMMANDS[name], f"spt-jax {name}", rest)
    if not rest or rest[0] in HELP:
        print(f"{_about(name)}\n\nPresets:\n{_presets()}\n\nEvery field with its default: spt-jax {name} base --help")
        return None
    preset, *rest = rest
    if preset.startswith("-"):
        raise WrongUsage(f"no PRESET given; presets: {', '.join(ALL_PRESETS)}")
    if preset not in ALL_PRESETS:
        raise WrongUsage(_unknown("preset", preset, ALL_PRESETS))
    parts = vars(ALL_PRESETS[preset]())
    parts["objective"], rest = _objective(rest, parts["objective"])
    default = COMMANDS[name](data=tyro.MISSING, out=tyro.MISSING, **parts)
    return _construct(COMMANDS[name], f"spt-jax {name} {preset}", rest, default)


def _objective(arguments: list[str], own: ObjectiveConfig) -> tuple[ObjectiveConfig, list[str]]:
    """The settings of the objective that is named, else the preset's own, and the other arguments: the name decides which
    options there are."""
    for i, word in enumerate(arguments):
        option, has_name, name = word.partition("=")
        if option == "--objective":
            name = name if has_name else "".join(arguments[i + 1 : i + 2])
            if name not in OBJECTIVES:
                raise WrongUsage(_unknown("objective", name, OBJECTIVES))
            named = OBJECTIVES[name](own if isinstance(own, LabelsConfig) else LabelsConfig())
            settings = own if type(named) is type(own) else named
            return settings, arguments[:i] + arguments[i + (1 if has_name else 2) :]
    return own, arguments


def _construct(kind: type, prog: str, arguments: list[str], default: Any = tyro.MISSING_NONPROP) -> Any:
    """`kind` as the arguments say. Raises WrongUsage where they say nothing that it takes."""
    if set(HELP) & set(arguments):
        print(f"{_wrapped(kind.__doc__)}\n")  # tyro would leave it to the terminal, which breaks words
    frame = io.StringIO()
    try:
        with contextlib.redirect_stderr(frame):
            return tyro.cli(kind, prog=prog, description="", args=arguments, registry=RULES, default=default)
    except _Refused as refused:
        raise WrongUsage(f"{_as_written(str(refused), arguments)}; see {prog} --help") from None
    except SystemExit as stop:
        if not stop.code:
            raise
        raise WrongUsage(f"{_one_line(frame.getvalue())}; see {prog} --help") from None


class _Refused(Exception):
    """A UserError on its way through tyro, which draws a frame around every ValueError."""


RULES = ConstructorRegistry()
_asked: set[type] = set()


@RULES.struct_rule
def _settings(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass as tyro makes it, but its help is wrapped anew and says the ranges of numbers, and a UserError stays one."""
    if not is_dataclass(info.type) or info.type in _asked:
        return None
    _asked.add(info.type)  # so that tyro's own rule answers
    spec = ConstructorRegistry.get_struct_spec(info)
    _asked.remove(info.type)

    def instantiate(**values: Any) -> Any:
        try:
            return spec.instantiate(**values)
        except UserError as error:
            raise _Refused(*error.args) from None

    instantiate.__doc__ = info.type.__doc__
    return replace(spec, instantiate=instantiate, fields=tuple(map(_explained, spec.fields)))


def _explained(field: StructFieldSpec) -> StructFieldSpec:
    """tyro keeps the line breaks of the source in its help."""
    about = field.helptext() if callable(field.helptext) else field.helptext
    words, limits = (about or "").split(), range_of(field.type)
    if limits not in (None, Range()):
        words.append(f"[{limits}]")
    return replace(field, helptext=" ".join(words) or None)


def _as_written(message: str, arguments: list[str]) -> str:
    """The field that a message begins with, as the option that the user wrote."""
    field, _, rest = message.partition(" ")
    options = {word.split("=")[0] for word in arguments if word.startswith("--")}
    written = [option for option in options if option.strip("-").split(".")[-1].replace("-", "_") == field]
    return f"{written[0]} {rest}" if len(written) == 1 else message


def _one_line(frame: str) -> str:
    """The words in a frame that tyro drew: it has its complaints in no other form."""
    rows = [row.strip("│ ") for row in frame.splitlines()[1:-1]]
    text = " ".join(row for row in rows if row.strip("─"))
    return text.partition(" For full helptext")[0].rstrip(".")


def _overview() -> str:
    head = "spt-jax: from X-ray absorption spectra to local structure."
    commands = "\n".join(_about(name) for name in COMMANDS)
    return f"{head}\n\n{commands}\n\nEach explains itself with --help. Presets of train and ensemble:\n{_presets()}"


def _about(name: str) -> str:
    """What a command must be given, and the first paragraph about it."""
    words, kind = [f"spt-jax {name}"], COMMANDS[name]
    words += ["PRESET"] * (name in WITH_PRESET)
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = hints[field.name]
        if _POSITIONAL in getattr(hint, "__metadata__", ()):
            word = re.sub("(SOURCE|FILE|RUN)S", r"\1...", field.name.upper())
            words.append(word if field.default is MISSING else f"[{word}]")
        elif field.default is MISSING and field.default_factory is MISSING and not _is_group(hint):
            words.append(f"--{field.name} {field.name.upper()}")
    about, *_ = kind.__doc__.split("\n\n")
    return f"  {' '.join(words)}\n{_indented(about, 6, 6)}"


def _is_group(hint: Any) -> bool:
    """A dataclass of settings, or one of several, as presets give them."""
    hint = getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint
    return all(map(is_dataclass, get_args(hint) or (hint,)))


def _presets() -> str:
    return "\n".join(_indented(f"{name}: {make.__doc__}", 2, 6) for name, make in ALL_PRESETS.items())


def _wrapped(docstring: str) -> str:
    """In 80 columns; what is indented stays as it is."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if text.startswith(" ") else textwrap.fill(text, 80) for text in paragraphs)


def _indented(text: str, first: int, more: int) -> str:
    return textwrap.fill(" ".join(text.split()), 80, initial_indent=" " * first, subsequent_indent=" " * more)


def _unknown(what: str, given: str, known: Iterable[str]) -> str:
    close = get_close_matches(given, known, 1)
    return f"unknown {what} {given!r}{f', did you mean {close[0]}?' if close else ''}; {what}s: {', '.join(known)}"


def _fail(message: str, status: int) -> None:
    errors.print(f"spt-jax: error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)
