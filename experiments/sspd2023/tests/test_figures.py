import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from sottovoce.errors import DataError, MissingExtraError
from sottovoce.metrics.plots import save
from sottovoce.metrics.scores import MEASURES, Scores
from sspd2023.figures import before_after, score_bars, spectrograms
from sspd2023.results import Result, Summary

SNRS_DB = (-5.0, 0.0, 5.0)
LABELS = {"unprocessed": "mixture", **{f"system{index}": f"System {index}" for index in range(15)}, "absent": "absent"}


def results():
    """Four mixtures per SNR; a system's number is its gain."""
    systems = [*LABELS][:-1]
    return [
        Result(
            "poster", system, None, str(file), SNRS_DB[file % 3], Scores(*(1.0 + file / 10 + gain for _ in MEASURES))
        )
        for gain, system in enumerate(systems)
        for file in range(12)
    ]


def tones(count):
    time = np.arange(8_000) / 16_000
    return [(f"tone {n}", (0.5**n * np.sin(2000 * np.pi * time)).astype(np.float32), 16_000) for n in range(count)]


def test_bars_stand_for_systems_and_ratios():
    figure = score_bars(Summary(results()), "poster", LABELS, "pesq_nb_raw")
    (axis,) = figure.axes
    bars = axis.patches
    assert len(bars) == 16 * 3
    assert [label.get_text() for label in axis.get_yticklabels()] == list(LABELS.values())[:-1]
    # Mixtures 0, 3, 6 and 9 are at -5 dB; their mean is 1.45, and the bar begins at the least raw score.
    assert bars[0].get_x() == -0.5
    assert bars[0].get_x() + bars[0].get_width() == pytest.approx(1.45)
    assert axis.yaxis_inverted()
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"−5 dB", "0 dB", "5 dB", "mixture"}


def test_an_undefined_mean_is_marked(tmp_path):
    undefined = [
        replace(entry, scores=replace(entry.scores, covl=math.nan))
        if entry.system == "system1" and entry.snr_db == 0.0
        else entry
        for entry in results()
    ]
    figure = score_bars(Summary(undefined), "poster", LABELS, "covl")
    assert [text.get_text() for text in figure.axes[0].texts] == ["n/a"]
    save(figure, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 10_000


def test_bars_of_one_ratio_without_the_unprocessed():
    alone = Summary([entry for entry in results() if entry.system == "system1" and entry.snr_db == 0.0])
    figure = score_bars(alone, "poster", LABELS, "si_sdr_db")
    assert len(figure.axes[0].patches) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0 dB"]


@pytest.mark.parametrize(("count", "places"), [(1, 1), (3, 3), (6, 8), (12, 12)])
def test_spectrograms_fill_a_grid_on_one_scale(count, places):
    figure = spectrograms(tones(count))
    *panels, colour_bar = figure.axes
    assert len(panels) == places
    shown = [panel for panel in panels if panel.get_visible()]
    assert [panel.get_title() for panel in shown] == [title for title, *_ in tones(count)]
    assert len({(panel.get_xlim(), panel.get_ylim(), panel.images[0].get_clim()) for panel in shown}) == 1
    loudest_db = [float(np.max(panel.images[0].get_array())) for panel in shown]
    assert loudest_db == pytest.approx([-20 * math.log10(2) * index for index in range(count)], abs=0.01)
    assert colour_bar.get_ylabel() == "level in dB"


def test_spectrograms_of_unequal_length_can_be_saved(tmp_path):
    (title, samples, rate), *others = tones(6)
    figure = spectrograms([(title, samples[:100], rate), *others])
    save(figure, tmp_path / "spectrograms.png")
    assert (tmp_path / "spectrograms.png").stat().st_size > 10_000


def test_every_mixture_is_a_point():
    shown = {"system2": "Two", "unprocessed": "mixture", "system3": "Three", "absent": "absent"}
    figure = before_after(Summary(results()), "poster", shown)
    assert [axis.get_title() for axis in figure.axes] == ["Two\ngain 3.000 ± 0.000", "Three\ngain 4.000 ± 0.000"]
    points = np.concatenate([collection.get_offsets() for collection in figure.axes[0].collections])
    assert len(points) == 12
    np.testing.assert_allclose(points[:, 1] - points[:, 0], 3.0)
    low, high = figure.axes[0].get_xlim()
    assert figure.axes[0].get_ylim() == (low, high)
    assert low < 1.0
    assert high > 6.1
    (identity,) = figure.axes[0].lines
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())


def test_undefined_mixtures_are_no_points(tmp_path):
    undefined = [replace(entry, scores=replace(entry.scores, pesq_nb_raw=math.nan)) for entry in results()]
    figure = before_after(Summary(undefined), "poster", {"system1": "One"})
    assert figure.axes[0].get_title() == "One\ngain undefined"
    save(figure, tmp_path / "points.png")


def test_systems_without_results_are_refused():
    with pytest.raises(DataError, match="absent in poster"):
        before_after(Summary(results()), "poster", {"absent": "absent"})


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*sottovoce\[metrics\]"):
        spectrograms(tones(1))
