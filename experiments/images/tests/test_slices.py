import itertools

import numpy as np
import pytest

from images.slices import MIN_SIDE, brain, checked, phantom, read_volume, retina, split
from sottovoce.errors import DataError


@pytest.fixture(scope="module")
def volume():
    return phantom()


def test_slabs_are_apart_and_serve_for_one_thing(volume):
    gap = 8
    parts = split(volume, gap)
    role = {position: name for name in ("clean", "noisy", "development", "test") for position in getattr(parts, name)}
    assert len(role) == sum(len(getattr(parts, name)) for name in ("clean", "noisy", "development", "test"))
    positions = sorted(role)
    for before, after in itertools.pairwise(positions):
        assert after - before == 1 if role[before] == role[after] else after - before > gap


def test_slices_of_air_serve_for_nothing(volume):
    with_air = np.concatenate([np.zeros_like(volume[:20]), volume])
    assert min(split(with_air, 4).clean) >= 20


def test_a_small_volume_is_refused(volume):
    with pytest.raises(DataError, match=r"found 30 slices that are not all air, expected at least 76"):
        split(volume[40:70], 8)


def test_a_phantom_is_a_head_in_air(volume):
    assert volume.shape == (112, 96, 96)
    assert (volume.min(), volume.max()) == (0, 1)
    assert not volume[:, :10].any()
    assert np.array_equal(volume, phantom())


GOOD = np.linspace(0, 1, MIN_SIDE * MIN_SIDE, dtype=np.float64).reshape(MIN_SIDE, MIN_SIDE)


def with_values(image, *values):
    image = image.copy()
    image[0, : len(values)] = values
    return image


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (GOOD[:40], r"found slices of 40 x 64 pixels in it, expected at least 64 x 64"),
        (np.full_like(GOOD, 0.5), r"found the value 0.5 everywhere in it"),
        (with_values(GOOD, np.nan, np.inf), r"found 2 values in it that are not finite"),
        (with_values(GOOD, -0.25), r"found the value -0.25 in it, expected 0 or more"),
        (GOOD.astype(complex), r"of complex128 in it, expected numbers"),
        (GOOD[0], r"found an array \(64,\)"),
        (np.zeros((0, 64, 64)), r"found slices of 64 x 64 pixels in it"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(image, sentence):
    with pytest.raises(DataError, match=sentence):
        checked(image, "it")


def test_a_volume_of_ones_own(tmp_path):
    np.save(tmp_path / "own.npy", (100 * np.stack([GOOD, GOOD])).astype(np.uint16))
    volume = read_volume(tmp_path / "own.npy")
    assert (volume.dtype, volume.shape, volume.max()) == (np.float32, (2, 64, 64), 1)


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", GOOD)
    np.savez(tmp_path / "several.npz", GOOD)
    for name in ("text.npy", "objects.npy", "absent.npy"):
        with pytest.raises(DataError, match=rf"cannot read .*{name} as an array of numpy"):
            read_volume(tmp_path / name)
    for name, found in (("flat.npy", "2 axes"), ("several.npz", "several arrays")):
        with pytest.raises(DataError, match=rf"found {found} in .*{name}, expected one array"):
            read_volume(tmp_path / name)


def test_the_brain_comes_inside_its_package():
    pytest.importorskip("nilearn")
    volume = brain()
    assert volume.shape == (233, 189, 197)
    # A template whose halves are mirror images: why it is divided from front to back.
    assert np.abs(volume - volume[..., ::-1]).mean() < 0.01


def test_the_retina_comes_inside_its_package():
    pytest.importorskip("skimage")
    assert retina().shape == (9, 112, 112)
