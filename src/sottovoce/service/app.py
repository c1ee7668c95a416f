"""The application: what is at which address."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response, WebSocket
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import sottovoce
from sottovoce.atomic import clear_leftovers, temporary_folder
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.model import Model
from sottovoce.errors import DataError, MissingExtraError
from sottovoce.extras import require
from sottovoce.service.adaptation import AdaptationOrder, adapt_to_place
from sottovoce.service.errors import ServiceError, service_error
from sottovoce.service.file_answer import FILE_ANSWER, FileAnswer
from sottovoce.service.guard import Guard
from sottovoce.service.job_store import Job, JobStore
from sottovoce.service.jobs import Jobs, Work, no_job
from sottovoce.service.limits import Limits, RequestLimit, client_of
from sottovoce.service.metrics import Metrics, Observer
from sottovoce.service.models import ServedModels, can_train
from sottovoce.service.page import Asset, read_assets
from sottovoce.service.pool import Pool
from sottovoce.service.refusals import Refusals
from sottovoce.service.schemas import (
    AdaptationFields,
    EnhancementFields,
    ErrorAnswer,
    ErrorContent,
    JobAnswer,
    ModelDescription,
    Models,
    Status,
    adaptation_schema,
    form_schema,
)
from sottovoce.service.settings import ServiceSettings
from sottovoce.service.streams import Streams
from sottovoce.service.uploads import RECORDINGS, Upload, receive_upload
from sottovoce.service.work import Order, Progress, Result

log = logging.getLogger(__name__)

# A training says something after every step; before and behind it, libraries are loaded and models exported.
_TRAINER_PATIENCE_SECONDS = 900.0
# Who listens to live sound goes before who waits for a recording, and both go before a training.
_NICENESS_OF_RECORDINGS, _NICENESS_OF_TRAINING = 5, 10
STREAM_PATH = "/v1/audio/enhancements/stream"
_CODES = {404: "not_found", 405: "method_not_allowed"}
# The page loads nothing from elsewhere, runs no script but its own files, and is shown in no other page.
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

T = TypeVar("T")


class _Parts:
    """What the addresses of one application share.

    Args:
        settings: How the service runs.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        paths = settings.model_paths()
        enhancers = {name: _load(name, path) for name, path in paths.items()}
        prepare_folder(settings.folder)
        self.pool = Pool(enhancers, workers=settings.workers, queue=settings.queue, niceness=_NICENESS_OF_RECORDINGS)
        self.trainer = Pool(
            {},
            workers=1,
            patience_seconds=_TRAINER_PATIENCE_SECONDS,
            single_use=True,
            niceness=_NICENESS_OF_TRAINING,
        )
        self.jobs = Jobs(
            JobStore(settings.folder),
            {
                # One process is left for those who wait for their answer.
                "enhancement": Work(self._enhance, at_once=max(1, settings.workers - 1)),
                "adaptation": Work(self._adapt, at_once=1),
            },
            is_stopping=self.pool.is_stopping,
            limit=settings.jobs,
            seconds=3600 * settings.job_hours,
        )
        self.limits = Limits(settings)
        self.models = ServedModels(enhancers, paths, self.jobs.adapted)
        self.metrics = Metrics(self.pool, self.jobs)
        self.streams = Streams(
            self.models,
            self.metrics,
            self.limits,
            limit=settings.streams,
            workers=settings.workers,
            is_stopping=self.pool.is_stopping,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Start and end the processes and the jobs with the application."""
        starting = asyncio.create_task(self._start_pool())
        await self.jobs.start()
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            # An adaptation goes on in the next service, and is not waited for.
            await asyncio.gather(self.pool.stop(self.settings.grace_seconds), self.trainer.stop(0))
            await self.jobs.stop()
            await self.streams.stop()

    async def _start_pool(self) -> None:
        try:
            await self.pool.start()
        except ServiceError as error:
            log.error("the worker processes do not start: %s", error.message)

    async def _receive(self, request: Request, folder: Path, *, several: bool = False) -> Upload:
        """Read a form within the limits."""
        return await receive_upload(
            request,
            folder,
            max_bytes=int(self.settings.max_megabytes * 1e6),
            max_seconds=self.settings.transfer_seconds,
            several=several,
        )

    async def receive(self, request: Request, folder: Path) -> tuple[Path, EnhancementFields]:
        """Read the form of an enhancement."""
        upload = await self._receive(request, folder)
        fields = EnhancementFields.checked(upload.fields)
        await self.models.locate(fields.model)
        return upload.recordings[0], fields

    async def receive_place(self, request: Request, folder: Path) -> tuple[Path, str]:
        """Read the form of an adaptation; gives the folder of its recordings, and what is to be done as JSON."""
        upload = await self._receive(request, folder, several=True)
        fields = AdaptationFields.checked(upload.fields, self.models.checkpoints)
        return folder / RECORDINGS, json.dumps({"fields": fields.model_dump(), "names": upload.names})

    async def enhance(
        self,
        client: str | None,
        fields: EnhancementFields,
        recording: Path,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Result:
        """Enhance a recording of a client in a worker."""
        order = Order(
            recording=recording,
            model=await self.models.locate(fields.model),
            options=fields.options(),
            output_options=fields.output_options(),
            max_seconds=60 * self.settings.max_minutes,
        )
        with self.limits.decoding(client, on_progress) as advance:
            result = await self.pool.enhance(order, advance)
        self.metrics.sound.labels(self.models.label(fields.model)).inc(result.seconds)
        return result

    async def _enhance(self, fields: str, recording: Path, on_progress: Callable[[Progress], None]) -> Result:
        client = self.limits.client_of_job(recording.parent.name)
        return await self.enhance(client, EnhancementFields.model_validate_json(fields), recording, on_progress)

    async def _adapt(self, content: str, recordings: Path, on_progress: Callable[[Progress], None]) -> Result:
        require("train", "An adaptation")
        found = json.loads(content)
        # Of a job that an earlier service has taken, the model may be gone.
        fields = AdaptationFields.checked(found["fields"], self.models.checkpoints)
        order = AdaptationOrder(
            recordings=recordings,
            names=tuple(found["names"]),
            checkpoint=self.models.checkpoints[fields.model],
            place=fields.name,
            steps=fields.steps,
            seed=fields.seed,
            max_seconds=60 * self.settings.max_minutes,
        )
        client = self.limits.client_of_job(recordings.parent.name)
        try:
            with self.limits.decoding(client, on_progress) as advance:
                return await self.trainer.run(adapt_to_place, order, advance)
        except ServiceError as error:
            if error.code not in ("recording_crashed", "recording_stuck"):
                raise
            sentence = "the process of the adaptation ended, or said nothing for long: its machine may be out of memory"
            raise ServiceError(500, "adaptation_crashed", sentence) from error

    async def require_adaptation(self) -> None:
        """Refuse an adaptation that this service does not make, or not now."""
        if self.settings.adaptations == 0:
            raise ServiceError(
                501, "no_adaptation", "this service adapts no models: it was started with --adaptations 0"
            )
        try:
            require("train", "An adaptation")
        except MissingExtraError as error:
            raise service_error(error) from None
        await self.jobs.require_room(self.settings.adaptations)


def create_app(settings: ServiceSettings) -> FastAPI:
    """Make the application; models are loaded here, and processes started when it starts.

    Args:
        settings: How the service runs.

    Returns:
        An ASGI application; its state holds the `pool`, to be stopped before the server.

    Raises:
        ModelError: A model cannot be loaded.
        DataError: The folder for uploads cannot be used, or another service uses it.
    """
    parts = _Parts(settings)
    app = FastAPI(
        title="Sotto voce",
        version=sottovoce.__version__,
        summary="Takes noise and reverberation out of speech recordings.",
        lifespan=parts.lifespan,
        # The pages that FastAPI has for them load programs from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.pool = parts.pool
    assets = read_assets()
    app.add_middleware(Guard, settings=settings, public=frozenset(assets))
    app.add_middleware(RequestLimit, limits=parts.limits)
    app.add_middleware(Observer, metrics=parts.metrics)
    app.add_middleware(Refusals)
    if settings.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.proxies))
    _answer_errors(app)
    _add_enhancements(app, parts)
    app.add_api_websocket_route(STREAM_PATH, _stream_of(parts))
    _add_jobs(app, parts)
    _add_descriptions(app, parts)
    _add_page(app, assets)
    return app


def _add_enhancements(app: FastAPI, parts: _Parts) -> None:
    @app.post(
        "/v1/audio/enhancements",
        response_class=Response,
        summary="Enhance a recording",
        openapi_extra={"requestBody": form_schema()},
        responses={200: FILE_ANSWER, **_errors(401, 403, 408, 413, 415, 422, 429, 503, 507)},
    )
    async def enhance(request: Request) -> Response:
        """Take noise and reverberation out of a recording; the answer is what `sottovoce enhance` would write."""
        client = client_of(request.scope)
        parts.limits.require_sound(client)
        with parts.pool.admit(), _private_folder(parts.settings.folder) as folder:
            recording, fields = await parts.receive(request, folder)
            result = await _unless_gone(request, parts.enhance(client, fields, recording))
            # What is open can be read after its folder is gone.
            return FileAnswer(result.path, result.notes)


def _stream_of(parts: _Parts) -> Callable[[WebSocket], Awaitable[None]]:
    async def stream(socket: WebSocket) -> None:
        await parts.streams.serve(socket)

    return stream


def _add_jobs(app: FastAPI, parts: _Parts) -> None:
    jobs = parts.jobs

    def describe(job: Job) -> JobAnswer:
        expires = jobs.expires(job)
        return JobAnswer(
            id=job.id,
            kind=job.kind,
            state=jobs.state(job),
            progress=jobs.progress(job),
            created=_when(job.created),
            expires=None if expires is None else _when(expires),
            seconds=job.seconds,
            notes=json.loads(job.notes),
            adaptation=jobs.adaptation(job),
            result=None if job.result is None else f"/v1/jobs/{job.id}/result",
            error=None if job.code is None else ErrorContent(code=job.code, message=job.message or ""),
        )

    @app.post(
        "/v1/jobs",
        status_code=202,
        summary="Enhance a recording while nobody waits",
        openapi_extra={"requestBody": form_schema()},
        responses=_errors(401, 403, 408, 413, 415, 422, 429, 503, 507),
    )
    async def submit(request: Request, response: Response) -> JobAnswer:
        """Take a recording, for which the answer names a job; jobs outlive a restart of the service."""
        client = client_of(request.scope)
        parts.limits.require_sound(client)
        await jobs.require_room()
        with parts.pool.admit(), _private_folder(parts.settings.folder) as folder:
            recording, fields = await parts.receive(request, folder)
            job = await jobs.add(folder, recording.name, fields.model_dump_json())
        parts.limits.note_job(job.id, client)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return describe(job)

    @app.post(
        "/v1/adaptations",
        status_code=202,
        summary="Adapt a model to a place",
        openapi_extra={"requestBody": adaptation_schema(parts.models.checkpoints)},
        responses=_errors(401, 403, 408, 413, 415, 422, 429, 501, 503, 507),
    )
    async def adapt(request: Request, response: Response) -> JobAnswer:
        """Take noisy recordings of a place, for which the answer names a job; its id is the name of the new model."""
        client = client_of(request.scope)
        parts.limits.require_sound(client)
        await parts.require_adaptation()
        with parts.pool.admit(), _private_folder(parts.settings.folder) as folder:
            recordings, fields = await parts.receive_place(request, folder)
            await parts.require_adaptation()  # others may have come meanwhile
            job = await jobs.add(folder, recordings.name, fields, "adaptation")
        parts.limits.note_job(job.id, client)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return describe(job)

    @app.get("/v1/jobs/{job}", summary="See how far a job is", responses=_errors(401, 403, 404, 429))
    async def see(job: str) -> JobAnswer:
        """How far the job is, and why it failed if it did."""
        return describe(await jobs.find(job))

    @app.get(
        "/v1/jobs/{job}/result",
        response_class=Response,
        summary="Take the result of a job",
        responses={200: FILE_ANSWER, **_errors(401, 403, 404, 409, 429)},
    )
    async def take(job: str) -> Response:
        """The enhanced recording, or the adapted model; it can be taken again until the job is deleted or expires."""
        found = await jobs.find(job)
        path = jobs.result(found)
        if path is None:
            raise ServiceError(409, "no_result", f"found a job that is {jobs.state(found)}, expected one that is done")
        try:
            return FileAnswer(path, json.loads(found.notes))
        except FileNotFoundError:
            raise no_job() from None  # it was deleted meanwhile

    @app.delete("/v1/jobs/{job}", status_code=204, summary="Delete a job", responses=_errors(401, 403, 404, 429))
    async def delete(job: str) -> None:
        """End a job, and delete its recordings and its result."""
        await jobs.delete(await jobs.find(job))


def _add_descriptions(app: FastAPI, parts: _Parts) -> None:
    @app.get("/v1/models", summary="List the models", responses=_errors(401, 403, 429))
    async def models() -> Models:
        """The models that may be named: the bundled ones, and those that the service was started with."""
        # An adapted model is listed nowhere: its name is the key to it.
        adaptable = parts.models.checkpoints if parts.settings.adaptations and can_train() else ()
        return Models(
            models=[
                ModelDescription.of(name, enhancer, adaptable=name in adaptable)
                for name, enhancer in parts.models.shared.items()
            ]
        )

    @app.get("/healthz", summary="Say whether the process lives")
    async def healthz() -> Status:
        """Answered as long as the process lives."""
        return Status()

    @app.get("/readyz", summary="Say whether recordings are taken", responses=_errors(503))
    async def readyz() -> Status:
        """Answered with 200 when the processes have loaded the models, until the service is about to stop."""
        if not parts.pool.is_ready or parts.pool.is_stopping.is_set():
            raise ServiceError(503, "not_ready", "the service is starting or about to stop: try again later")
        return Status()

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def prometheus() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(generate_latest(parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI, assets: Mapping[str, Asset]) -> None:
    async def page(request: Request) -> Response:
        asset = assets.get(request.scope["path"])
        if asset is None:
            raise HTTPException(404)
        headers = {"ETag": asset.etag, **_PAGE_HEADERS}
        known = request.headers.get("if-none-match", "").replace("W/", "").replace(" ", "").split(",")
        if asset.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)

    for path in ("/", "/page/{name}"):
        app.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)


def prepare_folder(folder: Path) -> None:
    """Make a folder that only this user may read, and delete what a service that was killed left in it.

    Args:
        folder: The folder; it may exist.

    Raises:
        DataError: It cannot be made, or is somebody else's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        clear_leftovers(folder)
    except OSError as error:
        raise DataError(
            f"cannot use the folder {folder} ({error.strerror}): name one of your own with --folder"
        ) from error


@contextlib.contextmanager
def _private_folder(parent: Path) -> Iterator[Path]:
    """A folder for one request, which the next service deletes if this one is killed."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(parent / "upload"))
        except OSError as error:
            raise ServiceError(507, "storage_full", "the disk of the service failed: try again later") from error
        yield folder


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Wait for work whose body was received, and cancel it if the client goes away."""
    doing = asyncio.ensure_future(work)
    going = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({doing, going}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientDisconnect
    finally:
        for task in (doing, going):
            task.cancel()
        await asyncio.gather(doing, going, return_exceptions=True)


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _load(name: str, path: Path) -> Enhancer:
    # Messages of a network go to clients, whom no path concerns.
    return Enhancer(Model.load(path, origin=f"the model {name!r}"))


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer} for status in statuses}


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """The methods of an address."""
    routes = (route for route in app.routes if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE)
    return {method for route in routes for method in route.methods or ()}


def _answer_errors(app: FastAPI) -> None:
    """Give every error the same body, and no answer a traceback."""

    @app.exception_handler(ServiceError)
    async def refused(request: Request, error: ServiceError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "refused")
        sentence = f"found {request.method} {request.url.path[:100]!r}, expected what /openapi.json lists"
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names the methods of the first address that fits
            headers["Allow"] = ", ".join(sorted(_methods(app, request.scope)))
        return ServiceError(error.status_code, code, sentence, headers).response()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        sentence = "the service failed, and its log says why: try again, or ask who runs it"
        return ServiceError(500, "internal", sentence).response()
