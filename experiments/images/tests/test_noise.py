import numpy as np
import pytest

from images.noise import Poisson, Rician, air_blocks, find_air, level_of
from images.slices import phantom
from sottovoce.errors import DataError

NOISES = [Rician(), Poisson()]


@pytest.fixture(scope="module")
def image():
    return phantom()[56]


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_air_is_found_without_any_of_what_is_shown(noise, image, generator):
    for level in noise.levels:
        air = find_air(noise.represent(noise.measure(noise.clean(image), level, generator)))
        assert not (air & (image > 0)).any()
        assert air.sum() > 0.6 * (image == 0).sum()


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
@pytest.mark.parametrize("value", [0.0, 0.3, 0.8])
def test_noise_of_air_is_that_of_the_instrument(noise, value, generator):
    level = noise.levels[-1]
    clean = noise.clean(np.full((400, 400), value, np.float32))
    real = noise.represent(noise.measure(clean, level, generator))
    air = noise.represent(noise.measure(noise.clean(np.zeros_like(clean)), level, generator))
    mixed = noise.mix(noise.represent_clean(noise.in_units(clean, level)), air, generator)
    assert mixed.mean() == pytest.approx(real.mean(), rel=0.04)
    assert mixed.std() == pytest.approx(real.std(), rel=0.08)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
@pytest.mark.parametrize("value", [0.2, 0.5, 0.9])
def test_a_perfect_mean_gives_the_truth(noise, value, generator):
    level = noise.levels[1]
    clean = noise.clean(np.full((400, 400), value, np.float32))
    represented = noise.represent(noise.measure(clean, level, generator))
    air = noise.represent(noise.measure(noise.clean(np.zeros_like(clean)), level, generator))
    mean = np.full_like(represented, represented.mean())
    restored = noise.from_units(noise.restore(noise.unbiased(mean, air)), level)
    assert restored.mean() == pytest.approx(clean.mean(), rel=0.01)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_clean_values_come_back(noise, image):
    level = noise.levels[0]
    clean = noise.clean(image)
    back = noise.restore_clean(noise.represent_clean(noise.in_units(clean, level)))
    np.testing.assert_allclose(noise.from_units(back, level), clean, atol=1e-5)


def test_the_deviation_is_known_from_air(generator):
    nothing = np.zeros((200, 200), np.float32)
    rician, poisson = NOISES
    assert rician.deviation(rician.measure(nothing, 0.1, generator)) == pytest.approx(0.1, rel=0.02)
    counts = poisson.measure(poisson.clean(nothing), 200, generator)
    assert poisson.deviation(poisson.represent(counts)) == pytest.approx(0.5, rel=0.05)


def test_an_image_of_twice_the_values_has_twice_the_level(image):
    assert level_of(2 * image) == pytest.approx(2 * level_of(image))


def test_an_image_without_air_is_refused(generator):
    full = (0.5 + 0.1 * generator.standard_normal((64, 64))).astype(np.float32)
    full[:, ::8] = 1
    with pytest.raises(DataError, match="found no 48 x 48 pixels of air in an image of 64 x 64"):
        air_blocks(full, 48)
