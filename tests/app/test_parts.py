"""The parts that need no program that runs: the queue, the boards, the stop."""

import asyncio
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.errors import SpectrumError, UserError
from data_pipelines.readers.measured import Measured
from data_pipelines.schema import EnergyGrid
from data_pipelines.structures.cluster import Cluster, Clusters
from spt_jax.app import boards, desk, shown
from spt_jax.app.boards import Boards, OnBoard
from spt_jax.app.desk import Busy, Desk, pieces
from spt_jax.app.guard import Guard
from spt_jax.app.listen import Server, listening
from spt_jax.inference.measured import Corrected
from spt_jax.inference.prediction import Prediction, Value
from spt_jax.scoring.domain import Neighbour

SPECTRUM = Measured(np.arange(9.0), np.arange(9.0), "Fe", "K")


class Slow:
    """A model that says the name of each spectrum, and notes how many it was asked at a time."""

    blueprint = SimpleNamespace(grid=EnergyGrid())

    def __init__(self):
        self.asked, self.go = [], threading.Event()

    def compiled(self, size):
        self.size = size

    def predict_each(self, spectra):
        self.go.wait(10)
        self.asked.append([name for name, _ in spectra])
        if any(name == "bad" for name, _ in spectra):
            raise ZeroDivisionError
        return [Prediction(name) for name, _ in spectra]


@pytest.fixture
def slow(monkeypatch):
    model = Slow()
    monkeypatch.setattr(desk, "load", lambda name: model)
    own = Desk("spt-k")
    yield own, model
    model.go.set()
    own.close()


def test_what_waits_is_answered_together_and_in_order(slow):
    own, model = slow
    first = own.ask([("0", SPECTRUM)])
    while own.waiting:
        time.sleep(0.001)
    asked = [own.ask([(f"{i}", SPECTRUM)]) for i in range(1, 100)]
    model.go.set()
    assert [each.result(10)[0].name for each in (first, *asked)] == [f"{i}" for i in range(100)]
    assert list(map(len, model.asked)) == [1, model.size, 99 - model.size]


def test_one_that_breaks_the_model_takes_no_other_with_it(slow):
    own, model = slow
    asked = {name: own.ask([(name, SPECTRUM)]) for name in ("a", "bad", "b")}
    model.go.set()
    assert [asked[name].result(10)[0].name for name in "ab"] == ["a", "b"]
    with pytest.raises(ZeroDivisionError):
        asked["bad"].result(10)


def test_a_full_queue_says_so(slow, monkeypatch):
    own, _ = slow
    with pytest.raises(Busy, match="in a moment"):
        for _ in range(desk.MOST_WAITING + 70):
            own.ask([("a", SPECTRUM)])


def test_pieces_fill_one_batch():
    many = [("a", Corrected(SPECTRUM, 0.5, ()))] * 20 + [("b", SPECTRUM)] * 100 + [("c", SpectrumError("x", "y"))]
    assert [name for piece in pieces(many) for name, _ in piece] == [name for name, _ in many]
    assert [len(piece) for piece in pieces(many)] == [9, 9, 2 + 64 - 14, 100 - 50 + 1]


def test_warnings_and_neighbours_are_shown_where_there_are_any(slow):
    own, model = slow
    model.decisions = SimpleNamespace(coverage=0.9)
    around = Cluster(np.array([8, 26]), np.array([[2.1, 0, 0], [0, 0, -3.0]]))
    model.domain = SimpleNamespace(spectrum=lambda row: np.full(3, 0.1 * row), clusters=Clusters.of([None, around]))
    nearest = Neighbour("FeO mp-1", 0.5, 1), Neighbour("of no structure", 0.6, 0)
    said = Prediction("a", "Fe K", {}, warnings=("unlike anything",), nearest=nearest)
    found = shown.whole(own, OnBoard(1, 1, said, None))
    assert found["warnings"][0] == "unlike anything" and "how good it is there" in found["warnings"][1]
    first, second = found["nearest"]
    assert (first["material"], first["distance"], first["mu"]) == ("FeO mp-1", 0.5, [0.1] * 3)
    assert [each[0] for each in first["atoms"]] == ["O", "Fe"] and first["atoms"][0][1] == pytest.approx(2.1, abs=0.021)
    assert second["atoms"] is None and len(second["mu"]) == 3
    assert found["warned"] and not shown.row(OnBoard(2, 2, Prediction("b"), None))["warned"]


def test_what_shows_no_gradients_says_so_in_a_line_and_a_crowd_is_told_to_wait(slow, monkeypatch):
    own, model = slow
    model.parts, model.network = (), lambda spectrum, number: {}
    said = Prediction("a", "Fe K", {"OS": Value(3, "")})
    asked = own.look(np.zeros(9), said, "OS")
    with pytest.raises(UserError, match="an exported file or another kind of model does not show") as refused:
        asked.result(10)
    assert "\n" not in str(refused.value)
    go = threading.Event()
    monkeypatch.setattr(own, "_look", lambda *given: go.wait(10))
    with pytest.raises(Busy, match="in a moment"):
        for _ in range(desk.MOST_LOOKS + 1):
            own.look(np.zeros(9), said, "OS")
    go.set()


def test_a_board_is_full_at_some_point_and_the_oldest_browser_forgotten(monkeypatch):
    monkeypatch.setattr(boards, "MOST_ROWS", 3)
    monkeypatch.setattr(boards, "MOST_SESSIONS", 2)
    own, two = Boards(), ([("a", SPECTRUM)] * 2, [Prediction("a")] * 2)
    own.add("x", *two)
    with pytest.raises(UserError, match="holds 3 spectra and no more"):
        own.add("x", *two)
    since = own.news("x", 0).changed
    own.add("y", *two)
    own.add("z", *two)
    assert (len(own.rows("x")), len(own.rows("y"))) == (0, 2)
    assert own.news("x", since).gone == [1, 2]


def test_a_file_that_grew_keeps_its_number_and_what_it_lost_is_gone():
    own = Boards()
    own.watched("f", [("f", SPECTRUM)], [Prediction("f", error="too short")])
    before = own.news("x", 0)
    own.watched("f", [("f", SPECTRUM)], [Prediction("f")])
    [row] = own.news("x", before.changed).rows
    assert (row.number, row.times, row.prediction.error) == (before.rows[0].number, 2, "")
    own.watched("f", [("f#1", SPECTRUM), ("f#2", SPECTRUM)], [Prediction("f#1"), Prediction("f#2")])
    news = own.news("x", row.changed)
    assert [each.prediction.name for each in news.rows] == ["f#1", "f#2"] and news.gone == [row.number]


def test_asked_to_stop_it_answers_what_is_in_flight():
    begun = threading.Event()

    async def app(scope, receive, send):
        begun.set()
        await asyncio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    import uvicorn

    own = listening("127.0.0.1", 0)
    server = Server(uvicorn.Config(Guard(app), log_level="error", lifespan="off"))
    with own, ThreadPoolExecutor() as pool:
        over = pool.submit(server.run, [own])
        address = f"http://127.0.0.1:{own.getsockname()[1]}"
        while not server.started:
            time.sleep(0.01)
        answer = pool.submit(lambda: urllib.request.urlopen(address, timeout=10).read())
        begun.wait(10)
        server.handle_exit(15, None)
        assert answer.result(10) == b"done"
        over.result(10)


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="take another with --port"):
        listening("127.0.0.1", taken.getsockname()[1])
