"""Arrays and streams: any cut into blocks gives the same samples, aligned to the input."""

import gc
import time
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sottovoce
from sottovoce.engine.enhancer import WARM_UP_SECONDS, Enhancer, advance
from sottovoce.engine.frames import FrameStream
from sottovoce.engine.graph import float_constants
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import seal, unsealed
from sottovoce.engine.upper_band import UpperBand
from sottovoce.errors import ConfigError, ModelError
from sottovoce.models.export import Provenance, export_model
from sottovoce.signal.levels import active_speech_db, rms_db
from sottovoce.signal.resampling import PolyphaseResampler, Resampler, resample
from sottovoce.weights import MODELS

from ..conftest import build_identity_model
from ..systems import EXAMPLES, SMALL_SYSTEMS, build, small_settings, speech, without_warm_up

RATES = [8000, 11025, 16000, 44100, 48000]
HIGH_RATES = [22050, 32000, 44100, 48000, 96000]


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """An enhancer whose output is its input, of a model that lags by five frames."""
    path = tmp_path_factory.mktemp("model") / "late.onnx"
    return Enhancer(Model.load(build_identity_model(path, windows=(512, 256), hop=100, delay_frames=5)))


@pytest.fixture(scope="module", params=SMALL_SYSTEMS)
def small(request, traced_once, tmp_path_factory):
    """An enhancer with a network of random values; with equal and with unequal windows."""
    wanted = SMALL_SYSTEMS[request.param]()
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    export_model(path, build(wanted), wanted, Provenance())
    return Enhancer(Model.load(path))


@pytest.fixture(scope="module")
def silencer(traced_once, tmp_path_factory):
    """An enhancer with a network that masks everything away."""
    wanted = small_settings()
    system = build(wanted)
    with torch.no_grad():
        for parameter in system.mask.network.merge.parameters():
            parameter.zero_()
    path = tmp_path_factory.mktemp("model") / "silencer.onnx"
    export_model(path, system, wanted, Provenance())
    return Enhancer(Model.load(path))


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def streamed(enhancer, waveform, rate, sizes, **options):
    """Push a signal in blocks of the given sizes, again and again, and join what comes out.

    Its beginning is known before, as that of a whole signal is, but for live use.
    """
    stream = enhancer.stream(rate, waveform.shape[0], **options)
    if not options.get("live"):
        stream.reset([waveform[:, : round(WARM_UP_SECONDS * rate)]])
    pieces, start = [], 0
    while start < waveform.shape[1]:
        for size in sizes:
            pieces.append(stream.push(waveform[:, start : start + size]))
            start += size
    return np.concatenate([*pieces, stream.flush()], axis=1)


def above(waveform, rate, hz=8500):
    """Keep what is above a frequency."""
    spectrum = np.fft.rfft(waveform)
    spectrum[..., np.fft.rfftfreq(waveform.shape[-1], 1 / rate) < hz] = 0
    return np.fft.irfft(spectrum, waveform.shape[-1])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=6).filter(any),
    channels=st.integers(1, 3),
    samples=st.integers(0, 3000),
    rate=st.sampled_from(RATES),
    limit_db=st.sampled_from([None, 6.0]),
    mix=st.sampled_from([1.0, 0.5]),
    full_band=st.booleans(),
    linked=st.booleans(),
    live=st.booleans(),
)
@example(sizes=[1], channels=2, samples=700, rate=16000, limit_db=6.0, mix=0.5, full_band=True, linked=True, live=False)
@example(
    sizes=[1], channels=2, samples=3000, rate=44100, limit_db=None, mix=1.0, full_band=True, linked=True, live=True
)
@example(
    sizes=[3000], channels=1, samples=3000, rate=44100, limit_db=None, mix=1.0, full_band=True, linked=False, live=False
)
def test_any_blocks_equal_the_whole(small, sizes, channels, samples, rate, live, **options):
    waveform = noise(channels, samples)
    if live:
        whole = streamed(small, waveform, rate, [max(samples, 1)], live=True, **options)
    else:
        whole = small.enhance(waveform, rate, **options)
    assert whole.shape == waveform.shape
    assert whole.dtype == np.float32
    pieces = streamed(small, waveform, rate, sizes, live=live, **options)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)


def test_long_signals_are_cut_without_a_trace(small):
    # A long block is cut into pieces of four seconds.
    waveform = np.tile(speech(3.0), 3)[np.newaxis]
    whole = small.enhance(waveform, 16000)
    np.testing.assert_allclose(streamed(small, waveform, 16000, [10_000]), whole, atol=1e-5)
    assert whole.any()


def test_short_synthesis_window_is_the_latency(tmp_path):
    model = Model.load(
        build_identity_model(tmp_path / "model.onnx", windows=(512,), synthesis_window=256, hop=128, delay_frames=1)
    )
    stream = Enhancer(model).stream(16000)
    assert stream.latency_seconds == model.metadata.latency_seconds == 0.024
    waveform = noise(1, 4000)
    given, late = 0, []
    for start in range(4000):
        given += stream.push(waveform[:, start : start + 1]).shape[1]
        late.append(start + 1 - given)
    # Before the last sample of a frame comes, what is out ends at its synthesis window and the frame of delay.
    assert max(late) == 256 + 128 - 1
    np.testing.assert_allclose(Enhancer(model).enhance(waveform[0], 16000), waveform[0], atol=1e-6)


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 412, 511, 512, 513, 4000])
def test_output_is_aligned_to_the_sample(late, samples):
    # The model gives its input back five frames later: the engine must take exactly that away, at both ends.
    waveform = noise(2, samples)
    np.testing.assert_allclose(late.enhance(waveform, 16000), waveform, atol=1e-6)
    np.testing.assert_allclose(streamed(late, waveform, 16000, [37]), waveform, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_keeps_length_and_alignment(late, rate):
    # A tone that every rate can hold, beginning and ending softly.
    count = rate + 7
    time = np.arange(count) / rate
    tone = (0.5 * np.sin(2 * np.pi * 800 * time) * np.hanning(count)).astype(np.float32)
    enhanced = late.enhance(tone, rate)
    assert enhanced.shape == tone.shape
    np.testing.assert_allclose(enhanced, tone, atol=2e-3)
    # A shift by one sample would be seen.
    assert np.abs(enhanced[1:] - tone[:-1]).max() > 0.01


@pytest.mark.parametrize("rate", [4000, *RATES, 384_000])
@pytest.mark.parametrize("samples", [0, 1, 2])
def test_hardly_any_samples(late, rate, samples):
    assert late.enhance(np.full(samples, 0.1, np.float32), rate).shape == (samples,)
    assert late.enhance(np.full((3, samples), 0.1, np.float32), rate).shape == (3, samples)


def test_channels_are_independent(small):
    waveform = np.stack([speech(0.5), noise(8000), np.zeros(8000, np.float32)])
    together = small.enhance(waveform, 16000)
    for channel, alone in zip(together, waveform, strict=True):
        np.testing.assert_allclose(channel, small.enhance(alone, 16000), atol=1e-5)
    assert together[0].any()
    assert not together[2].any()


def test_streams_are_independent(small):
    # One enhancer serves many signals at once.
    first, second = noise(1, 2000), noise(1, 2000, seed=1)
    one, two = small.stream(16000), small.stream(16000)
    one.reset([first])
    two.reset([second])
    pieces = [[], []]
    for start in range(0, 2000, 500):
        pieces[0].append(one.push(first[:, start : start + 500]))
        pieces[1].append(two.push(second[:, start : start + 500]))
    for stream, signal, piece in zip((one, two), (first, second), pieces, strict=True):
        joined = np.concatenate([*piece, stream.flush()], axis=1)
        np.testing.assert_allclose(joined, small.enhance(signal, 16000), atol=1e-5)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("live", [False, True])
def test_stream_is_as_late_as_it_says(late, rate, live):
    # Look when an impulse comes out, for impulses at every place within a hop of the model and some more.
    stream = late.stream(rate, live=live)
    step = 1 if live or rate == 16000 else 20
    latest, given_samples = 0, 0
    impulses = range(3000, 3000 + rate // 10, 17)
    signal = np.zeros(max(impulses) + rate, np.float32)
    signal[impulses] = 1
    came, outputs = {}, []
    for start in range(0, len(signal), step):
        pushed = start + step
        outputs.append(stream.push(signal[start:pushed])[0])
        latest = max(latest, pushed - given_samples)
        given_samples += len(outputs[-1])
        came.update({place: pushed for place in impulses if place not in came and place < given_samples})
    np.testing.assert_allclose(np.concatenate(outputs)[: max(impulses)], signal[: max(impulses)], atol=1e-4)
    model = late.model.metadata.latency_seconds
    assert model == (512 + 5 * 100) / 16000
    waits = [(came[place] - place) / rate for place in impulses]
    assert max(waits) <= latest / rate <= stream.latency_seconds + step / rate
    if rate == 16000:
        assert stream.latency_seconds == model
    elif live:
        assert latest / rate > stream.latency_seconds - 0.0002
        assert max(waits) > stream.latency_seconds - 0.001
    if live and rate >= 44100:
        assert stream.latency_seconds < model + 0.004


@pytest.mark.parametrize("name", MODELS)
def test_bundled_models_are_fit_for_live_use(name):
    enhancer = sottovoce.load(name)
    most = {"default": 0.032, "live": 0.016}[name]
    for rate in (16000, 44100, 48000):
        assert enhancer.stream(rate, live=True).latency_seconds <= most + (0.004 if rate > 16000 else 0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 160, 333])
def test_any_blocks_equal_the_whole_with_a_bundled_model(name, size):
    enhancer = sottovoce.load(name)
    waveform = speech(1.0)[np.newaxis]
    whole = enhancer.enhance(waveform, 16000)
    np.testing.assert_allclose(streamed(enhancer, waveform, 16000, [size]), whole, atol=1e-5)
    assert np.abs(whole - waveform).max() > 0.01


def test_one_dimensional_blocks_are_one_channel(late):
    waveform = noise(2000)
    stream = late.stream(16000)
    joined = np.concatenate([stream.push(waveform), stream.flush()], axis=1)
    np.testing.assert_allclose(joined[0], waveform, atol=1e-6)


@pytest.mark.parametrize("limit_db", [0.0, 6.0, 20.0])
@pytest.mark.parametrize("linked", [False, True])
def test_limit_bounds_the_attenuation(silencer, limit_db, linked):
    waveform = np.stack([speech(0.5), noise(8000)])
    assert not silencer.enhance(waveform, 16000, linked=linked).any()
    limited = silencer.enhance(waveform, 16000, limit_db=limit_db, linked=linked)
    np.testing.assert_allclose(limited, waveform * 10 ** (-limit_db / 20), atol=1e-6)


def test_limit_bounds_every_bin_of_a_late_model(small):
    # The floor is that of the frame that comes out, not of the one that goes in.
    waveform = speech(0.5)
    limited = small.enhance(waveform, 16000, limit_db=0.0)
    mask_at_most_one = small.enhance(waveform, 16000)
    # No attenuation is allowed, and this network's mask never amplifies: only its bins' phases could differ.
    np.testing.assert_allclose(limited, waveform, atol=1e-5)
    assert np.abs(mask_at_most_one - waveform).max() > 0.01


@pytest.mark.parametrize("rate", [16000, 44100])
def test_mix_of_zero_is_the_input(silencer, rate):
    waveform = noise(2, 3001)
    np.testing.assert_array_equal(silencer.enhance(waveform, rate, mix=0.0), waveform)


def test_mix_is_a_share(silencer, small):
    waveform = speech(0.5)
    np.testing.assert_allclose(silencer.enhance(waveform, 16000, mix=0.75), 0.25 * waveform, atol=1e-7)
    expected = 0.75 * small.enhance(waveform, 16000) + 0.25 * waveform
    np.testing.assert_allclose(small.enhance(waveform, 16000, mix=0.75), expected, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"mix": 0.5}, {"limit_db": 6.0}])
def test_samples_that_are_no_numbers_count_as_zero(small, options):
    waveform = speech(0.5)
    broken, mended = waveform.copy(), waveform.copy()
    for place, value in ((100, np.nan), (3000, np.inf), (3001, -np.inf), (7999, np.nan)):
        broken[place], mended[place] = value, 0
    enhanced = small.enhance(broken, 16000, **options)
    assert np.isfinite(enhanced).all()
    np.testing.assert_array_equal(enhanced, small.enhance(mended, 16000, **options))


def test_double_precision_is_taken(late):
    waveform = noise(2000)
    enhanced = late.enhance(waveform.astype(np.float64), 16000)
    assert enhanced.dtype == np.float32
    np.testing.assert_allclose(enhanced, waveform, atol=1e-6)


def test_input_is_not_changed(small):
    waveform = noise(2, 2000)
    before = waveform.copy()
    small.enhance(waveform, 16000, mix=0.5)
    np.testing.assert_array_equal(waveform, before)


@pytest.mark.parametrize(
    ("rate", "options", "words"),
    [
        (0, {}, "rate 0"),
        (1, {}, "rate 1 Hz"),
        (1_000_003, {}, "rate 1000003 Hz"),
        (2**40, {}, f"rate {2**40} Hz"),
        (-16000, {}, "rate -16000"),
        (44100.5, {}, "rate 44100.5"),
        (float("nan"), {}, "rate nan"),
        ("16000", {}, "rate '16000', expected a whole number"),
        (None, {}, "rate None, expected a whole number"),
        (16000, {"limit_db": -1.0}, "limit_db -1"),
        (16000, {"limit_db": float("nan")}, "limit_db nan"),
        (16000, {"mix": -0.1}, "mix -0.1"),
        (16000, {"mix": 1.1}, "mix 1.1"),
        (16000, {"mix": float("nan")}, "mix nan"),
    ],
)
def test_refuses_arguments_out_of_range(late, rate, options, words):
    with pytest.raises(ValueError, match=f"found {words}|found .*{words}"):
        late.enhance(noise(100), rate, **options)
    with pytest.raises(ValueError, match=words):
        late.stream(rate, **options)


@pytest.mark.parametrize("given", [[0.0] * 100, (0.0,) * 100, 0.5, None, b"samples"])
def test_says_what_it_wants_in_place_of_other_objects(late, given):
    with pytest.raises(TypeError, match=f"found a {type(given).__name__}, expected a numpy array"):
        late.enhance(given, 16000)
    with pytest.raises(TypeError, match=f"found a {type(given).__name__}, expected a numpy array"):
        late.stream(16000).push(given)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, bool, complex, object])
def test_says_what_it_wants_in_place_of_other_numbers(late, kind):
    for refuses in (lambda array: late.enhance(array, 16000), late.stream(16000).push):
        with pytest.raises(ValueError, match="expected floating-point numbers with full scale"):
            refuses(np.zeros(100, kind))


def test_what_is_removed_and_what_stays_are_the_input(small):
    waveform = noise(2, 3000)
    for options in ({}, {"mix": 0.5}, {"limit_db": 6.0, "linked": True}):
        stays = small.enhance(waveform, 44100, **options)
        removed = small.enhance(waveform, 44100, removed=True, **options)
        np.testing.assert_allclose(stays + removed, waveform, atol=1e-6)
        assert np.abs(removed).max() > 1e-3


@pytest.mark.parametrize("shape", [(), (1, 2, 100)])
def test_refuses_arrays_of_other_dimensions(late, shape):
    with pytest.raises(ValueError, match="expected \\(samples,\\) or \\(channels, samples\\)"):
        late.enhance(np.zeros(shape, np.float32), 16000)


def test_refuses_samples_in_the_place_of_channels(late):
    with pytest.raises(ValueError, match=r"found 4000 channels.*transpose"):
        late.enhance(np.zeros((4000, 2), np.float32), 16000)


@pytest.mark.parametrize("rate", [7919, 99_991, 383_987])
@pytest.mark.parametrize("live", [False, True])
def test_rates_without_a_common_divisor(late, rate, live):
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate) * np.hanning(rate // 2)).astype(np.float32)
    enhanced = streamed(late, tone[np.newaxis], rate, [4801], live=live)
    assert enhanced.shape == (1, rate // 2)
    np.testing.assert_allclose(enhanced[0], tone, atol=2e-3)


def test_many_channels_at_a_high_rate_take_little_at_once(late):
    """64 channels at 192 kHz: no array of numpy's holds more than a part of a second."""
    block = noise(64, 192_000 // 4)
    stream = late.stream(192_000, 64)
    tracemalloc.start()
    try:
        for _ in range(2):
            stream.push(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80 * 2**20


def test_refuses_no_channels(late):
    with pytest.raises(ValueError, match="0 channels"):
        late.enhance(np.zeros((0, 100), np.float32), 16000)


def test_stream_refuses_other_channels_and_blocks_after_the_end(late):
    stream = late.stream(16000, 2)
    for wrong in (noise(100), noise(3, 100), noise(1, 2, 100)):
        with pytest.raises(ValueError, match="expected \\(2, samples\\)"):
            stream.push(wrong)
    stream.push(noise(2, 100))
    stream.flush()
    with pytest.raises(ValueError, match="after flush"):
        stream.push(noise(2, 100))
    with pytest.raises(ValueError, match="second flush"):
        stream.flush()


def test_stream_refuses_another_rate(late):
    stream = late.stream(44100)
    stream.push(noise(1, 100), 44100)
    with pytest.raises(ValueError, match="block at 48000 Hz in a stream at 44100 Hz, expected one rate"):
        stream.push(noise(1, 100), 48000)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, bool, complex, object])
def test_refuses_samples_without_a_floating_point(late, dtype):
    with pytest.raises(ValueError, match="expected floating-point numbers"):
        late.enhance(np.zeros(1000, dtype), 16000)


@pytest.mark.parametrize("options", [{}, {"linked": True}, {"live": True}, {"limit_db": 6.0, "mix": 0.5}])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_reset_is_as_new(small, rate, options):
    stream = small.stream(rate, 2, **options)
    stream.push(noise(2, 5000, seed=3))
    stream.reset()
    waveform = noise(2, 4001)
    expected = without_warm_up(small, waveform, rate, **options)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([stream.push(waveform), stream.flush()], axis=1), expected)
        stream.reset()


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -3e38])
def test_a_block_of_no_numbers_poisons_nothing(small, rate, live, bad):
    waveform = noise(2, 6000)
    broken, mended = waveform.copy(), waveform.copy()
    broken[:, 2000:3000], mended[:, 2000:3000] = bad, 0
    expected = streamed(small, mended, rate, [500], live=live)
    np.testing.assert_array_equal(streamed(small, broken, rate, [500], live=live), expected)
    assert expected[:, 4000:].any()
    # float64 holds numbers that float32 does not.
    broken = broken.astype(np.float64)
    broken[:, 2500:2600] = 1e300
    np.testing.assert_array_equal(streamed(small, broken, rate, [500], live=live), expected)


def test_the_largest_samples_that_are_taken_are_survived(small):
    enhanced = streamed(small, np.concatenate([np.full(2000, 9e8), noise(30000)])[np.newaxis], 16000, [300])
    assert np.isfinite(enhanced).all()
    assert enhanced[:, -10000:].any()


@pytest.mark.parametrize(
    ("small", "rate", "live"), [("small", 16000, False), ("unequal windows", 48000, True)], indirect=["small"]
)
def test_blocks_of_one_sample_are_cheap_and_take_no_memory(small, rate, live):
    stream = small.stream(rate, live=live)
    sample = np.full((1, 1), 0.1, np.float32)

    def push(count):
        given_samples = 0
        for _ in range(count):
            given_samples += stream.push(sample).shape[1]
        return given_samples

    def held():
        gc.collect()  # which also empties the lists of freed tuples, at most 2000 of each length
        return tracemalloc.get_traced_memory()[0]

    count = rate // 4
    # Most blocks are only put away: they must not be looked at one by one by resampler and network.
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        to_the_network = stream._resample
        patch.setattr(stream, "_resample", lambda: calls.append(1) or to_the_network())
        assert push(count) > 0.9 * count
    assert len(calls) <= 4000 / small.stft.hop + 1
    tracemalloc.start()
    for _ in range(3):  # what was there before is replaced, and counts from then on
        push(count)
        before = held()
    push(2 * count)
    growth = held() - before
    tracemalloc.stop()
    assert growth < 10_000


def test_empty_blocks_change_nothing(small):
    stream = small.stream(44100, 2)
    empty = np.zeros((2, 0), np.float32)
    waveform = noise(2, 9000)
    stream.reset([empty, waveform, empty])
    pieces = [stream.push(empty)]
    for start in range(0, 9000, 1000):
        pieces += [stream.push(waveform[:, start : start + 1000]), stream.push(empty)]
        assert pieces[-1].shape == (2, 0)
    joined = np.concatenate([*pieces, stream.flush()], axis=1)
    np.testing.assert_allclose(joined, small.enhance(waveform, 44100), atol=1e-6)


class TestFullScale:
    @pytest.mark.parametrize("rate", [8000, 16000, 44100])
    @pytest.mark.parametrize("full_band", [False, True])
    def test_what_was_within_stays_within(self, late, small, rate, full_band):
        square = np.sign(np.sin(2 * np.pi * 100 * np.arange(rate) / rate)).astype(np.float32)
        for enhancer in (late, small):
            assert np.abs(enhancer.enhance(square, rate, full_band=full_band)).max() <= 1
        if rate == 44100:
            # Without the ceiling it would be beyond: the 8 kHz that are left of the square wave overshoot.
            assert np.count_nonzero(np.abs(late.enhance(square, rate, full_band=False)) == 1) > 100

    def test_what_was_beyond_may_stay_beyond(self, late):
        waveform = 3 * noise(8000) / 0.1
        assert np.abs(waveform).max() > 3
        np.testing.assert_allclose(late.enhance(waveform, 16000), waveform, atol=1e-4)


class TestFullBand:
    @pytest.mark.parametrize("rate", [8000, 11025, *HIGH_RATES])
    @pytest.mark.parametrize("live", [False, True])
    def test_nothing_enhanced_is_the_input(self, late, rate, live):
        # White noise, full scale at times and cut at both ends: every frequency that there is, loud where blocks begin.
        waveform = np.clip(3 * noise(2, rate // 2), -1, 1)
        for linked in (False, True):
            enhanced = streamed(late, waveform, rate, [999], live=live, linked=linked)
            np.testing.assert_allclose(enhanced, waveform, atol=1e-4)

    @pytest.mark.parametrize("rate", HIGH_RATES)
    @pytest.mark.parametrize("live", [False, True])
    def test_nothing_left_below_is_nothing_left_above(self, silencer, rate, live):
        assert np.abs(streamed(silencer, noise(2, rate // 2), rate, [999], live=live)).max() < 1e-5

    @pytest.mark.parametrize(("live", "resampler"), [(False, Resampler), (True, PolyphaseResampler)])
    def test_is_the_input_without_its_round_trip_under_a_gain(self, live, resampler):
        # The sum that is meant, written out; the engine computes another that takes less.
        enhancer = sottovoce.load()
        # Highs that come and go with the speech.
        waveform = resample(speech(2.0, kind="clean"), 16000, 48000) * (1 + 0.3 * noise(1, 96000))

        def up(samples):
            return resampler(16000, 48000, 1).push(samples, last=True)

        below = resampler(48000, 16000, 1).push(waveform, last=True)
        upper_band = UpperBand(enhancer.stft, 16000, 48000, 1)
        upper_band.append(waveform, last=True)
        frames = FrameStream(enhancer.model, enhancer.stft, 1, floor=0.0, linked=False, upper_band=upper_band)
        _, gains = frames.push(below, last=True)
        assert np.ptp(gains) > 0.2
        gains = np.interp(np.arange(96000) / 3, np.arange(32000), gains[0])
        expected = up(without_warm_up(enhancer, below)) + gains * (waveform - up(below))
        np.testing.assert_allclose(without_warm_up(enhancer, waveform, 48000, live=live), expected, atol=1e-4)

    @pytest.mark.parametrize("live", [False, True])
    def test_off_takes_the_band_away(self, late, live):
        waveform = noise(1, 24000)
        kept = streamed(late, waveform, 48000, [24000], live=live)
        lost = streamed(late, waveform, 48000, [24000], live=live, full_band=False)
        assert rms_db(above(kept, 48000)) == pytest.approx(rms_db(above(waveform, 48000)), abs=0.1)
        assert rms_db(above(lost, 48000)) < rms_db(above(waveform, 48000)) - 40

    def test_limit_and_mix_hold_above(self, silencer):
        waveform = noise(1, 24000)
        limited = silencer.enhance(waveform, 48000, limit_db=20.0)
        np.testing.assert_allclose(limited, 0.1 * waveform, atol=1e-5)
        mixed = silencer.enhance(waveform, 48000, mix=0.75)
        np.testing.assert_allclose(mixed, 0.25 * waveform, atol=1e-5)

    def test_never_amplifies_and_makes_no_clicks(self, small):
        # A tone above the model's band, under noise within it: what comes out above is the tone under a smooth gain.
        count = 48000
        tone = 0.3 * np.sin(2 * np.pi * 12000 * np.arange(count) / 48000)
        waveform = (tone + np.repeat(speech(1.0), 3) * np.hanning(count)).astype(np.float32)
        high = above(small.enhance(waveform, 48000), 48000, 10000)
        gain = np.sqrt(2 * np.convolve(high**2, np.full(48, 1 / 48), "same")) / 0.3
        assert gain.max() < 1.01
        assert gain[1000:-1000].min() < 0.9
        # A step from 1 to 0 within a hop of the small model (2 ms) is the fastest that a gain may change.
        assert np.abs(np.diff(gain[1000:-1000])).max() < np.pi / 2 / (0.002 * 48000)

    @pytest.mark.parametrize("live", [False, True])
    def test_speech_keeps_its_highs_and_noise_loses_them(self, live):
        # Speech whose highs are its own band of 4 to 7.5 kHz moved up, and white noise.
        enhancer = sottovoce.load()
        clean = resample(speech(4.0, kind="clean"), 16000, 48000)
        spectrum = np.fft.rfft(clean)
        spectrum[4 * 8000 : 4 * 12000] = spectrum[4 * 4000 : 4 * 8000]
        clean = np.fft.irfft(spectrum, clean.size).astype(np.float32)[np.newaxis]

        def change_db(waveform):
            enhanced = streamed(enhancer, waveform, 48000, [480], live=live)
            return rms_db(above(enhanced[:, 24000:], 48000)) - rms_db(above(waveform[:, 24000:], 48000))

        assert -2 < change_db(clean) < 0
        assert change_db(0.5 * noise(1, 2 * 48000)) < -15

    @pytest.mark.parametrize("live", [False, True])
    def test_hiss_above_does_not_come_back_with_words(self, live):
        # Speech that has nothing above 8 kHz, behind a pause, in noise that is strongest above.
        clean = np.concatenate([np.zeros(16000, np.float32), speech(4.0, kind="clean")])
        clean = resample(clean, 16000, 48000)
        hiss = noise(1, clean.size)[0]
        waveform = (clean + 0.02 * hiss + 0.2 * above(hiss, 48000)).astype(np.float32)[np.newaxis]
        enhanced = streamed(sottovoce.load(), waveform, 48000, [480], live=live)
        speech_power, before, after = (
            np.square(part).reshape(-1, 960).mean(axis=1)
            for part in (clean, above(waveform[0], 48000), above(enhanced[0], 48000))
        )
        change_db = 10 * np.log10(after / before)
        in_words = np.percentile(change_db[speech_power > 0.03 * speech_power.max()], 90)
        in_the_pause = change_db[25:48].mean()
        # By the model's own gain it would be -2 dB in a tenth of the frames, and -26 dB in the pause.
        assert in_the_pause < -20
        assert in_words < in_the_pause + 8


class TestLinked:
    def test_a_panned_source_stays_where_it_is(self, small):
        # One source in phase at 0 and -12 dB, another as loud in opposite phase: a downmix would hold little of it.
        for second in (0.25, -0.9):
            source = speech(1.0)
            waveform = np.stack([source, np.float32(second) * source])
            enhanced = small.enhance(waveform, 16000, linked=True)
            assert rms_db(enhanced[0]) < rms_db(waveform[0]) - 0.3
            assert rms_db(enhanced[0]) > rms_db(waveform[0]) - 30
            np.testing.assert_allclose(enhanced[1], second * enhanced[0], atol=1e-5)

    def test_the_image_of_a_real_model_does_not_wander(self):
        # Speech from the left, half as loud and 5 samples later on the right, in noise of its own on either side.
        enhancer = sottovoce.load()
        source = speech(4.0, kind="clean") / 0.1
        clean = np.stack([source, 0.5 * np.roll(source, 5)]).astype(np.float32)
        noisy = clean + 0.3 * np.sqrt(np.mean(clean[0] ** 2)) / 0.1 * noise(2, source.size)

        def image(waveform):
            """Level difference of the channels in dB, and phase, where the speech is: bins of loud frames."""
            spectra = enhancer.stft.analyse(waveform)
            left, right = spectra[:, 0] + 1j * spectra[:, 1]
            return 20 * np.log10(np.abs(right) / np.abs(left))[loud], np.angle(right * left.conj())[loud]

        reference = enhancer.stft.analyse(clean)[0]
        loud = np.hypot(*reference) > 0.1 * np.hypot(*reference).max()
        assert loud.sum() > 200
        level_before, phase_before = image(noisy)
        wander = {}
        for linked in (False, True):
            level_db, phase = image(enhancer.enhance(noisy, 16000, linked=linked))
            turned = np.angle(np.exp(1j * (phase - phase_before)))
            wander[linked] = np.percentile(np.abs([level_db - level_before, turned]), 95, axis=1)
        assert wander[True][0] < 0.4
        assert wander[True][1] < 0.04
        assert wander[True][0] < 0.3 * wander[False][0]

    def test_channels_get_the_same_gain_whatever_is_in_them(self, small):
        # The difference of the channels, a source of its own, gets the gains of the whole.
        first, second = speech(1.0), noise(16000)
        both = small.enhance(np.stack([first, second]), 16000, linked=True)
        turned = small.enhance(np.stack([first + second, first - second]) / np.sqrt(2), 16000, linked=True)
        middle, side = (turned[0] + turned[1]) / np.sqrt(2), (turned[0] - turned[1]) / np.sqrt(2)
        # A rotation keeps the power of every bin, so the network's input is the same but for the phase of the
        # sum, which this network uses as well.
        for enhanced, expected in ((middle, both[0]), (side, both[1])):
            assert np.corrcoef(enhanced, expected)[0, 1] > 0.9

    @pytest.mark.parametrize("rate", [16000, 48000])
    def test_equal_channels_are_enhanced_as_one(self, small, rate):
        waveform = noise(rate // 2)
        alone = small.enhance(waveform, rate)
        linked = small.enhance(np.stack([waveform] * 3), rate, linked=True)
        np.testing.assert_allclose(linked, np.stack([alone] * 3), atol=1e-4)

    def test_one_channel_has_nothing_to_be_linked_with(self, small):
        waveform = noise(1, 4000)
        np.testing.assert_array_equal(
            small.enhance(waveform, 16000, linked=True), small.enhance(waveform, 16000, linked=False)
        )

    def test_nothing_enhanced_is_the_input(self, late):
        waveform = np.stack([noise(8000), np.zeros(8000, np.float32), -noise(8000, seed=1)])
        np.testing.assert_allclose(late.enhance(waveform, 16000, linked=True), waveform, atol=1e-6)

    def test_costs_less(self):
        enhancer = sottovoce.load()
        waveform = np.stack([speech(2.0)] * 4)
        enhancer.enhance(waveform, 16000)

        def cost(linked):
            times = []
            for _ in range(3):
                start = time.thread_time()
                enhancer.enhance(waveform, 16000, linked=linked)
                times.append(time.thread_time() - start)
            return min(times)

        assert cost(True) < 0.7 * cost(False)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("path", sorted((EXAMPLES / "pairs" / "clean").glob("*.flac")), ids=lambda path: path.stem)
def test_bundled_models_keep_the_level_of_speech(name, path):
    clean, _ = sf.read(path, dtype="float32")
    for gain in (0.1, 1.0):
        before = active_speech_db(gain * clean, 16000)
        after = active_speech_db(sottovoce.load(name).enhance(np.float32(gain) * clean, 16000), 16000)
        assert after == pytest.approx(before, abs=1.0)


@pytest.mark.parametrize("options", [{}, {"mix": 0.0}, {"linked": True}, {"limit_db": 10.0}, {"full_band": False}])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_network_that_gives_no_numbers_is_an_error(exploding, rate, options):
    with pytest.raises(ModelError, match="no numbers"):
        exploding.enhance(noise(2, rate), rate, **options)
    stream = exploding.stream(rate, live=True, **options)
    with pytest.raises(ModelError, match="no numbers"):
        stream.push(noise(1, rate))
    np.testing.assert_array_equal(exploding.enhance(np.zeros(rate, np.float32), rate), 0)


def spectra_of(sound, stft):
    """The frames of a signal as a stream makes them."""
    padded = np.pad(sound, ((0, 0), (stft.window - stft.hop, 0)))
    return np.ascontiguousarray(stft.spectra(stft.frames(padded)))


@pytest.fixture
def live():
    """A network that remembers, and has a short synthesis window."""
    return sottovoce.load("live")


class TestWarmUp:
    """A signal begins with what the network remembers of its first seconds."""

    def test_the_signal_begins_in_the_state_after_its_beginning(self, live, monkeypatch):
        stft, rate = live.stft, live.model.metadata.sample_rate
        monkeypatch.setattr("sottovoce.engine.enhancer.WARM_UP_SECONDS", 0.5)
        sound = noise(1, rate + 7)
        given = live.enhance(sound, rate)
        _, past = live.model.run(spectra_of(sound[:, : rate // 2], stft), live.model.initial_past(1))
        enhanced, _ = live.model.run(spectra_of(sound, stft), past)
        expected = stft.overlap_add(enhanced)[:, stft.overlap :]
        ready = expected.shape[1] - stft.overlap
        np.testing.assert_allclose(given[:, :ready], expected[:, :ready], atol=1e-5)
        assert given.shape == sound.shape
        assert np.abs(given - without_warm_up(live, sound)).max() > 1e-3

    @pytest.mark.parametrize("rate", [16000, 44100])
    def test_nothing_but_the_state_is_left_of_it(self, late, rate):
        """A network without memory gives the signal, aligned, and nothing of the beginning."""
        sound = noise(2, rate)
        stream = late.stream(rate, 2)
        stream.reset([noise(2, rate, seed=1)])
        given = np.concatenate([stream.push(sound), stream.flush()], axis=1)
        np.testing.assert_allclose(given, late.enhance(sound, rate), atol=1e-6)

    @pytest.mark.parametrize("rate", [16000, 44100])
    def test_its_blocks_do_not_matter(self, live, rate):
        sound = noise(2, rate // 2)
        stream = live.stream(rate, 2, linked=True)
        stream.reset(np.array_split(sound, 7, axis=1))
        given = np.concatenate([stream.push(sound), stream.flush()], axis=1)
        np.testing.assert_allclose(given, live.enhance(sound, rate, linked=True), atol=1e-5)

    def test_what_is_no_sound_counts_as_silence(self, live):
        broken, mended = noise(1, 4000), noise(1, 4000)
        broken[0, 100:200], mended[0, 100:200] = np.nan, 0
        stream = live.stream(16000)
        stream.reset([broken])
        given = stream.push(mended)
        stream.reset([mended])
        np.testing.assert_array_equal(given, stream.push(mended))
        assert np.isnan(broken).any()  # the caller's array stays

    def test_a_block_that_does_not_fit_is_refused(self, live):
        with pytest.raises(ValueError, match=r"shape \(2, 100\), expected \(1, samples\)"):
            live.stream(16000).reset([noise(2, 100)])

    @pytest.mark.parametrize("samples", [0, 1, 100])
    def test_hardly_any_samples(self, live, samples):
        assert live.enhance(noise(1, samples), 16000).shape == (1, samples)

    def test_a_stream_begins_again_after_its_end(self, live):
        sound = noise(1, 4000)
        stream = live.stream(16000)
        stream.push(sound)
        stream.flush()
        stream.reset([sound])
        given = np.concatenate([stream.push(sound), stream.flush()], axis=1)
        np.testing.assert_allclose(given, live.enhance(sound, 16000), atol=1e-6)


class TestExchange:
    """Another model takes over within a signal."""

    @pytest.fixture
    def adapted(self):
        """The same network with other values, as adapters make it."""
        payload = bytearray(unsealed(MODELS["live"].read_bytes()))
        rng = np.random.default_rng(3)
        for name, constant in float_constants(payload).items():
            if name.startswith("model."):
                constant[...] = constant * (1 + 0.3 * rng.standard_normal(constant.shape))
        return Model(seal(bytes(payload)), "adapted")

    def test_the_new_model_goes_on_in_the_state_of_the_old_one(self, live, adapted):
        stft, before, after = live.stft, 40, 60
        sound = noise(1, (before + after - 1) * stft.hop + 7)
        stream = live.stream(16000)
        first = stream.push(sound[:, : before * stft.hop])
        stream.exchange(adapted)
        given = np.concatenate([first, stream.push(sound[:, before * stft.hop :])], axis=1)

        spectra = spectra_of(sound, stft)
        old, past = live.model.run(spectra[..., :before], live.model.initial_past(1))
        new, _ = adapted.run(np.ascontiguousarray(spectra[..., before:]), past)
        expected = stft.overlap_add(np.concatenate([old, new], axis=-1))[:, stft.overlap :]
        count = given.shape[1]
        np.testing.assert_allclose(given, expected[:, :count], atol=1e-5)
        # What is complete before the exchange is what the old model gives.
        unchanged = without_warm_up(live, sound)
        np.testing.assert_allclose(first, unchanged[:, : first.shape[1]], atol=1e-5)
        assert np.abs(given - unchanged[:, :count]).max() > 1e-3

    def test_length_and_latency_stay_and_a_new_signal_is_the_new_model_s(self, live, adapted):
        sound = noise(1, 9000)
        stream = live.stream(48000, live=True)
        latency_seconds = stream.latency_seconds
        pieces = [stream.push(sound[:, :4000])]
        stream.exchange(adapted)
        pieces += [stream.push(sound[:, 4000:]), stream.flush()]
        assert np.concatenate(pieces, axis=1).shape == sound.shape
        assert stream.latency_seconds == latency_seconds
        stream.reset()
        again = np.concatenate([stream.push(sound), stream.flush()], axis=1)
        other = Enhancer(adapted).stream(48000, live=True)
        np.testing.assert_allclose(again, np.concatenate([other.push(sound), other.flush()], axis=1), atol=1e-6)

    def test_a_model_with_other_frames_is_refused(self, live, late):
        with pytest.raises(ModelError, match="has other frames or states"):
            live.stream(16000).exchange(late.model)


def test_a_model_without_a_choice_of_the_room_has_natural_alone(late):
    waveform = np.zeros(1600, np.float32)
    np.testing.assert_array_equal(late.enhance(waveform, 16000, room="natural"), late.enhance(waveform, 16000))
    with pytest.raises(ConfigError, match=r"found room dry and .*no choice of the room, expected natural"):
        late.enhance(waveform, 16000, room="dry")
    with pytest.raises(ConfigError, match="found room 'hall', expected natural, keep or dry"):
        late.enhance(waveform, 16000, room="hall")


class TestTogether:
    """Streams that go through the network in one call, against each of them alone."""

    ORDERS = (
        ("live", 16000, 1, {}),
        ("live", 16000, 2, {"limit_db": 12.0, "room": "dry"}),
        ("default", 16000, 1, {"mix": 0.5}),
        ("live", 48000, 2, {"linked": True, "limit_db": 20.0}),
        ("default", 44100, 3, {"removed": True}),
        ("live", 8000, 1, {}),
        ("live", 22050, 1, {"full_band": False}),
    )

    def test_streams_that_come_and_go_get_what_they_get_alone(self):
        """Of any model, rate, channels and options, in blocks of any length; only the last bits are others."""
        rng = np.random.default_rng(0)
        enhancers = {name: sottovoce.load(name) for name in MODELS}
        open_streams, counts = [], []
        for turn in range(25):
            if turn % 2 == 0 and turn // 2 < len(self.ORDERS):
                name, rate, channels, options = self.ORDERS[turn // 2]
                alone, one_of_many = (enhancers[name].stream(rate, channels, live=True, **options) for _ in range(2))
                open_streams.append((alone, one_of_many, [], []))
            for alone, one_of_many, expected, _ in open_streams:
                block = noise(alone.channels, int(rng.integers(0, alone.sample_rate // 20)), seed=turn)
                one_of_many.append(block)
                expected.append(alone.push(block))
            leaving = open_streams[:1] if turn in (13, 20) else []
            for _, one_of_many, *_ in leaving:
                one_of_many.end()
            while waiting := [stream for _, stream, *_ in open_streams if stream.waiting_frames]:
                counts.append(len(waiting))
                advance(waiting, most=8)
            for alone, _, expected, _ in leaving:
                expected.append(alone.flush())
            for _, one_of_many, expected, found in open_streams:
                found.append(one_of_many.take())
                np.testing.assert_allclose(
                    np.concatenate(found, axis=1), np.concatenate(expected, axis=1), rtol=0, atol=1e-6
                )
            open_streams = open_streams[len(leaving) :]
        assert max(counts) > 4

    @pytest.mark.parametrize("orders", [[(16000, 1), (16000, 1)], [(48000, 2), (16000, 1), (44100, 1)]])
    def test_a_model_that_lags(self, late, orders):
        waveforms = [noise(channels, rate // 4, seed=rate) for rate, channels in orders]
        streams = [late.stream(rate, channels, live=True) for rate, channels in orders]
        pieces = [[] for _ in streams]
        for part in range(10):
            for stream, waveform in zip(streams, waveforms, strict=True):
                stream.append(waveform[:, part * waveform.shape[1] // 10 : (part + 1) * waveform.shape[1] // 10])
                if part == 9:
                    stream.end()
            while waiting := [stream for stream in streams if stream.waiting_frames]:
                advance(waiting)
            for stream, found in zip(streams, pieces, strict=True):
                found.append(stream.take())
        for found, waveform, (rate, _) in zip(pieces, waveforms, orders, strict=True):
            expected = streamed(late, waveform, rate, [rate // 40], live=True)
            np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=0, atol=1e-6)

    def test_one_that_fails_ends_no_other(self, exploding):
        streams = [exploding.stream(16000, live=True) for _ in range(3)]
        for turn in range(3):
            for number, stream in enumerate(streams):
                stream.append(noise(1, 800) if (turn, number) == (1, 1) else np.zeros((1, 800), np.float32))
            while waiting := [stream for stream in streams if stream.waiting_frames]:
                advance(waiting)
            for number, stream in enumerate(streams):
                if turn and number == 1:
                    with pytest.raises(ModelError, match="no numbers"):
                        stream.take()
                else:
                    assert not stream.take().any()

    def test_a_call_is_no_longer_than_it_may_be(self, exploding, monkeypatch):
        sizes = []
        run = exploding.model.run
        monkeypatch.setattr(
            exploding.model, "run", lambda spectra, past: (sizes.append(spectra.shape), run(spectra, past))[1]
        )
        streams = [exploding.stream(16000, channels) for channels in (1, 3)]
        for stream in streams:
            stream.append(np.zeros((stream.channels, 8000), np.float32))
        while waiting := [stream for stream in streams if stream.waiting_frames]:
            advance(waiting, most=16)
        frames = [rows * count for rows, _, _, count in sizes]
        assert max(frames) == 16
        assert sum(frames) == 4 * (8000 // exploding.stft.hop)
