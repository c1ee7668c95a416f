"""Arrays and streams: any cut into blocks gives the same samples, aligned to the input."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.model import Model
from sottovoce.models.export import export_model

from ..conftest import build_identity_model
from ..systems import build, small_settings, speech

RATES = [8000, 11025, 16000, 44100, 48000]


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """An enhancer whose output is its input, of a model that lags by five frames."""
    path = tmp_path_factory.mktemp("model") / "late.onnx"
    return Enhancer(Model.load(build_identity_model(path, windows=(512, 256), hop=100, delay_frames=5)))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An enhancer with a network of random values, and look-ahead."""
    wanted = small_settings(model={"causal": False})
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    export_model(path, build(wanted), wanted, licence="", training_data=[], command="")
    return Enhancer(Model.load(path))


@pytest.fixture(scope="module")
def silencer(tmp_path_factory):
    """An enhancer with a network that masks everything away."""
    wanted = small_settings()
    system = build(wanted)
    with torch.no_grad():
        for parameter in system.mask.network.merge.parameters():
            parameter.zero_()
    path = tmp_path_factory.mktemp("model") / "silencer.onnx"
    export_model(path, system, wanted, licence="", training_data=[], command="")
    return Enhancer(Model.load(path))


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def streamed(enhancer, waveform, rate, sizes, **options):
    """Push a signal in blocks of the given sizes, again and again, and join what comes out."""
    stream = enhancer.stream(rate, waveform.shape[0], **options)
    pieces, start = [], 0
    while start < waveform.shape[1]:
        for size in sizes:
            pieces.append(stream.push(waveform[:, start : start + size]))
            start += size
    return np.concatenate([*pieces, stream.flush()], axis=1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=6).filter(any),
    samples=st.integers(0, 3000),
    rate=st.sampled_from(RATES),
    limit_db=st.sampled_from([None, 6.0]),
    mix=st.sampled_from([1.0, 0.5]),
)
@example(sizes=[1], samples=700, rate=16000, limit_db=6.0, mix=0.5)
@example(sizes=[3000], samples=3000, rate=44100, limit_db=None, mix=1.0)
def test_any_blocks_equal_the_whole(small, sizes, samples, rate, limit_db, mix):
    waveform = noise(2, samples)
    whole = small.enhance(waveform, rate, limit_db=limit_db, mix=mix)
    assert whole.shape == waveform.shape
    assert whole.dtype == np.float32
    pieces = streamed(small, waveform, rate, sizes, limit_db=limit_db, mix=mix)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)


def test_long_signals_are_cut_without_a_trace(small):
    # `enhance` works in blocks of four seconds itself.
    waveform = np.tile(speech(3.0), 3)[np.newaxis]
    whole = small.enhance(waveform, 16000)
    np.testing.assert_allclose(streamed(small, waveform, 16000, [waveform.shape[1]]), whole, atol=1e-5)
    assert whole.any()


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


@pytest.mark.parametrize("rate", RATES)
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
    pieces = [[], []]
    for start in range(0, 2000, 500):
        pieces[0].append(one.push(first[:, start : start + 500]))
        pieces[1].append(two.push(second[:, start : start + 500]))
    for stream, signal, piece in zip((one, two), (first, second), pieces, strict=True):
        joined = np.concatenate([*piece, stream.flush()], axis=1)
        np.testing.assert_allclose(joined, small.enhance(signal, 16000), atol=1e-5)


def test_stream_is_as_late_as_it_says(late):
    stream = late.stream(16000)
    assert stream.latency_seconds == pytest.approx((512 + 5 * 100) / 16000)
    latest = 0
    given_samples = 0
    for pushed in range(1, 3000):
        given_samples += stream.push(noise(1, 1)).shape[1]
        latest = max(latest, pushed - given_samples)
    # A block of one hop is waited for in addition to window and delay, less the hop that the window holds itself.
    assert latest <= 512 + 5 * 100


def test_one_dimensional_blocks_are_one_channel(late):
    waveform = noise(2000)
    stream = late.stream(16000)
    joined = np.concatenate([stream.push(waveform), stream.flush()], axis=1)
    np.testing.assert_allclose(joined[0], waveform, atol=1e-6)


@pytest.mark.parametrize("limit_db", [0.0, 6.0, 20.0])
def test_limit_bounds_the_attenuation(silencer, limit_db):
    waveform = np.stack([speech(0.5), noise(8000)])
    assert not silencer.enhance(waveform, 16000).any()
    limited = silencer.enhance(waveform, 16000, limit_db=limit_db)
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
        (-16000, {}, "rate -16000"),
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


@pytest.mark.parametrize("shape", [(), (1, 2, 100)])
def test_refuses_arrays_of_other_dimensions(late, shape):
    with pytest.raises(ValueError, match="expected \\(samples,\\) or \\(channels, samples\\)"):
        late.enhance(np.zeros(shape, np.float32), 16000)


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
