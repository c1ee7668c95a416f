"""Every code block of docs/torch.md runs, in order, and gives what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import sottovoce
from sottovoce.models.blocks import Past
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.weights import CHECKPOINTS

from .systems import RATE, speech, without_warm_up

PAGE = Path(__file__).parents[1] / "docs" / "torch.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTIONS = {name: BLOCK.findall(text) for name, text in SECTION.findall(PAGE.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Run the page; give its names after every section."""
    folder = tmp_path_factory.mktemp("torch_page")
    sf.write(folder / "one.wav", speech(0.3), RATE, subtype="FLOAT")
    sf.write(folder / "two.wav", speech(0.25, 5.0), RATE, subtype="FLOAT")
    names, after = {"__name__": "page"}, {"folder": folder}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.chdir(folder)
        torch.manual_seed(0)
        for section, blocks in SECTIONS.items():
            for block in blocks:
                exec(compile(block, f"{PAGE.name}: {section}", "exec"), names)
            after[section] = dict(names)
    return after


def test_every_section_has_code():
    assert list(SECTIONS) == ["Load", "Enhance a batch", "Gradients", "Latents", "Export"]
    assert all(SECTIONS.values())


def test_batch_gives_what_each_recording_gives(page):
    bundled, _ = load_checkpoint(CHECKPOINTS["default"])
    engine = sottovoce.load()
    for recording, enhanced in zip(
        page["Enhance a batch"]["recordings"], page["Enhance a batch"]["enhanced"], strict=True
    ):
        torch.testing.assert_close(enhanced, bundled.enhance(recording[None])[0], atol=1e-6, rtol=1e-3)
        exported = without_warm_up(engine, recording.numpy())
        assert np.abs(exported).max() > 1e-3
        np.testing.assert_allclose(enhanced, exported, atol=1e-5)


def test_gradients_reach_what_runs_and_nothing_else(page):
    model, front_end = page["Gradients"]["model"], page["Gradients"]["front_end"]
    runs = {id(parameter) for part in model.run_time_parts() for parameter in part.parameters()}
    for name, parameter in front_end.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        # The natural room is zeros, which give the weights of its choice no gradient.
        assert reached == (id(parameter) in runs and ".room." not in name), name
    before = load_checkpoint(CHECKPOINTS["default"])[0].state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value.cpu(), before[name])}
    assert {name.partition(".")[0] for name in changed} == {"mixture_encoder", "shared", "amplitude_decoder", "mask"}


def test_front_end_and_pieces_give_what_enhance_gives(page):
    names = page["Gradients"]
    model, waveforms = names["model"], names["waveforms"].to(names["device"])
    model.train()
    expected = model.enhance(waveforms)
    with torch.no_grad():
        torch.testing.assert_close(names["front_end"](waveforms), expected, atol=1e-6, rtol=1e-3)
        joined = model.stft.synthesise(torch.cat(names["pieces"], dim=-1), waveforms.shape[-1])
        torch.testing.assert_close(joined, expected, atol=1e-6, rtol=1e-3)
        model.eval()
        torch.testing.assert_close(model.enhance(waveforms), expected, atol=0, rtol=0)


def test_gradient_is_the_slope(page):
    """Against differences, in double precision: through frames, level, networks and back to samples."""
    front_end = page["Gradients"]["front_end"]
    waveform = torch.from_numpy(speech(0.1)).double()[None].requires_grad_()
    front_end.double()
    try:
        loss = front_end(waveform).square().sum()
        (gradient,) = torch.autograd.grad(loss, waveform)
        direction = torch.randn(waveform.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        step = 1e-9  # less than moves what is next to nothing, whose phase has kinks
        with torch.no_grad():
            ahead, behind = (front_end(waveform + sign * step * direction).square().sum() for sign in (1, -1))
    finally:
        front_end.float()
    assert float((gradient * direction).sum()) == pytest.approx(float((ahead - behind) / (2 * step)), rel=1e-5)


def test_latents_have_the_shapes_of_the_page(page):
    names = page["Latents"]
    model, settings = names["model"], names["settings"]
    batch, frames = len(names["waveforms"]), names["spectra"].shape[-1]
    assert names["mixture_latent"].shape == names["speech_latent"].shape == (batch, settings.model.latent, frames)
    assert names["speech_amplitude"].shape == (batch, model.bins, frames)
    assert not torch.allclose(names["mixture_latent"], names["speech_latent"], atol=1e-3)
    # The enhanced spectrum in the recording's own scale is what the model gives.
    level = model.level(names["spectra"], Past())
    whole = model.stft.synthesise(names["translation"].spectrum * level, names["waveforms"].shape[-1])
    torch.testing.assert_close(whole, model.enhance(names["waveforms"].to(names["device"])), atol=1e-6, rtol=1e-3)


def test_what_was_trained_is_saved(page):
    saved, settings = load_checkpoint(page["folder"] / "tuned.safetensors")
    assert settings == page["Load"]["settings"]
    trained = page["Export"]["model"].cpu().state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in saved.state_dict().items())
