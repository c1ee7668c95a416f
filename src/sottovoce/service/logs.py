"""Logs for programs: a line of JSON for every message, and no word of what anybody said."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator

# What python_multipart warns of is what a client has sent.
_LEVELS = {
    "sottovoce": logging.INFO,
    "uvicorn.error": logging.WARNING,
    "asyncio": logging.WARNING,
    "python_multipart": logging.ERROR,
}


@contextlib.contextmanager
def logged_as_json() -> Iterator[None]:
    """Inside, this package and the server write lines of JSON to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    levels = {logging.getLogger(name): level for name, level in _LEVELS.items()}
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in levels]
    for logger, level in levels.items():
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


class JsonFormatter(logging.Formatter):
    """Makes a line of JSON of a message; what its `extra` gives as `fields` stands beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)
