"""Speed perturbation keeps the band of what is recorded; draws over octaves; a narrower band."""

import numpy as np
import pytest

from sottovoce.data.simulation.augmentation import band_limited, log_uniform, played
from sottovoce.signal.levels import rms_db

from ..drawn import powers_db
from ..synthetic import RATE


@pytest.mark.parametrize("speed", [1.0, 1.03, 1.25, 2.0])
def test_what_is_played_faster_reaches_as_high_as_what_is_not(speed):
    # A slope below half the rate would set speed-perturbed voices apart from noise that was not.
    clip = played(
        lambda samples, rng: rng.standard_normal(samples).astype(np.float32), RATE, speed, np.random.default_rng(1)
    )
    assert clip.shape == (RATE,)
    assert clip.dtype == np.float32
    np.testing.assert_allclose(powers_db(clip, (7900, 8001)), powers_db(clip, (100, 7900)), atol=1.5)
    assert rms_db(clip) == pytest.approx(-10 * np.log10(speed), abs=0.25)  # what would be higher is lost


def test_every_octave_is_equally_likely():
    rng = np.random.default_rng(1)
    octaves = np.log2([log_uniform((1.0, 16.0), rng) for _ in range(2000)])
    assert 0.0 <= octaves.min() < octaves.max() <= 4.0
    np.testing.assert_allclose(np.histogram(octaves, 4, (0, 4))[0] / octaves.size, 0.25, atol=0.04)


def test_a_band_that_ends_at_half_the_rate_is_whole():
    clip = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    np.testing.assert_array_equal(band_limited(clip, RATE / 2, RATE), clip)
    (above,) = powers_db(band_limited(clip, 4000.0, RATE), (4500, 8001))
    assert above < powers_db(clip, (4500, 8001))[0] - 60
