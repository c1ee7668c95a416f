"""Answers that are errors: a status, a code for programs, and a sentence for people."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from sottovoce.errors import (
    AudioError,
    ConfigError,
    DataError,
    MissingExtraError,
    ModelError,
    SottovoceError,
    StorageError,
    UnknownFormatError,
    printable,
)
from sottovoce.service.work import TooLongError

# The first class that fits counts.
_STATUSES: dict[type[SottovoceError], tuple[int, str]] = {
    TooLongError: (413, "recording_too_long"),
    UnknownFormatError: (415, "unknown_format"),
    StorageError: (507, "storage_full"),
    AudioError: (422, "invalid_recording"),
    ConfigError: (422, "invalid_field"),
    DataError: (422, "too_little_to_learn"),
    MissingExtraError: (501, "not_installed"),
    ModelError: (500, "model_failed"),
}


class ServiceError(Exception):
    """A request is refused, or fails.

    Args:
        status: HTTP status.
        code: For programs; it stays the same when the sentence is improved.
        message: One sentence: what was found, what was expected, what to do.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = printable(message)
        self.headers = dict(headers or {})

    def content(self) -> dict[str, dict[str, str]]:
        """What all errors hold."""
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        """Make the answer."""
        return JSONResponse(self.content(), self.status, self.headers)


def service_error(error: SottovoceError) -> ServiceError:
    """Say with which status an error of the engine is answered.

    Args:
        error: What the engine, or an option, has raised.

    Returns:
        The error with its status.
    """
    status, code = next(entry for kind, entry in _STATUSES.items() if isinstance(error, kind))
    return ServiceError(status, code, str(error))
