"""Answers that are files: an enhanced recording, or an adapted model."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sottovoce.service.kinds import media_type

_READ_BYTES = 2**18
NOTES = "Sottovoce-Notes"
"""Header with what the client should know of its recording: a list of sentences, as JSON in ASCII."""
FILE_ANSWER: dict[str, Any] = {
    "description": "The enhanced recording, of the same format.",
    "headers": {
        NOTES: {
            "description": "Sentences worth knowing, such as tags for which there is no place, as a list in JSON.",
            "schema": {"type": "string"},
        }
    },
    "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
}
"""How OpenAPI describes such an answer."""

# Nobody takes an answer for another kind of file, and no cache keeps what somebody said.
_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class FileAnswer(StreamingResponse):
    """A file, which may be deleted meanwhile.

    Args:
        path: The file.
        notes: What the client should know.
    """

    def __init__(self, path: Path, notes: Sequence[str]) -> None:
        self._file = path.open("rb")
        size = path.stat().st_size
        super().__init__(
            _blocks(self._file),
            media_type=media_type(path.suffix),
            headers={
                "Content-Length": str(size),
                "Content-Disposition": f'attachment; filename="{path.name}"',
                NOTES: json.dumps(notes),
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
