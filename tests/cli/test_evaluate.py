"""The commands `evaluate` and `plot`, as a user calls them."""

import csv
import json

import numpy as np
import pytest
import soundfile as sf

from sottovoce.cli import main
from sottovoce.metrics.scores import MEASURES

pytestmark = pytest.mark.usefixtures("rated_quickly")


@pytest.fixture
def sottovoce(monkeypatch, capsys):
    """Run a command and return its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["sottovoce", *map(str, arguments)])
        # Wide enough for any table.
        monkeypatch.setenv("COLUMNS", "200")
        code = main()
        return code, *capsys.readouterr()

    return run


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_bundled_pairs_in_two_processes(sottovoce, pairs, reference_scores, tmp_path):
    output = tmp_path / "scores"
    code, out, _ = sottovoce(
        "evaluate", "--reference", pairs / "clean", "--estimate", pairs / "noisy", "-o", output, "--jobs", 2
    )
    assert code == 0
    assert all(measure in out for measure in MEASURES)
    assert "5 file(s)" in " ".join(out.split())
    rows = read_csv(output / "scores.csv")
    assert [f"{row['file']}.flac" for row in rows] == sorted(reference_scores)
    for row in rows:
        expected = reference_scores[f"{row['file']}.flac"]
        assert float(row["pesq_wb"]) == pytest.approx(expected["pesq_wb_lqo"], abs=0.01)
        assert float(row["covl"]) == pytest.approx(expected["covl"], abs=0.01)
    assert "95 % confidence interval" in (output / "scores.md").read_text(encoding="utf-8")
    assert (output / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_unprocessed_stands_beside_and_earlier_scores_are_kept(sottovoce, folders):
    command = (
        "evaluate",
        *("--reference", folders / "clean", "--estimate", folders / "enhanced", "--unprocessed", folders / "noisy"),
        *("--output", folders / "scores", "--jobs", 1),
    )
    code, out, _ = sottovoce(*command)
    assert code == 0
    assert "estimate − unprocessed" in out
    rows = read_csv(folders / "scores" / "scores.csv")
    assert [(row["file"], row["system"]) for row in rows] == [
        ("a", "estimate"),
        ("a", "unprocessed"),
        ("deep/b", "estimate"),
        ("deep/b", "unprocessed"),
    ]
    assert float(rows[0]["si_sdr_db"]) > float(rows[1]["si_sdr_db"]) + 9.0

    code, _, err = sottovoce(*command)
    assert code == 1
    assert "add --overwrite" in err


def test_what_is_left_out_is_named_and_fails(sottovoce, folders):
    (folders / "enhanced" / "a.wav").unlink()
    command = ("evaluate", "--reference", folders / "clean", "--estimate", folders / "enhanced", "--jobs", 1)
    code, out, err = sottovoce(*command)
    assert code == 1
    assert "1 file(s)" in " ".join(out.split())
    assert err == (
        f"sottovoce: left out: {folders / 'enhanced' / 'a'}: found no such recording, expected the counterpart of "
        f"{folders / 'clean' / 'a.wav'}\n"
    )


@pytest.mark.parametrize("silent", ["clean", "enhanced"])
def test_silence_is_undefined_in_every_table(sottovoce, folders, silent):
    sf.write(folders / silent / "a.wav", np.zeros(38_400), 16_000)
    code, out, _ = sottovoce(
        *("evaluate", "--reference", folders / "clean", "--estimate", folders / "enhanced", "--jobs", 1),
        *("-o", folders / "scores"),
    )
    assert code == 0
    assert "(1 undefined)" in out
    assert read_csv(folders / "scores" / "scores.csv")[0]["pesq_wb"] == "undefined"


def test_nothing_to_score(sottovoce, folders):
    (folders / "other").mkdir()
    sf.write(folders / "other" / "a.wav", np.ones(100), 16_000)
    sf.write(folders / "other" / "z.wav", np.ones(100), 16_000)
    code, _, err = sottovoce("evaluate", "--reference", folders / "clean", "--estimate", folders / "other", "--jobs", 1)
    assert code == 1
    assert "found 0.006 s, expected 2.400 s" in err
    assert "can be scored: see above" in err
    code, _, err = sottovoce("evaluate", "--reference", folders / "clean", "--estimate", folders / "none")
    assert code == 1
    assert "none" in err
    code, _, err = sottovoce(
        "evaluate", "--reference", folders / "clean", "--estimate", folders / "other", "--jobs", "0"
    )
    assert code == 1
    assert "--jobs 0" in err


def test_help_teaches_with_an_example(sottovoce, capsys):
    for command in ("evaluate", "plot"):
        with pytest.raises(SystemExit) as stop:
            sottovoce(command, "--help")
        assert stop.value.code == 0
        assert f"sottovoce {command} " in capsys.readouterr().out.partition("\n")[2]


def test_plot_draws_recordings_side_by_side(sottovoce, folders):
    picture = folders / "picture.png"
    code, _, _ = sottovoce("plot", folders / "noisy" / "a.wav", folders / "enhanced" / "a.wav", "-o", picture)
    assert code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = sottovoce("plot", folders / "noisy" / "a.wav", "-o", picture)
    assert code == 1
    assert "add --overwrite" in err
    code, _, _ = sottovoce("plot", folders / "noisy" / "a.wav", "-o", picture, "--overwrite")
    assert code == 0


def test_some_measures(sottovoce, folders):
    command = ("evaluate", "--reference", folders / "clean", "--estimate", folders / "enhanced", "--jobs", 1)
    code, out, _ = sottovoce(*command, "--measures", "si_sdr_db", "stoi", "-o", folders / "scores")
    assert code == 0
    assert "si_sdr_db" in out
    assert "pesq" not in out
    assert list(read_csv(folders / "scores" / "scores.csv")[0]) == ["file", "system", "si_sdr_db", "stoi"]
    assert sorted(path.name for path in (folders / "scores").iterdir()) == ["scores.csv", "scores.md"]
    code, _, err = sottovoce(*command, "--measures", "speech_dbfs")
    assert code == 1
    assert "found the measure 'speech_dbfs', expected with a reference some of pesq_wb, " in err


def test_report_for_programs(sottovoce, folders):
    sf.write(folders / "clean" / "a.wav", np.zeros(38_400), 16_000)
    (folders / "enhanced" / "extra.wav").write_bytes((folders / "enhanced" / "a.wav").read_bytes())
    command = ("evaluate", "--reference", folders / "clean", "--estimate", folders / "enhanced", "--jobs", 1)
    code, out, _ = sottovoce(*command, "--measures", "stoi", "si_sdr_db", "--json")
    assert code == 1
    report = json.loads(out)
    assert [(row["file"], row["system"]) for row in report["files"]] == [("a", "estimate"), ("deep/b", "estimate")]
    assert report["files"][0]["stoi"] is None
    assert report["files"][1]["si_sdr_db"] > 5
    assert len(report["left_out"]) == 1
    assert "extra" in report["left_out"][0]
    options = ("--measures", "stoi", "--json", "-o", folders / "scores", "-q")
    _, out, err = sottovoce(*command, *options)
    assert json.loads(out)["left_out"] == report["left_out"]
    assert err == f"sottovoce: left out: {report['left_out'][0]}\n"
    _, out, err = sottovoce(*command, *options[:-1], "--overwrite")
    assert json.loads(out)["left_out"] == report["left_out"]
    assert err.splitlines()[-1].startswith(f"sottovoce: Wrote {folders / 'scores' / 'scores.csv'}, ")


def test_one_file_against_one_file_whatever_their_names(sottovoce, folders):
    noisy = (folders / "noisy" / "a.wav").rename(folders / "before.wav")
    clean, enhanced = folders / "clean" / "a.wav", folders / "enhanced" / "a.wav"
    files = ("--reference", clean, "--estimate", enhanced, "--unprocessed", noisy)
    code, out, _ = sottovoce("evaluate", *files, "--measures", "si_sdr_db", "--jobs", 1, "--json")
    assert code == 0
    estimate, unprocessed = json.loads(out)["files"]
    assert (estimate["file"], unprocessed["file"]) == ("a", "a")
    assert estimate["si_sdr_db"] > unprocessed["si_sdr_db"] + 5
    code, out, _ = sottovoce("evaluate", "--estimate", noisy, "--measures", "speech_dbfs", "--jobs", 1, "--json")
    assert code == 0
    assert [row["file"] for row in json.loads(out)["files"]] == ["before"]


def test_without_a_reference(sottovoce, folders):
    sine = 0.5 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    (folders / "levels").mkdir()
    sf.write(folders / "levels" / "sine.wav", np.stack([sine, sine], axis=1), 16_000, subtype="FLOAT")
    sf.write(folders / "levels" / "silence.wav", np.zeros(16_000), 16_000)
    command = ("evaluate", "--estimate", folders / "levels", "--jobs", 1)
    code, out, err = sottovoce(*command, "--measures", "rms_dbfs", "peak_dbfs", "speech_dbfs", "--json")
    assert (code, err) == (0, "")
    silence, sound = json.loads(out)["files"]
    assert (silence["file"], silence["speech_dbfs"]) == ("silence", None)
    assert sound["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)
    assert sound["peak_dbfs"] == pytest.approx(-6.02, abs=0.01)
    assert sound["speech_dbfs"] == pytest.approx(-9.03, abs=0.5)
    code, _, err = sottovoce(*command, "--measures", "pesq_wb")
    assert code == 1
    assert "expected without a reference some of dnsmos_ovrl, " in err


def test_ratings_without_a_reference_are_those_with_one(sottovoce, folders):
    rated = ("evaluate", "--estimate", folders / "noisy", "--measures", "dnsmos_ovrl", "dnsmos_sig", "--json")
    alone = json.loads(sottovoce(*rated, "--jobs", 1)[1])["files"]
    beside = json.loads(sottovoce(*rated, "--reference", folders / "clean", "--jobs", 1)[1])["files"]
    assert alone == beside
