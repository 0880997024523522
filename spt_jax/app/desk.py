"""One model behind a queue: what waits is answered together, by one program for batches of one size.

Nobody waits for a batch to fill: whoever comes while one is computed is in the next.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.readers.measured import Measured
from spt_jax.inference.measured import LIKELY, Calibration, Corrected
from spt_jax.inference.predict import CHUNK, FEW, load
from spt_jax.inference.prediction import Prediction
from spt_jax.runs.packed import read_card, unscored
from spt_jax.zoo.shelf import SUFFIX, place_of

if TYPE_CHECKING:  # an exported file is served where flax is missing
    from spt_jax.explain.one import Attributed, Looking

Named = tuple[str, Measured | Corrected | UserError]

# Questions that may wait: some seconds of work for a CPU.
MOST_WAITING = 1_000
MOST_LOOKS = 20


class Busy(UserError):
    """More is asked than the model answers; ask again in a moment."""


@dataclass
class _Question:
    spectra: Sequence[Named]
    answer: Future[list[Prediction]] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        return sum(map(_rows, self.spectra))


class Desk:
    """A model of `load`, compiled, with the calibration of measured spectra. `ask` from any thread; `close` at the end.

    Raises CheckpointError where there is no such model.
    """

    def __init__(self, name: str = ""):
        place = place_of(name)
        self.model = load(name)
        if signals := self.model.blueprint.grid.signals:
            raise UserError(
                f"{name} reads {', '.join(signals)} of one sample; ask it by `spt-jax predict {name} FILES`"
            )
        self.calibration = Calibration.of(name)
        self.card: dict[str, Any] = read_card(place) if place.suffix == SUFFIX else {}
        self.name = self.card.get("name") or place.name
        for size in (FEW, CHUNK):
            self.model.compiled(size)
        self._waiting: queue.Queue[_Question | None] = queue.Queue(MOST_WAITING)
        self._worker = threading.Thread(target=self._work, name="model", daemon=True)
        self._worker.start()
        # By itself: nobody's answer waits while it compiles.
        self._eyes = ThreadPoolExecutor(1, "looks")
        self._looks = threading.BoundedSemaphore(MOST_LOOKS)
        self._looking: Looking | None = None

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return self._waiting.qsize()

    def unmeasured(self, absorber: str) -> str:
        """A sentence where nobody knows how good answers for this absorber are; "" where the card has scores."""
        return unscored(self.card, absorber) if self.card else ""

    def ask(self, spectra: Sequence[Named]) -> Future[list[Prediction]]:
        """A Prediction for each, in order, as of `Model.predict_each`. Raises Busy where too many wait already."""
        question = _Question(spectra)
        try:
            self._waiting.put_nowait(question)
        except queue.Full:
            raise Busy("busy: more is asked than this model answers; ask again in a moment") from None
        return question.answer

    def look(self, row: np.ndarray, said: Prediction, descriptor: str) -> Future[Attributed]:
        """What of a (L,) spectrum on the grid made an answer. The first takes seconds, for it compiles.

        Raises Busy where too many wait; the future RunError where the model shows no gradients.
        """
        if not self._looks.acquire(blocking=False):
            raise Busy("busy: too many ask where the network looked; ask again in a moment")
        found = self._eyes.submit(self._look, row, said, descriptor)
        found.add_done_callback(lambda _: self._looks.release())
        return found

    def _look(self, row: np.ndarray, said: Prediction, descriptor: str) -> Attributed:
        from spt_jax.explain.one import Looking

        self._looking = self._looking or Looking(self.model)
        return self._looking.at(row, said.absorber, descriptor, said.values[descriptor])

    def close(self) -> None:
        """Answers what waits, and ends."""
        self._eyes.shutdown(cancel_futures=True)
        self._waiting.put(None)
        self._worker.join()

    def _work(self) -> None:
        while first := self._waiting.get():
            batch, rows = [first], first.rows
            while rows < CHUNK:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
                rows += following.rows
            try:
                self._answer(batch)
            except Exception:
                # One of them may have been the cause, and the others are not to suffer.
                for each in batch:
                    try:
                        self._answer([each])
                    except Exception as error:
                        each.answer.set_exception(error)

    def _answer(self, batch: Sequence[_Question]) -> None:
        spectra = [spectrum for question in batch for spectrum in question.spectra]
        found = self.model.predict_each(spectra)
        for question in batch:
            own, found = found[: len(question.spectra)], found[len(question.spectra) :]
            question.answer.set_result(own)


def pieces(spectra: Sequence[Named]) -> Iterator[list[Named]]:
    """The same, a batch at a time: who asks for one after the other does not keep others waiting."""
    piece: list[Named] = []
    for spectrum in spectra:
        if piece and sum(map(_rows, piece)) + _rows(spectrum) > CHUNK:
            yield piece
            piece = []
        piece.append(spectrum)
    if piece:
        yield piece


def _rows(spectrum: Named) -> int:
    """What it takes of a batch: one that was measured is answered at several energies."""
    return LIKELY if isinstance(spectrum[1], Corrected) else 1
