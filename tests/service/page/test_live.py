"""The page's live section: what the service enhances of the microphone, and how it is played."""

import json

import numpy as np
import pytest
import soundfile as sf

from sottovoce.engine.enhancer import Enhancer, Stream
from sottovoce.engine.model import Model
from sottovoce.engine.options import EnhanceOptions
from sottovoce.weights import MODELS

from ..calls import serving
from .conftest import CHROMIUM, FLAGS, TIMEOUT_MS
from .test_page import check_accessibility

REAL = "examples/real/jfk_inaugural_1961.flac"


# Browsers take the rate of the sound card, of which this machine has none.
OTHER_RATE = """
const Context = AudioContext;
globalThis.AudioContext = class extends Context {
  constructor(options) { super({ ...options, sampleRate: %d }); }
};
"""


@pytest.fixture(scope="module")
def microphone(tmp_path_factory, request):
    """Chromium whose microphone plays seconds of a real noisy recording, once."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: `.ci/system-packages.sh chromium` installs it on Debian")
    from playwright.sync_api import sync_playwright

    waveform, rate = sf.read(request.config.rootpath / REAL, frames=16_000 * 12)
    source = tmp_path_factory.mktemp("microphone") / "real.wav"
    sf.write(source, waveform, rate, subtype="PCM_16")
    flags = [
        *FLAGS,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={source}%noloop",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture
def open_live(microphone, page_service):
    """Opens the section, and keeps what goes over its sockets."""
    contexts = []

    def open_(*, address=page_service.address, script="", **options):
        context = microphone.new_context(permissions=["microphone"], **options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.sockets = []
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("websocket", lambda socket: page.sockets.append(Frames(socket)))
        if script:
            page.add_init_script(script)
        page.goto(f"{address}/#live")
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            assert page.complaints == []
        context.close()


class Frames:
    """What goes over a socket."""

    def __init__(self, socket):
        self.sent, self.received = [], []

        # Playwright marks its listeners, which methods of lists do not let it.
        def keep_sent(frame):
            self.sent.append(frame)

        def keep_received(frame):
            self.received.append(frame)

        socket.on("framesent", keep_sent)
        socket.on("framereceived", keep_received)

    def texts(self, frames):
        return [json.loads(frame) for frame in frames if isinstance(frame, str)]

    def sound(self, frames):
        return np.frombuffer(b"".join(frame for frame in frames if isinstance(frame, bytes)), "<f4")


def run(page, seconds):
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Running").wait_for()
    page.wait_for_timeout(1000 * seconds)
    page.get_by_role("button", name="Stop").click()
    frames = page.sockets[-1]
    for _ in range(600):
        if any(text.get("type") == "Finalized" for text in frames.texts(frames.received)):
            return frames
        page.wait_for_timeout(100)
    raise AssertionError("the stream has not ended")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_what_comes_back_is_what_the_engine_makes_of_what_was_sent(open_live, rate):
    """A real noisy recording, by a fake microphone."""
    page = open_live(script=OTHER_RATE % rate)
    page.get_by_label("Lowers noise").select_option("20")
    frames = run(page, 4)
    first, *_ = frames.texts(frames.sent)
    assert first == {"rate": rate, "channels": 1, "format": "f32le", "model": "live", "limit_db": 20}
    sent, received = frames.sound(frames.sent), frames.sound(frames.received)
    assert len(sent) == len(received) > 2 * rate
    assert np.abs(sent).max() > 0.05

    stream = Stream(Enhancer(Model.load(MODELS["live"])), rate, 1, EnhanceOptions(limit_db=20), live=True)
    expected = []
    for frame in frames.sent:
        if isinstance(frame, bytes):
            expected.append(stream.push(np.frombuffer(frame, "<f4")[np.newaxis]))
    expected.append(stream.flush())
    np.testing.assert_array_equal(received, np.concatenate(expected, axis=1)[0])
    assert np.square(received).sum() < np.square(sent).sum()
    assert np.square(received - sent).sum() > 0.001 * np.square(sent).sum()


@pytest.mark.slow
def test_it_is_heard_with_headphones_alone_and_a_bypass_keeps_the_place(open_live):
    page = open_live(color_scheme="dark", viewport={"width": 360, "height": 800})
    page.get_by_role("button", name="Start").click()
    page.get_by_text("silent until you say that you wear headphones").wait_for()
    page.get_by_text("Latency").wait_for()
    check_accessibility(page)
    page.get_by_label("I wear headphones").check()
    page.get_by_text("you hear the enhanced sound").wait_for()
    bypass = page.get_by_role("button", name="Hear the microphone as it is")
    bypass.press("Space")
    page.get_by_text("you hear the microphone as it is", exact=False).first.wait_for()
    assert bypass.get_attribute("aria-pressed") == "true"
    # Another model goes on with a new stream.
    page.get_by_label("Model").select_option("default")
    page.get_by_role("button", name="Stop").wait_for()
    for _ in range(300):
        if len(page.sockets) == 2 and page.sockets[1].texts(page.sockets[1].received):
            break
        page.wait_for_timeout(100)
    assert page.sockets[1].texts(page.sockets[1].received)[0]["model"] == "default"
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()


DENIED = """
navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "%s"));
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NotAllowedError", "The browser may not use the microphone: allow it beside the address, and try again."),
        ("NotFoundError", "Found no microphone: connect one, and try again."),
    ],
)
def test_a_microphone_that_is_not_there_is_a_sentence(open_live, name, sentence):
    page = open_live(script=DENIED % name)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("alert").filter(has_text=sentence).wait_for()
    assert page.get_by_role("button", name="Start").is_enabled()


@pytest.mark.slow
def test_a_full_service_says_so_and_a_token_is_asked_for(open_live, tmp_path, monkeypatch):
    token = "+/=0123456789abcdef"
    monkeypatch.setenv("SOTTOVOCE_TOKEN", token)
    with serving(folder=tmp_path / "state", workers=1, streams=1) as service:
        first, second = (open_live(address=service.address) for _ in range(2))
        for page in (first, second):
            page.get_by_label("Token", exact=True).fill(token)
            page.get_by_role("button", name="Continue").click()
            page.get_by_role("button", name="Start").click()
            if page is first:
                page.get_by_text("Running").wait_for()
        sentence = "Found 1 channels in open streams and 1 more, expected 1 at most: try again later."
        second.get_by_role("alert").filter(has_text=sentence).wait_for()
        first.get_by_role("button", name="Stop").click()
