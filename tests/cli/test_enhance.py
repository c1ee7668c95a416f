"""The commands `enhance` and `info`, as a user types them."""

import json
import pickle
import signal
import subprocess
import sys
import time

import mutagen
import numpy as np
import pytest
import soundfile as sf

from sottovoce import cli
from sottovoce.cli.arguments import EnhanceFlags, OutputFlags
from sottovoce.engine.options import FOR_ASR_MIX, EnhanceOptions
from sottovoce.signal.audio import probe, read
from sottovoce.signal.output import OutputOptions

from ..conftest import build_identity_model

try:
    import resource
except ImportError:
    resource = None


@pytest.fixture
def sottovoce(monkeypatch, identity_model):
    """Run the command line within this process; `enhance` gets the identity model."""

    def run(command, *arguments):
        model = ["--model", str(identity_model)] if command == "enhance" else []
        monkeypatch.setattr(sys, "argv", ["sottovoce", command, *map(str, arguments), *model])
        return cli.main()

    return run


def save(path, samples=16000, rate=16000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(samples)), rate, **options)
    return path


def test_enhances_a_file(tmp_path, sottovoce, capsys):
    save(tmp_path / "a.wav", 22050, 44100)
    assert sottovoce("enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav") == 0
    assert sf.info(tmp_path / "b.wav").frames == 22050
    printed = capsys.readouterr()
    assert printed.out.startswith("Enhanced 1 of 1 recordings, 0:00.5 of sound in ")
    assert printed.out.endswith("0 failed.\n")
    assert printed.err == ""


def test_full_band_can_be_switched_off(tmp_path, sottovoce):
    tone = 0.5 * np.sin(2 * np.pi * 12000 * np.arange(24000) / 48000)
    sf.write(tmp_path / "a.wav", np.stack([tone, -tone], axis=1), 48000, subtype="FLOAT")
    assert sottovoce("enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav", "--linked") == 0
    assert sottovoce("enhance", tmp_path / "a.wav", "-o", tmp_path / "c.wav", "--no-full-band") == 0
    kept, lost = (sf.read(tmp_path / name)[0][4800:-4800] for name in ("b.wav", "c.wav"))
    np.testing.assert_allclose(kept, np.stack([tone, -tone], axis=1)[4800:-4800], atol=1e-6)
    assert np.abs(lost).max() < 1e-3


def test_metadata_stays_unless_unwanted(tmp_path, sottovoce, capsys):
    path = save(tmp_path / "a.flac")
    tags = mutagen.File(path)
    tags["title"], tags["mood"] = "Interview", "calm"
    tags.save()
    assert sottovoce("enhance", path, "-o", tmp_path / "b.flac") == 0
    assert mutagen.File(tmp_path / "b.flac").tags == tags.tags
    assert sottovoce("enhance", path, "-o", tmp_path / "c.flac", "--no-metadata") == 0
    assert "title" not in (mutagen.File(tmp_path / "c.flac").tags or {})
    assert capsys.readouterr().err == ""
    assert sottovoce("enhance", path, "-o", tmp_path / "d.wav") == 0
    assert capsys.readouterr().err == (
        f"sottovoce: {tmp_path / 'd.wav'}: left out, since this kind of file has no place for it: MOOD\n"
    )


def test_size_of_lossy_files(tmp_path, sottovoce, capsys):
    path = save(tmp_path / "a.mp3", 48000, bitrate_mode="CONSTANT", compression_level=0.2)
    wanted = {"same": [], "small": ["--bitrate", 64], "low": ["--quality", 0], "high": ["--quality", 1]}
    for name, options in wanted.items():
        assert sottovoce("enhance", path, "-o", tmp_path / f"{name}.mp3", *options) == 0
    rates = {name: probe(tmp_path / f"{name}.mp3").bit_rate for name in wanted}
    assert rates["same"] == pytest.approx(probe(path).bit_rate, rel=0.05)
    assert rates["small"] == pytest.approx(64_000, rel=0.1)
    assert rates["low"] < rates["high"]
    assert sottovoce("enhance", path, "-o", tmp_path / "x.mp3", "--quality", 1, "--bitrate", 64) == 1
    assert "found both quality and bitrate" in capsys.readouterr().err


def test_reports_failures_and_goes_on(tmp_path, sottovoce, capsys):
    save(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "b.wav").write_text("no sound")
    assert sottovoce("enhance", tmp_path / "in", tmp_path / "none.wav", "-o", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("Enhanced 1 of 3 recordings")
    first, second = printed.err.splitlines()
    assert first.startswith(f"sottovoce: {tmp_path / 'in' / 'b.wav'} is not a sound file")
    assert second.startswith(f"sottovoce: found nothing at {tmp_path / 'none.wav'}")


def test_overwrites_only_when_asked(tmp_path, sottovoce, capsys):
    source = save(tmp_path / "a.wav")
    assert sottovoce("enhance", source, "-o", tmp_path / "b.wav") == 0
    assert sottovoce("enhance", source, "-o", tmp_path / "b.wav") == 1
    assert "exists and is kept" in capsys.readouterr().err
    assert sottovoce("enhance", source, "-o", tmp_path / "b.wav", "--overwrite") == 0


def test_resumes(tmp_path, sottovoce, capsys):
    save(tmp_path / "in" / "a.wav")
    assert sottovoce("enhance", tmp_path / "in", "-o", tmp_path / "out") == 0
    save(tmp_path / "in" / "b.wav", 8000)
    capsys.readouterr()
    assert sottovoce("enhance", tmp_path / "in", "-o", tmp_path / "out", "--resume") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Enhanced 1 of 2 recordings, 0:00.5 of sound in ")
    assert printed.endswith("; 1 kept from earlier; 0 failed.\n")


def test_report_for_programs(tmp_path, sottovoce, identity_model, capsys):
    save(tmp_path / "in" / "a.wav", 8000)
    (tmp_path / "in" / "b.wav").write_text("no sound")
    assert sottovoce("enhance", tmp_path / "in", "-o", tmp_path / "out", "--json") == 1
    printed = capsys.readouterr()
    first, second = json.loads(printed.out)
    assert first == {
        "model": str(identity_model),
        "source": str(tmp_path / "in" / "a.wav"),
        "target": str(tmp_path / "out" / "a.wav"),
        "seconds": 0.5,
        "error": None,
        "kept": False,
        "confidence": None,
    }
    assert "is not a sound file" in second["error"]
    assert printed.err == f"sottovoce: {second['error']}\n"


def test_what_was_taken_away_and_what_stayed_are_the_recording(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    source = tmp_path / "a.wav"
    sf.write(source, 0.1 * rng.standard_normal((24000, 2)), 44100, subtype="FLOAT")
    for name, flags in {"stayed": [], "removed": ["--removed"]}.items():
        command = ["sottovoce", "enhance", source, "-o", tmp_path / f"{name}.wav", *flags]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        assert cli.main() == 0
    (stayed, _), (removed, _), (recording, _) = (
        read(tmp_path / name) for name in ("stayed.wav", "removed.wav", "a.wav")
    )
    assert np.sqrt(np.mean(removed**2)) > 0.05
    np.testing.assert_allclose(stayed + removed, recording, atol=1e-6)


@pytest.mark.parametrize("jobs", [1, 2])
def test_for_asr_adds_a_share_of_the_recording(tmp_path, monkeypatch, jobs):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        sf.write(tmp_path / "in" / name, 0.1 * rng.standard_normal(8000), 16000, subtype="FLOAT")
    for folder, flags in {"enhanced": [], "asr": ["--for-asr"]}.items():
        command = ["sottovoce", "enhance", tmp_path / "in", "-o", tmp_path / folder, "--jobs", jobs, *flags]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        assert cli.main() == 0
    for name in ("a.wav", "b.wav"):
        recording, enhanced, asr = (read(tmp_path / folder / name)[0] for folder in ("in", "enhanced", "asr"))
        assert np.abs(enhanced - recording).max() > 0.05
        np.testing.assert_allclose(asr, FOR_ASR_MIX * enhanced + (1 - FOR_ASR_MIX) * recording, atol=1e-6)


def test_for_asr_and_another_mix_contradict_each_other(tmp_path, sottovoce, capsys):
    save(tmp_path / "a.wav")
    assert sottovoce("enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav", "--for-asr", "--mix", "0.3") == 1
    assert capsys.readouterr().err == (
        "sottovoce: found --for-asr and --mix 0.3, expected one of them: both set the mix\n"
    )
    assert not (tmp_path / "b.wav").exists()


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


@pytest.mark.skipif(resource is None, reason="needs POSIX limits")
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_disk_that_takes_no_more(tmp_path, identity_model, name):
    rng = np.random.default_rng(0)
    sf.write(tmp_path / name, rng.uniform(-0.5, 0.5, 16000 * 20), 16000)
    save(tmp_path / "b.wav", 16000)
    command = [sys.executable, "-m", "sottovoce", "enhance", name, "b.wav", "-o", "out", "--model", str(identity_model)]
    process = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit_file_size
    )
    assert process.returncode == 1
    # libmpg123 has something to say about noise.
    (error,) = (line for line in process.stderr.splitlines() if "libmpg123" not in line)
    assert error.startswith(f"sottovoce: cannot write out/{name}: the disk is full or failed after ")
    assert "Enhanced 1 of 2 recordings" in process.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.wav"]


@pytest.mark.parametrize("option", [("--mix", "2"), ("--limit-db", "-1"), ("--jobs", "0")])
def test_refuses_numbers_out_of_range(tmp_path, sottovoce, option, capsys):
    assert sottovoce("enhance", save(tmp_path / "a.wav"), "-o", tmp_path / "b.wav", *option) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("sottovoce: found")
    assert printed.err.count("\n") == 1


def test_refuses_what_is_no_model(tmp_path, monkeypatch, capsys):
    source = save(tmp_path / "a.wav")
    monkeypatch.setattr(sys, "argv", ["sottovoce", "enhance", str(source), "-o", "b.wav", "--model", str(source)])
    assert cli.main() == 1
    assert "is not a model" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_interruption_leaves_nothing_half_written(tmp_path, identity_model, name):
    sf.write(tmp_path / "a.wav", np.zeros(16000 * 1800, np.int16), 16000)
    command = [sys.executable, "-m", "sottovoce", "enhance", "a.wav", "-o", "out", "--model", str(identity_model)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("out/.*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name)
    assert errors == "sottovoce: interrupted: what is finished is kept; --resume goes on from there\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_info_of_a_recording(tmp_path, sottovoce, capsys):
    waveform = np.array([[0.5, -0.5], [1.0, -0.5], [0.5, -0.5], [0.5, -1.0]])
    sf.write(tmp_path / "a.wav", np.tile(waveform, (12000, 1)), 48000, subtype="PCM_24")
    assert sottovoce("info", tmp_path / "a.wav") == 0
    assert capsys.readouterr().out.splitlines() == [
        "format    WAV, PCM_24",
        "rate      48000 Hz",
        "channels  2",
        "length    0:01.0 (48000 samples)",
        "peak      0.0 dBFS",
        "rms       -3.6 dBFS",
        "clipped   24000 samples at full scale (25 %)",
    ]


def test_info_tells_the_length_that_is_decoded(m4a, sottovoce, capsys):
    frames = read(m4a)[0].shape[1]
    assert sottovoce("info", m4a) == 0
    assert f"({frames} samples)" in capsys.readouterr().out
    assert probe(m4a).frames != frames


def test_info_of_silence(tmp_path, sottovoce, capsys):
    sf.write(tmp_path / "a.flac", np.zeros(1), 8000)
    assert sottovoce("info", tmp_path / "a.flac") == 0
    printed = capsys.readouterr().out
    assert "length    0:00.0 (1 samples)" in printed
    assert "rms       silence" in printed


def test_info_of_a_model(identity_model, sottovoce, capsys):
    assert sottovoce("info", identity_model) == 0
    printed = capsys.readouterr().out
    assert "name      identity" in printed
    assert "latency   40 ms" in printed
    assert "settings  `--settings` prints them" in printed
    assert sottovoce("info", identity_model, "--settings") == 0
    assert json.loads(capsys.readouterr().out) == {"seed": 0}
    assert sottovoce("info", identity_model, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["latency_seconds"], found["settings"]) == ("identity", 0.04, {"seed": 0})


def test_info_for_programs(tmp_path, sottovoce, capsys):
    sf.write(tmp_path / "a.wav", np.full((8000, 2), 0.5), 16000)
    assert sottovoce("info", tmp_path / "a.wav", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "format": "WAV",
        "subtype": "PCM_16",
        "sample_rate": 16000,
        "channels": 2,
        "frames": 8000,
        "seconds": 0.5,
        "peak_dbfs": pytest.approx(-6.0206, abs=1e-3),
        "rms_dbfs": pytest.approx(-6.0206, abs=1e-3),
        "clipped_samples": 0,
    }
    assert sottovoce("info", tmp_path / "a.wav", "--settings") == 1
    assert "expected a model" in capsys.readouterr().err


def test_info_of_the_folder_of_a_run(tmp_path, identity_model, sottovoce, capsys):
    (tmp_path / "model.onnx").write_bytes(identity_model.read_bytes())
    assert sottovoce("info", tmp_path) == 0
    assert "name      identity" in capsys.readouterr().out


def test_info_of_nothing(tmp_path, sottovoce, capsys):
    assert sottovoce("info", tmp_path / "none.wav") == 1
    assert sottovoce("info", tmp_path / "none.onnx") == 1
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("command", ["enhance", "info"])
def test_help_teaches_with_an_example(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sottovoce", command, "--help"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert f"    sottovoce {command} interview.wav" in capsys.readouterr().out


def test_a_network_that_gives_no_numbers_ends_in_an_error(tmp_path, monkeypatch, capsys):
    save(tmp_path / "a.wav")
    model = build_identity_model(tmp_path / "model.onnx", gain=float("nan"))
    monkeypatch.setattr(sys, "argv", ["sottovoce", "enhance", f"{tmp_path}/a.wav", "-o", f"{tmp_path}/b.wav"])
    sys.argv += ["--model", str(model)]
    assert cli.main() == 1
    printed = capsys.readouterr()
    assert "gave values that are no numbers" in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "b.wav").exists()


def test_flags_that_switch_off_say_so_and_workers_get_plain_options(sottovoce, capsys):
    with pytest.raises(SystemExit):
        sottovoce("enhance", "--help")
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--no-full-band Remove what lies above" in printed
    assert "--no-metadata Leave out tags" in printed
    assert pickle.loads(pickle.dumps(EnhanceFlags(mix=0.5))) == EnhanceOptions(mix=0.5)
    assert pickle.loads(pickle.dumps(EnhanceFlags(for_asr=True))) == EnhanceOptions(mix=FOR_ASR_MIX)
    assert pickle.loads(pickle.dumps(OutputFlags(metadata=False))) == OutputOptions(metadata=False)
