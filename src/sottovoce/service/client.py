"""A client in Python, which needs no extra: the standard library alone."""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict, Unpack
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import replacing
from sottovoce.engine.options import RoomChoice
from sottovoce.errors import AudioError, ConfigError, SottovoceError
from sottovoce.extras import require

_CHUNK_BYTES = 2**18
_STREAM_FRAME_BYTES = 2**17


class StreamKeywords(TypedDict, total=False):
    """What may be asked of live sound."""

    model: str
    limit_db: float
    mix: float
    full_band: bool
    linked: bool
    room: RoomChoice
    output: Literal["enhanced", "removed"]


class EnhancementKeywords(StreamKeywords, total=False):
    """What may be asked of a recording: the fields of the form, as /openapi.json describes them."""

    metadata: bool
    quality: float
    bitrate: float


class UnreachableError(SottovoceError):
    """There is no service, or its answer has not come whole."""


class RefusedError(SottovoceError):
    """The service has answered with an error.

    Attributes:
        status: HTTP status; 0 in a stream.
        code: The service's word for it, which stays the same when the sentence is improved.
        retry_seconds: When to try again, if the service says so.
    """

    def __init__(self, status: int, code: str, message: str, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_seconds = retry_seconds


@dataclass(frozen=True)
class ModelInfo:
    """A model that may be named.

    Attributes:
        name: Its name.
        sample_rate: Rate at which it works, in Hz.
        latency_seconds: Algorithmic latency of a stream.
        rooms: What of the room it can keep.
        parameters: Number of trained values.
        licence: Licence of the weights.
        training_data: The corpora of the training, one sentence each.
        adaptable: Whether an adaptation may start from it.
    """

    name: str
    sample_rate: int
    latency_seconds: float
    rooms: tuple[str, ...]
    parameters: int
    licence: str
    training_data: tuple[str, ...]
    adaptable: bool


@dataclass(frozen=True)
class AdaptationInfo:
    """How far the training of an adapted model is.

    Attributes:
        task: What is being done.
        step: Steps that are done.
        steps: Steps in all.
        seconds_left: Estimated time until the last step; None while it is unknown.
        curve: Steps, and mean losses since the step before.
        adopted: Whether the result is the adapted model, and not the old one; None until it is done.
    """

    task: str
    step: int
    steps: int
    seconds_left: float | None
    curve: tuple[tuple[int, float], ...]
    adopted: bool | None


@dataclass(frozen=True)
class JobInfo:
    """How far a job is.

    Attributes:
        id: Its name; whoever knows it may see, take and delete the job, and name a model that it has adapted.
        kind: enhancement or adaptation.
        state: queued, running, done or failed.
        progress: Share that is done, 0 to 1.
        seconds: Length of the recording; None until it is done.
        notes: Sentences worth knowing, such as tags for which there is no place.
        code: Why it failed, for programs.
        message: The same for people.
        adaptation: The training of an adapted model, once it has begun.
    """

    id: str
    kind: Literal["enhancement", "adaptation"]
    state: Literal["queued", "running", "done", "failed"]
    progress: float
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
    adaptation: AdaptationInfo | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "JobInfo":
        """Read what the service says of a job."""
        error = content["error"] or {}
        adaptation = content["adaptation"]
        if adaptation is not None:
            curve = tuple((point["step"], point["loss"]) for point in adaptation["curve"])
            adaptation = AdaptationInfo(**{**adaptation, "curve": curve})
        named = {name: content[name] for name in ("id", "kind", "state", "progress", "seconds")}
        return cls(**named, notes=tuple(content["notes"]), adaptation=adaptation, **error)


class Client:
    """Calls a service; each call has a connection of its own, so that threads may share a client.

    Args:
        address: Where the service is, such as http://localhost:8000.
        token: What the service asks for beyond its own machine.
        timeout_seconds: The longest time without any answer. While a recording waits and is enhanced there is none.

    Raises:
        ConfigError: The address is none.
    """

    def __init__(
        self, address: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout_seconds: float = 600.0
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"found the address {address!r}, expected one such as http://localhost:8000")
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._place = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._address = address
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout_seconds = timeout_seconds

    def models(self) -> list[ModelInfo]:
        """List the models that may be named.

        Raises:
            RefusedError: The service refuses.
            UnreachableError: It cannot be reached.
        """
        models = self._json("GET", "/v1/models")["models"]
        lists = ("rooms", "training_data")
        return [ModelInfo(**model | {name: tuple(model[name]) for name in lists}) for model in models]

    def enhance(
        self,
        recording: Path | str,
        target: Path | str,
        *,
        overwrite: bool = False,
        **fields: Unpack[EnhancementKeywords],
    ) -> list[str]:
        """Enhance a recording, and wait for it.

        Args:
            recording: A file of any kind that the service reads.
            target: The file for its enhanced version, of the same kind.
            overwrite: Replace an existing file.
            **fields: How to enhance.

        Returns:
            Sentences worth knowing, such as tags for which there is no place.

        Raises:
            RefusedError: The service refuses, or cannot enhance it.
            AudioError: The recording cannot be read.
            UnreachableError: The service cannot be reached.
            DataError: The target exists.
        """
        with self._upload("/v1/audio/enhancements", [Path(recording)], fields) as answer:
            _save(answer, Path(target), overwrite)
            notes: list[str] = json.loads(answer.getheader("Sottovoce-Notes", "[]"))
            return notes

    def submit(self, recording: Path | str, **fields: Unpack[EnhancementKeywords]) -> JobInfo:
        """Send a recording that is enhanced while nobody waits.

        Args:
            recording: A file of any kind that the service reads.
            **fields: How to enhance.

        Returns:
            The job.

        Raises:
            RefusedError: The service refuses.
            AudioError: The recording cannot be read.
            UnreachableError: The service cannot be reached.
        """
        with self._upload("/v1/jobs", [Path(recording)], fields) as answer:
            return JobInfo.of(json.loads(answer.read()))

    def adapt(
        self,
        recordings: Iterable[Path | str],
        *,
        name: str = "",
        model: str = "default",
        steps: int = 150,
        seed: int = 1,
    ) -> JobInfo:
        """Send noisy recordings of a place, to which a model is adapted while nobody waits.

        Args:
            recordings: Files of any kind that the service reads.
            name: What the place is called; the model's file is named after it.
            model: What to start from.
            steps: Steps of the training.
            seed: Seed of all draws.

        Returns:
            The job; when it is done, its id is the name of the adapted model.

        Raises:
            RefusedError: The service refuses.
            AudioError: A recording cannot be read.
            UnreachableError: The service cannot be reached.
        """
        fields = {"name": name, "model": model, "steps": steps, "seed": seed}
        with self._upload("/v1/adaptations", list(map(Path, recordings)), fields) as answer:
            return JobInfo.of(json.loads(answer.read()))

    def job(self, name: str) -> JobInfo:
        """See how far a job is.

        Args:
            name: Its id.

        Raises:
            RefusedError: There is none of this name.
            UnreachableError: The service cannot be reached.
        """
        return JobInfo.of(self._json("GET", f"/v1/jobs/{quote(name, safe='')}"))

    def wait(
        self, name: str, on_progress: Callable[[float], None] | None = None, *, every_seconds: float = 1.0
    ) -> JobInfo:
        """Wait until a job has ended.

        Args:
            name: Its id.
            on_progress: Called with the share that is done, 0 to 1, as often as it is asked for.
            every_seconds: How often it is asked for.

        Returns:
            The job, done or failed.

        Raises:
            RefusedError: There is none of this name.
            UnreachableError: The service cannot be reached.
        """
        while (job := self.job(name)).state in ("queued", "running"):
            if on_progress is not None:
                on_progress(job.progress)
            time.sleep(every_seconds)
        return job

    def fetch(self, name: str, target: Path | str, *, overwrite: bool = False) -> None:
        """Take the result of a job.

        Args:
            name: Its id.
            target: The file for the enhanced version, of the kind of the recording.
            overwrite: Replace an existing file.

        Raises:
            RefusedError: There is no such job, or it is not done.
            UnreachableError: The service cannot be reached.
            DataError: The target exists.
        """
        with self._call("GET", f"/v1/jobs/{quote(name, safe='')}/result") as answer:
            _save(answer, Path(target), overwrite)

    def delete(self, name: str) -> None:
        """End a job, and delete its recording and its result.

        Args:
            name: Its id.

        Raises:
            RefusedError: There is none of this name.
            UnreachableError: The service cannot be reached.
        """
        with self._call("DELETE", f"/v1/jobs/{quote(name, safe='')}"):
            pass

    def stream(
        self,
        blocks: Iterable[NDArray[np.floating]],
        sample_rate: int,
        *,
        channels: int = 1,
        **fields: Unpack[StreamKeywords],
    ) -> Iterator[NDArray[np.float32]]:
        """Enhance live sound as it comes. Needs the extra `serve`.

        Args:
            blocks: Blocks `(channels, n)`, or `(n,)` for one channel, full scale ±1, which another thread takes as fast
                as the service does; any n.
            sample_rate: Rate in Hz.
            channels: Number of channels.
            **fields: How to enhance.

        Yields:
            Enhanced blocks `(channels, m)` as they are ready; joined, they are as long as the signal and aligned to it.

        Raises:
            RefusedError: The service refuses, or fails.
            UnreachableError: It cannot be reached, or the connection breaks.
            MissingExtraError: The package websockets is not installed.
        """
        require("serve", "A stream", "websockets")
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
        from websockets.sync.client import connect

        failures: list[BaseException] = []

        def send() -> None:
            try:
                for block in blocks:
                    samples = np.atleast_2d(block).T.astype("<f4")
                    step = max(1, _STREAM_FRAME_BYTES // (4 * channels))
                    for start in range(0, len(samples), step):
                        socket.send(samples[start : start + step].tobytes())
                socket.send('{"type": "CloseStream"}')
            except ConnectionClosed:  # whoever receives sees why
                pass
            except BaseException as failure:
                failures.append(failure)
                socket.close()

        begin = {"rate": sample_rate, "channels": channels, "format": "f32le", **fields}
        address = f"ws{self._address.removeprefix('http').rstrip('/')}/v1/audio/enhancements/stream"
        try:
            # Without pings: a service that is slower than the sound comes answers none in time.
            options: dict[str, Any] = {"compression": None, "proxy": None, "ping_interval": None}
            with connect(address, additional_headers=self._headers, **options) as socket:
                socket.send(json.dumps(begin))
                for message in socket:
                    content = {} if isinstance(message, bytes) else json.loads(message)
                    if isinstance(message, bytes):
                        yield np.frombuffer(message, "<f4").reshape(-1, channels).T
                    elif content.get("type") == "Started":
                        threading.Thread(target=send, name="send", daemon=True).start()
                    elif "error" in content:
                        error = content["error"]
                        raise RefusedError(0, error["code"], error["message"])
        except InvalidStatus as error:
            raise _refusal(error.response.status_code, bytes(error.response.body)) from None
        except (OSError, WebSocketException) as error:
            raise UnreachableError(
                f"cannot reach the service at {self._address}, or no longer ({error}): see whether `sottovoce serve` "
                "runs there"
            ) from error
        if failures:
            raise failures[0]

    @contextlib.contextmanager
    def _upload(
        self, path: str, recordings: Iterable[Path], fields: Mapping[str, object]
    ) -> Iterator[http.client.HTTPResponse]:
        boundary = secrets.token_hex(16)
        parts: list[bytes | BinaryIO] = [_field(boundary, name, value) for name, value in fields.items()]
        with contextlib.ExitStack() as stack:
            for recording in recordings:
                try:
                    file = stack.enter_context(recording.open("rb"))
                except OSError as error:
                    raise AudioError(f"cannot read {recording} ({error.strerror}): check its name") from error
                parts += [_file_head(boundary, recording.name), file, b"\r\n"]
            parts.append(f"--{boundary}--\r\n".encode())
            length = sum(len(part) if isinstance(part, bytes) else os.fstat(part.fileno()).st_size for part in parts)
            headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
            with self._call("POST", path, _joined(parts), headers) as answer:
                yield answer

    def _json(self, method: str, path: str) -> Any:
        with self._call(method, path) as answer:
            return json.loads(answer.read())

    @contextlib.contextmanager
    def _call(
        self, method: str, path: str, body: Iterator[bytes] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._make(*self._place, timeout=self._timeout_seconds)
        try:
            try:
                # An answer may come before all was sent, if the service wants no more.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(
                        method, self._prefix + path, body, {**self._headers, **(headers or {}), "Connection": "close"}
                    )
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise UnreachableError(
                    f"cannot reach the service at {self._address} ({error}): see whether `sottovoce serve` runs there"
                ) from error
            if not 200 <= answer.status < 300:
                raise _refused(answer)
            yield answer
        finally:
            connection.close()


def _field(boundary: str, name: str, value: object) -> bytes:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()


def _file_head(boundary: str, name: str) -> bytes:
    """What stands in a form before the content of a file; names are escaped as browsers do it."""
    for character, escape in (('"', "%22"), ("\r", "%0D"), ("\n", "%0A")):
        name = name.replace(character, escape)
    disposition = f'form-data; name="file"; filename="{name}"'
    return f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode(errors="replace")


def _joined(parts: Iterable[bytes | BinaryIO]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            while chunk := part.read(_CHUNK_BYTES):
                yield chunk


def _save(answer: http.client.HTTPResponse, target: Path, overwrite: bool) -> None:
    with replacing(target, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        shutil.copyfileobj(answer, file, _CHUNK_BYTES)
        if answer.length:  # http.client does not say that less has come than was promised
            raise UnreachableError(
                f"found {answer.length} bytes less of {target} than promised: send the recording again"
            )


def _refused(answer: http.client.HTTPResponse) -> RefusedError:
    return _refusal(answer.status, answer.read(2**16), answer.getheader("Retry-After", ""))


def _refusal(status: int, body: bytes, retry: str = "") -> RefusedError:
    try:
        error = json.loads(body)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):  # something else listens there
        code, message = "foreign", f"found an answer of status {status} that is none of this service"
    return RefusedError(status, code, message, float(retry) if retry.isdecimal() else None)
