"""Live sound over a WebSocket: the samples of the engine's stream, bounds, and who may call."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytest.importorskip("websockets")
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sottovoce.engine.enhancer import Enhancer
from sottovoce.service import connections, streams
from sottovoce.service.client import Client, RefusedError, UnreachableError

from ..signal.audio.files import noise
from .calls import call, serving, wait_until
from .test_guard import TOKEN, guarded  # noqa: F401 (a fixture)

PATH = "/v1/audio/enhancements/stream"


def opened(address, **options):
    return connect(address.replace("http", "ws", 1) + PATH, compression=None, proxy=None, open_timeout=30, **options)


def begin(connection, rate=16_000, channels=1, format="f32le", model="identity", **fields):
    connection.send(json.dumps({"rate": rate, "channels": channels, "format": format, "model": model, **fields}))
    return json.loads(connection.recv(30))


def say(connection, kind):
    connection.send(json.dumps({"type": kind}))


def rest(connection):
    """Bytes of sound until the next text, and that text."""
    sound = b""
    while isinstance(message := connection.recv(30), bytes):
        sound += message
    return sound, json.loads(message)


def refused(connection):
    """Code of the error and of the close, and the sentence."""
    _, content = rest(connection)
    assert set(content) == {"error"}
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(30)
    assert closed.value.rcvd.reason == content["error"]["code"]
    return content["error"]["code"], closed.value.rcvd.code, content["error"]["message"]


def expected(waveform, rate, options, block):
    """What the engine gives for the same blocks, which the service takes 0.1 s at a time."""
    stream = Enhancer.from_pretrained("live").stream(rate, waveform.shape[0], live=True, **options)
    outputs, piece = [], rate // 10
    for begin in range(0, waveform.shape[1], block):
        part = waveform[:, begin : begin + block]
        outputs += [stream.push(part[:, at : at + piece]) for at in range(0, part.shape[1], piece)]
    found = np.concatenate([*outputs, stream.flush()], axis=1)
    # The network's last bit depends on how many frames it is given at once.
    stream.reset()
    whole = np.concatenate([stream.push(waveform), stream.flush()], axis=1)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)
    return found


@pytest.mark.parametrize("block", [160, 4801, 8_000])
@pytest.mark.parametrize(
    ("rate", "channels", "options"),
    [(16_000, 1, {}), (48_000, 2, {"limit_db": 20.0, "linked": True}), (22_050, 1, {"mix": 0.5, "output": "removed"})],
)
def test_gives_the_samples_of_the_engine(service, rate, channels, options, block):
    waveform = noise(6_000, channels).astype(np.float32)
    with opened(service.address) as connection:
        started = begin(connection, rate, channels, model="live", **options)
        threading.Thread(
            target=lambda: [
                *(connection.send(waveform[:, at : at + block].T.tobytes()) for at in range(0, 6_000, block)),
                say(connection, "CloseStream"),
            ]
        ).start()
        sound, finalized = rest(connection)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(30)
    assert closed.value.rcvd.code == 1000
    assert finalized == {"type": "Finalized", "samples": 6_000}
    enhanced = np.frombuffer(sound, "<f4").reshape(-1, channels).T
    engine = {**options, "removed": options.get("output") == "removed"}
    engine.pop("output", None)
    np.testing.assert_array_equal(enhanced, expected(waveform, rate, engine, block))
    latency = Enhancer.from_pretrained("live").stream(rate, channels, live=True).latency_seconds
    assert started["latency_ms"] == pytest.approx(1000 * latency, abs=1e-3)
    assert 0 <= started["latency_samples"] - latency * rate < 1
    assert {name: started[name] for name in options} == options


def test_sixteen_bits_and_a_new_signal(service):
    """The end of a signal forgets it; samples of 16 bits pass through unchanged, full scale included."""
    rng = np.random.default_rng(1)
    samples = rng.integers(-(2**15), 2**15, (2000, 2), np.int16)
    with opened(service.address) as connection:
        started = begin(connection, channels=2, format="s16le")
        assert (started["type"], started["full_band"], started["limit_db"]) == ("Started", True, None)
        outputs = []
        for _ in range(2):
            connection.send(samples.tobytes())
            say(connection, "KeepAlive")
            say(connection, "Finalize")
            sound, finalized = rest(connection)
            assert finalized == {"type": "Finalized", "samples": 2000}
            outputs.append(np.frombuffer(sound, "<i2").reshape(-1, 2).astype(int))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert np.abs(outputs[0] - samples).max() <= 1


@pytest.mark.parametrize(
    ("first", "code", "sentence"),
    [
        (b"\0\0", "invalid_frame", "found sound in the first frame"),
        ("hello", "invalid_frame", "no JSON object"),
        ("[" * 4000, "invalid_frame", "no JSON object"),
        ("x" * 5000, "frame_too_large", "4096 at most"),
        ('{"channels": 1, "format": "f32le"}', "invalid_field", "found no rate"),
        ('{"rate": 1e400, "format": "f32le"}', "invalid_field", "expected a whole number"),
        ('{"rate": [], "format": "f32le"}', "invalid_field", "expected a whole number"),
        ('{"rate": 16000.5, "format": "f32le"}', "invalid_field", "expected a whole number"),
        ('{"rate": 1, "format": "f32le"}', "invalid_field", "expected a whole number from 4000 to 384000"),
        ('{"rate": 16000, "format": "f32le", "channels": 65}', "invalid_field", "expected 1 to 64"),
        ('{"rate": 16000, "format": "mp3"}', "invalid_field", "expected s16le or f32le"),
        ('{"rate": 16000, "format": "f32le", "mix": 2}', "invalid_field", "found mix 2"),
        ('{"rate": 16000, "format": "f32le", "limit_db": NaN}', "invalid_field", "found limit_db"),
        ('{"rate": 16000, "format": "f32le", "full_band": 3}', "invalid_field", "true or false"),
        ('{"rate": 16000, "format": "f32le", "model": 3}', "invalid_field", "expected text"),
        ('{"rate": 16000, "format": "f32le", "model": "../x"}', "unknown_model", "default, live"),
        ('{"rate": 16000, "format": "f32le", "bitrate": 3}', "invalid_field", "found the field 'bitrate'"),
    ],
)
def test_what_a_stream_cannot_begin_with(service, first, code, sentence):
    with opened(service.address) as connection:
        connection.send(first)
        found = refused(connection)
    assert found[:2] == (code, 1009 if code == "frame_too_large" else 1007)
    assert sentence in found[2]


@pytest.mark.parametrize(
    ("frame", "code", "closing"),
    [
        (bytes(3), "invalid_frame", 1007),
        (bytes(streams.MAX_FRAME_BYTES + 4), "frame_too_large", 1009),
        ('{"type": "Stop"}', "invalid_frame", 1007),
        ("null", "invalid_frame", 1007),
    ],
)
def test_frames_that_are_none(service, frame, code, closing):
    with opened(service.address) as connection:
        begin(connection)
        connection.send(frame)
        assert refused(connection)[:2] == (code, closing)


def test_infinity_is_no_limit(service):
    with opened(service.address) as connection:
        assert begin(connection, limit_db="inf")["limit_db"] is None


def test_a_model_that_fails(service):
    with opened(service.address) as connection:
        begin(connection, model="exploding")
        connection.send(noise(4000).astype("<f4").T.tobytes())
        code, closing, sentence = refused(connection)
    assert (code, closing) == ("model_failed", 1011)
    assert "exploding" in sentence


def test_a_failure_of_the_service_shows_nothing_of_it(service, monkeypatch):
    def fail(fields):
        raise RuntimeError("at /secret/place")

    monkeypatch.setattr(streams.StreamFields, "checked", fail)
    with opened(service.address) as connection:
        connection.send('{"rate": 16000, "format": "f32le"}')
        assert refused(connection) == ("internal", 1011, "the service failed: see its log")


def test_a_client_that_says_nothing(service, monkeypatch):
    monkeypatch.setattr(streams, "FIRST_FRAME_SECONDS", 0.05)
    monkeypatch.setattr(streams, "IDLE_SECONDS", 1.0)
    with opened(service.address) as connection:
        assert refused(connection)[:2] == ("stream_idle", 1008)
    monkeypatch.setattr(streams, "FIRST_FRAME_SECONDS", 10.0)
    with opened(service.address) as connection:
        begin(connection)
        for _ in range(6):  # far more often than needed: on a busy machine a pause takes longer
            time.sleep(0.2)
            say(connection, "KeepAlive")
        assert refused(connection)[:2] == ("stream_idle", 1008)


def flood(connection):
    for _ in range(2000):
        connection.send(bytes(streams.MAX_FRAME_BYTES))


def test_a_client_that_reads_nothing(service, monkeypatch):
    """It is closed, and nothing grows meanwhile: what it sends is not read."""
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.1)
    with opened(service.address, max_queue=1) as connection:
        begin(connection, channels=8)
        with pytest.raises(ConnectionClosed):
            flood(connection)
    wait_until(lambda: metric(service, "sottovoce_streams") == 0)


def metric(service, name):
    text = call(service.address, "GET", "/metrics").body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name)


def test_so_many_channels_at_once_and_their_counters(models, tmp_path):
    with serving(models=models, folder=tmp_path / "state", workers=1, streams=3) as service:
        with opened(service.address) as first:
            begin(first, channels=2)
            with opened(service.address) as second:
                second.send('{"rate": 16000, "channels": 2, "format": "f32le"}')
                code, closing, sentence = refused(second)
            assert (code, closing) == ("too_many_streams", 1013)
            assert "found 2 channels in open streams and 2 more, expected 3 at most" in sentence
            assert metric(service, "sottovoce_streams") == 1
            first.send(bytes(8 * 16_000))
            say(first, "CloseStream")
            rest(first)
        assert metric(service, "sottovoce_sound_seconds_total") == 1
        assert metric(service, "sottovoce_stream_block_seconds_count") == 10
        wait_until(lambda: metric(service, "sottovoce_streams") == 0)
        with opened(service.address) as third:
            assert begin(third, channels=3)["type"] == "Started"
            service.stop()
            assert refused(third)[:2] == ("stopping", 1012)


def test_idle_sockets_keep_nobody_out(models, tmp_path):
    settings = {"folder": tmp_path / "state", "workers": 1, "connections": 2}
    with (
        serving(models=models, **settings) as service,
        opened(service.address) as idle,
        opened(service.address) as working,
    ):
        assert begin(working)["type"] == "Started"
        assert call(service.address, "GET", "/healthz").status == 200
        with pytest.raises(ConnectionClosed):
            idle.recv(10)
        say(working, "Finalize")
        assert rest(working)[1]["samples"] == 0


def subprotocols(token):
    return ["sottovoce", "sottovoce.token." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "token_needed"),
        ({"subprotocols": subprotocols(TOKEN + "x")}, "token_needed"),
        ({"subprotocols": ["sottovoce", "sottovoce.token.a"]}, "token_needed"),
        ({"subprotocols": ["sottovoce", "sottovoce.token."]}, "token_needed"),
        ({"additional_headers": {"Authorization": f"Basic {TOKEN}"}}, "token_needed"),
        ({"origin": "http://evil.example", "subprotocols": subprotocols(TOKEN)}, "origin_refused"),
        ({"origin": "null", "subprotocols": subprotocols(TOKEN)}, "origin_refused"),
        ({"host": "evil.example", "subprotocols": subprotocols(TOKEN)}, "host_refused"),
    ],
)
def test_others_are_refused_before_a_socket_is_there(guarded, options, code):  # noqa: F811
    options = dict(options)
    address = guarded.address
    if host := options.pop("host", None):
        options["sock"] = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        address = f"http://{host}"
    with pytest.raises(InvalidStatus) as error:
        opened(address, **options)
    assert json.loads(error.value.response.body)["error"]["code"] == code
    assert error.value.response.status_code == (401 if code == "token_needed" else 403)


@pytest.mark.parametrize(
    "options",
    [{"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}, {"subprotocols": subprotocols(TOKEN)}],
)
def test_the_token_opens_a_stream(guarded, options):  # noqa: F811
    host = guarded.address.removeprefix("http://")
    with opened(guarded.address, origin=f"http://{host}", **options) as connection:
        assert begin(connection)["type"] == "Started"
        # The token never comes back.
        assert connection.subprotocol == ("sottovoce" if "subprotocols" in options else None)


def test_the_client_gives_the_samples_of_the_engine(service):
    waveform = noise(9_600, 2).astype(np.float32)
    blocks = (waveform[:, at : at + 480] for at in range(0, 9_600, 480))
    enhanced = list(Client(service.address).stream(blocks, 48_000, channels=2, model="live", limit_db=20.0))
    assert len(enhanced) > 1
    np.testing.assert_array_equal(np.concatenate(enhanced, axis=1), expected(waveform, 48_000, {"limit_db": 20.0}, 480))


def test_what_the_client_says(service, guarded):  # noqa: F811
    with pytest.raises(RefusedError, match="found mix 2") as error:
        list(Client(service.address).stream([], 16_000, mix=2.0))
    assert error.value.code == "invalid_field"
    with pytest.raises(RefusedError) as error:
        list(Client(guarded.address).stream([], 16_000))
    assert (error.value.status, error.value.code) == (401, "token_needed")
    assert list(Client(guarded.address, token=TOKEN).stream([], 16_000)) == []
    with pytest.raises(UnreachableError, match="see whether `sottovoce serve`"):
        list(Client("http://127.0.0.1:9").stream([], 16_000))

    def broken():
        yield np.zeros(160)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Client(service.address).stream(broken(), 16_000))


@contextlib.contextmanager
def raw(service):
    """A stream that has begun, whose client writes its frames itself, and reads none."""
    place = urlsplit(service.address)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((place.hostname, place.port))
        sock.settimeout(30)
        sock.sendall(
            f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert sock.recv(12) == b"HTTP/1.1 101"
        start = b'{"rate": 16000, "channels": 8, "format": "f32le", "model": "identity"}'
        sock.sendall(frame(0x81, start))
        yield sock


def frame(kind, content=b""):
    """A frame with a mask of zeros."""
    assert len(content) < 126
    return bytes([kind, 0x80 | len(content)]) + bytes(4) + content


def is_closed_by(sock, data):
    """Send something again and again until the service has had enough; says whether it ever had."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            sock.sendall(data)
        except OSError as error:
            return not isinstance(error, TimeoutError)
    return False


BINARY, CONTINUATION, PING = 0x02, 0x00, 0x89


@pytest.mark.parametrize(
    ("first", "more"),
    [(b"", 100 * frame(PING, bytes(125))), (frame(BINARY), 100 * frame(CONTINUATION))],
    ids=["pings", "fragments"],
)
def test_floods_of_frames_end_their_stream_alone(service, first, more):
    with opened(service.address) as other:
        begin(other)
        with raw(service) as sock:
            sock.sendall(first)
            assert is_closed_by(sock, more)
        wait_until(lambda: metric(service, "sottovoce_streams") == 1)
        say(other, "Finalize")
        assert rest(other)[1]["samples"] == 0


def test_some_pings_are_answered(service):
    with opened(service.address) as connection:
        begin(connection)
        for _ in range(5):
            assert connection.ping().wait(10)


def test_no_compression_is_agreed_upon(service):
    """A few bytes could hold a frame of any size."""
    with connect(service.address.replace("http", "ws", 1) + PATH, proxy=None) as connection:
        assert "deflate" in connection.request.headers["Sec-WebSocket-Extensions"]
        assert connection.response.headers.get("Sec-WebSocket-Extensions") is None


def test_the_service_ends_beside_a_client_that_does_not_read(models, tmp_path):
    settings = {"models": models, "folder": tmp_path / "state", "workers": 1, "grace_seconds": 0}
    with serving(**settings) as service, raw(service) as sock:
        sock.setblocking(False)
        sound = bytes([0x82, 0xFF]) + (2**17).to_bytes(8, "big") + bytes(4 + 2**17)
        sent = 0
        stalled_since = time.monotonic()
        while time.monotonic() - stalled_since < 0.5:
            try:
                sent += sock.send(sound[sent % len(sound) :])
                stalled_since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        begun = time.monotonic()
        service.stop()
        wait_until(lambda: not service._server.server_state.connections)
    assert time.monotonic() - begun < 20


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_many_at_once_beside_one_that_reads_nothing_and_a_kill(tmp_path, models):
    from .test_server import Process

    waveform = noise(3 * 16_000).astype(np.float32)
    wanted = expected(waveform, 16_000, {}, 160)
    results = {}

    def live(number):
        blocks = (waveform[:, at : at + 160] for at in range(0, waveform.shape[1], 160))
        results[number] = np.concatenate(list(Client(service.address).stream(blocks, 16_000, model="live")), axis=1)

    with Process("--folder", tmp_path / "state", "--workers", 2, models=models) as service:
        with opened(service.address, max_queue=1) as deaf:
            begin(deaf, channels=8)

            def deafly():
                with pytest.raises(ConnectionClosed):
                    flood(deaf)

            threads = [threading.Thread(target=deafly)]
            threads += [threading.Thread(target=live, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
                assert not thread.is_alive()
        assert len(results) == 8
        for result in results.values():  # the number of streams in a call of the network decides on its last bits
            np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-6)
        if sys.platform == "linux":
            status = Path(f"/proc/{service.process.pid}/status").read_text()
            assert int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) < 400_000
        with opened(service.address) as last:
            begin(last)
            os.kill(service.process.pid, signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                last.recv(30)
        service.end()
    assert list((tmp_path / "state").glob(".*")) == []
