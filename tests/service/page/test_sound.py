"""What the modules of the page compute, in Chromium: loudness, spectrograms, decoded files, and what is heard."""

import base64
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.service.client import Client

RECORDING = Path(__file__).parents[3] / "examples" / "real" / "jfk_inaugural_1961.flac"


@pytest.fixture(scope="module")
def run(browser, page_service):
    """Runs a function of JavaScript that gets the modules of the page by name, and a value."""
    page = browser.new_page()
    page.goto(page_service.address)
    names = ("abx", "decoding", "loudness", "playback", "spectrogram", "wav")
    imports = ", ".join(f"{name}: await import('/page/{name}.js')" for name in names)

    def run_(function, value=None):
        return page.evaluate(f"async value => ({function})({{ {imports}, ...{CONVERSIONS} }}, value)", value)

    yield run_
    page.close()


# Numbers travel as text: many of them at once take Playwright long otherwise.
CONVERSIONS = """{
    bytes: (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)),
    floats: (text) => new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer),
    text: async (data) => (await new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.readAsDataURL(new Blob([data]));
    })).split(",")[1] ?? "",
}"""


def text(samples):
    return base64.b64encode(np.asarray(samples, np.float32).tobytes()).decode()


def floats(found):
    return np.frombuffer(base64.b64decode(found), np.float32)


def sine(hz, rate, seconds, level_db):
    return 10 ** (level_db / 20) * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


MEASURE = """async ({ loudness, floats }, [tracks, rate, weights]) => {
    const arrays = tracks.map((channels) => channels.map(floats));
    const found = await loudness.measureLoudness(arrays, rate);
    return weights.map((row) => String(found.of(row)));
}"""


def measure(run, channels, rate):
    (found,) = run(MEASURE, [[list(map(text, channels))], rate, [[1]]])
    return float(found)


def test_weighting_filters_are_those_of_the_recommendation(run):
    """ITU-R BS.1770-5, tables 1 and 2, for 48 kHz."""
    shelf, high_pass = run("({ loudness }) => loudness.weightingFilters(48_000)")
    assert shelf["b"] == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285], abs=1e-8)
    assert shelf["a"] == pytest.approx([-1.69065929318241, 0.73248077421585], abs=1e-8)
    assert high_pass["b"] == [1, -2, 1]
    assert high_pass["a"] == pytest.approx([-1.99004745483398, 0.99007225036621], abs=1e-8)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_loudness_of_sines(run, rate):
    """BS.1770: 997 Hz of full scale in one channel has -3.01 LKFS. EBU Tech 3341, case 1: -23 dBFS in two, -23 LUFS."""
    assert measure(run, [sine(997, rate, 2, 0)], rate) == pytest.approx(-3.01, abs=0.05)
    assert measure(run, 2 * [sine(1000, rate, 2, -23)], rate) == pytest.approx(-23, abs=0.1)


def test_loudness_is_gated(run):
    """EBU Tech 3341, cases 3 and 4, shortened: what is much softer than the rest does not count."""
    rate = 16_000
    levels = [(-72, 2), (-36, 2), (-23, 12), (-36, 2), (-72, 2)]
    tone = np.concatenate([sine(1000, rate, seconds, level_db) for level_db, seconds in levels])
    assert measure(run, [tone, tone], rate) == pytest.approx(-23, abs=0.1)


@pytest.mark.parametrize("length", [0.05, 1])
def test_loudness_of_silence_and_of_moments(run, length):
    assert measure(run, [np.zeros(round(16_000 * length))], 16_000) == -math.inf
    assert math.isfinite(measure(run, [sine(1000, 16_000, length, -20)], 16_000))


def test_loudness_of_a_mixture_is_known_from_its_tracks(run):
    rng = np.random.default_rng(0)
    before = 0.1 * rng.standard_normal(32_000)
    after = 0.4 * before + 0.02 * rng.standard_normal(32_000)
    weights = [[0.3, 0.7], [1, -1], [0, 1]]
    found = run(MEASURE, [[[text(before)], [text(after)]], 16_000, weights])
    for (first, second), lufs in zip(weights, found, strict=True):
        assert float(lufs) == pytest.approx(measure(run, [first * before + second * after], 16_000), abs=1e-4)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, which measures the same")
def test_loudness_of_a_recording(run):
    samples, rate = sf.read(RECORDING, dtype="float32")
    command = ["ffmpeg", "-hide_banner", "-nostats", "-i", RECORDING, "-af", "ebur128", "-f", "null", "-"]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    expected = float(report.rpartition("I:")[2].split()[0])
    assert measure(run, [samples], rate) == pytest.approx(expected, abs=0.2)


def test_chance_of_blind_tests(run):
    """The exact binomial distribution of guesses."""
    cases = [(correct, trials) for trials in range(10, 17) for correct in range(trials + 1)]
    found = run("({ abx }, cases) => cases.map(([correct, trials]) => abx.chanceOf(correct, trials))", cases)
    expected = [sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n for k, n in cases]
    assert found == expected
    assert expected[cases.index((9, 12))] == pytest.approx(0.0730, abs=5e-5)
    assert expected[cases.index((12, 12))] == 1 / 4096


def test_trials_are_drawn_at_random(run):
    drawn = run("({ abx }) => Array.from({ length: 250 }, () => abx.drawTrials(16))")
    assert all(len(trials) == 16 for trials in drawn)
    share = np.mean(drawn)
    assert abs(share - 0.5) < 0.05  # six standard deviations
    assert len({tuple(trials) for trials in drawn}) > 200


def test_transform(run):
    rng = np.random.default_rng(0)
    real, imaginary = rng.standard_normal((2, 256)).astype(np.float32)
    found = run(
        """async ({ spectrogram, floats, text }, parts) => {
            const [re, im] = parts.map(floats);
            new spectrogram.Fourier(256).run(re, im);
            return [await text(re), await text(im)];
        }""",
        [text(real), text(imaginary)],
    )
    expected = np.fft.fft(real + 1j * imaginary)
    np.testing.assert_allclose(floats(found[0]) + 1j * floats(found[1]), expected, atol=1e-4)


def test_a_tone_stands_at_its_height_with_its_level(run):
    samples = np.concatenate([np.zeros(16_000), sine(1000, 16_000, 1, -20)])
    found = run(
        """async ({ spectrogram, floats, text }, samples) => {
            const tracks = [[floats(samples)], [new Float32Array(32_000)]];
            const options = { columns: 40, rows: 80 };
            const picture = await spectrogram.analyse(tracks, [0.5, 1], 16_000, options);
            return {
                levels: await text(picture.levels),
                highs: Array.from(picture.highs),
                lows: Array.from(picture.lows),
                height: spectrogram.heightOf(1000, 16_000),
            };
        }""",
        text(samples),
    )
    levels = floats(found["levels"]).reshape(80, 40)
    loudest = levels[:, 30].argmax()
    assert abs((1 - (loudest + 0.5) / 80) - found["height"]) < 1 / 80
    assert levels[loudest, 30] == pytest.approx(-26, abs=1)
    assert levels[:, 5].max() < -100
    assert found["highs"][30] == pytest.approx(0.05, abs=1e-3)
    assert found["lows"][30] == pytest.approx(-0.05, abs=1e-3)
    assert found["highs"][5] == 0


DECODE = """async ({ decoding, bytes, text }, file) => {
    try {
        const buffer = await decoding.decode(new Blob([bytes(file)]));
        const channels = Array.from({ length: buffer.numberOfChannels }, (_, n) => buffer.getChannelData(n));
        return { rate: buffer.sampleRate, samples: await Promise.all(channels.map(text)) };
    } catch (error) {
        return { error: `${error.constructor.name}: ${error.message}` };
    }
}"""


@pytest.mark.parametrize(
    ("suffix", "subtype", "rate", "channels"),
    [
        (".wav", "PCM_16", 16_000, 1),
        (".wav", "FLOAT", 96_000, 2),
        (".flac", "PCM_16", 44_100, 2),
        (".flac", "PCM_24", 22_050, 1),
        (".wav", "PCM_24", 48_000, 6),
    ],
)
def test_files_are_decoded_sample_by_sample(run, tmp_path, suffix, subtype, rate, channels):
    path = tmp_path / f"a{suffix}"
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal((2000, channels)), rate, subtype=subtype)
    expected = sf.read(path, dtype="float32", always_2d=True)[0].T
    found = run(DECODE, base64.b64encode(path.read_bytes()).decode())
    assert found["rate"] == rate
    if channels > 2:
        expected = expected.mean(axis=0, keepdims=True)
    # Some decoders divide by 32767.
    np.testing.assert_allclose(list(map(floats, found["samples"])), expected, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_decoded_is_said(run):
    for content in (b"", b"no sound", b"RIFF\0\0\0\0WAVEfmt "):
        found = run(DECODE, base64.b64encode(content).decode())
        assert found["error"] == "DecodingError: this browser cannot decode the recording"


def test_the_microphone_becomes_a_file(run, tmp_path):
    samples = np.clip(0.5 * np.random.default_rng(0).standard_normal(200_000), -1.5, 1.5).astype(np.float32)
    file, duration = run(
        """async ({ wav, floats, text }, samples) => {
            const all = floats(samples);
            const recording = new wav.WavRecording(48_000);
            for (let n = 0; n < 200_000; n += 1280) recording.append(all.slice(n, n + 1280));
            return [await text(recording.toBlob()), recording.duration];
        }""",
        text(samples),
    )
    assert duration == 200_000 / 48_000
    path = tmp_path / "a.wav"
    path.write_bytes(base64.b64decode(file))
    found, rate = sf.read(path, dtype="float32")
    assert rate == 48_000
    np.testing.assert_allclose(found, np.clip(samples, -1, 32_767 / 32_768), atol=0.51 / 32_768)


# Two tracks whose samples say where they are, played into an array. `moves` are [seconds, name, value].
PLAY = """async ({ playback, text }, { seconds, moves }) => {
    const [rate, length] = [16_000, 32_000];
    const context = new OfflineAudioContext(1, rate * seconds, rate);
    const tracks = [1, -1].map((sign) => {
        const track = context.createBuffer(1, length, rate);
        track.getChannelData(0).forEach((_, n, samples) => { samples[n] = (sign * (n + 1)) / length; });
        return track;
    });
    const player = new playback.Playback(context, tracks);
    const places = [];
    player.setWeights([1, 0]);
    for (const [time, name, value] of moves) {
        const move = () => { player[name](value); places.push(player.position); };
        if (time === 0) move();
        else void context.suspend(time).then(() => { move(); void context.resume(); });
    }
    const heard = await context.startRendering();
    return { samples: await text(heard.getChannelData(0)), places, isPlaying: player.isPlaying, end: player.position };
}"""
SETTLED = 3200  # samples after which no fade is heard any more


def test_a_switch_keeps_the_sample(run):
    moves = [[0, "play", None], [0.5, "setWeights", [0, 1]], [1, "setWeights", [0.25, 0.75]]]
    found = floats(run(PLAY, {"seconds": 1.5, "moves": moves})["samples"])
    place = (np.arange(len(found)) + 1) / 32_000
    np.testing.assert_allclose(found[SETTLED:8000], place[SETTLED:8000], atol=1e-6)
    np.testing.assert_allclose(found[8000 + SETTLED : 16_000], -place[8000 + SETTLED : 16_000], atol=1e-6)
    np.testing.assert_allclose(found[16_000 + SETTLED :], -0.5 * place[16_000 + SETTLED :], atol=1e-6)
    # Of both there is never more than of one, and no step that clicks.
    assert (np.abs(found) <= place + 1e-6).all()
    assert np.abs(np.diff(found)).max() < 0.02


def test_a_region_repeats_without_drift(run):
    moves = [[0, "setLoop", {"start": 0.5, "end": 0.75}], [0, "play", None], [0.5, "setWeights", [0, 1]]]
    found = run(PLAY, {"seconds": 1.9, "moves": moves})
    samples = floats(found["samples"])
    place = (8000 + np.arange(len(samples)) % 4000 + 1) / 32_000
    np.testing.assert_allclose(samples[SETTLED:8000], place[SETTLED:8000], atol=1e-6)
    np.testing.assert_allclose(samples[8000 + SETTLED :], -place[8000 + SETTLED :], atol=1e-6)
    assert found["places"][:1] == [0.5]
    assert found["end"] == pytest.approx(0.5 + 1.9 % 0.25, abs=0.01)


def test_places(run):
    moves = [
        *([0, "seek", 9], [0, "seek", -1], [0, "seek", 1.2], [0, "play", None]),
        *([0.2, "seek", 0.4], [0.4, "pause", None], [0.6, "setLoop", {"start": 1, "end": 1.5}]),
    ]
    found = run(PLAY, {"seconds": 0.8, "moves": moves})
    assert found["places"] == pytest.approx([2, 0, 1.2, 1.2, 0.4, 0.6, 1])
    assert not found["isPlaying"]
    samples = floats(found["samples"])
    np.testing.assert_allclose(samples[6400 - 100 : 6400], (3200 + np.arange(6300, 6400) + 1) / 32_000, atol=1e-6)
    assert np.abs(samples[8000:]).max() == 0


def test_it_stops_at_the_end(run):
    found = run(PLAY, {"seconds": 0.5, "moves": [[0, "seek", 1.9], [0, "play", None]]})
    samples = floats(found["samples"])
    assert samples[1500] != 0
    assert np.abs(samples[1600 + 128 :]).max() == 0


def test_what_is_heard_is_what_the_service_writes(run, page_service, tmp_path):
    """At any strength, and of what was removed, but for the rounding of the files."""
    client = Client(page_service.address)
    sounds = [sf.read(RECORDING, dtype="float32")[0]]
    for number, fields in enumerate([{}, {"mix": 0.35}, {"output": "removed"}]):
        client.enhance(RECORDING, tmp_path / f"{number}.flac", **fields)
        sounds.append(sf.read(tmp_path / f"{number}.flac", dtype="float32")[0])
    before, after, *expected = (samples[:100_000] for samples in sounds)
    for weights, wanted in zip([[0.65, 0.35], [1, -1]], expected, strict=True):
        heard = run(
            """async ({ playback, floats, text }, [parts, weights]) => {
                const context = new OfflineAudioContext(1, 100_000, 44_100);
                const tracks = parts.map((part) => {
                    const track = context.createBuffer(1, 100_000, 44_100);
                    track.copyToChannel(floats(part), 0);
                    return track;
                });
                const player = new playback.Playback(context, tracks);
                player.setWeights(weights);
                player.play();
                return text((await context.startRendering()).getChannelData(0));
            }""",
            [[text(before), text(after)], weights],
        )
        np.testing.assert_allclose(floats(heard)[SETTLED:], wanted[SETTLED:], atol=1.01 / 32_768)
