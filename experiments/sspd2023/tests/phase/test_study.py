"""Amplitudes with phases: what is combined, what is kept of an interrupted study, and the page."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tests.data.synthetic import tone, write

from sottovoce.metrics.intrusive import si_sdr
from sottovoce.metrics.scores import MEASURES, Scores
from sottovoce.models.checkpoint import save_checkpoint
from sspd2023 import protocol as protocol_module
from sspd2023.phase import page, study
from sspd2023.phase.reconstruction import analyse, phasors, synthesise
from sspd2023.phase.study import STFT
from sspd2023.results import Result, to_csv
from sspd2023.run import read_signal
from sspd2023.split import CONDITIONS

from ..systems import build, small_experiment

SETTINGS = small_experiment()
SECONDS = 0.6
REBUILT = ("mixture", "heap", "griffin_lim")


@pytest.fixture(scope="module")
def network():
    return build(SETTINGS)


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("phase"), np.random.default_rng(0)
    tests = []
    for number, snr_db in enumerate((0.0, 0.0, 5.0, 5.0)):
        clean = tone(SECONDS, 120 + 30 * number, rng).astype(np.float32)
        noisy = clean + (0.1 * rng.standard_normal(clean.size)).astype(np.float32)
        for kind, waveform in (("clean", clean), ("noisy", noisy)):
            write(folder / kind / f"{number}.wav", waveform)
        tests.append(
            protocol_module.TestMixture(
                str(number), folder / "noisy" / f"{number}.wav", folder / "clean" / f"{number}.wav", snr_db=snr_db
            )
        )
    nowhere = [folder / name for name in ("speech", "mixtures", "clean", "noisy", "test")]
    return protocol_module.Protocol(CONDITIONS["poster"], folder, *nowhere, tuple(tests), 4, 1, "fingerprint")


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "joint.safetensors"
    save_checkpoint(path, network, SETTINGS)
    return path


def test_every_amplitude_is_combined_with_every_phase(network, protocol, monkeypatch):
    monkeypatch.setattr(study, "griffin_lim", lambda amplitude, initial, *_: initial)
    test = protocol.tests[0]
    noisy, clean = read_signal(test.noisy)[:3000], read_signal(test.clean)[:3000]
    spectra = {(a, p): spectrum for a, p, spectrum in study.outputs(noisy, clean, 0.5 * noisy, {"joint": network})}
    amplitudes = {"clean", "default", "joint_decoded"}
    phases = {"clean", "joint_decoded", "joint_ceiling", *REBUILT}
    assert set(spectra) == {(amplitude, phase) for amplitude in amplitudes for phase in phases}
    assert amplitudes < set(study.AMPLITUDES)
    assert phases < set(study.PHASES)
    # Amplitude and phase of one signal are that signal.
    enhanced = network.enhance(torch.from_numpy(noisy[np.newaxis]))[0].numpy()
    for source, signal in {"clean": clean, "joint_decoded": enhanced}.items():
        assert synthesise(STFT, spectra[source, source], 3000) == pytest.approx(signal, abs=1e-5)
    assert synthesise(STFT, spectra["default", "mixture"], 3000) == pytest.approx(0.5 * noisy, abs=1e-5)
    ceiling = network.reconstruct(*(torch.from_numpy(each[np.newaxis]) for each in (clean, noisy)))[0].numpy()
    expected = {"joint_ceiling": phasors(analyse(STFT, ceiling)), "mixture": phasors(analyse(STFT, noisy))}
    for (amplitude, phase), spectrum in spectra.items():
        assert np.abs(spectrum) == pytest.approx(np.abs(spectra[amplitude, "mixture"]), abs=1e-9)
        if phase in expected:
            loud = np.abs(spectrum) > 1e-6
            assert phasors(spectrum)[loud] == pytest.approx(expected[phase][loud])


def few_outputs(noisy, clean, _masked, _networks):
    """A tenth of the work: two phases of every amplitude."""
    mixture, speech = analyse(STFT, noisy), analyse(STFT, clean)
    for amplitude in study.AMPLITUDES:
        for phase, phasor in (("mixture", phasors(mixture)), ("clean", phasors(speech))):
            yield amplitude, phase, np.abs(speech) * phasor


def quick_score(clean, waveform, **_):
    """SI-SDR in the place of all measures."""
    return Scores(*[si_sdr(clean, waveform)] * len(MEASURES))


def test_a_study_goes_on_where_it_was_stopped(protocol, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "outputs", few_outputs)
    monkeypatch.setattr(study, "score", quick_score)
    reported = []
    first = study.run(protocol, checkpoint, tmp_path / "kept", on_progress=lambda *progress: reported.append(progress))
    assert [done for _, done, _ in reported] == [1, 2, 3, 4]
    assert {result.file for result in first.results} == {"0", "1", "2", "3"}
    by_phase = {
        p: [r.scores.si_sdr_db for r in first.results if r.system == study.system("clean", p)]
        for p in ("clean", "mixture")
    }
    assert min(by_phase["clean"]) > 60 > max(by_phase["mixture"])
    perfect = first.curves["clean", "clean"][0]
    assert np.nanmax(perfect.phase_degrees) < 1e-3
    assert np.nanmax(perfect.inconsistency_db) < -150

    kept = sorted((tmp_path / "kept").iterdir())
    kept[1].unlink()
    measured = []
    monkeypatch.setattr(study, "outputs", lambda *inputs: measured.append(1) or few_outputs(*inputs))
    again = study.run(protocol, checkpoint, tmp_path / "kept")
    assert len(measured) == 1
    assert to_csv(again.results) == to_csv(first.results)
    # Other networks are another study.
    save_checkpoint(tmp_path / "other.safetensors", build(SETTINGS, seed=1), SETTINGS)
    study.run(protocol, tmp_path / "other.safetensors", tmp_path / "kept")
    assert len(measured) == 1 + 4
    assert len(json.loads(kept[0].read_text(encoding="utf-8"))) == 8


def test_the_page_has_what_was_measured(protocol, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "outputs", few_outputs)
    monkeypatch.setattr(study, "score", quick_score)
    figures = {}
    monkeypatch.setattr(page.plots, "save", lambda figure, path: figures.update({path.name: figure}))
    found = study.run(protocol, checkpoint, tmp_path / "kept")
    unprocessed = [Result("poster", "unprocessed", None, r.file, r.snr_db, r.scores) for r in found.results[::8]]
    files = page.write({"poster": found}, unprocessed, ["Four tones."], tmp_path)
    text = files[0].read_text(encoding="utf-8")
    lines = text.splitlines()
    assert "- Four tones." in lines
    assert "| system | PESQ wb 0 | PESQ wb 5 | PESQ nb 0 | PESQ nb 5 |" in lines
    assert sum(line.startswith("| unprocessed |") for line in lines) == 2
    assert any(line.startswith("| clean amplitude, true |") for line in lines)
    assert not any(line.startswith("| clean amplitude, heap integration |") for line in lines)  # not combined here
    true = next(line for line in lines if line.startswith("| true |"))
    assert true.endswith("| −∞ | −∞ | −∞ | −∞ | −∞ |")
    assert list(figures) == [path.name for path in files[1:]] == ["poster_phase_scores.png", "poster_phase_errors.png"]
    assert all(f"(figures/{name})" in text for name in figures)
    scores, errors = figures.values()
    columns = len(study.AMPLITUDES)
    assert [axis.get_ylabel() for axis in scores.axes[::columns]] == ["PESQ wb", "PESQ nb", "ESTOI", "SI-SDR in dB"]
    assert [axis.get_ylabel() for axis in errors.axes[:3]] == [
        "phase error in degrees",
        "error of the advance in degrees",
        "inconsistency in dB",
    ]


@pytest.mark.slow
def test_processes_measure_what_one_does(protocol, tmp_path):
    few = dataclasses.replace(protocol, tests=protocol.tests[:2])
    progress = []
    in_two = study.run(few, None, tmp_path / "two", jobs=2, on_progress=lambda *each: progress.append(each))
    assert progress == [("amplitude and phase", 1, 2), ("amplitude and phase", 2, 2)]
    in_one = study.run(few, None, tmp_path / "one")
    assert to_csv(in_two.results) == to_csv(in_one.results)
    assert len(in_one.results) == 2 * 3 * 6
    assert [path.name for path in sorted((tmp_path / "two").iterdir())] == [
        path.name for path in sorted((tmp_path / "one").iterdir())
    ]
