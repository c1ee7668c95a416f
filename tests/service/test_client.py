"""The client: the same output as the command's, and errors with the service's words."""

import http.server
import threading

import pytest

from sottovoce.engine.files import enhance_files
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import AudioError, ConfigError, DataError
from sottovoce.service.client import Client, RefusedError, UnreachableError


@pytest.fixture
def client(service):
    return Client(service.address, timeout_seconds=30)


def test_enhances_as_the_command_does(tmp_path, client, identity, recording):
    options = {"mix": 0.5, "limit_db": 10.0, "linked": True}
    enhance_files([recording], tmp_path / "command.wav", identity, EnhanceOptions(**options))
    client.enhance(recording, tmp_path / "client.wav", model="identity", **options)
    assert (tmp_path / "client.wav").read_bytes() == (tmp_path / "command.wav").read_bytes()


def test_keeps_what_is_there_unless_it_may_be_replaced(tmp_path, client, recording):
    target = tmp_path / "a.wav"
    target.write_text("precious")
    with pytest.raises(DataError, match="which is kept"):
        client.enhance(recording, target, model="identity")
    assert (target.read_text(), list(tmp_path.iterdir())) == ("precious", [target])
    client.enhance(recording, target, model="identity", overwrite=True)
    assert target.read_bytes()[:4] == b"RIFF"


def test_names_of_any_script(tmp_path, client, recording):
    source = tmp_path / 'ein "Gespräch"\r\n; name=mix.wav'
    source.write_bytes(recording.read_bytes())
    client.enhance(source, tmp_path / "b.wav", model="identity")
    assert (tmp_path / "b.wav").exists()


def test_lists_the_models(client):
    models = client.models()
    assert [model.name for model in models] == ["default", "live", "identity", "exploding"]
    assert models[0].latency_seconds == 0.032


def test_errors_are_those_of_the_service(tmp_path, client, recording):
    with pytest.raises(RefusedError, match=r"found mix 2\.0, expected a number from 0") as error:
        client.enhance(recording, tmp_path / "b.wav", mix=2.0)
    assert (error.value.status, error.value.code, error.value.retry_seconds) == (422, "invalid_field", None)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_before_all_was_sent(tmp_path, client):
    (tmp_path / "a.wav").write_bytes(bytes(20_000_000))
    with pytest.raises(RefusedError) as error:
        client.enhance(tmp_path / "a.wav", tmp_path / "b.wav")
    assert (error.value.status, error.value.code) == (413, "upload_too_large")


def test_what_cannot_be_read_or_reached(tmp_path, recording):
    with pytest.raises(ConfigError, match="found the address 'localhost:8000'"):
        Client("localhost:8000")
    client = Client("http://127.0.0.1:9", timeout_seconds=5)
    with pytest.raises(UnreachableError, match="see whether `sottovoce serve` runs there"):
        client.models()
    with pytest.raises(AudioError, match="cannot read"):
        client.enhance(tmp_path / "none.wav", tmp_path / "b.wav")


class Other(http.server.BaseHTTPRequestHandler):
    """Something else, which promises more than it sends."""

    def do_GET(self):
        self.send_error(500)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"RIFF")

    def log_message(self, *arguments):
        pass


def test_something_else_at_the_address(tmp_path, recording):
    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = Client(f"http://127.0.0.1:{server.server_port}", timeout_seconds=10)
        with pytest.raises(RefusedError, match="found an answer of status 500 that is none of this service"):
            client.models()
        with pytest.raises(UnreachableError, match="996 bytes less"):
            client.enhance(recording, tmp_path / "b.wav")
        server.shutdown()
        thread.join()
    assert list(tmp_path.iterdir()) == []
