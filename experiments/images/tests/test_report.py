from pathlib import Path

import numpy as np
import pytest

from images import report
from images.experiment import Experiment, Result, example, from_csv
from images.noise import NOISES, Rician
from images.scores import UNDEFINED, Scores
from images.slices import phantom

NOISE = Rician()


def results(system, seed, psnr_db):
    return [
        Result("Rician", level, system, seed, "slices", position, Scores(psnr_db + position, 0.5, 40))
        for level in NOISE.levels
        for position in range(3)
    ]


@pytest.fixture
def found():
    diverged = [
        Result("Rician", level, "joint", 2, "slices", position, UNDEFINED)
        for level in NOISE.levels
        for position in range(3)
    ]
    return [
        *results("unprocessed", None, 20),
        *results("non-local means", None, 25),
        *results("joint", 1, 26),
        *diverged,
        *results("joint", 3, 28),
    ]


def test_a_slice_counts_once_whatever_the_number_of_seeds(found):
    heading, *rows = report.score_table(found, NOISE)
    assert heading[:3] == ["", "PSNR, σ 0.05", "PSNR, σ 0.1"]
    assert rows[0][:2] == ["unprocessed", "21.00 ± 2.48"]
    assert rows[-1][:2] == ["**joint and simulated pairs** (1 of 3 seeds diverged)", "28.00 ± 2.48"]


def test_a_seed_that_diverged_is_a_row_of_its_own(found):
    assert report.seed_table(found) == [
        ["", "seed 1", "seed 2", "seed 3"],
        ["**joint and simulated pairs**", "27.00", "diverged", "29.00"],
    ]


def test_differences_are_taken_slice_by_slice(found):
    heading, row = report.difference_table(found, NOISE)
    assert heading == ["**joint and simulated pairs** less", "σ 0.05", "σ 0.1", "σ 0.2"]
    assert row == ["non-local means", "+2.00 ± 0.00", "+2.00 ± 0.00", "+2.00 ± 0.00"]


def test_page_and_figure(found, tmp_path):
    truth = phantom()[56]
    for system in ("truth", "unprocessed", "joint"):
        example(tmp_path, "Rician", system).parent.mkdir(exist_ok=True)
        np.save(example(tmp_path, "Rician", system), truth)
    (tmp_path / "strengths").mkdir()
    (tmp_path / "strengths" / "Rician.csv").write_text("method,level,strength,unbiased\nwavelets,0.1,0.7,True\n")
    wanted = Experiment(phantom(), "phantom", noises=(NOISE,))
    written = report.write(wanted, found, tmp_path)
    assert [path.name for path in written] == ["results.csv", "results.md", "rician.png"]
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert page.count("## ") == 1
    assert "| non-local means | +2.00 ± 0.00 |" in page
    assert "| wavelets | 0.1 | 0.7 | True |" in page


def test_committed_tables_are_those_of_the_committed_scores():
    folder = Path(__file__).parents[1] / "results"
    found = from_csv((folder / "results.csv").read_text(encoding="utf-8"))
    assert {result.seed for result in found} == {None, 1, 2, 3}
    page = (folder / "results.md").read_text(encoding="utf-8")
    assert "\n".join(report.page_lines(NOISES, found, folder)) == page
    readme = (folder.parent / "README.md").read_text(encoding="utf-8")
    for system in report.LABELS.values():
        rows = [line for line in readme.splitlines() if line.startswith(f"| {system} |")]
        assert len(rows) == 2  # of each noise
        assert all(row in page for row in rows)


def test_committed_differences_after_longer_training():
    folder = Path(__file__).parents[1] / "results"
    readme = (folder.parent / "README.md").read_text(encoding="utf-8")
    short, longer = (from_csv((folder / f"{name}.csv").read_text(encoding="utf-8")) for name in ("results", "longer"))
    found = [result for result in short if result.seed is None] + longer
    for noise in NOISES:
        of_noise = [result for result in found if (result.noise, result.images) == (noise.name, "slices")]
        _, *rows = report.difference_table(of_noise, noise)
        assert len(rows) == 4
        assert all(" | ".join(cells) in readme for _, *cells in rows)
