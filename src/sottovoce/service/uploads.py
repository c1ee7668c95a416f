"""Uploads: a form is read while it arrives, its files go to the disk, and all else in it is small."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from sottovoce.errors import StorageError, printable
from sottovoce.service.errors import ServiceError, service_error
from sottovoce.service.kinds import upload_suffix
from sottovoce.service.work import require_space

FILE_FIELD = "file"
MAX_FILES = 64
"""The most recordings of one place."""
RECORDINGS = "recordings"
"""Name of the folder of several files of one form."""
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 1000
_MAX_NAME_CHARACTERS = 100
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
        recordings: The recordings; of the client's names for them, only known endings are left.
        names: Those names, to be shown to the client alone.
        fields: The other fields of the form.
    """

    recordings: tuple[Path, ...]
    names: tuple[str, ...]
    fields: dict[str, str]


async def receive_upload(
    request: Request, folder: Path, *, max_bytes: int, max_seconds: float, several: bool = False
) -> Upload:
    """Read a form with one file, or several.

    Args:
        request: A request whose body was not read.
        folder: Where the file is written, or the folder `RECORDINGS` of several.
        max_bytes: The most that is received.
        max_seconds: The longest time that it may take.
        several: Whether there may be several files.

    Returns:
        The files and the fields.

    Raises:
        ServiceError: The form is too large, too slow or no form, or has no file or too many.
        starlette.requests.ClientDisconnect: The client is gone.
    """
    form = _Form(request.headers.get("content-type", ""), folder, several=several)
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
        folder: Where the file is written, or the folder of several.
        several: Whether there may be several files.

    Attributes:
        waiting: Bytes of the current file that are not written yet.
    """

    def __init__(self, content_type: str, folder: Path, *, several: bool) -> None:
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
        self._recordings: list[Path] = []
        self._names: list[str] = []
        self._several = several
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
        if not self._recordings:
            return
        require_space(self._folder)
        try:
            with self._recordings[-1].open("ab") as file:
                file.write(self.waiting)
        except OSError as error:
            raise StorageError(f"the disk of the service failed ({error.strerror}): try again later") from error
        self.waiting.clear()

    def finish(self) -> Upload:
        """Check that all has come."""
        if not self._is_whole:
            raise _invalid("found a form that ends before its last boundary")
        if not self._recordings:
            raise _invalid(f"found a form without a file, expected one in the field {FILE_FIELD!r}")
        return Upload(tuple(self._recordings), tuple(self._names), self._fields)

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
            self._begin_file(options.get(b"filename", b"").decode(errors="replace"))
        elif b"filename" in options:
            raise _invalid(f"found a file in the field {name[:100]!r}, expected it in {FILE_FIELD!r}")
        elif name in self._fields:
            raise _invalid(f"found the field {name[:100]!r} twice, expected it once")
        elif len(self._fields) == _MAX_FIELDS:
            raise _invalid(f"found more than {_MAX_FIELDS} fields in one form")
        self._name = name

    def _begin_file(self, name: str) -> None:
        count = len(self._recordings)
        if count and not self._several:
            raise _invalid("found several files in one form, expected one: send a request for each")
        if count == MAX_FILES:
            raise _invalid(f"found more than {MAX_FILES} files in one form, expected that at most: join some of them")
        self.write()  # what waits is of the file before
        if self._several:
            folder = self._folder / RECORDINGS
            folder.mkdir(exist_ok=True)
            self._recordings.append(folder / f"{count:04d}{upload_suffix(name)}")
        else:
            self._recordings.append(self._folder / f"recording{upload_suffix(name)}")
        self._names.append(printable(name[:_MAX_NAME_CHARACTERS]) or f"recording {count + 1}")

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
