"""A run folder: the names of what lies in it, whose it is, and its log.

RUN/config.json       what was asked for, with what, and every change of it since
RUN/train_log.jsonl   a line for each epoch
RUN/attempts.jsonl    what happened when: attempts.py
RUN/metrics.json      scores on a split
RUN/report.html       the page of reports/report.py
RUN/checkpoints, RUN/model   checkpoint.py
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields, is_dataclass

import jax

from data_pipelines.errors import RunError
from data_pipelines.files import write_atomic
from data_pipelines.places import Place, RemotePath
from spt_jax.config import Config
from spt_jax.runs.formats import execution_of_today
from spt_jax.scoring.names import MAIN_SCORE

CONFIG = "config.json"
LOG = "train_log.jsonl"
METRICS = "metrics.json"
REPORT = "report.html"
CHANGES = "changes"
# What says how long, not what: a run that is asked for more goes on.
LENGTH = ("train.epochs", "train.patience")


def defaults_of(kind: type) -> dict:
    """Of the settings of a dataclass that have any, as `asdict` has them."""
    found = {}
    for each in fields(kind):
        if each.default is not MISSING:
            found[each.name] = each.default
        elif each.default_factory is not MISSING:
            value = each.default_factory()
            found[each.name] = asdict(value) if is_dataclass(value) else value
    return found


def completed(found: dict, defaults: dict) -> dict:
    """With the defaults of what it lacks, also inside."""
    inside = {
        name: completed(found[name], own)
        for name, own in defaults.items()
        if isinstance(own, dict) and isinstance(found.get(name), dict)
    }
    return {**defaults, **found, **inside}


def claim(out: Place, config: Config, dataset: str, members: tuple[str, ...] = (), teacher: str = "") -> list[str]:
    """Make `out` the folder of this configuration, of one dataset by its fingerprint, of the members of an ensemble, and
    of a teacher by its fingerprint.

    A folder that is one already stays, if nothing that defines the run differs. How it is executed may change, and so
    may its length: the changes are recorded in the folder, and returned in words. Raises RunError for any other, and
    for a run whose best model was chosen by another score: what is the best so far could not be compared.
    """
    wanted = {**asdict(config), "dataset": {"fingerprint": dataset}, "main_score": MAIN_SCORE}
    wanted |= {"ensemble": {"members": members}} if members else {}
    wanted |= {"teacher": {"fingerprint": teacher}} if teacher else {}
    wanted = json.loads(json.dumps(wanted))
    if jax.process_index() > 0:
        return []
    path = out / CONFIG
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps({**wanted, CHANGES: []}, indent=1) + "\n")
        return []
    found = read_config(out)
    history = found.pop(CHANGES, [])
    # A setting that came after the folder was made had its default then.
    found["execution"] = execution_of_today(found.get("execution", {}))
    for part, own in (("objective", config.objective), ("model", config.model), ("execution", config.execution)):
        found[part] = completed(found.get(part, {}), json.loads(json.dumps(defaults_of(type(own)))))
    if found.get("main_score") != wanted["main_score"]:
        raise RunError(
            f"{out} holds a run whose best model an older version chose by macro-F1; it is chosen by weighted F1 now, so "
            "this run can be used but does not go on: choose another --out"
        )
    differing = {
        f"{part}.{name}": (found.get(part, {}).get(name), wanted.get(part, {}).get(name))
        for part in sorted(wanted.keys() | found.keys())
        for name in sorted(wanted.get(part, {}).keys() | found.get(part, {}).keys())
        if wanted.get(part, {}).get(name) != found.get(part, {}).get(name)
    }
    barred = [name for name in differing if not name.startswith("execution.") and name not in LENGTH]
    if barred:
        told = [f"{name} (other data, or other shares of them)" if "fingerprint" in name else name for name in barred]
        raise RunError(f"{out} holds a run with another {', '.join(told)}; choose another --out")
    if not differing:
        return []
    epoch = max((line["epoch"] for line in read_log(out)), default=0)
    if "train.epochs" in differing and config.train.epochs < epoch:
        raise RunError(f"{out} has been trained for {epoch} epochs; --train.epochs {config.train.epochs} is less")
    history.append({"after_epoch": epoch, "from": {name: was for name, (was, _) in differing.items()}})
    write_atomic(path, json.dumps({**wanted, CHANGES: history}, indent=1) + "\n")
    return [f"{name} was {was} and is {now}" for name, (was, now) in differing.items()]


def name_members(out: Place, members: tuple[str, ...]) -> None:
    """Make `out` answer with the runs of these names in it, as the folder of an ensemble does; of one, as this run."""
    write_atomic(out / CONFIG, json.dumps({"ensemble": {"members": members}}, indent=1) + "\n")


def members_of(out: Place) -> tuple[str, ...]:
    """Names of the runs in the folder that answer together; none in that of a single run. Raises as `read_config`."""
    return tuple(read_config(out).get("ensemble", {}).get("members", ()))


def read_config(out: Place) -> dict:
    """Raises RunError where it is missing or damaged."""
    path = out / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("not an object")
    except FileNotFoundError:
        raise RunError(f"{out}: no {CONFIG} here; not a run folder of `spt-jax train`") from None
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error})") from None
    return document


def read_log(out: Place) -> list[dict]:
    """The lines of the log, up to the first that is damaged: a kill in mid-write leaves half a line."""
    return read_whole_lines(out)[0]


def read_whole_lines(out: Place) -> tuple[list[dict], int]:
    """As `read_log`, and the number of the damaged line, from 1; 0 where there is none but half a line at the end."""
    path, lines = out / LOG, list[dict]()
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            line["epoch"] + 0
        except (ValueError, KeyError, TypeError):
            return lines, number if number < len(texts) else 0
        lines.append(line)
    return lines, 0


def rewind_log(out: Place, epoch: int) -> dict:
    """Drop log lines past the restored epoch, as they will be written again; returns the last one kept."""
    kept = [line for line in read_log(out) if line["epoch"] <= epoch]
    if jax.process_index() == 0:
        write_atomic(out / LOG, "".join(json.dumps(line) + "\n" for line in kept))
    return kept[-1] if kept else {}


def append_log(out: Place, line: dict) -> None:
    path, text = out / LOG, json.dumps(line) + "\n"
    if isinstance(path, RemotePath):  # an object is put as a whole; a log is short
        write_atomic(path, (path.read_text() if path.exists() else "") + text)
        return
    with open(path, "a", encoding="utf-8") as log:
        log.write(text)


def write_metrics(out: Place, metrics: dict) -> None:
    """What `evaluate` found, beside the model that it found it of."""
    write_atomic(out / METRICS, json.dumps(metrics, indent=1) + "\n")
