"""Two small unpaired folders of synthetic sound, and settings that are trained in seconds."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

from sottovoce.config import SystemSettings
from sottovoce.data.corpora.manifest import scan
from sottovoce.data.simulation.mixtures import make_mixtures
from sottovoce.models.checkpoint import save_checkpoint
from sottovoce.training import adapt as adapt_module
from sottovoce.training import log
from sottovoce.training import run as run_module
from sottovoce.training.preparation import prepare
from sottovoce.training.run import CHECKPOINT, fit, untrained
from sottovoce.training.stages import joint_stages

from ..data.synthetic import RATE, tone, write

SETTINGS = {
    "name": "tiny",
    "frontend": {"window": 256, "synthesis_window": None, "hop": 128, "loss_windows": [512, 128]},
    "model": {
        "latent": 8,
        "speech_encoder": {"widths": [16]},
        "mixture_encoder": {"width": 4, "blocks": 1},
        "speech_decoder": {"widths": [16], "kernel": 1},
        "mixture_decoder": {"widths": [16], "kernel": 1},
        "noise_code": 4,
        "mask": {"width": 4, "blocks": 1},
        "latent_noise": 0.1,
    },
    "speech_weights": {"multi_resolution": 0.5, "consistency": 0.1},
    "joint_weights": {"simulated_magnitude": 1.0, "simulated_complex": 1.0},
    "training": {
        "speech_steps": 6,
        "joint_steps": 6,
        "check_every": 6,
        "data": {
            "clip_seconds": 0.5,
            "speech_clips": 2,
            "mixture_clips": 2,
            "noise_clips": 1,
            "simulated_clips": 2,
            "simulation": {"room": {"count": 2, "t60_seconds": [0.2, 0.3]}},
            "held_back_share": 0.3,
            "workers": 0,
        },
    },
}


@pytest.fixture(scope="session", autouse=True)
def _traced_once(traced_once):
    pass


def tiny(**training):
    """The small settings, with changes below `training`."""
    data = SETTINGS["training"]["data"] | training.pop("data", {})
    return SystemSettings.model_validate(SETTINGS | {"training": SETTINGS["training"] | training | {"data": data}})


@contextlib.contextmanager
def without_pictures():
    """Trainings draw nothing, which takes far longer than their steps: for tests of weights alone."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        for module in (log, run_module, adapt_module):
            patch.setattr(module, "plot_run", lambda _: None)
        for picture in ("recordings", "noise_spectra"):
            patch.setattr(log.plots, picture, lambda *_: Figure(figsize=(1, 1)))
        yield


def fitted(speech, mixtures, out, settings=None, on_progress=None):
    """Train without export and pictures, for tests of weights alone."""
    settings = settings or tiny()
    model = untrained(settings)
    data = prepare(speech, mixtures, out, settings)
    with without_pictures():
        stages, processes = joint_stages(model, settings), settings.training.processes
        fit(model, stages, data, out, settings, processes=processes, on_progress=on_progress)
    save_checkpoint(out / CHECKPOINT, model, settings)
    return model


def write_speakers(folder, names, seed, seconds=2.0):
    rng = np.random.default_rng(seed)
    for name in names:
        for number in range(2):
            write(folder / name / f"{number}.wav", tone(seconds, rng.uniform(100, 250), rng))


def make_recordings(folder, seed):
    """Noisy recordings below `noisy`, and their clean versions beside them."""
    rng = np.random.default_rng(seed)
    write_speakers(folder / "dry", ("dora", "emil"), seed)
    for kind in ("rain", "wind"):
        write(folder / "noise" / kind / "0.wav", (0.1 * rng.standard_normal(20 * RATE)).astype(np.float32))
    made = folder / "made"
    make_mixtures(scan(folder / "dry"), scan(folder / "noise"), made, count=4, snr_db=(10,), seed=seed, seconds=12.0)
    return made


def in_group(group):
    """Processes of a group that still run, as far as this system shows.

    The tracker of multiprocessing is none of them: it ends after its parent, when it finds their pipe closed. A process
    that is ending has no command line any more, some milliseconds before its state says so.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, of_group = (process / "stat").read_text().rpartition(") ")[2].split()[:3]
            command = (process / "cmdline").read_bytes()
            has_ended = state == "Z" or not command
            is_tracker = b"from multiprocessing.resource_tracker" in command
            found += [process] if int(of_group) == group and not has_ended and not is_tracker else []
    return found


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Clean speech, and a folder made by `make_mixtures` whose `noisy` is the noisy recordings."""
    folder = tmp_path_factory.mktemp("unpaired")
    write_speakers(folder / "speech", ("anna", "bert", "carl"), 1)
    return folder / "speech", make_recordings(folder, 2)


@pytest.fixture
def undrawn():
    with without_pictures():
        yield
