import math
import sys

import numpy as np
import pytest

from sottovoce.errors import ConfigError, DataError, MissingExtraError
from sottovoce.metrics.plots import recordings, save, save_animation, score_chart
from sottovoce.metrics.report import Mean
from sottovoce.metrics.scores import MEASURES


def means(value):
    return {measure: Mean(value, 0.1, 5, 0) for measure in MEASURES}


def test_chart_shows_every_system_in_every_panel():
    figure = score_chart({"estimate": means(2.0), "unprocessed": means(1.0)}, title="run")
    assert [axis.get_legend_handles_labels()[1] for axis in figure.axes] == [["unprocessed", "estimate"]] * 5
    assert sum(len(axis.get_xticks()) for axis in figure.axes) == len(MEASURES) - 1  # all but the raw PESQ


def test_chart_marks_undefined_means(tmp_path):
    undefined = means(2.0) | {"pesq_wb": Mean(math.nan, math.nan, 0, 5)}
    figure = score_chart({"estimate": undefined})
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["n/a"]
    save(figure, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_recordings_share_their_scales(tmp_path):
    generator = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    noise = 0.1 * generator.standard_normal(24_000).astype(np.float32)
    figure = recordings([("tone", tone, 16_000), ("noise", noise, 48_000)])
    waves, spectrograms = figure.axes[:2], figure.axes[2:4]
    assert len({axis.get_ylim() for axis in waves}) == len({axis.get_xlim() for axis in figure.axes[:4]}) == 1
    assert [axis.images[0].get_clim() for axis in spectrograms] == [(-80.0, 0.0)] * 2
    image = spectrograms[0].images[0]
    level = np.asarray(image.get_array())
    assert np.argmax(level[:, 30]) * 16_000 / 512 == pytest.approx(1000.0, abs=20.0)
    assert np.max(level) == pytest.approx(0.0, abs=1e-6)
    assert spectrograms[1].get_ylim() == (0.0, 24.0)
    save(figure, tmp_path / "new" / "picture.png")
    assert (tmp_path / "new" / "picture.png").stat().st_size > 10_000


@pytest.mark.parametrize("samples", [1, 100, 500_000])
def test_any_length_can_be_drawn(samples, tmp_path):
    save(recordings([("silence", np.zeros(samples, np.float32), 16_000)]), tmp_path / "picture.png")


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.xyz, expected one of the suffixes .*\.png"):
        save(score_chart({"estimate": means(2.0)}), tmp_path / "chart.xyz")
    assert not list(tmp_path.iterdir())


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*sottovoce\[metrics\]"):
        score_chart({"estimate": means(2.0)})


@pytest.mark.parametrize("name", ["cost $5", "$x^2$", "$\\frac{$", "a$b$c$"])
def test_names_are_shown_as_they_are(name, tmp_path):
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none"}):
        save(recordings([(name, np.zeros(100, np.float32), 16_000)]), tmp_path / "picture.svg")
        save(score_chart({name: means(1.0)}, title=name), tmp_path / "chart.svg")
    for file in ("picture.svg", "chart.svg"):
        assert f">{name}<" in (tmp_path / file).read_text(encoding="utf-8")


def test_names_without_glyphs_are_shown_by_their_numbers(tmp_path):
    save(recordings([("a\x1b[31m\udcff\n", np.zeros(100, np.float32), 16_000)]), tmp_path / "picture.png")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_its_pictures_at_its_speed(suffix, tmp_path):
    from PIL import Image

    path = tmp_path / f"walk{suffix}"
    pictures = [np.full((20, 30, 3), value, np.uint8) for value in (0, 120, 240)]
    save_animation(pictures, path, pictures_per_second=10)
    with Image.open(path) as image:
        assert (image.size, image.n_frames) == ((30, 20), 3)
        image.seek(1)
        image.load()
        assert image.info["duration"] == 100
        assert np.asarray(image.convert("RGB"))[10, 10] == pytest.approx([120] * 3, abs=2)
    before = path.read_bytes()
    with pytest.raises(DataError, match="kept"):
        save_animation(pictures[:1], path, pictures_per_second=10, overwrite=False)
    assert path.read_bytes() == before
