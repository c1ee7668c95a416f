"""Uploads: a form is read while it arrives, its file goes to the disk, and all else in it is small."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from sottovoce.errors import StorageError
from sottovoce.service.errors import ServiceError, service_error
from sottovoce.service.kinds import upload_suffix
from sottovoce.service.work import require_space

FILE_FIELD = "file"
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 1000
# A form without its file.
_MAX_FORM_BYTES = 2**16
# What is collected for one write, which waits for a thread.
_WRITE_BYTES = 2**20
# A client that sends nothing for so long is gone.
_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Upload:
    """What a client sent.

    Attributes:
        recording: The recording; of the client's name for it, only a known ending is left.
        fields: The other fields of the form.
    """

    recording: Path
    fields: dict[str, str]


async def receive_upload(request: Request, folder: Path, *, max_bytes: int, max_seconds: float) -> Upload:
    """Read a form with one file.

    Args:
        request: A request whose body was not read.
        folder: Where the file is written.
        max_bytes: The most that is received.
        max_seconds: The longest time that it may take.

    Returns:
        The file and the fields.

    Raises:
        ServiceError: The form is too large, too slow or no form, or has no file or several.
        starlette.requests.ClientDisconnect: The client is gone.
    """
    form = _Form(request.headers.get("content-type", ""), folder)
    stated = request.headers.get("content-length", "")
    too_large = ServiceError(
        413,
        "upload_too_large",
        f"found more than {max_bytes / 1e6:g} MB, expected that at most: compress the recording, as FLAC, or cut it",
    )
    limit = max_bytes + _MAX_FORM_BYTES
    if stated.isdecimal() and int(stated) > limit:
        raise too_large
    received = 0
    try:
        async with asyncio.timeout(max_seconds):
            async for chunk in _in_time(request):
                received += len(chunk)
                if received > limit:
                    raise too_large
                form.feed(chunk)
                if len(form.waiting) >= _WRITE_BYTES:
                    await asyncio.to_thread(form.write)
            await asyncio.to_thread(form.write)
    except TimeoutError:
        raise ServiceError(
            408,
            "upload_too_slow",
            f"found an upload that paused for {_PAUSE_SECONDS:g} s or took more than {max_seconds:g} s, expected a "
            "faster one: send it again",
        ) from None
    except StorageError as error:
        raise service_error(error) from None
    return form.finish()


async def _in_time(request: Request) -> AsyncIterator[bytes]:
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(_PAUSE_SECONDS):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        yield chunk


class _Form:
    """A form that comes in chunks.

    Args:
        content_type: Header of the request.
        folder: Where the file is written.

    Attributes:
        waiting: Bytes of the file that are not written yet.
    """

    def __init__(self, content_type: str, folder: Path) -> None:
        kind, parameters = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not parameters.get(b"boundary"):
            raise ServiceError(
                415,
                "no_form",
                f"found Content-Type {content_type[:100]!r}, expected multipart/form-data with a boundary, as "
                "`curl --form file=@talk.wav` sends it",
            )
        self.waiting = bytearray()
        self._folder = folder
        self._fields: dict[str, str] = {}
        self._recording: Path | None = None
        self._header = bytearray(), bytearray()
        self._disposition = b""
        self._name: str | None = None
        self._value = bytearray()
        self._is_whole = False
        try:
            self._parser = MultipartParser(
                parameters[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_content,
                    "on_part_data": self._take,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _invalid(f"found a form that cannot be read ({error})") from None

    def feed(self, chunk: bytes) -> None:
        """Take what has come."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _invalid(f"found a form that cannot be read ({error})") from None

    def write(self) -> None:
        """Write what waits for the disk."""
        if self._recording is None:
            return
        require_space(self._folder)
        try:
            with self._recording.open("ab") as file:
                file.write(self.waiting)
        except OSError as error:
            raise StorageError(f"the disk of the service failed ({error.strerror}): try again later") from error
        self.waiting.clear()

    def finish(self) -> Upload:
        """Check that all has come."""
        if not self._is_whole:
            raise _invalid("found a form that ends before its last boundary")
        if self._recording is None:
            raise _invalid(f"found a form without a file, expected one in the field {FILE_FIELD!r}")
        return Upload(self._recording, self._fields)

    def _begin_part(self) -> None:
        self._disposition, self._name, self._value = b"", None, bytearray()

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = bytearray(), bytearray()

    def _begin_content(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        if kind != b"form-data" or not name:
            raise _invalid("found a part of the form without a name")
        if name == FILE_FIELD:
            if self._recording is not None:
                raise _invalid("found several files in one form, expected one: send a request for each")
            suffix = upload_suffix(options.get(b"filename", b"").decode(errors="replace"))
            self._recording = self._folder / f"recording{suffix}"
        elif b"filename" in options:
            raise _invalid(f"found a file in the field {name[:100]!r}, expected it in {FILE_FIELD!r}")
        elif name in self._fields:
            raise _invalid(f"found the field {name[:100]!r} twice, expected it once")
        elif len(self._fields) == _MAX_FIELDS:
            raise _invalid(f"found more than {_MAX_FIELDS} fields in one form")
        self._name = name

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self.waiting += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise _invalid(f"found more than {_MAX_FIELD_BYTES} bytes in the field {str(self._name)[:100]!r}")

    def _end_part(self) -> None:
        if self._name is not None and self._name != FILE_FIELD:
            self._fields[self._name] = self._value.decode(errors="replace")

    def _end(self) -> None:
        self._is_whole = True


def _invalid(sentence: str) -> ServiceError:
    return ServiceError(422, "invalid_form", sentence)
