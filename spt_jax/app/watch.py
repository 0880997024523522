"""A folder that fills during a measurement: every file in it is read when it comes, and again when it has grown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from data_pipelines.errors import UserError, line_of
from data_pipelines.files import files_in
from spt_jax.app.boards import Boards
from spt_jax.app.desk import Busy, Desk, pieces
from spt_jax.app.given import MOST_BYTES, Told, read_file
from spt_jax.inference.prediction import Prediction

# From one look to the next: an answer is to be there within a second.
PERIOD_SECONDS = 0.2


class Watch:
    """Reads what comes into `folder` from now on, and what lies there, oldest first; until `close`.

    Files whose names begin with a dot are left alone, and links that lead out of the folder. `trouble`: why the folder
    cannot be read now; "" while it can. Raises UserError where there is no such folder.
    """

    def __init__(self, folder: Path, desk: Desk, boards: Boards, told: Told):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder to watch")
        self.folder, self.trouble, self.files = folder, "", 0
        self._desk, self._boards, self._told = desk, boards, told
        self._seen: dict[str, tuple[int, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(PERIOD_SECONDS):
            try:
                changed = self._changed()
                self.trouble = ""
                for name in changed:
                    if self._over.is_set():
                        return
                    self._read(name)
            except Exception as error:  # whatever it is, the next look may find it mended
                self.trouble = f"{self.folder}: {getattr(error, 'strerror', None) or line_of(error)}"

    def _changed(self) -> list[str]:
        """Files that came or grew since the last look, oldest first."""
        files = files_in(self.folder)
        self.files = len(files)
        found = [(now[1], name) for name, now in files.items() if now[0] and self._seen.get(name) != now]
        self._seen |= {name: files[name] for _, name in found}
        return [name for _, name in sorted(found)]

    def _read(self, name: str) -> None:
        path = self.folder / name
        if path.stat().st_size > MOST_BYTES:
            spectra = [(name, UserError(f"{name} has more than the {MOST_BYTES:,} bytes that are taken"))]
        else:
            spectra = read_file(self._desk, path, self._told)
        said: list[Prediction] = []
        for piece in pieces(spectra):
            said += _patiently(lambda piece=piece: self._desk.ask(piece).result(), self._over)
        self._boards.watched(name, spectra, said)


def _patiently(ask: Callable[[], list[Prediction]], over: threading.Event) -> list[Prediction]:
    """Who watches a folder waits until others have been answered."""
    while True:
        try:
            return ask()
        except Busy:
            if over.wait(PERIOD_SECONDS):
                raise
