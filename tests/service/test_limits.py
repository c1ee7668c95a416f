"""What each client may ask for: requests, sound, streams, and who counts as one client."""

import json
import tracemalloc
from types import SimpleNamespace

import pytest
from websockets.exceptions import InvalidStatus

from sottovoce.service import limits, pool
from sottovoce.service.client import Client, RefusedError
from sottovoce.service.errors import ServiceError
from sottovoce.service.limits import Allowance, Limits, client_of
from sottovoce.service.work import Progress

from .calls import call, part, post, serving
from .test_streams import begin, opened, refused


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_an_allowance_is_spent_and_comes_back():
    clock = Clock()
    allowance = Allowance(10, 60, clock)
    for _ in range(10):
        assert allowance.wait_seconds("a", 1) == 0
        allowance.take("a", 1)
    assert allowance.wait_seconds("a", 1) == pytest.approx(6, abs=1e-3)
    assert allowance.wait_seconds("b", 1) == 0
    clock.now += 3  # half of one is not one
    assert allowance.wait_seconds("a", 1) == pytest.approx(3, abs=1e-3)
    clock.now += 3
    assert allowance.wait_seconds("a", 1) == 0
    allowance.take("a", 11)  # more than was left has to be waited for
    assert allowance.wait_seconds("a") == pytest.approx(60, abs=1e-3)
    clock.now += 1000
    for _ in range(10):  # and never more than the whole amount is saved
        assert allowance.wait_seconds("a", 1) == 0
        allowance.take("a", 1)
    assert allowance.wait_seconds("a", 1) > 0


def test_memory_is_bounded_however_many_clients_come(monkeypatch):
    monkeypatch.setattr(limits, "_MAX_CLIENTS", 200)
    clock = Clock()
    allowance = Allowance(10, 60, clock)
    tracemalloc.start()
    for number in range(4000):
        allowance.take(f"client {number}", 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(allowance) == 200
    assert peak < 200_000
    assert allowance.wait_seconds("client 0", 10) == 0
    clock.now += 1000
    for number in range(300):  # those that are through with it are forgotten as others come
        allowance.take(f"another {number}", 0.01)
        clock.now += 1
    assert len(allowance) < 5


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("no address" * 100, ("no address" * 100)[:64]),
        (None, ""),
    ],
)
def test_who_is_one_client(address, client):
    assert client_of({"client": None if address is None else (address, 1234)}) == client


def test_channels_are_given_back():
    counted = Limits(SimpleNamespace(client_requests=1, client_minutes=1, client_streams=3, jobs=1))
    with counted.stream("a", 2), counted.stream("b", 3):
        with (
            pytest.raises(ServiceError, match=r"found 2 channels .* and 2 more, expected 3 at most"),
            counted.stream("a", 2),
        ):
            pass
        with counted.stream("a", 1):
            pass
    assert not counted._channels


def test_too_many_requests(models, tmp_path):
    with serving(models=models, folder=tmp_path / "state", workers=1, client_requests=1) as service:
        assert call(service.address, "GET", "/v1/models").status == 200
        answer = call(service.address, "GET", "/v1/models")
        code, sentence = answer.error
        assert (answer.status, code) == (429, "too_many_requests")
        assert sentence.startswith(
            "found more than 1 requests in a minute from this client, expected that at most: try"
        )
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        with pytest.raises(InvalidStatus) as error:
            opened(service.address)
        assert error.value.response.status_code == 429
        assert json.loads(error.value.response.body)["error"]["code"] == "too_many_requests"
        # A header that anybody can send makes nobody another client; and supervisors are always answered.
        assert call(service.address, "GET", "/v1/models", headers={"X-Forwarded-For": "192.0.2.1"}).status == 429
        assert call(service.address, "GET", "/healthz").status == 200


def test_clients_behind_a_proxy_that_is_trusted(models, tmp_path):
    settings = {"client_requests": 1, "proxies": ("127.0.0.0/8",)}
    with serving(models=models, folder=tmp_path / "state", workers=1, **settings) as service:

        def status(forwarded):
            return call(service.address, "GET", "/v1/models", headers={"X-Forwarded-For": forwarded}).status

        assert [status("192.0.2.1") for _ in range(2)] == [200, 429]
        # What stands before the address that the proxy has added was sent by the client itself.
        assert status("203.0.113.9, 192.0.2.1") == 429
        assert status("192.0.2.2") == 200


def test_too_much_sound(models, tmp_path, recording):
    """A second each: of a recording, of a job, and in a stream."""
    parts = [part("file", recording.read_bytes(), "a.wav"), part("model", "identity")]
    for kind in ("recording", "job", "stream"):
        folder = tmp_path / kind
        with serving(models=models, folder=folder, workers=1, client_minutes=0.9 / 60) as service:
            if kind == "recording":
                assert post(service.address, *parts).status == 200
            elif kind == "job":
                client = Client(service.address)
                client.wait(client.submit(recording, model="identity").id, every_seconds=0.05)
            else:
                with opened(service.address) as connection:
                    begin(connection)
                    connection.send(bytes(4 * 16_000))
                    connection.send(bytes(4 * 16_000))
                    code, closing, _ = refused(connection)
                assert (code, closing) == ("too_much_sound", 1013)
            answer = post(service.address, *parts)
            assert (answer.status, answer.error[0]) == (429, "too_much_sound")
            assert "0.015 minutes of sound in an hour" in answer.error[1]
            assert 1 <= int(answer.headers["retry-after"]) <= 4000
            with pytest.raises(RefusedError) as error:
                Client(service.address).submit(recording)
            assert error.value.retry_seconds == pytest.approx(int(answer.headers["retry-after"]), abs=5)


# In the place of what enhances.
FUNCTIONS = """
import os
from sottovoce.service.work import Progress

def die(enhancers, order, *, advance):
    advance(Progress(0.5, 1.0))
    os.abort()
"""


@pytest.mark.parametrize("path", ["/v1/audio/enhancements", "/v1/jobs"])
@pytest.mark.parametrize("fault", ["recording_too_long", "recording_crashed"])
def test_what_fails_half_way_counts_as_far_as_it_was_decoded(
    monkeypatch, tmp_path, models, functions, recording, path, fault
):
    """Two seconds are allowed; a second of the recording is decoded before it fails."""
    settings = {"client_minutes": 1.9 / 60, "max_minutes": 0.5 / 60}
    if fault == "recording_crashed":
        monkeypatch.setattr(pool, "enhance_upload", functions.die)
    with serving(models=models, folder=tmp_path / "state", workers=1, **settings) as service:
        client = Client(service.address, timeout_seconds=30)

        def send():
            answer = post(service.address, part("file", recording.read_bytes()), part("model", "identity"), path=path)
            if answer.status == 202:
                return client.wait(json.loads(answer.body)["id"], every_seconds=0.05).code
            return answer.error[0]

        assert [send() for _ in range(3)] == [fault, fault, "too_much_sound"]


def test_what_is_decoded_is_counted_whatever_comes_of_it():
    counted = Limits(SimpleNamespace(client_requests=1, client_minutes=1 / 60, client_streams=3, jobs=1))
    seen = []
    counted.require_sound("a")

    def fail():
        with counted.decoding("a", seen.append) as advance:
            advance(Progress(0.3, 0.6))
            advance(Progress(0.6, 1.2))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [Progress(0.3, 0.6), Progress(0.6, 1.2)]
    with pytest.raises(ServiceError, match=r"try again in 720 s"):  # an hour for each second
        counted.require_sound("a")
    counted.require_sound("b")
    with counted.decoding(None) as advance:  # an earlier service knew whose it was
        advance(Progress(1.0, 9.0))


def test_so_many_channels_for_each_client(models, tmp_path):
    settings = {"client_streams": 2, "proxies": ("127.0.0.1",)}
    with serving(models=models, folder=tmp_path / "state", workers=1, **settings) as service:
        first, second = ({"additional_headers": {"X-Forwarded-For": f"192.0.2.{number}"}} for number in (1, 2))
        with opened(service.address, **first) as one, opened(service.address, **first) as two:
            begin(one, channels=2)
            two.send('{"rate": 16000, "format": "f32le"}')
            assert refused(two)[:2] == ("too_many_streams", 1013)
            with opened(service.address, **second) as other:
                assert begin(other, channels=2)["type"] == "Started"
