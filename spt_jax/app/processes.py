"""Several processes behind one address, each with a model of its own; this one watches over them and answers nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Self

from data_pipelines.errors import UserError
from spt_jax.app.listen import PATIENCE

# Not forked: what JAX or a C library has begun in this process is not to be begun twice.
SPAWN = get_context("spawn")


class Crew:
    """One process at each of the sockets, until Ctrl-C or SIGTERM: then what is in flight is answered.

    asked: to stop.
    """

    def __init__(self, sockets: Sequence[socket.socket], model: str, hosts: Sequence[str]) -> None:
        self.sockets, self.model, self.hosts = sockets, model, tuple(hosts)
        self.workers: list[BaseProcess] = []
        self.asked = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.join(PATIENCE + 5)
            worker.kill()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def begin(self, report: Callable[[str, int, int], None]) -> None:
        """Until all answer. Raises UserError where one cannot, with what it says."""
        pipes = [self._started(place) for place in range(len(self.sockets))]
        for done, pipe in enumerate(pipes):
            report("models", done, len(pipes))
            self._wait_until_ready(pipe)
        report("models", len(pipes), len(pipes))

    def watch(self, say: Callable[[str], None]) -> None:
        """Until it is asked to stop. say: is told, in a line, of one that ended and was replaced.

        Raises UserError where the new one cannot begin.
        """
        while not self.asked:
            connection.wait([worker.sentinel for worker in self.workers], 0.3)
            for place, worker in enumerate(self.workers):
                if not self.asked and not worker.is_alive():
                    status = worker.exitcode or 0
                    how = f"by signal {-status}" if status < 0 else f"with status {status}"
                    say(f"process {worker.pid} ended {how}; another takes its place")
                    self._wait_until_ready(self._started(place))

    def _stop(self, number: int, frame: object) -> None:
        self.asked = True

    _stop.meanwhile = "when what is in flight is answered"  # type: ignore[attr-defined]

    def _started(self, place: int) -> connection.Connection:
        """Begin the process at a socket; the pipe that it tells by when it answers, or why it does not."""
        here, there = SPAWN.Pipe(duplex=False)
        given = (self.sockets[place], self.model, self.hosts, there)
        worker = SPAWN.Process(target=_answer, args=given, name=f"spt-jax {place + 1}")
        # Between its start and its own handlers Ctrl-C of a terminal would end it with a traceback.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        worker.start()
        signal.signal(signal.SIGINT, before)
        there.close()
        self.workers[place : place + 1] = [worker]
        return here

    def _wait_until_ready(self, pipe: connection.Connection) -> None:
        while not pipe.poll(0.2):
            if self.asked:
                return
        try:
            why = pipe.recv()
        except EOFError:
            why = "" if self.asked else "a process ended before it answered"
        if why:
            raise UserError(why)


def _answer(own: socket.socket, model: str, hosts: Sequence[str], told: connection.Connection) -> None:
    """One of the processes."""
    try:
        from spt_jax.app.desk import Desk
        from spt_jax.app.listen import run
        from spt_jax.app.web import service

        app = service(Desk(model), hosts)
    except UserError as error:
        told.send(str(error))
        return
    told.send("")
    threading.Thread(target=_follow, daemon=True).start()
    run(app, own)


def _follow() -> None:
    """Without the process that watches over it this one ends too."""
    above = parent_process()
    if above:
        above.join()
    os.kill(os.getpid(), signal.SIGTERM)
