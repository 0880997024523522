"""Runs while they train and after, for a terminal of 80 columns: a row for each, then one by itself or what differs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from spt_jax.runs.attempts import ATTEMPTS
from spt_jax.runs.differences import differing
from spt_jax.runs.folder import LOG
from spt_jax.runs.goodput import PARTS, Attempt
from spt_jax.runs.history import RunHistory, lasting, short_names
from spt_jax.runs.loss_spikes import LossSpike

# Columns of a line, of the name of a run, and of a bar of the whole.
WIDE, NAME, BAR = 80, 12, 16
# The newest of attempts, of what was told and of spikes that are listed.
MOST = 8
NONE = "-"


def overview(runs: Sequence[RunHistory], now: float) -> Group:
    """now: unix seconds."""
    names = short_names([run.place for run in runs])
    parts: list[RenderableType] = [_table(runs, names, now)]
    for run, name in zip(runs, names, strict=True):
        about = [run.standing(now).told, *notes(run)]
        parts += [Text(f"{name}: {text}" if len(runs) > 1 else text) for text in about]
    if len(runs) == 1:
        return Group(*parts, *_alone(runs[0], now))
    return Group(*parts, *_side_by_side(runs, names))


def notes(run: RunHistory) -> list[str]:
    """What a user should see of a run besides its numbers, each in a sentence."""
    found = [spike_told(spike) for spike in run.spikes[-MOST:]]
    if earlier := len(run.spikes) - MOST if len(run.spikes) > MOST else 0:
        found.insert(0, f"{earlier} loss spike{'s' * (earlier > 1)} before epoch {run.spikes[-MOST].first}")
    if skipped := run.counted("skipped"):
        batches = "batch was" if skipped == 1 else "batches were"
        found.append(f"{skipped} {batches} left out, as loss or gradient was not finite: skipped.jsonl")
    if again := run.counted("asked_again"):
        found.append(f"a disk or store that failed was asked again: {again} times")
    if run.damaged:
        found.append(f"{LOG}: line {run.damaged} is damaged; what stands before it is shown")
    if not run.lines:
        found.append(f"no {ATTEMPTS}, as of older versions: how its time was spent is not known")
    if run.noise_scale:
        found.append(noise_told(run))
    return found


def spike_told(spike: LossSpike) -> str:
    lasted = f", epochs {spike.first} to {spike.last}" if spike.last > spike.first else ""
    where = f"epoch {spike.epoch} (step {spike.step:,}){lasted}"
    height = f"{spike.loss:.3g}, before it {spike.usual:.3g}"
    if spike.kind == "divergence":
        return f"loss diverged: {height}, and not down again; worst in {where}"
    return f"loss {'spike' if spike.kind == 'spike' else 'is high at the end'}: {height}; {where}"


def noise_told(run: RunHistory) -> str:
    """What the gradient noise scale means for the size of batches."""
    batch = run.config["train"].get("batch_size")
    told = f" (its batches have {batch:,})" if batch else ""
    about = f"{float(f'{run.noise_scale:.2g}'):,.0f}"
    return (
        f"gradient noise scale about {about} rows{told}: batches up to about that many rows are worth more chips, larger "
        "ones learn little more a step"
    )


def percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.0f} %" if share == 0 or share >= 0.1 else f"{100 * share:.1f} %"


def _table(runs: Sequence[RunHistory], names: Sequence[str], now: float) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=0)
    table.add_column("run", vertical="bottom", no_wrap=True)
    heads = ("epochs", "step", "loss", "score", "rate", "spec-\ntra/s", "good-\nput", "re-\nstarts", "spikes")
    for head in heads:
        table.add_column(head, justify="right", vertical="bottom", no_wrap=True)
    table.add_column("now", vertical="bottom", no_wrap=True)
    for run, name in zip(runs, names, strict=True):
        table.add_row(name if len(name) <= NAME else f"…{name[1 - NAME :]}", *row(run), run.standing(now).word)
    return table


def row(run: RunHistory) -> list[str]:
    """Epochs, step, loss, score, learning rate, spectra a second, goodput, restarts, spikes."""
    last = run.log[-1] if run.log else {}
    epochs = f"{last['epoch']}/{last.get('epochs', '?')}" if last else NONE
    score = f"{run.score:.3f}" if run.score is not None else NONE
    rate, speed = last.get("learning_rate"), last.get("spectra_per_s")
    diverged = "!" * any(spike.kind == "divergence" for spike in run.spikes)
    return [
        epochs,
        short(last["step"]) if last else NONE,
        f"{last['loss']:.3g}" if last else NONE,
        score,
        NONE if rate is None else f"{rate:.0e}".replace("e-0", "e-"),
        NONE if speed is None else short(speed),
        percent(run.goodput),
        f"{len(run.attempts) - 1}" if run.attempts else NONE,
        f"{len(run.spikes)}{diverged}" if run.log else NONE,
    ]


def short(count: float) -> str:
    """In five characters.

    >>> [short(each) for each in (812.4, 9544.5, 123_456, 4_500_000)]
    ['812', '9,544', '123k', '4.5M']
    """
    if count < 10_000:
        return f"{int(count):,}"
    return f"{count / 1e3:.0f}k" if count < 1e6 else f"{count / 1e6:.1f}M" if count < 1e8 else f"{count / 1e6:.0f}M"


def _alone(run: RunHistory, now: float) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if "members" in (run.log[-1] if run.log else {}):
        parts.append(_scores("Members, last validation", run.scores))
    elif run.scores:
        parts.append(_scores("Last validation", run.scores))
    if run.shares:
        parts.append(_shares(run))
    if run.attempts:
        parts.append(_attempts(run.attempts, run.standing(now).word))
    if run.told:
        lines = [f"  {date(line['at'])}  {line['text']}" for line in run.told[-MOST:]]
        more = f", the last {MOST} of {len(run.told)}" if len(run.told) > MOST else ""
        parts.append(Text("\n".join([f"\nTold on the way{more}:", *lines])))
    return parts


def _scores(title: str, scores: dict) -> Text:
    return Text(
        packed(f"{title}:", [f"{name} {NONE if each is None else f'{each:.3f}'}" for name, each in scores.items()])
    )


def packed(first: str, items: Sequence[str]) -> str:
    """As many to a line as it has room for, and none broken in two."""
    lines = [first]
    for item in items:
        if len(lines[-1]) + 2 + len(item) > WIDE:
            lines.append(" ")
        lines[-1] += f"  {item}"
    return "\n".join(lines)


def _shares(run: RunHistory) -> Table:
    whole = run.spans[-1].end
    title = f"Wall time {lasting(whole)}, goodput {percent(run.goodput)}"
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for column, side in (("", "left"), ("share", "right"), ("time", "right"), ("", "left"), ("", "left")):
        table.add_column(column, justify="right" if side == "right" else "left")
    for part, share in run.shares.items():
        if share:
            table.add_row(part, percent(share), lasting(share * whole), "█" * round(BAR * share), PARTS[part])
    return table


def _attempts(attempts: Sequence[Attempt], word: str) -> Table:
    """word: of the last, where it has not ended."""
    more = f", the last {MOST} of {len(attempts)}" if len(attempts) > MOST else ""
    again = sum(each.repeated for each in attempts)
    title = f"Attempts{more}; {again:,} steps done again"
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for column in ("", "began", "from step", "to", "again", "on", "ended"):
        table.add_column(column, justify="right" if column in ("from step", "to", "again") else "left")
    for each in attempts[-MOST:]:
        steps = (f"{count:,}" for count in (each.begin, each.reached, each.repeated))
        table.add_row(
            str(each.number),
            date(each.at),
            *steps,
            devices(each),
            each.why or (word if each is attempts[-1] else "killed"),
        )
    return table


def devices(attempt: Attempt) -> str:
    """On what an attempt ran."""
    said = attempt.said
    if not said:
        return NONE
    counts = {"processes": said.get("processes", 1), "hosts": len(set(said.get("hosts", ())))}
    words = [f"{count} {name}" for name, count in counts.items() if count > 1]
    # One process a host is the rule.
    several = words[-1:] if counts["processes"] == counts["hosts"] else words
    return ", ".join([f"{said.get('devices', 1)} x {said.get('device', 'device')}", *several])


def date(at: float) -> str:
    """Local time."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")


def _side_by_side(runs: Sequence[RunHistory], names: Sequence[str]) -> list[RenderableType]:
    found = differing([run.config for run in runs])
    if not found:
        return [Text("\nThe settings of all are the same.")]
    lines = ["\nSettings that differ:"]
    for setting, values in found.items():
        told = []
        for value in dict.fromkeys(values):
            own = [name for name, each in zip(names, values, strict=True) if each == value]
            told.append(f"{value} ({', '.join(own)})")
        lines.append(packed(f"  {setting}", told))
    return [Text("\n".join(lines))]
