"""Speed perturbation keeps the band of what is recorded."""

import numpy as np
import pytest

from sottovoce.data.simulation.augmentation import played
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
