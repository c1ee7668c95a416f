"""When requests are counted."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")

from sottovoce.service.metrics import Metrics, Observer

NOBODY = SimpleNamespace(waiting=0, running=0, admitted=0)


def count(app):
    """Pass one request to an app; return the answers counted when the last piece left, and at the end, by status."""
    metrics, at_the_last = Metrics(NOBODY, NOBODY), []

    def counted():
        (family,) = metrics.requests.collect()
        return {each.labels["status"]: each.value for each in family.samples if each.name.endswith("_total")}

    async def send(message):
        if message["type"] == "http.response.body" and not message.get("more_body"):
            at_the_last.append(counted())

    async def whole():
        await Observer(app, metrics)({"type": "http", "method": "GET"}, None, send)

    with contextlib.suppress(RuntimeError):
        asyncio.run(whole())
    return at_the_last, counted()


async def start(send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})


def test_an_answer_is_counted_once_and_before_whoever_asked_has_all_of_it():
    async def app(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"b"})

    assert count(app) == ([{"200": 1}], {"200": 1})


def test_an_answer_that_breaks_off_is_counted_as_a_failure():
    async def app(scope, receive, send):
        await start(send)
        raise RuntimeError

    assert count(app) == ([], {"500": 1})
