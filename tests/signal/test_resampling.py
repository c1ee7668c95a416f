"""Both resamplers: any ratio, any cut into blocks, aligned, as late as they say; the live one mirrors nothing."""

import logging

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sottovoce.signal import resampling
from sottovoce.signal.resampling import PolyphaseResampler, Resampler, _polyphase_filters, resample

RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000]


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def whole(waveform, source_rate, target_rate):
    return PolyphaseResampler(source_rate, target_rate, len(waveform)).push(waveform, last=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    source=st.sampled_from(RATES),
    target=st.sampled_from(RATES),
    samples=st.integers(0, 3000),
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=5).filter(any),
)
@example(source=44100, target=16000, samples=900, sizes=[1])
@example(source=16000, target=44100, samples=900, sizes=[1])
def test_any_blocks_equal_the_whole(source, target, samples, sizes):
    waveform = noise(2, samples)
    resampler = PolyphaseResampler(source, target, 2)
    pieces, start = [], 0
    while start < samples:
        for size in sizes:
            pieces.append(resampler.push(waveform[:, start : start + size]))
            start += size
    pieces.append(resampler.push(waveform[:, :0], last=True))
    expected = whole(waveform, source, target)
    assert expected.shape == (2, -(-samples * target // source))
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-6)


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != 16000])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.4])
def test_tones_come_out_as_from_the_long_filter(rate, share):
    count = rate // 4
    frequency_hz = share * min(rate, 16000)
    tone = np.sin(2 * np.pi * frequency_hz * np.arange(count) / rate) * np.hanning(count)
    tone = tone[np.newaxis].astype(np.float32)
    for source, target in ((rate, 16000), (16000, rate)):
        np.testing.assert_allclose(whole(tone, source, target), resample(tone, source, target), atol=1e-3)


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (16000, 48000), (44100, 16000), (16000, 11025)])
def test_a_constant_is_a_constant(source, target):
    level = whole(np.full((1, 4000), 0.5, np.float32), source, target)
    np.testing.assert_allclose(level[:, 400:-400], 0.5, atol=1e-6)


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_what_the_lower_rate_cannot_hold_is_taken_away(rate):
    time = np.arange(rate // 4) / rate
    for frequency_hz in (8400, 12000, 20000):
        tone = np.sin(2 * np.pi * frequency_hz * time)[np.newaxis].astype(np.float32)
        assert np.abs(whole(tone, rate, 16000)[:, 200:-200]).max() < 10 ** (-65 / 20)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_output_is_there_when_it_says(rate):
    for source, target in ((rate, 16000), (16000, rate)):
        resampler = PolyphaseResampler(source, target, 1)
        latest, given_samples, sample = 0.0, 0, noise(1, 1)
        for taken in range(1, 3000):
            needed = resampler.missing(1)
            count = resampler.push(sample).shape[1]
            # Neither earlier nor later than announced.
            assert (count > 0) == (needed == 1)
            given_samples += count
            latest = max(latest, taken / source - given_samples / target)
        assert latest == pytest.approx(resampler.latency_seconds, abs=1 / target)
        assert latest <= resampler.latency_seconds + 1e-9
    if rate > 16000:
        assert resampler.latency_seconds < 0.002


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (16000, 44100), (8000, 16000)])
def test_missing_samples_bring_as_many_outputs(source, target):
    resampler, given_samples = PolyphaseResampler(source, target, 1), 0
    for count in (1, 7, 256, 300):
        wanted = given_samples + count
        missing = resampler.missing(count)
        given_samples += resampler.push(noise(1, missing - 1)).shape[1]
        assert given_samples < wanted
        given_samples += resampler.push(noise(1, 1)).shape[1]
        assert given_samples >= wanted


@pytest.mark.parametrize(("source", "target"), [(16001, 16000), (16000, 16001), (383_987, 16000), (16000, 383_987)])
def test_rates_without_a_common_divisor(source, target):
    """Filters between those that are kept are as good: the true one's error is that of 70 dB, too."""
    tone = (np.sin(np.arange(3000) * 800 / source) * np.hanning(3000))[np.newaxis].astype(np.float32)
    np.testing.assert_allclose(whole(tone, source, target), resample(tone, source, target), atol=1e-3)
    level = whole(np.full((1, 3000), 0.5, np.float32), source, target)
    inner = slice(level.shape[1] // 2 - 20, level.shape[1] // 2 + 20)
    np.testing.assert_allclose(level[:, inner], 0.5, atol=1e-6)


def test_filters_between_those_that_are_kept_come_close_to_the_true_ones(monkeypatch):
    sound = noise(1, 3000)
    exact = whole(sound, 22050, 16000)  # 320 filters
    _polyphase_filters.cache_clear()
    monkeypatch.setattr(resampling, "_MAX_PHASES", 256)
    between = whole(sound, 22050, 16000)
    _polyphase_filters.cache_clear()
    assert 0 < np.abs(between - exact).max() < 10 ** (-90 / 20) * np.abs(exact).max()


def test_filters_of_primes_are_small():
    assert _polyphase_filters(16000, 383_987).nbytes < 8 * 2**20
    assert _polyphase_filters(383_987, 16000).nbytes < 8 * 2**20


class TestResampler:
    @given(
        rate=st.sampled_from([8000, 11025, 22050, 32000, 44100, 48000, 96000]),
        samples=st.integers(0, 3000),
        block=st.integers(1, 1000),
    )
    @settings(max_examples=80, deadline=None)
    def test_round_trip_gives_the_length(self, rate, samples, block):
        there, back = Resampler(rate, 16000, 2), Resampler(16000, rate, 2)
        waveform = noise(2, samples)
        pieces = [there.push(waveform[:, start : start + block]) for start in range(0, samples, block)]
        inner = np.concatenate([*pieces, there.push(waveform[:, :0], last=True)], axis=1)
        assert inner.shape[1] == -(-samples * 16000 // rate)
        outer = back.push(inner, last=True)
        assert samples <= outer.shape[1] <= samples - (-rate // 16000)
        np.testing.assert_array_equal(inner, resample(waveform, rate, 16000))

    @pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
    def test_round_trip_is_aligned(self, rate):
        length = rate // 2 + 137
        tone = np.sin(2 * np.pi * 500 * np.arange(length) / rate) * np.hanning(length)
        there_and_back = resample(resample(tone, rate, 16000), 16000, rate)[:length]
        np.testing.assert_allclose(there_and_back, tone, atol=1e-5)

    def test_same_rate_changes_nothing(self):
        waveform = noise(2, 100)
        np.testing.assert_array_equal(resample(waveform, 16000, 16000), waveform)

    def test_one_and_two_dimensions(self):
        waveform = noise(3, 1000)
        assert resample(waveform, 48000, 16000).shape == (3, 334)
        np.testing.assert_array_equal(resample(waveform[1], 48000, 16000), resample(waveform, 48000, 16000)[1])

    @pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
    def test_is_not_later_than_it_says(self, rate):
        for source, target in ((rate, 16000), (16000, rate)):
            resampler = Resampler(source, target, 1)
            latest, given_samples, waiting = 0.0, 0, 0
            for taken in range(1, source + source // 2):
                waiting += 1
                if waiting >= resampler.missing(1):
                    given_samples += resampler.push(np.zeros((1, waiting), np.float32)).shape[1]
                    waiting = 0
                latest = max(latest, taken / source - given_samples / target)
            assert given_samples > target
            assert latest <= resampler.latency_seconds + 1e-9
            assert resampler.latency_seconds < latest + 0.01

    def test_logs_nothing(self, caplog):
        with caplog.at_level(logging.DEBUG):
            resample(noise(1, 10), 8000, 16000)
        assert not caplog.records
