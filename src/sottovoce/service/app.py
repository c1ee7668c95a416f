"""The application: what is at which address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

import sottovoce
from sottovoce.atomic import clear_leftovers, temporary_folder
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.model import Model
from sottovoce.errors import DataError
from sottovoce.service.errors import ServiceError
from sottovoce.service.guard import Guard
from sottovoce.service.kinds import media_type
from sottovoce.service.metrics import Metrics, Observer
from sottovoce.service.pool import Pool
from sottovoce.service.schemas import EnhancementFields, ErrorAnswer, ModelDescription, Models, Status, form_schema
from sottovoce.service.settings import ServiceSettings
from sottovoce.service.uploads import receive_upload
from sottovoce.service.work import Order

_READ_BYTES = 2**18
_CODES = {404: "not_found", 405: "method_not_allowed"}
# Nobody takes an answer for another kind of file, and no cache keeps what somebody said.
_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

T = TypeVar("T")


def create_app(settings: ServiceSettings) -> FastAPI:
    """Make the application; models are loaded here, and processes started when it starts.

    Args:
        settings: How the service runs.

    Returns:
        An ASGI application; its state holds the `pool`, to be stopped before the server.

    Raises:
        ModelError: A model cannot be loaded.
        DataError: The folder for uploads cannot be used.
    """
    enhancers = {name: _load(name, path) for name, path in settings.model_paths().items()}
    names = list(enhancers)
    prepare_folder(settings.folder)
    pool = Pool(enhancers, workers=settings.workers, queue=settings.queue)
    metrics = Metrics(pool)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(pool.start())
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await pool.stop(0)

    app = FastAPI(
        title="Sotto voce",
        version=sottovoce.__version__,
        summary="Takes noise and reverberation out of speech recordings.",
        lifespan=lifespan,
        # The pages that FastAPI has for them load programs from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.pool = pool
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Observer, metrics=metrics)
    _answer_errors(app)

    @app.post(
        "/v1/audio/enhancements",
        response_class=Response,
        summary="Enhance a recording",
        openapi_extra={"requestBody": form_schema()},
        responses={
            200: {
                "description": "The enhanced recording, of the same format.",
                "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
            },
            **_errors(401, 403, 408, 413, 415, 422, 429, 503, 507),
        },
    )
    async def enhance(request: Request) -> Response:
        """Take noise and reverberation out of a recording; the answer is what `sottovoce enhance` would write."""
        with pool.admit(), _private_folder(settings.folder) as folder:
            upload = await receive_upload(
                request,
                folder,
                max_bytes=int(settings.max_megabytes * 1e6),
                max_seconds=settings.transfer_seconds,
            )
            fields = EnhancementFields.checked(upload.fields, names)
            order = Order(
                recording=upload.recording,
                model=fields.model,
                options=fields.options(),
                output_options=fields.output_options(),
                max_seconds=60 * settings.max_minutes,
            )
            result = await _unless_gone(request, pool.enhance(order))
            # What is open can be read after its folder is gone.
            answer = FileAnswer(result.path)
        metrics.sound.labels(fields.model).inc(result.seconds)
        return answer

    @app.get("/v1/models", summary="List the models", responses=_errors(401, 403))
    async def models() -> Models:
        """The models that may be named: the bundled ones, and those that the service was started with."""
        return Models(models=[ModelDescription.of(name, enhancer) for name, enhancer in enhancers.items()])

    @app.get("/healthz", summary="Say whether the process lives")
    async def healthz() -> Status:
        """Answered as long as the process lives."""
        return Status()

    @app.get("/readyz", summary="Say whether recordings are taken", responses=_errors(503))
    async def readyz() -> Status:
        """Answered with 200 when the processes have loaded the models, until the service is about to stop."""
        if not pool.is_ready or pool.is_stopping.is_set():
            raise ServiceError(503, "not_ready", "the service is starting or about to stop: try again later")
        return Status()

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def prometheus() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


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


class FileAnswer(StreamingResponse):
    """A file, which may be deleted meanwhile.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        size = path.stat().st_size
        super().__init__(
            _blocks(self._file),
            media_type=media_type(path.suffix),
            headers={
                "Content-Length": str(size),
                "Content-Disposition": f'attachment; filename="{path.name}"',
                **_PRIVATE,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, and close it whatever happens."""
        with self._file:
            await super().__call__(scope, receive, send)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_READ_BYTES):
        yield block


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


def _load(name: str, path: Path) -> Enhancer:
    # Messages of a network go to clients, whom no path concerns.
    return Enhancer(Model.load(path, origin=f"the model {name!r}"))


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer} for status in statuses}


def _answer_errors(app: FastAPI) -> None:
    """Give every error the same body, and no answer a traceback."""

    @app.exception_handler(ServiceError)
    async def refused(request: Request, error: ServiceError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "refused")
        sentence = f"found {request.method} {request.url.path[:100]!r}, expected what /openapi.json lists"
        return ServiceError(error.status_code, code, sentence, error.headers).response()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        sentence = "the service failed, and its log says why: try again, or ask who runs it"
        return ServiceError(500, "internal", sentence).response()
