"""The whole experiment by its command: in minutes with the bundled recordings, and clear about bad input."""

import csv
import re

import numpy as np
import pytest

pytest.importorskip("lightning")
pytest.importorskip("pystoi")

from tests.data.synthetic import RATE, tone, write
from tests.metrics.quick_dnsmos import quick_dnsmos

from sottovoce import cli
from sottovoce.errors import DataError
from sspd2023 import experiment
from sspd2023.experiment import Experiment, quick
from sspd2023.protocol import Counts
from sspd2023.run import Outcome
from sspd2023.systems import SYSTEMS

# A row of each kind: nothing learned, unpaired, pre-trained, with pairs, oracle, ceiling.
SHORT_ROWS = ("log_mmse", "sse", "cf", "joint", "irm", "oracle_irm", "joint_ceiling")
SMALL = {
    "--clean-signals": 2,
    "--clean-seconds": 2,
    "--mixtures": 3,
    "--mixture-seconds": 2,
    "--test-mixtures": 2,
    "--test-seconds": 1.25,
    "--systems": "unprocessed",
    "--jobs": 1,
}


@pytest.fixture(scope="module", autouse=True)
def rated_quickly(tmp_path_factory):
    with quick_dnsmos(tmp_path_factory.mktemp("ratings")):
        yield


def command(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["sottovoce", "benchmark", *map(str, arguments)])
    return cli.main()


@pytest.mark.slow
def test_a_quick_look_at_the_bundled_recordings(tmp_path, monkeypatch, capsys):
    # Few steps and short sound: the test asks whether everything is there, not whether anything was learned.
    monkeypatch.setattr(experiment, "_QUICK_STEPS", (2, 2))
    monkeypatch.setattr(experiment, "_QUICK_COUNTS", Counts(6, 2.0, 6, 4.0, 3, 2.5))
    arguments = (
        "--protocol",
        "poster",
        "--quick",
        "--pages",
        "curves",
        "latents",
        "--systems",
        *SHORT_ROWS,
        "--jobs",
        1,
        "-o",
    )
    assert command(monkeypatch, *arguments, tmp_path / "quick") == 0
    printed = capsys.readouterr()
    assert "poster: means ± 95 % over 3 mixtures" in printed.out
    assert "6 training mixtures of 4 s and 3 test mixtures of 2.5 s" in printed.err
    text = (tmp_path / "quick" / "results.md").read_text(encoding="utf-8")
    assert "6 training mixtures of 4 s and 3 test mixtures of 2.5 s" in text
    assert "the scores mean nothing" in text
    assert "2 + 2 steps" in text
    for label in ("unprocessed", *(SYSTEMS[row].label for row in SHORT_ROWS)):
        assert f"| {label} |" in text
    with (tmp_path / "quick" / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (1 + len(SHORT_ROWS))
    assert {float(row["snr_db"]) for row in rows} == {-5.0, 0.0, 5.0}
    assert "| SSE |" in (tmp_path / "quick" / "costs.md").read_text(encoding="utf-8")
    curves = (tmp_path / "quick" / "curves.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (SSE|CF|joint \(poster\)|IRM) \| (\d+) \|", curves, re.M) == [
        *((label, steps) for label in ("SSE", "CF", "joint (poster)") for steps in ("1", "2")),
        *(("IRM", steps) for steps in ("1", "2", "4")),
    ]
    for figure in ("pesq_nb_raw", "covl", "before_after", "spectrograms", "curves", "latents"):
        assert (tmp_path / "quick" / "figures" / f"poster_{figure}.png").stat().st_size > 10_000
    latents = (tmp_path / "quick" / "latents.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (SSE|CF|joint \(poster\)|IRM) \|", latents, re.M) == ["SSE", "joint (poster)"]
    # Again: nothing is trained or scored twice, and the table is the same to the last digit.
    assert command(monkeypatch, *arguments, tmp_path / "quick") == 0
    assert (tmp_path / "quick" / "results.md").read_text(encoding="utf-8") == text


def test_curves_without_a_training_are_one_sentence(tmp_path):
    about = experiment._About(Experiment(), [], ["unprocessed"], {}, [], tmp_path, 1, None)
    with pytest.raises(DataError, match=r"found no networks that a training in .* kept on its way"):
        experiment._write_curves(about, Outcome([], [], {}))


def test_a_quick_look_scales_everything_down():
    full = Experiment(seeds=(5, 6))
    small = quick(full)
    assert small.seeds == (5,)
    assert small.counts.test_mixtures < full.counts.test_mixtures == 140
    assert small.counts.test_mixtures == 2 * len(small.counts.snr_db)
    assert (full.counts.clean_signals, full.counts.mixtures) == (28, 392)
    settings = experiment._settings("poster_cpu", small)
    assert (settings.training.speech_steps, settings.training.joint_steps) == experiment._QUICK_STEPS
    assert settings.training.data.clip_seconds == 1.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--systems", "magic"], "found the system 'magic', expected one of main"),
        (["--protocol", "mars"], "found the condition 'mars'"),
        (["--protocol", "poster", "poster"], "each of them once"),
        (["--test-noise", "nowhere"], "--speech"),
        (["--seeds", "1", "1"], "seeds"),
        (["--jobs", "0"], "found 0 jobs"),
        (["--pages", "cooking"], "found the page 'cooking', expected one of phase"),
        (["--steps", "0", "5"], "found the steps"),
        (["--test-mixtures", "0"], "test_mixtures"),
        (["--speech", "nowhere"], "--noise"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    assert command(monkeypatch, *arguments, "-o", tmp_path / "out") == 1
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "Traceback" not in printed
    assert len(printed.strip().splitlines()) == 1


def small():
    return [part for option in SMALL.items() for part in option]


def test_an_output_that_is_none_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("kept")
    assert command(monkeypatch, *small(), "-o", tmp_path / "file") == 1
    assert "choose another" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.md").write_text("kept")
    assert command(monkeypatch, *small(), "-o", tmp_path / "mine") == 1
    assert "no benchmark" in capsys.readouterr().err
    assert (tmp_path / "mine" / "results.md").read_text() == "kept"


def test_two_benchmarks_in_one_folder_do_not_meet(tmp_path, monkeypatch, capsys):
    from filelock import FileLock

    (tmp_path / "out" / "protocol").mkdir(parents=True)
    with FileLock(tmp_path / "out" / ".lock"):
        assert command(monkeypatch, *small(), "-o", tmp_path / "out") == 1
    assert "another benchmark" in capsys.readouterr().err


def corpora(folder, speakers=4, kinds=3, rooms=3):
    rng = np.random.default_rng(0)
    for speaker in range(speakers):
        write(folder / "speech" / f"s{speaker}" / "0.wav", tone(3.0, 120 + 20 * speaker, rng))
    for kind in range(kinds):
        write(folder / "noise" / f"k{kind}" / "0.wav", (0.1 * rng.standard_normal(8 * RATE)).astype(np.float32))
    for room in range(rooms):
        write(folder / "rooms" / f"r{room}" / "0.wav", np.eye(1, 4000, 40, dtype=np.float32)[0])
    return [part for name in ("speech", "noise", "rooms") for part in (f"--{name}", str(folder / name))]


def test_own_corpora_and_a_silent_noise_file(tmp_path, monkeypatch, capsys):
    options = corpora(tmp_path)
    write(tmp_path / "noise" / "k0" / "silent.wav", np.zeros(RATE, np.float32))
    studied, written = [], []
    monkeypatch.setattr(experiment.study, "run", lambda *inputs, **_: studied.append(inputs) or "study")
    monkeypatch.setattr(experiment.page, "write", lambda *inputs: written.append(inputs) or [tmp_path / "phase.md"])
    assert command(monkeypatch, *options, *small(), "--pages", "phase", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert re.search(r"silent\.wav is silent", printed.err)
    assert "silent.wav is silent" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    # Amplitude and phase are studied on the same mixtures, without the poster's networks where these are no row.
    ((protocol, joint, folder),) = studied
    assert (len(protocol.tests), joint, folder) == (2, None, tmp_path / "out" / "phase" / "poster")
    ((studies, unprocessed, notes, output),) = written
    assert (studies, output) == ({"poster": "study"}, tmp_path / "out")
    assert [result.system for result in unprocessed] == ["unprocessed"] * 2
    assert "phase.md" in printed.out
    assert notes[0] == "2 test mixtures of 1.25 s per condition, at -5, 0, 5 dB in turn; seed 1."
    assert "row `joint` was not trained" in notes[-1]


@pytest.mark.parametrize(
    ("few", "sentence"), [({"speakers": 2}, "speakers"), ({"kinds": 1}, "noise"), ({"rooms": 1}, "room")]
)
def test_too_little_for_a_disjoint_split(tmp_path, monkeypatch, capsys, few, sentence):
    assert command(monkeypatch, *corpora(tmp_path, **few), *small(), "-o", tmp_path / "out") == 1
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "expected" in printed
    assert len(printed.strip().splitlines()) == 1


def test_another_benchmark_in_the_folder_is_kept(tmp_path, monkeypatch, capsys):
    options = corpora(tmp_path)
    assert command(monkeypatch, *options, *small(), "-o", tmp_path / "out") == 0
    before = (tmp_path / "out" / "results.csv").read_bytes()
    assert command(monkeypatch, *options, *small(), "--protocol-seed", 2, "-o", tmp_path / "out") == 1
    assert "found" in capsys.readouterr().err
    assert (tmp_path / "out" / "results.csv").read_bytes() == before
