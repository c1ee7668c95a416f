"""Requests as anybody may send them, byte by byte."""

import contextlib
import http.client
import json
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from sottovoce.service.server import Service
from sottovoce.service.settings import ServiceSettings

BOUNDARY = "0123456789"
PATH = "/v1/audio/enhancements"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self):
        """Code and message; the body holds nothing else."""
        content = json.loads(self.body)
        assert set(content) == {"error"}
        assert set(content["error"]) == {"code", "message"}
        assert "Traceback" not in content["error"]["message"]
        assert ".sottovoce-" not in content["error"]["message"]  # nothing of where it lies
        return content["error"]["code"], content["error"]["message"]


def call(address, method, path, body=None, headers=None):
    """Send a request and read the whole answer."""
    parts = urlsplit(address)
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)) as connection:
        connection.request(method, path, body, {"Connection": "close", **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def part(name, content, filename=None):
    """One part of a form; a name of None leaves it out."""
    names = "" if name is None else f'; name="{name}"'
    names += "" if filename is None else f'; filename="{filename}"'
    content = content if isinstance(content, bytes) else str(content).encode()
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data{names}\r\n\r\n".encode() + content + b"\r\n"


def form(*parts):
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def post(address, *parts, headers=None, path=PATH):
    """Send a form."""
    return call(address, "POST", path, form(*parts), {**FORM, **(headers or {})})


def wait_until(condition, seconds=30.0):
    """Wait for what another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def serving(**settings):
    """A service in a thread of this process, whose worker processes are its own."""
    service = Service(ServiceSettings(port=0, **settings))
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join(30)
        assert not thread.is_alive()
