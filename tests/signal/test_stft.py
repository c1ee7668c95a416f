"""Short-time spectra: perfect reconstruction, alignment, and the same numbers in numpy and in torch."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sottovoce.models.frontend import TorchSTFT
from sottovoce.signal.stft import MultiResolutionSTFT, sqrt_hann, synthesis_taper

from ..systems import speech

# Hops that divide the window, that do not, that are half of it, and one of a single sample.
FRONTENDS = [
    ((512,), 256),
    ((512,), 128),
    ((512,), 200),
    ((500, 96), 77),
    ((1024, 512, 256, 128), 32),
    ((1024, 512, 256, 128), 256),
    ((32, 8), 1),
    ((2,), 1),
    ((512,), 128, 256),
    ((512,), 64, 128),
    ((500,), 77, 160),
    ((512,), 1, 2),
]
frontends = st.sampled_from(FRONTENDS)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(frontend=frontends, samples=st.integers(0, 5000), seed=st.integers(0, 3))
@example(frontend=((512,), 256), samples=0, seed=0)
@example(frontend=((512,), 256), samples=1, seed=0)
@example(frontend=((512,), 200), samples=5000, seed=0)
def test_synthesis_undoes_analysis(frontend, samples, seed):
    stft = MultiResolutionSTFT(*frontend)
    waveform = np.random.default_rng(seed).standard_normal((2, samples))
    spectra = stft.analyse(waveform)
    assert spectra.shape == (2, 2, sum(stft.bins), stft.frame_count(samples))
    np.testing.assert_allclose(stft.synthesise(spectra, samples), waveform, atol=1e-10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(frontend=frontends, samples=st.integers(1, 5000))
def test_frame_count_reaches_every_sample_alike(frontend, samples):
    stft = MultiResolutionSTFT(*frontend)
    count = stft.frame_count(samples)
    # What frame n gives back begins at sample nH + H - V: at or before the last sample for the last frame, behind it
    # for one more.
    begins = (count - 1) * stft.hop + stft.hop - stft.synthesis_window
    assert begins <= samples - 1 < begins + stft.hop


def test_frame_count_of_nothing_is_none():
    assert MultiResolutionSTFT((512,), 256).frame_count(0) == 0


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_frame_holds_the_samples_that_the_documentation_names(frontend):
    stft = MultiResolutionSTFT(*frontend)
    window, hop = stft.window, stft.hop
    # Every sample is its own number; what lies before the signal is 0.
    buffer = np.concatenate([np.zeros(window - hop), np.arange(1, 3 * window + 1)])
    frames = stft.frames(buffer)
    for n in range(len(frames)):
        first = n * hop + hop - window
        np.testing.assert_array_equal(frames[n], np.maximum(0, np.arange(first, first + window) + 1))
    assert (len(frames) - 1) * hop + window <= len(buffer) < len(frames) * hop + window


def test_too_few_samples_make_no_frame():
    stft = MultiResolutionSTFT((512,), 256)
    assert stft.frames(np.zeros((3, 511), np.float32)).shape == (3, 0, 512)


@pytest.mark.parametrize("window", [512, 256])
def test_windows_of_a_front_end_are_centred_alike(window):
    # An impulse in the middle of a frame meets the top of every window: all bins of all maps have the window's peak.
    stft = MultiResolutionSTFT((512, 256), 128)
    frame = np.zeros((1, 512))
    frame[0, 256] = 1
    size = np.hypot(*np.moveaxis(stft.spectra(frame), 0, 0))[:, 0]
    part = size[:257] if window == 512 else size[257:]
    np.testing.assert_allclose(part, sqrt_hann(window)[window // 2], rtol=1e-12)


@pytest.mark.parametrize("window", [2, 128, 500, 1024])
def test_windows_have_unit_energy(window):
    assert np.sum(sqrt_hann(window) ** 2) == pytest.approx(1)


def test_white_noise_has_the_same_power_in_every_resolution():
    stft = MultiResolutionSTFT((1024, 512, 256, 128), 256)
    spectra = stft.analyse(0.1 * np.random.default_rng(0).standard_normal(160_000))
    power = np.square(spectra).sum(axis=0)[:, 4:-4]
    means = [part.mean() for part in np.split(power, np.cumsum(stft.bins)[:-1])]
    np.testing.assert_allclose(means, 0.01, rtol=0.02)


@pytest.mark.parametrize(
    ("window", "hop", "length"), [(512, 256, 512), (512, 200, 512), (500, 77, 500), (8, 1, 8), (512, 100, 256)]
)
def test_windows_overlap_to_one(window, hop, length):
    analysis = sqrt_hann(window, length // 2)
    product = analysis[-length:] * synthesis_taper(analysis, length, hop)
    added = np.zeros(20 * length)
    for start in range(0, 19 * length, hop):
        added[start : start + length] += product
    np.testing.assert_allclose(added[length : 18 * length], 1)


def test_asymmetric_window_rises_longer_than_it_falls():
    window = sqrt_hann(512, 128)
    assert np.argmax(window) == 384
    assert np.all(np.diff(window[:385]) > 0)
    assert np.all(np.diff(window[384:]) < 0)
    # It falls like the window whose latency it has.
    np.testing.assert_allclose(window[384:] / window[384], sqrt_hann(256)[128:] / sqrt_hann(256)[128])


def test_short_synthesis_window_gives_back_the_end_of_a_frame_alone():
    stft = MultiResolutionSTFT((512,), 64, 128)
    spectra = stft.analyse(np.random.default_rng(0).standard_normal(4000))
    changed = spectra.copy()
    changed[..., 20:] = 0
    difference = stft.synthesise(spectra, 4000) - stft.synthesise(changed, 4000)
    # Frame 20 ends at sample 21 H: only its last 128 samples and later ones are others now.
    assert np.flatnonzero(difference)[0] >= 21 * 64 - 128
    assert np.all(difference[21 * 64 - 64 : 4000] != 0)


def test_spectra_keep_the_precision_of_the_samples():
    stft = MultiResolutionSTFT((64,), 32)
    for dtype in (np.float32, np.float64):
        spectra = stft.analyse(np.ones(100, dtype))
        assert spectra.dtype == dtype
        assert stft.synthesise(spectra, 100).dtype == dtype


@pytest.mark.parametrize(
    ("windows", "hop", "length", "words"),
    [
        ((), 1, None, "windows"),
        ((511,), 128, None, "windows"),
        ((0,), 1, None, "windows"),
        ((256, 512), 64, None, "windows"),
        ((512, 512), 64, None, "windows"),
        ((512,), 0, None, "hop"),
        ((512,), -256, None, "hop"),
        ((512,), 257, None, "hop"),
        ((512,), 129, 256, "hop"),
        ((512,), 64, 255, "a synthesis window"),
        ((512,), 64, 514, "a synthesis window"),
        ((512,), 64, 0, "a synthesis window"),
        ((512, 256), 64, 256, "a synthesis window"),
    ],
)
def test_refuses_what_cannot_be_inverted(windows, hop, length, words):
    with pytest.raises(ValueError, match=f"found {words}"):
        MultiResolutionSTFT(windows, hop, length)


@pytest.mark.parametrize("frontend", [((512,), 256), ((1024, 512, 256, 128), 32), ((500, 96), 77), ((512,), 128, 256)])
@pytest.mark.parametrize("sound", ["speech", "noise", "silence then a click"])
def test_torch_and_numpy_agree(frontend, sound):
    waveform = {
        "speech": speech(0.5),
        "noise": np.random.default_rng(0).standard_normal(8001).astype(np.float32),
        "silence then a click": np.eye(1, 4000, 3999, dtype=np.float32)[0],
    }[sound]
    ours, theirs = MultiResolutionSTFT(*frontend), TorchSTFT(*frontend)
    spectra, batch = ours.analyse(waveform), theirs.analyse(torch.from_numpy(waveform)[None])
    np.testing.assert_allclose(batch[0], spectra, atol=1e-5)
    # Both syntheses get the same spectrum, and one that belongs to no signal.
    spectrum = spectra[:, : ours.bins[0]] * np.random.default_rng(1).random(spectra.shape[-1], np.float32)
    np.testing.assert_allclose(
        theirs.synthesise(torch.from_numpy(spectrum)[None], len(waveform))[0],
        ours.synthesise(spectrum, len(waveform)),
        atol=1e-5,
    )


@pytest.mark.parametrize("frontend", [((512,), 256), ((512,), 200), ((64, 32), 8), ((512,), 100, 256)])
def test_gain_over_time_is_what_frames_with_gains_make_of_a_signal(frontend):
    stft = MultiResolutionSTFT(*frontend)
    waveform = np.random.default_rng(0).standard_normal((2, 4000))
    spectra = stft.analyse(waveform)[:, :, : stft.bins[0]]
    gains = np.random.default_rng(1).random((2, spectra.shape[-1]))
    past = stft.overlap
    curve = stft.gain_over_time(gains)[:, past : past + 4000]
    expected = stft.synthesise(spectra * gains[:, np.newaxis, np.newaxis], 4000)
    np.testing.assert_allclose(curve * waveform, expected, atol=1e-10)
    np.testing.assert_allclose(stft.gain_over_time(np.ones((1, 20)))[:, past:-past], 1)
