"""Refusals that reach their client, whatever it is sending."""

import socket
from urllib.parse import urlsplit

import pytest

from .calls import FORM, PATH, call, form, part


def connected(address):
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 413), ({"Host": "evil.example"}, 403), ({"Content-Type": "text/plain"}, 415)],
)
def test_a_client_that_sends_much_gets_its_sentence(service, headers, status):
    body = form(part("file", bytes(20_000_000), "a.wav"))
    for _ in range(3):
        chunks = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
        assert call(service.address, "POST", PATH, chunks, FORM | headers).status == status


def test_a_client_that_asks_first_is_not_made_to_send(service):
    head = f"POST {PATH} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 20000000\r\nExpect: 100-continue\r\n\r\n"
    with connected(service.address) as sock:
        sock.sendall(head.encode())
        assert sock.recv(12) == b"HTTP/1.1 403"


def test_a_client_that_never_ends_is_answered(service):
    head = f"POST {PATH} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 20000000\r\n\r\n"
    with connected(service.address) as sock:
        sock.sendall(head.encode() + bytes(1000))
        assert sock.recv(12) == b"HTTP/1.1 403"
