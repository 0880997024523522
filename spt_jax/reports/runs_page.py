"""Runs on one page: where each stands, how each learnt, and what its time went into."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from data_pipelines.pages import html
from data_pipelines.pages.style import BLUE, GREY, INK, ORANGE
from spt_jax.reports import runs_figures as figures
from spt_jax.reports.runs_text import date, devices, notes, percent, row
from spt_jax.runs.differences import differing
from spt_jax.runs.goodput import PARTS, Attempt
from spt_jax.runs.history import RunHistory, lasting, short_names

HEADER = ("run", "epochs", "step", "loss", "score", "rate", "spectra/s", "goodput", "restarts", "spikes", "now")
LEARNING = (
    ("score", "Validation score", "mean of the main scores; below -0.1 not drawn"),
    ("learning_rate", "Learning rate", "mean of the epoch"),
    ("gradient_norm", "Gradient norm", "before it is clipped, mean of the epoch"),
    ("spectra_per_s", "Spectra a second", "while training steps are run"),
    ("noise_scale", "Gradient noise scale", "rows; batches up to about as many are worth more chips"),
)
TRIANGLE = f'<span class="key"><b style="color: {INK}">▼</b> spike</span>'
# Newest of attempts and of what was told that a page lists.
MOST = 50
# Hosts of an attempt that are named.
NAMED = 3


def runs_page(runs: Sequence[RunHistory], now: float, refresh: float = 0) -> str:
    """now: unix seconds. refresh: seconds after which a browser reads the page again, 0 for never."""
    names = short_names([run.place for run in runs])
    timed = [(run, name) for run, name in zip(runs, names, strict=True) if run.shares]
    sections = [("Runs", f"As of {date(now)}.", _standing(runs, names, now)), ("Learning", *_learning(runs))]
    if timed:
        # Colours are those of all runs: one without an account of its time keeps its own.
        sections.append(("Time", *_time(runs, names)))
        attempts = "".join(_attempts(run, name, now, len(runs) > 1) for run, name in timed)
        sections.append(("Attempts", f"The last {MOST} of each run; times are those of this machine's zone.", attempts))
    if len(runs) > 1:
        sections.append(("Settings", *_settings(runs, names)))
    legend = (
        html.legend(
            (
                escape(name) + ("" if figures.dash_of(i) == "solid" else f" ({figures.dash_of(i)})"),
                figures.colour_of(i),
            )
            for i, name in enumerate(names)
        )
        if len(runs) > 1
        else _tiles(runs[0], now)
    )
    title = f"Run {names[0]}" if len(runs) == 1 else f"{len(runs)} runs"
    return html.page(title, legend, sections, refresh)


def _tiles(run: RunHistory, now: float) -> str:
    epochs, step, loss, score, _, speed, share, restarts, spikes = row(run)
    return html.tiles(
        {
            "now": run.standing(now).word,
            "epochs": f"{epochs}<small>step {step}</small>",
            "loss": loss,
            "score": score,
            "spectra a second": speed,
            "goodput": share,
            "restarts": restarts,
            "loss spikes": spikes,
        }
    )


def _standing(runs: Sequence[RunHistory], names: Sequence[str], now: float) -> str:
    rows = [
        [f'<span class="id">{escape(name)}</span>', *row(run), run.standing(now).word]
        for run, name in zip(runs, names, strict=True)
    ]
    told = []
    for run, name in zip(runs, names, strict=True):
        lines = [escape(text) for text in (run.standing(now).told, *notes(run))]
        told.append("<br>".join([f"<b>{escape(name)}</b> {lines[0]}" if len(runs) > 1 else lines[0], *lines[1:]]))
    members = [
        [f'<span class="id">{escape(name)}</span>', member, "-" if score is None else f"{score:.3f}"]
        for run, name in zip(runs, names, strict=True)
        if run.log and "members" in run.log[-1]
        for member, score in run.scores.items()
    ]
    # Of one run the tiles say it all.
    standing = html.table(HEADER, rows) if len(runs) > 1 else ""
    return f"{standing}<p>{'<br>'.join(told)}</p>" + html.table(("ensemble", "member", "last score"), members)


def _learning(runs: Sequence[RunHistory]) -> tuple[str, str]:
    note = "Over epochs. A spike is a loss far above the median of the epochs before it that comes down again; what "
    note += "does not come down is drawn wide in red."
    if len(runs) == 1 and len(runs[0].attempts) > 1:
        note += " Grey lines: the run was begun again; pale red: steps that were done again."
    spikes = any(run.spikes for run in runs)
    drawn = [html.panel(figures.losses(runs), f"<b>Training loss</b> {TRIANGLE if spikes else ''}")]
    for name, title, about in LEARNING:
        if svg := figures.over_epochs(runs, name):
            drawn.append(html.panel(svg, f"<b>{title}</b> {about}"))
    return note, html.panels(drawn)


def _time(runs: Sequence[RunHistory], names: Sequence[str]) -> tuple[str, str]:
    note = (
        "Goodput is the share of the wall time that went into computing steps that were kept. The time after a run was "
    )
    note += "done, until it was asked for more epochs, is left out."
    bands = (("begun again, or done again", figures.AGAIN), ("nobody ran", figures.PAUSE))
    work = "at work, in its colour" if len(runs) > 1 else "at work"
    shown = [part for part in PARTS if any(run.shares.get(part) for run in runs)]
    alone = (("until then", BLUE), (f"of the {100 * figures.LATELY:.0f} % of the time before", ORANGE), *bands)
    goodput = html.panel(
        figures.goodput(runs), f"<b>Goodput</b> {html.legend(alone) if len(runs) == 1 else 'until then'}"
    )
    drawn = [
        html.panel(
            figures.timelines(runs, names),
            f"<b>Attempts</b> {work} {html.legend((('starting', GREY), *bands))} <span>a stroke where one begins</span>",
        ),
        html.panel(
            figures.parts(runs, names),
            f"<b>Where the time went</b> {html.legend((part, figures.PART_COLOUR[part]) for part in shown)}",
        ),
    ]
    if len(runs) == 1:
        whole = runs[0].spans[-1].end
        rows = [
            [part, _share(runs[0], part), lasting(runs[0].shares[part] * whole), f"<small>{PARTS[part]}</small>"]
            for part in shown
        ]
        table = html.table(("", "share", "time", ""), [*rows, ["wall time", "", lasting(whole), ""]])
        return note, f'<div class="beside">{goodput}<div>{table}</div></div>{html.panels(drawn)}'
    rows = [
        [escape(name), *(_share(run, part) for part in shown), lasting(run.spans[-1].end) if run.spans else "-"]
        for run, name in zip(runs, names, strict=True)
    ]
    meanings = "; ".join(f"<b>{part}</b> {PARTS[part]}" for part in shown)
    told = f'<p class="note">{meanings}.</p>'
    return note, html.panels([goodput, *drawn]) + html.table(["", *shown, "wall time"], rows) + told


def _share(run: RunHistory, part: str) -> str:
    return percent(run.shares.get(part)).replace(" ", "&nbsp;")


def _attempts(run: RunHistory, name: str, now: float, named: bool) -> str:
    rows: list[list[str | int]] = [
        [
            str(each.number),
            date(each.at).replace(" ", "&nbsp;"),
            each.begin,
            each.reached,
            each.repeated,
            escape(devices(each)),
            _hosts(each),
            escape(each.why) or (run.standing(now).word if each is run.attempts[-1] else "killed"),
        ]
        for each in run.attempts[-MOST:]
    ]
    told = "<br>".join(f"{date(line['at'])} {escape(line['text'])}" for line in run.told[-MOST:])
    header = ("", "began", "from step", "to", "done again", "on", "hosts", "ended")
    return (
        (f"<p><b>{escape(name)}</b></p>" if named else "")
        + html.table(header, rows)
        + (f"<p>{told}</p>" if told else "")
    )


def _hosts(attempt: Attempt) -> str:
    names = list(dict.fromkeys(attempt.said.get("hosts", ())))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return escape(", ".join(names[:NAMED])) + more


def _settings(runs: Sequence[RunHistory], names: Sequence[str]) -> tuple[str, str]:
    found = differing([run.config for run in runs])
    if not found:
        return "The settings of all are the same.", ""
    rows = [[setting, *map(escape, values)] for setting, values in found.items()]
    return "Those in which the runs differ.", html.table(["", *map(escape, names)], rows)
