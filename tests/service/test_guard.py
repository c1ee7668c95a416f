"""Who may call: names of the service, pages of browsers, and a token."""

import pytest

from .calls import call, part, post, serving

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def guarded(models, tmp_path_factory):
    """A service that has a token and a further name."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN)
    settings = {"folder": folder / "state", "token_file": folder / "token", "hosts": ("enhance.example.org",)}
    with serving(models=models, workers=1, **settings) as service:
        yield service


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "127.8.8.8"]
)
def test_names_of_this_machine(service, host):
    assert call(service.address, "GET", "/v1/models", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil.example:8000",
        ),
        *("", "[::1", "[::2]", "0.0.0.0", "enhance.example.org", "localhost evil.example", "2130706433"),
    ],
)
def test_other_names_are_refused(service, recording, host):
    """A page whose name comes to point at this machine (DNS rebinding) still says its own name."""
    answer = call(service.address, "GET", "/v1/models", headers={"Host": host})
    assert (answer.status, answer.error[0]) == (403, "host_refused")
    answer = post(service.address, part("file", recording.read_bytes()), headers={"Host": host})
    assert (answer.status, answer.error[0]) == (403, "host_refused")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://localhost.evil.example", "null", "file://", "http://localhost:1", "http://[", ""],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_pages_of_others_are_refused(service, origin, method):
    answer = call(service.address, method, "/v1/models", headers={"Host": "localhost:8000", "Origin": origin})
    assert (answer.status, answer.error[0]) == (403, "origin_refused")
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_page_of_the_service_itself_may_call(service, recording, scheme):
    headers = {"Host": "Localhost:8000", "Origin": f"{scheme}://localhost:8000"}
    parts = [part("file", recording.read_bytes(), "a.wav"), part("model", "identity")]
    answer = post(service.address, *parts, headers=headers)
    assert answer.status == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "header",
    [
        None,
        *("", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN),
        "Bearer ÿ",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/v1/audio/enhancements"), ("GET", "/x")])
def test_without_the_token_nothing_is_there(guarded, header, method, path):
    headers = {} if header is None else {"Authorization": header}
    answer = call(guarded.address, method, path, headers=headers)
    assert (answer.status, answer.error[0]) == (401, "token_needed")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/openapi.json", "/metrics", "/v1/models"])
def test_the_token_opens_everything(guarded, path):
    assert call(guarded.address, "GET", path).status == 401
    assert call(guarded.address, "GET", path, headers={"Authorization": f"bearer {TOKEN}"}).status == 200


def test_a_name_that_was_configured(guarded):
    headers = {"Host": "enhance.example.org", "Authorization": f"Bearer {TOKEN}"}
    assert call(guarded.address, "GET", "/v1/models", headers=headers).status == 200


def test_supervisors_need_neither_name_nor_token(guarded):
    assert call(guarded.address, "GET", "/healthz", headers={"Host": "10.0.0.7:8000"}).status == 200


def test_the_page_itself_needs_no_token_and_yet_a_name_of_the_service(guarded):
    """It is the page that asks for the token."""
    for path in ("/", "/page/main.js"):
        assert call(guarded.address, "GET", path).status == 200
        answer = call(guarded.address, "GET", path, headers={"Host": "evil.example"})
        assert (answer.status, answer.error[0]) == (403, "host_refused")
        answer = call(guarded.address, "GET", path, headers={"Origin": "http://evil.example"})
        assert (answer.status, answer.error[0]) == (403, "origin_refused")
    assert call(guarded.address, "GET", "/page/no_such.js").error[0] == "token_needed"
