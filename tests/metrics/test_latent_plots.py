import numpy as np
import pytest

from sottovoce.metrics.latent_plots import (
    FRAMES_PER_SECOND,
    LatentTrack,
    latent_maps,
    latent_walk,
    masks,
    principal_plane,
)


def track(name="a", frames=60, seed=0):
    """Latents along a line, with some scatter."""
    rng = np.random.default_rng(seed)
    way = np.linspace(-1, 1, frames)
    latent = np.outer(way, [3.0, 0.0, -1.0, 0.0]) + 0.05 * rng.standard_normal((frames, 4))
    return LatentTrack(name, latent, np.arange(frames) * 0.016, (way + 1) / 2, 20 * way - 60, 20 * way)


def test_the_plane_holds_the_two_directions_of_most_variance():
    rng = np.random.default_rng(1)
    directions, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    latent = rng.standard_normal((4000, 6)) * [5.0, 2.0, 0.1, 0.1, 0.1, 0.1] @ directions.T + 7
    (points,), shares = principal_plane([latent])
    assert points.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert points.std(axis=0) == pytest.approx([5, 2], rel=0.05)
    assert shares == pytest.approx((25 / 29, 4 / 29), abs=0.02)
    # Distances within the plane are those of the latents, but for what lies beside it.
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(np.linalg.norm(latent[0] - latent[1]), abs=0.5)


def test_recordings_share_the_plane():
    one, other = track(seed=1), track(seed=2)
    together, _ = principal_plane([one.latent, other.latent])
    repeated, _ = principal_plane([other.latent, one.latent])
    np.testing.assert_allclose(together[0], repeated[1], atol=1e-9)
    assert np.abs(together[0] - together[1]).max() < 0.5  # the same way


def test_latents_that_never_change_are_one_point():
    (points,), shares = principal_plane([np.ones((10, 4))])
    assert np.abs(points).max() < 1e-12
    assert shares == (0, 0)


def test_maps_are_coloured_by_three_quantities_and_say_which():
    figure = latent_maps([track("noisy/$1"), track("clean/1", seed=2)])
    panels, bars = figure.axes[:6], figure.axes[6:]
    assert [bar.get_xlabel() for bar in bars] == [
        "voicing (autocorrelation, 0 to 1)",
        "noise in dB re full scale",
        "signal-to-noise ratio in dB",
    ]
    assert [panel.get_title(loc="left") for panel in panels] == [r"noisy/\$1", "", "", "clean/1", "", ""]
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in panels}) == 1
    assert "of the variance" in figure.get_supxlabel()
    assert "of the variance" in figure.get_supylabel()
    for column in range(3):  # one scale of colours for all recordings
        assert panels[column].collections[0].get_clim() == panels[column + 3].collections[0].get_clim()
    voicing = panels[0].collections[0]
    np.testing.assert_allclose(voicing.get_array(), track().voicing)


def test_a_walk_moves_with_the_sound():
    rate, seconds = 8000, 0.4
    rng = np.random.default_rng(0)
    pictures = list(latent_walk(track(frames=25), 0.1 * rng.standard_normal(round(seconds * rate)), rate))
    assert len(pictures) == round(seconds * FRAMES_PER_SECOND)
    assert {(picture.shape, picture.dtype.name) for picture in pictures} == {(pictures[0].shape, "uint8")}
    changed = (pictures[0] != pictures[-1]).any(axis=-1).mean()
    assert 0 < changed < 0.1  # the marks, and nothing else


def test_masks_show_gain_kept_and_removed():
    rate = 8000
    before = 0.1 * np.random.default_rng(0).standard_normal(rate)
    figure = masks([("a", before, 0.5 * before, rate), ("silence", np.zeros(rate), np.zeros(rate), rate)])
    panels, bars = figure.axes[:8], figure.axes[8:]
    assert [panel.get_title() for panel in panels] == [
        "a",
        "mask",
        "kept",
        "removed",
        "silence",
        "mask",
        "kept",
        "removed",
    ]
    mask, kept, removed = (np.asarray(panel.images[0].get_array()) for panel in panels[1:4])
    assert mask == pytest.approx(np.full(mask.shape, -6.02), abs=0.01)
    np.testing.assert_allclose(kept, removed, atol=1e-9)
    assert [bar.get_ylabel() for bar in bars] == ["level in dB", "gain in dB"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("time in s", "frequency in kHz")
    assert np.asarray(panels[5].images[0].get_array()) == pytest.approx(0)
