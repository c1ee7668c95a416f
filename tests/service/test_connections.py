"""Clients that send nothing, or drop by drop, or do not read, hold no connection for long."""

import contextlib
import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from sottovoce.service import connections, server, uploads

from ..signal.audio.files import noise, save
from .calls import FORM, PATH, call, form, part, serving

SECONDS = 0.8


@pytest.fixture(scope="module")
def impatient(models, tmp_path_factory):
    """A service of few connections, which waits for nobody longer than a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "HEADER_SECONDS", SECONDS)
        patch.setattr(uploads, "_PAUSE_SECONDS", SECONDS)
        patch.setattr(server, "_TICKS_PER_CHECK", 1)
        folder = tmp_path_factory.mktemp("impatient") / "state"
        settings = {"connections": 8, "transfer_seconds": 1, "folder": folder, "workers": 1}
        with serving(models=models, **settings) as service:
            yield service


@contextlib.contextmanager
def connected(service):
    parts = urlsplit(service.address)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        yield sock


def is_closed_within(sock, seconds):
    sock.settimeout(seconds)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def drip(sock, text, seconds):
    """Send a byte every now and then, until the other side wants no more."""
    deadline = time.monotonic() + seconds
    for byte in text:
        if time.monotonic() > deadline:
            return False
        try:
            sock.sendall(bytes([byte]))
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_one_that_sends_nothing(impatient):
    with connected(impatient) as sock:
        assert is_closed_within(sock, SECONDS + 3)


def test_one_that_sends_its_headers_drop_by_drop(impatient):
    with connected(impatient) as sock:
        assert drip(sock, b"GET /healthz HTTP/1.1\r\nX-Much: " + b"x" * 100, SECONDS + 3)


def test_one_that_asks_again_and_again_is_kept(impatient):
    with connected(impatient) as sock:
        sock.settimeout(5)
        for _ in range(10):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += sock.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.15)


def test_one_that_pauses_within_its_upload(impatient):
    body = form(part("file", b"x" * 1000, "a.wav"))
    with connected(impatient) as sock:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        sock.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + body[:500])
        assert sock.recv(4096).startswith(b"HTTP/1.1 408 Request Timeout")


def test_one_that_uploads_drop_by_drop(impatient):
    with connected(impatient) as sock:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        sock.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode())
        sock.settimeout(0.01)
        assert drip(sock, form(part("file", b"x" * 500, "a.wav")), 8)


def test_one_that_does_not_read_its_answer(impatient, tmp_path):
    source = save(tmp_path / "a.wav", noise(2_000_000), 48_000, subtype="FLOAT")
    body = form(part("file", source.read_bytes(), "a.wav"), part("model", "identity"))
    parts = urlsplit(impatient.address)
    with contextlib.closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((parts.hostname, parts.port))
        sock.settimeout(30)
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        sock.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + body)
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
        deadline = time.monotonic() + 10
        while impatient._server.server_state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_longest_idle_makes_room(impatient):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(impatient)) for _ in range(8)]
        time.sleep(0.1)
        for _ in range(4):
            assert call(impatient.address, "GET", "/healthz").status == 200
        assert is_closed_within(idle[0], SECONDS / 4)
        assert len(impatient._server.server_state.connections) <= 8


def test_what_is_no_http(impatient):
    with connected(impatient) as sock:
        sock.sendall(b"\x16\x03\x01 something else\r\n\r\n")
        head, _, body = b"".join(iter(lambda: sock.recv(4096), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["error"]["code"] == "no_http"
