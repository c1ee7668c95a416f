"""The page's live section: what the service enhances of the microphone, and how it is played."""

import json
import re

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
    """Chromium whose microphone plays seconds of a real noisy recording, again and again."""
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
        f"--use-file-for-fake-audio-capture={source}",
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
    page.get_by_label("Noise reduction").select_option("20")
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
    page.get_by_text("Running, but silent.").wait_for()
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


# Gives back what it is sent, some time later, as a service without a model would.
ECHO = """
globalThis.WebSocket = class {
  static OPEN = 1;
  readyState = 1;
  bufferedAmount = 0;
  constructor() {
    setTimeout(() => this.onopen());
  }
  send(frame) {
    if (typeof frame === "string") {
      const started = { type: "Started", latency_ms: 20 };
      if (JSON.parse(frame).rate) setTimeout(() => this.onmessage({ data: JSON.stringify(started) }));
    } else {
      setTimeout(() => this.onmessage({ data: frame.buffer }), 60);
    }
  }
};
"""
# Takes down what comes from the microphone and what is played, on the audio thread: sample by sample at the same time.
RECORDER = """
const program = `registerProcessor("recorder", class extends AudioWorkletProcessor {
  process([[microphone], [played]]) {
    const silence = new Float32Array(128);
    this.port.postMessage([microphone ?? silence, played ?? silence]);
    return true;
  }
});`;
const create = AudioContext.prototype.createMediaStreamSource;
AudioContext.prototype.createMediaStreamSource = function (stream) {
  globalThis.stream = stream;
  return (globalThis.source = create.call(this, stream));
};
const { connect } = AudioNode.prototype;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target === this.context.destination) void record(this);
  return connect.call(this, target, ...rest);
};
async function record(played) {
  const { context } = played;
  globalThis.taken = { context, microphone: [], played: [] };
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([program], { type: "text/javascript" })));
  const node = new AudioWorkletNode(context, "recorder", {
    numberOfInputs: 2, channelCount: 1, channelCountMode: "explicit",
  });
  node.port.onmessage = ({ data: [microphone, played] }) => {
    taken.microphone.push(...microphone);
    taken.played.push(...played);
  };
  connect.call(source, node, 0, 0);
  connect.call(played, node, 0, 1);
  connect.call(node, context.destination);
}
"""
# What the page says when it changes what it says, and the last sound until then.
LOOK = """seconds => new Promise((resolve) => {
  const latency = document.querySelector(".latency");
  const observer = new MutationObserver(() => {
    observer.disconnect();
    const { context, microphone, played } = taken;
    const count = Math.round(seconds * context.sampleRate);
    resolve({
      text: latency.textContent,
      rate: context.sampleRate,
      devices_ms: 1000 * ((stream.getAudioTracks()[0].getSettings().latency ?? 0) +
        (context.outputLatency || context.baseLatency)),
      microphone: microphone.slice(-count),
      played: played.slice(-count),
    });
  });
  observer.observe(latency, { childList: true });
})"""


def delay_of(microphone, played):
    """By how many samples what is played is later, and how well the two agree."""
    size = 2 * len(microphone)
    spectra = [np.fft.rfft(signal, size) for signal in (microphone, played)]
    products = np.fft.irfft(spectra[1] * spectra[0].conj(), size)[: len(microphone) // 2]
    delay = int(products.argmax())
    earlier, later = microphone[: len(microphone) - delay], played[delay:]
    return delay, products[delay] / np.sqrt(np.square(earlier).sum() * np.square(later).sum())


@pytest.mark.slow
def test_the_latency_is_what_the_page_says(open_live):
    """But for what sound devices add, which the browser alone knows; here they are no real ones."""
    page = open_live(script=ECHO + RECORDER, bypass_csp=True)
    page.get_by_role("button", name="Start").click()
    page.get_by_label("I wear headphones").check()
    page.get_by_text("Latency").wait_for()
    differences = []
    for _ in range(16):
        found = page.evaluate(LOOK, 1.5)
        total, *parts = map(int, re.findall(r"\d+", found["text"])[:5])
        assert abs(total - sum(parts)) <= 3, found["text"]
        delay, likeness = delay_of(np.array(found["microphone"]), np.array(found["played"]))
        # A jump of the delay lies in none of those that are counted.
        if likeness > 0.99:
            differences.append(1000 * delay / found["rate"] + found["devices_ms"] - total)
        if len(differences) == 5:
            break
    assert len(differences) >= 3
    assert np.median(np.abs(differences)) < 10


@pytest.mark.slow
def test_the_output_can_be_chosen(open_live):
    page = open_live(script=ECHO + RECORDER, bypass_csp=True)
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Running").wait_for()
    output = page.locator("label", has_text="Output").locator("select")
    output.locator("option", has_text="Fake Audio Output 1").wait_for(state="attached")
    assert output.evaluate("choice => taken.context.sinkId") == ""
    output.select_option(label="Fake Audio Output 1")
    page.wait_for_function("chosen => taken.context.sinkId === chosen", arg=output.input_value())
    assert page.get_by_role("button", name="Stop").is_visible()
    # What is chosen is kept when it starts again.
    page.get_by_role("button", name="Stop").click()
    page.evaluate("taken = null")
    page.get_by_role("button", name="Start").click()
    page.wait_for_function("chosen => taken?.context.sinkId === chosen", arg=output.input_value())
    page.evaluate("() => { AudioContext.prototype.setSinkId = () => Promise.reject(new DOMException()); }")
    output.select_option(label="Fake Audio Output 2")
    page.get_by_role("alert").filter(has_text="The chosen output cannot be used: connect it, or choose").wait_for()
    page.get_by_text("Stopped.").wait_for()


@pytest.mark.slow
def test_a_browser_that_cannot_choose_the_output_says_so(open_live):
    page = open_live(script="delete AudioContext.prototype.setSinkId;")
    page.get_by_text(
        "This browser cannot choose the output: choose it in the sound settings of your system."
    ).wait_for()
    assert page.locator("label", has_text="Output").count() == 0
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Running").wait_for()
    page.get_by_role("button", name="Stop").click()


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
