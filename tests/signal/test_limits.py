"""One range of rates and channels, and blocks that are small whatever both are."""

import numpy as np
import pytest

from sottovoce.signal.limits import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, block_frames, implausible


@pytest.mark.parametrize("rate", [MIN_RATE_HZ, 8000, 11025, np.int64(44100), 192_000, MAX_RATE_HZ])
@pytest.mark.parametrize("channels", [1, 2, MAX_CHANNELS])
def test_what_recorders_make_is_plausible(rate, channels):
    assert implausible(rate, channels) is None


@pytest.mark.parametrize(
    ("rate", "channels", "words"),
    [
        (1, 1, "rate 1 Hz, expected a whole number from 4000 to 384000 Hz"),
        (MIN_RATE_HZ - 1, 1, "rate 3999 Hz"),
        (MAX_RATE_HZ + 1, 1, "rate 384001 Hz"),
        (1_000_003, 1, "rate 1000003 Hz"),
        (2**32 - 1, 1, "rate 4294967295 Hz"),
        (2**40, 1, "rate 1099511627776 Hz"),
        (-16000, 1, "rate -16000 Hz"),
        (44100.5, 1, "rate 44100.5 Hz"),
        (float("nan"), 1, "rate nan Hz"),
        (float("inf"), 1, "rate inf Hz"),
        (16000, 0, "0 channels, expected 1 to 64"),
        (16000, 1024, "1024 channels"),
    ],
)
def test_what_damaged_headers_claim_is_not(rate, channels, words):
    assert implausible(rate, channels).startswith(words)


@pytest.mark.parametrize("rate", [MIN_RATE_HZ, 16_000, 48_000, 192_000, MAX_RATE_HZ])
@pytest.mark.parametrize("channels", [1, 2, 8, MAX_CHANNELS])
def test_a_block_is_a_second_at_most_and_a_megabyte(rate, channels):
    frames = block_frames(rate, channels)
    assert 1 <= frames <= rate
    assert 4 * frames * channels <= 2**20


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_what_people_record_goes_by_seconds(rate):
    assert block_frames(rate, 1) == block_frames(rate, 2) == rate
