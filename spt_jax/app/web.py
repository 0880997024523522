"""HTTP: what may be asked, and in which form. FastAPI is used here only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from data_pipelines.errors import MissingExtra, UserError
from data_pipelines.readers.beamlines import preset_of
from data_pipelines.readers.columns import parse
from data_pipelines.readers.measured import ReadAs
from data_pipelines.schema import DESCRIPTORS, SHELLS
from spt_jax import __version__
from spt_jax.app import shown
from spt_jax.app.boards import Boards
from spt_jax.app.desk import Busy, Desk, Named, pieces
from spt_jax.app.given import MOST_BYTES, Told, clean, from_arrays, read_upload
from spt_jax.app.guard import Guard
from spt_jax.app.page import content
from spt_jax.app.watch import Watch
from spt_jax.inference.output import as_csv, as_json, row_of
from spt_jax.inference.predict import symbol_of
from spt_jax.inference.prediction import Prediction

try:
    from fastapi import FastAPI, File, HTTPException, Query, Request, Response, UploadFile
    from fastapi.exceptions import RequestValidationError
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.exceptions import HTTPException as AnyHTTPException
    from starlette.responses import JSONResponse
except ModuleNotFoundError:
    raise MissingExtra("app", "the HTTP service and the page") from None

MOST_SPECTRA, MOST_POINTS = 1_000, 20_000


Text = Annotated[str, Field(max_length=200)]
Numbers = Annotated[list[float], Field(min_length=1, max_length=MOST_POINTS)]


class Spectrum(BaseModel):
    """mu in any scale over energies in eV or keV, of one absorbing element."""

    model_config = ConfigDict(extra="forbid")

    energy: Numbers
    mu: Numbers
    element: Text | int | None = Field(None, description="Ni, ni or 28; not needed for a model of one element")
    edge: Text = "K"
    name: Text = ""


class Asked(BaseModel):
    """One spectrum or many."""

    model_config = ConfigDict(extra="forbid")

    spectra: Annotated[list[Spectrum], Field(min_length=1, max_length=MOST_SPECTRA)]
    taken: Literal["measured", "theory"] = Field(
        "measured",
        alias="as",
        description="measured: normalised and moved to the energies of calculated spectra; theory: taken as it is",
    )
    foil: float | None = Field(None, gt=0, description="E0 that the monochromator gave to a metal foil, eV")
    shift: float = Field(0.0, description="eV to add to the energies")


class Settings(BaseModel):
    """What is said of files in the place of what they say themselves, as of `spt-jax predict`."""

    model_config = ConfigDict(extra="forbid")

    element: Text = ""
    edge: Text = ""
    channel: Literal["", "transmission", "fluorescence", "reference"] = ""
    columns: Text = Field("", description='"energy=1 mu=ln(i0/i1)"')
    beamline: Text = ""
    shift: float = Field(0.0, description="eV to add to the energies")
    deglitch: bool = False
    taken: Literal["auto", "measured", "theory"] = Field("auto", alias="as")
    foil: Annotated[float, Field(gt=0)] | Literal["auto", "none"] = Field(
        "auto", description="E0 that the monochromator gave to a metal foil, eV; auto: of a foil behind the sample"
    )
    normalise: Literal["edges", "mback"] = "edges"

    def told(self) -> Told:
        """Raises UserError for what nobody understands."""
        symbol = symbol_of(self.element) if self.element else None
        if self.columns:
            parse(self.columns)
        if self.beamline:
            preset_of(self.beamline)
        calculated = None if self.taken == "auto" else self.taken == "theory"
        channel = self.channel or None
        given = symbol, self.edge or None, channel, self.columns, self.beamline, self.shift, self.deglitch, calculated
        return Told(ReadAs(*given), self.foil, self.normalise)


Files = Annotated[list[UploadFile], File(description="as beamlines write them: docs/files.md")]


def service(desk: Desk, hosts: Sequence[str] = (), watch: Watch | None = None) -> FastAPI:
    """The application; it closes the desk and the watch at its end. hosts: names that it is called by, besides addresses."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if watch:
            await asyncio.to_thread(watch.close)
        await asyncio.to_thread(desk.close)

    about = "Descriptors of the surroundings of an atom from its X-ray absorption spectrum. Answers are those of `spt-jax predict --format json`."
    app = FastAPI(
        title="spt-jax", version=__version__, description=about, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(Guard, hosts=hosts)
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(UserError, _mendable)
    app.add_exception_handler(AnyHTTPException, _refused)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether it answers, and how many questions wait."""
        return {"status": "ok", "model": desk.name, "version": __version__, "waiting": desk.waiting}

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """What it knows, and its card where it has one."""
        own = desk.model.blueprint
        learnt = {task.name for task in own.learnt_tasks}
        told = {d.name: {"meaning": d.meaning, "unit": d.unit} for d in (*DESCRIPTORS, *SHELLS) if d.name in learnt}
        known = {"name": desk.name, "absorbers": list(own.absorbers), "grid": own.grid.stated()}
        return known | {"descriptors": told, "coverage": desk.model.decisions.coverage, "card": desk.card}

    @app.post("/predict")
    async def predict(asked: Asked) -> Response:
        """Descriptors of spectra, an object for each in order, with an `error` where there are none."""
        told = Told(ReadAs(shift=asked.shift, calculated=asked.taken == "theory"), asked.foil or "none")

        def given() -> list[Named]:
            return [
                from_arrays(desk, each.name, each.energy, each.mu, each.element, each.edge, told)
                for each in asked.spectra
            ]

        return _rows(await answers(desk, await asyncio.to_thread(given)))

    @app.post("/files")
    async def files(files: Files, settings: Annotated[Settings, Query()]) -> Response:
        """Descriptors of all spectra in the files, an object for each, with an `error` where there are none."""
        return _rows(await answers(desk, await read(desk, files, settings.told())))

    return app


def page(desk: Desk, boards: Boards, watch: Watch | None = None, hosts: Sequence[str] = ()) -> FastAPI:
    """The service, with a page for people and what it asks for."""
    app, files_of_page = service(desk, hosts, watch), content()
    secret = f"spt-jax-{secrets.token_hex(4)}"  # of this run, and of no other program on this machine

    def token(request: Request) -> str:
        """Of a browser; one that comes without any sees an empty board."""
        return request.cookies.get(secret, "")

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(files_of_page["index.html"], media_type="text/html")

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in files_of_page:
            raise HTTPException(404, "no such page")
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response(files_of_page[name], media_type=kind)

    @app.get("/board", include_in_schema=False)
    async def news(request: Request, response: Response, since: int = 0) -> dict[str, Any]:
        if not token(request):
            response.set_cookie(secret, secrets.token_urlsafe(24), httponly=True, samesite="strict")
        found = boards.news(token(request), since)
        folder = watch and {"folder": str(watch.folder), "files": watch.files, "trouble": watch.trouble}
        rows = [shown.row(each) for each in found.rows]
        return {"run": boards.run, "changed": found.changed, "rows": rows, "gone": found.gone, "watch": folder}

    @app.post("/board", include_in_schema=False)
    async def add(request: Request, files: Files, settings: Annotated[Settings, Query()]) -> list[dict[str, Any]]:
        if not token(request):
            raise HTTPException(403, "this browser takes no cookies, by which its files are known as its own")
        spectra = await read(desk, files, settings.told())
        said = await answers(desk, spectra)
        return [shown.row(each) for each in boards.add(token(request), spectra, said)]

    @app.delete("/board", include_in_schema=False)
    async def clear(request: Request) -> None:
        boards.clear(token(request))

    @app.get("/board/{number}", include_in_schema=False)
    async def whole(request: Request, number: int) -> dict[str, Any]:
        found = boards.row(token(request), number)
        if found is None:
            raise HTTPException(404, "not on this page any more")
        return await asyncio.to_thread(shown.whole, desk, found)

    @app.get("/board/{number}/looked", include_in_schema=False)
    async def looked(request: Request, number: int, descriptor: Text) -> dict[str, Any]:
        found = boards.row(token(request), number)
        if found is None:
            raise HTTPException(404, "not on this page any more")
        mu = await asyncio.to_thread(shown.on_grid, desk, found)
        if mu is None or descriptor not in found.prediction.values:
            raise UserError(f"{descriptor}: not answered for this spectrum")
        with _refusing():
            return shown.looked(await asyncio.wrap_future(desk.look(mu, found.prediction, descriptor)))

    @app.get("/export.{kind}", include_in_schema=False)
    async def export(request: Request, kind: Literal["csv", "json"]) -> Response:
        said = [row.prediction for row in boards.rows(token(request))]
        text = "".join((as_csv if kind == "csv" else as_json)(said))
        name = f'attachment; filename="{clean(desk.name)}-{time.strftime("%Y%m%d-%H%M%S")}.{kind}"'
        return Response(text, media_type=f"text/{kind}", headers={"Content-Disposition": name})

    return app


async def answers(desk: Desk, spectra: Sequence[Named]) -> list[Prediction]:
    """A Prediction for each, a batch at a time."""
    found: list[Prediction] = []
    for piece in pieces(spectra):
        with _refusing():
            found += await asyncio.wrap_future(desk.ask(piece))
    return found


async def read(desk: Desk, files: Sequence[UploadFile], told: Told) -> list[Named]:
    """All spectra in the files: together, so that they fill batches."""
    found: list[Named] = []
    for file in files:
        content = await file.read(MOST_BYTES + 1)
        found += await asyncio.to_thread(read_upload, desk, file.filename or "", content, told)
    return found


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """For now, where more is asked than the model answers."""
    try:
        yield
    except Busy as error:
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from None


def _rows(found: Sequence[Prediction]) -> Response:
    return Response(json.dumps([row_of(each) for each in found], ensure_ascii=False), media_type="application/json")


def _unprocessable(request: Request, error: Exception) -> Response:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _line(422, f"not JSON: {first.get('ctx', {}).get('error', '')} at character {first['loc'][-1]}")
    where = " ".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    return _line(422, f"{where}: {first['msg']}" if where else first["msg"])


def _refused(request: Request, error: Exception) -> Response:
    return _line(error.status_code, str(error.detail), error.headers)


def _mendable(request: Request, error: Exception) -> Response:
    return _line(422, str(error))


def _line(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"detail": text}, status, headers)
