"""Gains above the model's band: the model's own until the first pause, then no more than the share of speech."""

import numpy as np
import pytest

from sottovoce.engine.upper_band import UpperBand
from sottovoce.signal.stft import MultiResolutionSTFT

STFT = MultiResolutionSTFT([1024], 256, 512)
FRAME_SECONDS = 256 / 16000
PAUSE_GAIN = 0.05


def noise(seconds, rate=48000, channels=1, seed=0):
    return (0.01 * np.random.default_rng(seed).standard_normal((channels, round(seconds * rate)))).astype(np.float32)


def gains(recording, model_gain, rate=48000, at_once=None, **options):
    """Push a recording and the gains that the model gives it, `(N,)` or `(rows, N)`."""
    upper_band = UpperBand(STFT, 16000, rate, len(recording), **options)
    upper_band.append(recording, last=True)
    model_gain = np.atleast_2d(np.float32(model_gain))[:, np.newaxis, np.newaxis]
    mixture = np.ones((len(model_gain), 2, STFT.bins[0], model_gain.shape[-1]), np.float32)
    count = mixture.shape[-1]
    step = at_once or count
    frames = [slice(start, start + step) for start in range(0, count, step)]
    pieces = [upper_band.gains(model_gain[..., part] * mixture[..., part], mixture[..., part]) for part in frames]
    return np.concatenate(pieces, axis=1)


def frames(seconds):
    return round(seconds / FRAME_SECONDS)


def words(seconds, pause_gain=PAUSE_GAIN):
    """The gains of a model for words and pauses of 0.4 s each, a pause first, and where the words are."""
    count = frames(0.4)
    spoken = np.arange(frames(seconds)) // count % 2 == 1
    return np.where(spoken, 1.0, pause_gain), spoken


def samples(spoken, rate=48000):
    """What was spoken, as a mask of samples."""
    hop = round(FRAME_SECONDS * rate)
    return np.repeat(spoken, hop).astype(np.float32)[np.newaxis]


def settled(spoken):
    """Frames of a kind whose model gain is not that of the frames before."""
    return spoken & np.roll(spoken, 1) & np.roll(spoken, 2) & np.roll(spoken, 3)


@pytest.mark.parametrize(("rate", "band_hz"), [(8000, (2000, 3770)), (16000, (4000, 7530)), (48000, (4000, 7530))])
def test_first_guess_is_the_models_gain_in_its_upper_band(rate, band_hz):
    hertz = np.arange(STFT.bins[0]) * 16000 / 1024
    gain = np.where((hertz >= band_hz[0]) & (hertz <= band_hz[1]), 0.5, 2.0)
    upper_band = UpperBand(STFT, 16000, rate, 1)
    upper_band.append(noise(1.0, rate), last=True)
    mixture = np.ones((1, 2, STFT.bins[0], 50), np.float32)
    np.testing.assert_allclose(upper_band.gains(gain[:, np.newaxis] * mixture, mixture), 0.5, rtol=0.05)


def test_never_amplifies_and_is_one_in_silence():
    np.testing.assert_allclose(gains(noise(1.0), np.full(50, 3.0)), 1)
    upper_band = UpperBand(STFT, 16000, 48000, 1)
    upper_band.append(np.zeros((1, 48000), np.float32), last=True)
    silence = np.zeros((1, 2, STFT.bins[0], 50), np.float32)
    np.testing.assert_allclose(upper_band.gains(silence, silence), 1)


def test_is_the_models_gain_until_the_first_pause_and_at_the_models_rate():
    model_gain = np.random.default_rng(0).uniform(0.3, 1, 50)
    guess = gains(noise(1.0, 16000), model_gain, 16000)
    np.testing.assert_array_equal(gains(noise(1.0), model_gain), guess)
    model_gain, _ = words(2.0)
    guess = gains(noise(2.0, 16000), model_gain, 16000)
    assert guess.max() == 1
    assert gains(noise(2.0), model_gain)[0, frames(0.5) :].max() < 0.2


@pytest.mark.parametrize(("rate", "level"), [(22050, 1.0), (44100, 100.0), (48000, 1e-4), (192_000, 1.0)])
def test_hiss_does_not_come_back_with_words(rate, level):
    model_gain, spoken = words(4.0)
    hiss = level * noise(4.1, rate)
    gain_db = 20 * np.log10(gains(hiss, model_gain, rate)[0])
    # By the model's gain alone it would be 26 dB. At 22.05 kHz there is little to measure, and the floor less certain.
    assert gain_db[settled(spoken)].mean() - gain_db[settled(~spoken)].mean() < 1
    assert np.mean(gain_db > -20) < 0.05


def test_fluctuating_noise_hardly_comes_back():
    model_gain, spoken = words(6.0)
    # Its level changes by several dB within and between frames, as that of heavy rain does.
    slow = np.repeat(np.random.default_rng(1).uniform(-2, 2, 301), 960)[: 48000 * 6]
    gain_db = 20 * np.log10(gains(10 ** (slow / 20) * noise(6.0)[:, : slow.size], model_gain)[0])
    assert gain_db[settled(spoken)].mean() - gain_db[settled(~spoken)].mean() < 8


def test_fricatives_pass_from_their_first_frame_on():
    model_gain, spoken = words(4.0)
    fricatives = np.where(samples(spoken) > 0, 10, 1) * noise(4.0)[:, : samples(spoken).size]
    after, guess = gains(fricatives, model_gain)[0], gains(noise(4.1, 16000), model_gain, 16000)[0]
    first = spoken & ~np.roll(spoken, 1)
    assert (after[settled(spoken)] > 0.98).all()
    # 20 dB above the noise: in the first frame, which they fill half, they have nearly the model's gain.
    assert (after[first] > 0.9 * guess[first]).all()


def test_clean_words_keep_the_models_gain():
    model_gain, spoken = words(4.0)
    clean = samples(spoken) * noise(4.0)[:, : samples(spoken).size] + 1e-4 * noise(4.0, seed=1)[:, : spoken.size * 768]
    guess = gains(noise(4.1, 16000), model_gain, 16000)[0]
    np.testing.assert_allclose(gains(clean, model_gain)[0][spoken], guess[spoken], rtol=0.01)


def test_floor_follows_noise_that_rises_in_pauses_and_falls_at_any_time():
    model_gain, spoken = words(8.0)
    half = samples(spoken).size // 2
    level = np.concatenate([np.full(half, 1.0), np.full(half, 10.0)])
    for order in (level, level[::-1]):
        changing = (order * noise(8.0)[:, : order.size]).astype(np.float32)
        after = gains(changing, model_gain)[0]
        # Words that follow the first pause behind the change.
        assert after[-frames(3.0) :].max() < 0.2
    # In one long word behind a loud pause, noise that is gone no longer hides what is 20 dB below it.
    model_gain = np.where(np.arange(frames(3.0)) < frames(1.0), PAUSE_GAIN, 1.0)
    quiet, soft = 1e-4 * noise(3.0), 0.1 * noise(3.0)
    loud = np.concatenate([noise(1.0), quiet[:, :48000], soft[:, :48000]], axis=1)
    assert gains(loud, model_gain)[0, -frames(0.9) :].min() > 0.9


def test_limit_of_the_attenuation_holds():
    model_gain, spoken = words(4.0, pause_gain=0.5)
    after = gains(noise(4.1), model_gain, floor=0.5)[0]
    assert after.min() > 0.499
    assert after[settled(spoken)].mean() < 0.55


def test_channels_are_independent_and_linked_ones_share_one_gain():
    model_gain, spoken = words(4.0)
    both = np.concatenate([noise(4.1), noise(4.1, seed=1) * np.linspace(0.1, 3, round(4.1 * 48000), dtype=np.float32)])
    apart = gains(both, np.stack([model_gain, model_gain[::-1]]))
    np.testing.assert_array_equal(apart[:1], gains(both[:1], model_gain))
    np.testing.assert_array_equal(apart[1:], gains(both[1:], model_gain[::-1]))
    linked = gains(both, model_gain, linked=True)
    assert linked.shape == (1, model_gain.size)
    assert linked[0, settled(spoken)].mean() < 0.1


@pytest.mark.parametrize("rate", [16001, 22050, 44100, 48000, 96000])
def test_frames_one_by_one_are_those_at_once(rate):
    model_gain, _ = words(1.6)
    recording = noise(1.6, rate, seed=2)
    at_once = gains(recording, model_gain, rate)
    np.testing.assert_allclose(gains(recording, model_gain, rate, at_once=1), at_once, rtol=1e-5)
    np.testing.assert_allclose(gains(recording, model_gain, rate, at_once=7), at_once, rtol=1e-5)
    # Every frame as soon as its last sample is there.
    upper_band, taken, pieces = UpperBand(STFT, 16000, rate, 1), 0, []
    for frame, gain in enumerate(np.float32(model_gain)):
        end = (frame + 1) * STFT.hop * rate // 16000
        upper_band.append(recording[:, taken:end])
        taken = end
        mixture = np.ones((1, 2, STFT.bins[0], 1), np.float32)
        pieces.append(upper_band.gains(gain * mixture, mixture))
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), at_once, rtol=1e-5)


def test_pauses_of_digital_silence_are_safe():
    model_gain, spoken = words(4.0)
    after = gains(samples(spoken) * noise(4.0)[:, : samples(spoken).size], model_gain)[0]
    assert np.isfinite(after).all()
    assert (after[settled(spoken)] > 0.99).all()
    assert (gains(np.zeros((1, 4 * 48000), np.float32), model_gain) <= 1).all()
