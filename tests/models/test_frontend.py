"""What encoders see: amplitudes, phasors and the running level, with finite gradients in silence."""

import numpy as np
import pytest
import torch

from sottovoce.config import FrontendSettings
from sottovoce.models.blocks import Past
from sottovoce.models.frontend import (
    FeatureMaps,
    Infrasound,
    RunningLevel,
    TorchSTFT,
    amplitude,
    phasor,
    rotate,
    rotate_back,
)

RATE = 16000


def feature_maps(phase, window=8, **settings):
    return FeatureMaps(FrontendSettings(**{"window": window, "hop": window // 4} | settings), phase)


def noise(*shape):
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def test_amplitude_and_phasor_make_the_spectrum():
    spectrum = noise(2, 2, 5, 7)
    torch.testing.assert_close(amplitude(spectrum), torch.linalg.vector_norm(spectrum, dim=1))
    torch.testing.assert_close(torch.linalg.vector_norm(phasor(spectrum), dim=1), torch.ones(2, 5, 7))
    torch.testing.assert_close(amplitude(spectrum).unsqueeze(1) * phasor(spectrum), spectrum)


def test_phasor_of_nothing_is_one():
    unit = phasor(torch.zeros(1, 2, 3, 4))
    assert (unit[:, 0] == 1).all()
    assert (unit[:, 1] == 0).all()


@pytest.mark.parametrize("function", [amplitude, phasor, "compressed", "differences"])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-8, 1.0])
def test_gradients_are_finite(function, size):
    spectrum = (size * noise(1, 2, 5, 4)).requires_grad_()
    (function(spectrum) if callable(function) else feature_maps(function)(spectrum, Past())).square().sum().backward()
    assert torch.isfinite(spectrum.grad).all()


def test_rotate_multiplies_complex_numbers():
    first, second = noise(2, 2, 5, 7), noise(2, 2, 5, 7).flip(0)
    product = torch.complex(first[:, 0], first[:, 1]) * torch.complex(second[:, 0], second[:, 1])
    torch.testing.assert_close(rotate(first, second), torch.stack([product.real, product.imag], dim=1))


def test_what_is_rotated_and_rotated_back_keeps_its_phase():
    first, second = noise(2, 2, 5, 7), noise(2, 2, 5, 7).flip(0)
    back = rotate_back(rotate(first, second), second)
    torch.testing.assert_close(back, first * second.square().sum(dim=1, keepdim=True))


def test_compressed_phase_fades_with_the_amplitude():
    spectrum, maps = noise(1, 2, 5, 7), feature_maps("compressed", compression=0.5)
    size, real, imaginary = maps(spectrum, Past()).chunk(3, dim=1)
    torch.testing.assert_close(torch.sqrt(real**2 + imaginary**2), size)
    torch.testing.assert_close(torch.atan2(imaginary, real), torch.atan2(spectrum[:, 1], spectrum[:, 0]))
    _, real, imaginary = maps(1e-12 * spectrum, Past()).chunk(3, dim=1)
    assert real.abs().max() < 1e-3
    assert imaginary.abs().max() < 1e-3


@pytest.mark.parametrize("hop", [64, 100])
def test_advance_of_the_phase_tells_where_in_its_bin_a_tone_stands(hop):
    place = 37.3  # in bins
    tone = torch.sin(2 * np.pi * place / 512 * torch.arange(8000) + 1.0)
    maps = feature_maps("differences", 512, hop=hop)(TorchSTFT((512,), hop).analyse(tone[None]), Past())
    _, real, imaginary, _, _ = maps.unflatten(1, (5, -1))[0, :, 36:39, 20:-20]
    turns = torch.atan2(imaginary, real) / (2 * np.pi)
    expected = (place - torch.arange(36, 39)) * hop / 512
    # A real tone's negative frequency leaks into these bins, a little.
    torch.testing.assert_close(turns, expected.unsqueeze(1).expand_as(turns), atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples_late", [0, 20, -50])
def test_slope_of_the_phase_tells_when_in_its_frame_a_click_comes(samples_late):
    hop, frame = 128, 10
    clicks = torch.zeros(1, 4000)
    clicks[0, (frame + 1) * hop - 256 + samples_late] = 1.0  # the middle of that frame
    maps = feature_maps("differences", 512, hop=hop)(TorchSTFT((512,), hop).analyse(clicks), Past())
    size, _, _, real, imaginary = maps.unflatten(1, (5, -1))[0, :, :, frame]
    turns = torch.atan2(imaginary, real)[1:] / (2 * np.pi)
    torch.testing.assert_close(turns, torch.full((256,), -samples_late / 512), atol=1e-4, rtol=0)
    # No bin is below the lowest.
    assert (real[0], imaginary[0]) == (0, 0)
    torch.testing.assert_close(torch.hypot(real, imaginary)[1:], size[1:])


def test_differences_do_not_depend_on_a_phase_that_all_bins_share():
    spectrum, maps = noise(1, 2, 33, 9), feature_maps("differences", 64)
    turned = rotate(spectrum, torch.tensor([0.6, 0.8]).view(1, 2, 1, 1).expand_as(spectrum))
    torch.testing.assert_close(maps(spectrum, Past()), maps(turned, Past()))


@pytest.mark.parametrize("phase", ["compressed", "differences"])
def test_maps_frame_by_frame_are_those_of_the_whole(phase):
    spectrum, maps = noise(2, 2, 33, 9), feature_maps(phase, 64)
    past, parts = Past(), []
    for frames in spectrum.split([1, 3, 5], dim=-1):
        parts.append(maps(frames, past))
        past = Past(past.next)
    torch.testing.assert_close(torch.cat(parts, dim=-1), maps(spectrum, Past()))
    assert parts[0].shape[1] == 33 * maps.per_bin


def test_constants_of_the_transform_are_no_part_of_a_checkpoint():
    assert not TorchSTFT((64, 32), 16).state_dict()


def level_of(waveform, **settings):
    frontend = FrontendSettings(window=512, hop=256, **settings)
    return RunningLevel(frontend)(TorchSTFT((512,), 256).analyse(waveform), Past())[:, 0, 0]


def test_level_is_the_mean_over_the_horizon_or_what_speech_left():
    frontend = FrontendSettings(window=64, hop=32, level_horizon_seconds=0.012, level_fall_db_per_second=100.0)
    spectra = noise(2, 2, 33 + 17, 30) * torch.tensor([1.0] * 15 + [0.1] * 15)
    level = RunningLevel(frontend)(spectra, Past())
    assert level.shape == (2, 1, 1, 30)
    # Only the bins of the longest window count, and no offset.
    power = spectra[:, :, 1:33].square().sum(dim=1).mean(dim=1).double().numpy()
    held = np.zeros(2)
    for n in range(30):
        seen = power[:, max(0, n - 5) : n + 1]
        held = np.maximum(seen.sum(axis=1) / 6, held * 10 ** (-100.0 / 500 / 10))
        expected = np.sqrt(np.maximum(seen.mean(axis=1), held))
        np.testing.assert_allclose(level[:, 0, 0, n], expected, rtol=1e-5)


def test_level_in_pieces_is_that_of_the_whole():
    level = RunningLevel(FrontendSettings(window=64, hop=32, level_horizon_seconds=0.012))
    spectra, past, parts = noise(2, 2, 33, 40) * torch.linspace(1, 0, 40), Past(), []
    for frames in spectra.split([1, 3, 20, 16], dim=-1):
        parts.append(level(frames, past))
        past = Past(past.next)
    torch.testing.assert_close(torch.cat(parts, dim=-1), level(spectra, Past()))


def test_level_falls_slowly_in_a_pause_and_not_below_the_noise():
    speech, pause, noise_db = 0.1 * noise(1, 5 * RATE), 20.0, -60.0
    quiet = 10 ** (noise_db / 20) * noise(1, round(pause * RATE))
    level_db = 20 * torch.log10(level_of(torch.cat([speech, quiet], dim=-1))[0])
    fallen_db = float(level_db[5 * RATE // 256] - level_db[-2])
    assert fallen_db == pytest.approx(0.5 * pause, abs=0.5)
    level_db = 20 * torch.log10(level_of(torch.cat([speech, quiet], dim=-1), level_fall_db_per_second=10.0)[0])
    assert float(level_db[-2]) == pytest.approx(noise_db, abs=0.5)


def test_a_click_at_the_beginning_does_not_set_the_level():
    waveform = 0.01 * noise(1, 6 * RATE)
    waveform[:, :80] = 1.0
    assert float(level_of(waveform)[0, -2]) < 0.05


def test_level_of_a_soft_recording_is_as_much_softer():
    waveform = noise(1, RATE) * torch.linspace(1, 0.01, RATE)
    torch.testing.assert_close(level_of(0.01 * waveform), 0.01 * level_of(waveform), rtol=1e-2, atol=0)


@pytest.mark.parametrize("hz", [8.0, 20.0, 35.0])
def test_rumble_does_not_move_the_level(hz):
    waveform = 0.1 * noise(1, 2 * RATE)
    rumble = 0.1 * torch.sin(2 * torch.pi * hz * torch.arange(2 * RATE) / RATE)
    before, after = (level_of_audible(signal)[0, 20:-2] for signal in (waveform, waveform + rumble))
    assert float((20 * torch.log10(after / before)).abs().max()) < 0.5


def level_of_audible(waveform):
    frontend = FrontendSettings(window=1024, synthesis_window=512, hop=256)
    stft = TorchSTFT((1024,), 256, 512)
    spectra = stft.analyse(waveform)
    audible = spectra - Infrasound(stft.reference.analysis_tapers, RATE)(spectra)
    return RunningLevel(frontend)(audible, Past())[:, 0, 0]


@pytest.mark.parametrize(("windows", "synthesis"), [((1024,), 512), ((512,), None), ((1024, 512, 256, 128), None)])
def test_infrasound_is_what_an_offset_and_a_drift_are(windows, synthesis):
    stft = TorchSTFT(windows, 64, synthesis)
    infrasound = Infrasound(stft.reference.analysis_tapers, RATE)
    time = torch.arange(RATE) / RATE
    for slow in (torch.full((1, RATE), 0.2), 0.2 * time[None]):
        # The first frames hold the step at which the signal begins.
        spectra = stft.analyse(slow)[..., 20:-20]
        rest = (spectra - infrasound(spectra))[:, :, : windows[0] // 2 + 1]
        assert float(rest.square().sum()) < 1e-9 * float(spectra.square().sum())


def test_infrasound_is_a_projection_and_leaves_voices_alone():
    stft = TorchSTFT((1024,), 256, 512)
    infrasound = Infrasound(stft.reference.analysis_tapers, RATE)
    spectra = stft.analyse(noise(1, RATE))
    slow = infrasound(spectra)
    torch.testing.assert_close(infrasound(slow), slow, atol=1e-4, rtol=1e-4)
    for hz, least_db, most_db in ((20, 40, 100), (40, 18, 30), (70, 0, 1), (100, 0, 0.2)):
        tone = torch.sin(2 * torch.pi * hz * torch.arange(RATE) / RATE)[None]
        spectra = stft.analyse(tone)[..., 5:-5]
        rest = spectra - infrasound(spectra)
        lost_db = -10 * torch.log10(rest.square().sum() / spectra.square().sum())
        assert least_db < float(lost_db) < most_db


def test_level_of_silence_is_positive():
    assert (level_of(torch.zeros(1, 5000)) > 0).all()


def test_level_of_white_noise_is_that_of_its_samples():
    # Windows have unit energy, so that spectra and samples have one scale.
    level = level_of(0.1 * noise(1, 32000))
    assert float(level[0, -2]) == pytest.approx(0.1, rel=0.03)
