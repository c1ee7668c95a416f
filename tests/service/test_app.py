"""Requests and answers: the output is the command's, errors say what to do, and nothing is left behind."""

import gzip
import json
import os
import pickle
import shutil
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile as sf
from prometheus_client.parser import text_string_to_metric_families

import sottovoce
from sottovoce.engine.files import enhance_files
from sottovoce.engine.options import EnhanceOptions
from sottovoce.service.schemas import EnhancementFields
from sottovoce.signal.audio import read
from sottovoce.signal.output import OutputOptions
from sottovoce.weights import MODELS

from ..signal.audio.files import cut, film, noise, save, tone, without_flac_length
from .calls import BOUNDARY, FORM, PATH, call, form, part, post, serving, wait_until

KINDS = {
    "a.wav": {"subtype": "PCM_24"},
    "a.flac": {},
    "a.ogg": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "a.aiff": {},
}
TYPES = {
    "a.wav": "audio/wav",
    "a.flac": "audio/flac",
    "a.ogg": "audio/ogg",
    "a.opus": "audio/ogg",
    "a.mp3": "audio/mpeg",
    "a.aiff": "audio/aiff",
    "a.m4a": "audio/mp4",
    "a.mp4": "video/mp4",
}


@pytest.fixture(autouse=True)
def nothing_is_left(folder):
    yield
    assert list(folder.glob(".*")) == []


def recorded(folder, name):
    """A recording of a kind, with a title where the kind has a place for it."""
    path = folder / name
    if name in KINDS:
        with sf.SoundFile(path, "w", 48_000, 2, **KINDS[name]) as file:
            file.title = "Interview"
            file.write(noise(24_000, 2).T)
        return path
    sound = [(0.0, tone(0.5, rate=44_100))]
    return film(path, sound, codec="aac", picture_seconds=0.5 if name == "a.mp4" else 0, rate=44_100, bit_rate=64_000)


def by_the_command(source, target, model, options=None, output_options=None):
    (result,) = enhance_files([source], target, sottovoce.load(model), options, output_options=output_options)
    assert result.error is None
    return target


@pytest.mark.parametrize("name", TYPES)
def test_the_output_is_the_commands(tmp_path, service, identity_model, name):
    source = recorded(tmp_path, name)
    expected = by_the_command(source, tmp_path / f"command{source.suffix}", identity_model)
    answer = post(service.address, part("file", source.read_bytes(), name), part("model", "identity"))
    assert (answer.status, answer.headers["content-type"]) == (200, TYPES[name])
    assert answer.headers["content-disposition"] == f'attachment; filename="enhanced{source.suffix}"'
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert int(answer.headers["content-length"]) == len(answer.body)
    (tmp_path / f"service{source.suffix}").write_bytes(answer.body)
    if name not in ("a.ogg", "a.opus"):  # libsndfile gives each a number by chance
        assert answer.body == expected.read_bytes()
    (found, rate), (wanted, wanted_rate) = read(tmp_path / f"service{source.suffix}"), read(expected)
    assert rate == wanted_rate
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("fields", "options", "output_options"),
    [
        ({"limit_db": 12}, EnhanceOptions(limit_db=12), OutputOptions()),
        ({"mix": 0.5, "linked": "true"}, EnhanceOptions(mix=0.5, linked=True), OutputOptions()),
        ({"output": "removed", "full_band": "false"}, EnhanceOptions(removed=True, full_band=False), OutputOptions()),
        ({"metadata": "false"}, EnhanceOptions(), OutputOptions(metadata=False)),
    ],
)
def test_options_are_the_commands(tmp_path, service, fields, options, output_options):
    source = recorded(tmp_path, "a.wav")
    expected = by_the_command(source, tmp_path / "command.wav", "default", options, output_options)
    answer = post(
        service.address, part("file", source.read_bytes(), "a.wav"), *(part(*field) for field in fields.items())
    )
    assert (answer.status, answer.body == expected.read_bytes()) == (200, True)


def test_size_of_lossy_files(tmp_path, service):
    source = recorded(tmp_path, "a.mp3")
    small, large = (
        post(
            service.address,
            part("file", source.read_bytes(), "a.mp3"),
            part("model", "identity"),
            part("bitrate", kbps),
        )
        for kbps in (32, 160)
    )
    assert (small.status, large.status) == (200, 200)
    assert len(small.body) < len(large.body) / 2


@pytest.mark.parametrize(
    "name",
    [
        *("../../../../tmp/out.wav", "/etc/passwd.wav", r"..\..\a.wav", "con.wav", ".wav", "a.wav/../b.wav", "x" * 900),
        *("a.wav\0.sh", "$(touch pwned).wav", "a.unknown", "", None),
    ],
)
def test_a_clients_file_name_is_only_a_hint(tmp_path, monkeypatch, service, recording, name):
    monkeypatch.chdir(tmp_path)
    answer = post(service.address, part("file", recording.read_bytes(), name), part("model", "identity"))
    assert (answer.status, answer.headers["content-disposition"]) == (200, 'attachment; filename="enhanced.wav"')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.aiff", "a.mp4"])
def test_what_a_file_without_a_name_holds_decides(tmp_path, service, name):
    source = recorded(tmp_path, name)
    answer = post(service.address, part("file", source.read_bytes()), part("model", "identity"))
    assert (answer.status, answer.headers["content-type"]) == (200, TYPES[name])


def test_what_has_no_place_is_noted(tmp_path, service, recording):
    loud = save(tmp_path / "a.wav", 2 * np.ones((1, 1000), np.float32), subtype="FLOAT")
    parts = [part("file", loud.read_bytes(), "a.flac"), part("model", "identity")]
    answer = post(service.address, *parts)
    (note,) = json.loads(answer.headers["sottovoce-notes"])
    assert note.startswith("enhanced.flac: ")
    assert "samples were beyond full scale" in note
    answer = post(service.address, part("file", recording.read_bytes(), "a.wav"), part("model", "identity"))
    assert answer.headers["sottovoce-notes"] == "[]"


def test_what_is_read_and_not_written_becomes_wav(service, wma):
    answer = post(service.address, part("file", wma.read_bytes(), "a.wma"), part("model", "identity"))
    assert (answer.status, answer.headers["content-type"], answer.body[:4]) == (200, "audio/wav", b"RIFF")


FILE = part("file", b"no sound", "a.wav")
REFUSED = {
    "a number that is none": ([FILE, part("mix", "much")], 422, "invalid_field", "found mix 'much', expected a number"),
    "a number out of range": ([FILE, part("mix", 2)], 422, "invalid_field", "found mix 2.0, expected a number from 0"),
    "no number at all": ([FILE, part("limit_db", "nan")], 422, "invalid_field", "found limit_db nan"),
    "a quality and a bit rate": ([FILE, part("quality", 1), part("bitrate", 9)], 422, "invalid_field", "found both"),
    "a word": ([FILE, part("output", "both")], 422, "invalid_field", "'both', expected enhanced or removed"),
    "neither true nor false": ([FILE, part("linked", "perhaps")], 422, "invalid_field", "expected true or false"),
    "an unknown field": (
        [FILE, part("pitch", 1)],
        422,
        "invalid_field",
        "'pitch', expected one of file, bitrate",
    ),
    "a field twice": ([FILE, part("mix", 1), part("mix", 1)], 422, "invalid_form", "found the field 'mix' twice"),
    "an unknown model": ([FILE, part("model", "/etc/x.onnx")], 422, "unknown_model", "expected one of default, live"),
    "no file": ([part("mix", 1)], 422, "invalid_form", "found a form without a file"),
    "two files": ([FILE, FILE], 422, "invalid_form", "found several files"),
    "a file elsewhere": ([part("audio", b"x", "a.wav")], 422, "invalid_form", "found a file in the field 'audio'"),
    "a part without a name": ([FILE, part(None, 1)], 422, "invalid_form", "without a name"),
    "an endless field": (
        [FILE, part("mix", "1" * 5000)],
        422,
        "invalid_form",
        "more than 1000 bytes",
    ),
    "many fields": ([*(part(f"f{n}", 1) for n in range(40)), FILE], 422, "invalid_form", "more than 32 fields"),
    "text": ([FILE], 415, "unknown_format", "recording.wav is not a sound file that can be read"),
    "a text in place of a film": ([part("file", b"x" * 99, "a.mp4")], 415, "unknown_format", "recording.mp4 is not"),
    "a list of other files": (
        [part("file", b"ffconcat version 1.0\nfile recording.wav\n", "a.mp4")],
        415,
        "unknown_format",
        "recording.mp4 is not a sound file",
    ),
    "a model": (
        [part("file", MODELS["live"].read_bytes(), "a.wav")],
        415,
        "unknown_format",
        "recording.wav is not a sound file",
    ),
    "a pickle": (
        [part("file", pickle.dumps(print), "model.onnx")],
        415,
        "unknown_format",
        "recording is not a sound file",
    ),
    "a compressed file": (
        [part("file", gzip.compress(bytes(1_000_000)), "a.wav.gz")],
        415,
        "unknown_format",
        "recording is not a sound file",
    ),
    "nothing in a file": ([part("file", b"", "a.wav")], 422, "invalid_recording", "recording.wav is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(service, case):
    parts, status, code, words = REFUSED[case]
    answer = post(service.address, *parts)
    assert answer.status == status
    found, sentence = answer.error
    assert found == code
    assert words in sentence


def test_refuses_recordings_that_are_damaged_or_do_not_fit(tmp_path, service):
    damaged = cut(save(tmp_path / "a.wav", noise(16_000)), 0.5)
    answer = post(service.address, part("file", damaged.read_bytes(), "a.wav"))
    assert (answer.status, answer.error[0]) == (422, "invalid_recording")
    assert answer.error[1].startswith("recording.wav ")
    wide = save(tmp_path / "b.wav", noise(1000, 9))
    answer = post(service.address, part("file", wide.read_bytes(), "b.mp3"))
    assert (answer.status, answer.error[0]) == (422, "invalid_recording")
    assert answer.error[1].startswith("cannot write enhanced.mp3: found 16000 Hz and 9 channels")


def test_refuses_what_is_no_form(service):
    for headers, body in (
        ({"Content-Type": "audio/wav"}, b"RIFF"),
        ({}, b"RIFF"),
        ({"Content-Type": "multipart/form-data"}, b"RIFF"),
    ):
        answer = call(service.address, "POST", PATH, body, headers)
        assert (answer.status, answer.error[0]) == (415, "no_form")
    whole = form(FILE)
    endless = f"--{BOUNDARY}\r\nX-Much: {'x' * 100_000}".encode()
    for body in (b"", whole[:-20], b"--other--\r\n", b"\r\n" * 10, whole.replace(b"form-data", b""), endless):
        answer = call(service.address, "POST", PATH, body, FORM)
        assert (answer.status, answer.error[0]) == (422, "invalid_form")
    answer = call(service.address, "POST", PATH, whole, {"Content-Type": f"multipart/form-data; boundary={'b' * 5000}"})
    assert (answer.status, answer.error[0]) == (422, "invalid_form")


def test_sound_is_counted_while_it_is_decoded(tmp_path, service):
    """Three seconds are allowed, all channels together."""
    rate = 16_000
    for samples, channels, status in ((3 * rate, 1, 200), (3 * rate + 1, 1, 413), (rate, 3, 200), (rate, 4, 413)):
        source = save(tmp_path / "a.wav", noise(samples, channels), rate)
        answer = post(service.address, part("file", source.read_bytes(), "a.wav"), part("model", "identity"))
        assert answer.status == status, (samples, channels)
    assert answer.error[0] == "recording_too_long"
    # Ten minutes of silence in some kB, whose header says nothing of its length.
    sf.write(tmp_path / "b.flac", np.zeros(600 * rate, np.int16), rate)
    without_flac_length(tmp_path / "b.flac")
    content = (tmp_path / "b.flac").read_bytes()
    assert len(content) < 100_000
    assert post(service.address, part("file", content, "b.flac")).error[0] == "recording_too_long"


def test_a_body_is_never_unpacked(service):
    """A form that was compressed could hold any number of bytes."""
    body = gzip.compress(form(part("file", bytes(50_000_000), "a.wav")))
    answer = call(service.address, "POST", PATH, body, {**FORM, "Content-Encoding": "gzip"})
    assert (answer.status, answer.error[0]) == (422, "invalid_form")


@pytest.mark.parametrize("is_stated", [True, False])
def test_bytes_are_counted_while_they_come(service, is_stated):
    body = form(part("file", bytes(3_000_000), "a.wav"))
    chunks = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    answer = call(service.address, "POST", PATH, body if is_stated else chunks, FORM)
    assert answer.status == 413
    assert answer.error == (
        "upload_too_large",
        "found more than 2 MB, expected that at most: compress the recording, as FLAC, or cut it",
    )


def test_a_network_that_fails(service, recording):
    answer = post(service.address, part("file", recording.read_bytes(), "a.wav"), part("model", "exploding"))
    assert (answer.status, answer.error[0]) == (500, "model_failed")
    assert answer.error[1].startswith("the network of the model 'exploding' gave values that are no numbers")


def begin(address, parts, kept):
    """Send all but the last bytes of a form."""
    body = form(*parts)
    sock = socket.create_connection((urlsplit(address).hostname, urlsplit(address).port), timeout=30)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    sock.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + body[:-kept])
    return sock, body[-kept:]


def metrics_of(service):
    text = call(service.address, "GET", "/metrics").body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_full_queue_refuses_until_there_is_room(models, tmp_path, recording):
    parts = [part("file", recording.read_bytes(), "a.wav"), part("model", "identity")]
    with serving(models=models, folder=tmp_path / "state", workers=1, queue=0) as service:
        sock, rest = begin(service.address, parts, 10)
        with sock:
            wait_until(lambda: metrics_of(service)["sottovoce_recordings_admitted",] == 1)
            answer = post(service.address, *parts)
            assert (answer.status, answer.error[0]) == (429, "busy")
            assert 1 <= int(answer.headers["retry-after"]) <= 120
            sock.sendall(rest)
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
        assert post(service.address, *parts).status == 200


def test_a_client_that_goes_away_leaves_nothing(service, folder, recording):
    before = metrics_of(service)
    parts = [part("file", recording.read_bytes(), "a.wav")]
    for kept in (100, 0):  # while it sends, and while it waits
        sock, _ = begin(service.address, parts, kept) if kept else begin(service.address, [*parts, part("mix", 1)], 1)
        if not kept:
            sock.sendall(b"\n")
        wait_until(lambda: list(folder.glob(".*")))
        sock.close()
        wait_until(lambda: not list(folder.glob(".*")))
    after = metrics_of(service)
    gone = ("sottovoce_requests_total", "POST", PATH, "499")
    assert after[gone] - before.get(gone, 0) >= 1
    assert after["sottovoce_recordings_admitted",] == after["sottovoce_recordings_running",] == 0
    assert post(service.address, *parts).status == 200


def test_a_failure_of_the_service_shows_nothing_of_it(monkeypatch, service, recording):
    def fail(*arguments, **keywords):
        raise RuntimeError("at /secret/place")

    monkeypatch.setattr("sottovoce.service.app.Order", fail)
    answer = post(service.address, part("file", recording.read_bytes(), "a.wav"))
    assert answer.status == 500
    assert answer.error == (
        "internal",
        "the service failed, and its log says why: try again, or ask who runs it",
    )


def test_a_full_disk_is_said(monkeypatch, service, recording):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("sottovoce.service.work.shutil.disk_usage", lambda folder: usage)
    answer = post(service.address, part("file", recording.read_bytes(), "a.wav"))
    assert (answer.status, answer.error[0]) == (507, "storage_full")


def test_models_are_described(service):
    models = json.loads(call(service.address, "GET", "/v1/models").body)["models"]
    assert [model["name"] for model in models] == ["default", "live", "identity", "exploding"]
    names = {"name", "sample_rate", "latency_seconds", "rooms", "parameters", "licence", "training_data", "adaptable"}
    assert names == set(models[0])
    assert models[0]["latency_seconds"] == 0.032
    assert os.sep not in json.dumps(models[2]).replace("tests/conftest.py", "")


def test_life_and_readiness(service):
    assert json.loads(call(service.address, "GET", "/healthz").body) == {"status": "ok"}
    wait_until(lambda: call(service.address, "GET", "/readyz").status == 200)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/none", 404, "not_found"),
        ("GET", PATH, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
    ],
)
def test_addresses_that_are_not_there(service, method, path, status, code):
    answer = call(service.address, method, path)
    assert (answer.status, answer.error) == (
        status,
        (code, f"found {method} {path!r}, expected what /openapi.json lists"),
    )


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/v1/jobs/x", "DELETE, GET"), ("/v1/jobs", "POST"), ("/v1/models", "GET"), ("/", "GET, HEAD")],
)
def test_methods_of_an_address(service, path, methods):
    answer = call(service.address, "PATCH", path)
    assert (answer.status, answer.headers["allow"]) == (405, methods)


def test_metrics_count(service, recording):
    before = metrics_of(service)
    post(service.address, part("file", recording.read_bytes(), "a.wav"), part("model", "identity"))
    call(service.address, "PROPFIND", "/some/address/of/its/own")
    after = metrics_of(service)

    def risen(*key):
        return after[key] - before.get(key, 0)

    assert risen("sottovoce_sound_seconds_total", "identity") == 1
    assert risen("sottovoce_requests_total", "POST", PATH, "200") == 1
    assert risen("sottovoce_requests_total", "other", "none", "404") == 1
    assert risen("sottovoce_received_bytes_total") > recording.stat().st_size
    assert not any("own" in str(key) for key in after)


def test_openapi_describes_the_form(service):
    description = json.loads(call(service.address, "GET", "/openapi.json").body)
    operation = description["paths"][PATH]["post"]
    content = operation["requestBody"]["content"]["multipart/form-data"]
    assert list(content["schema"]["properties"]) == ["file", *EnhancementFields.model_fields]
    assert content["schema"]["required"] == ["file"]
    assert content["schema"]["properties"]["limit_db"]["type"] == "number"
    assert "null" not in json.dumps(content["schema"])  # a form has none
    assert content["schema"]["not"] == {"required": ["quality", "bitrate"]}
    adaptation = description["paths"]["/v1/adaptations"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert adaptation["schema"]["properties"]["model"]["enum"] == ["default", "live"]
    for example in content["examples"].values():
        EnhancementFields.checked({k: str(v) for k, v in example["value"].items() if k != "file"})
    assert {"200", "413", "415", "422", "429"} <= set(operation["responses"])
    assert set(description["components"]["schemas"]) >= {"ErrorAnswer", "Models"}
    assert BOUNDARY not in json.dumps(description)
