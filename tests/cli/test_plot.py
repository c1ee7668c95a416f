"""`sottovoce plot --mask` and `--latent`: pictures of what a model does, or one sentence why there is none."""

import numpy as np
import pytest
import soundfile as sf
from PIL import Image

from sottovoce import cli
from sottovoce.metrics import latent_plots, plots
from sottovoce.models.checkpoint import save_checkpoint
from sottovoce.signal.levels import rms_db

from ..systems import build, small_settings, speech


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Folder of a training of small networks."""
    folder = tmp_path_factory.mktemp("run")
    settings = small_settings()
    save_checkpoint(folder / "checkpoint.safetensors", build(settings), settings)
    return folder


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "a.wav"
    sf.write(path, speech(1.0), 16000)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["sottovoce", "plot", *map(str, arguments)])
        return cli.main(), capsys.readouterr().err

    return call


@pytest.fixture
def figures(monkeypatch):
    """What would be saved; nothing is drawn."""
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path, overwrite: saved.append(figure))
    return saved


def test_where_a_recording_lies_in_the_latent_space(run, recording, run_folder, figures, tmp_path, monkeypatch):
    tracks = []
    monkeypatch.setattr(latent_plots, "latent_maps", lambda found: tracks.extend(found) or "figure")
    assert run(recording, "--latent", "--model", run_folder, "-o", tmp_path / "latent.png") == (0, "")
    assert figures == ["figure"]
    (track,) = tracks
    frames = len(track.seconds)
    assert track.latent.shape == (frames, small_settings().model.latent)
    for quantity in (track.voicing, track.noise_db, track.snr_db):
        assert quantity.shape == (frames,)
        assert np.isfinite(quantity).all()
    assert track.seconds[0] >= 0
    assert track.seconds[-1] <= 1
    assert np.diff(track.seconds) == pytest.approx(small_settings().frontend.hop / 16000)
    assert 0 < track.voicing.min() < track.voicing.max() <= 1
    # What is kept and what is removed add up to the recording, more or less: phases differ.
    kept_db = track.noise_db + track.snr_db
    total_db = 10 * np.log10(np.mean(10 ** (kept_db / 10) + 10 ** (track.noise_db / 10)))
    assert total_db == pytest.approx(rms_db(speech(1.0)), abs=6)


def test_an_animated_walk(run, recording, run_folder, tmp_path, monkeypatch):
    drawn = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 200, np.uint8)
    monkeypatch.setattr(latent_plots, "latent_walk", lambda track, samples, rate: iter(drawn))
    for suffix in (".gif", ".WEBP"):
        path = tmp_path / f"walk{suffix}"
        assert run(recording, "--latent", "--model", run_folder, "-o", path) == (0, "")
        with Image.open(path) as image:
            assert image.n_frames == 2


def test_only_the_beginning_of_long_recordings_is_drawn(run, run_folder, figures, tmp_path, monkeypatch):
    monkeypatch.setattr("sottovoce.cli.plot._LATENT_SECONDS", 0.5)
    sf.write(tmp_path / "long.wav", speech(1.0), 16000)
    tracks = []
    monkeypatch.setattr(latent_plots, "latent_maps", tracks.extend)
    code, err = run(tmp_path / "long.wav", "--latent", "--model", run_folder, "-o", tmp_path / "latent.png")
    assert code == 0
    assert "the first 0.5 s are drawn" in err
    assert tracks[0].seconds[-1] <= 0.5


def test_masks_need_no_torch_and_take_any_model(run, recording, identity_model, figures, tmp_path):
    assert run(recording, "--mask", "--model", identity_model, "-o", tmp_path / "mask.png") == (0, "")
    mask = np.asarray(figures[0].axes[1].images[0].get_array())
    loud = np.asarray(figures[0].axes[0].images[0].get_array()) > -30
    assert mask[loud] == pytest.approx(0, abs=0.1)  # it changes nothing


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--latent", "--mask"], "found --latent and --mask, expected one of them"),
        (["--model", "live"], "found --model without --latent or --mask"),
        (["--latent", "--model", "other.onnx"], "found the exported model other.onnx, expected a training checkpoint"),
        (["--latent", "--model", "place.place"], "expected a training checkpoint"),
        (["--latent", "--model", "nowhere"], "found no readable training checkpoint"),
        (["--mask", "--model", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_bad_input_is_one_sentence(run, recording, tmp_path, arguments, sentence):
    code, err = run(recording, *arguments, "-o", tmp_path / "picture.png")
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_animation_is_of_one_recording(run, recording, tmp_path):
    code, err = run(recording, recording, "--latent", "-o", tmp_path / "walk.gif")
    assert code == 1
    assert "found 2 recordings for an animation, expected one" in err


def test_too_short_to_have_a_latent(run, run_folder, tmp_path):
    sf.write(tmp_path / "short.wav", np.full(100, 0.1), 16000)
    code, err = run(tmp_path / "short.wav", "--latent", "--model", run_folder, "-o", tmp_path / "latent.png")
    assert code == 1
    assert "0.006 s, expected 0.04 s or more" in err
    assert err.count("\n") == 1


def test_what_is_too_short_leaves_the_others_in_the_picture(run, recording, run_folder, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(latent_plots, "latent_maps", drawn.extend)
    monkeypatch.setattr(plots, "save", lambda *_, **__: None)
    sf.write(tmp_path / "short.wav", np.full(100, 0.1), 16000)
    short = tmp_path / "short.wav"
    code, err = run(recording, short, "--latent", "--model", run_folder, "-o", tmp_path / "latent.png")
    assert code == 1
    assert "left out: " in err
    assert len(drawn) == 1
