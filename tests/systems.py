"""Small systems and real recordings that several tests share."""

import contextlib
import functools
import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile as sf
import torch
from filelock import FileLock

from sottovoce.atomic import replacing
from sottovoce.config import find_settings, load_settings, parse_settings
from sottovoce.models import export
from sottovoce.models.joint import JointAutoencoder

from .measuring import unmeasured

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PACKAGE = ROOT / "src" / "sottovoce"
RATE = 16000

SMALL = {
    "frontend": {
        "window": 64,
        "synthesis_window": None,
        "hop": 32,
        "loss_windows": [128, 32],
        "level_horizon_seconds": 0.05,
    },
    "model": {
        "latent": 8,
        "speech_encoder": {"widths": [16, 12]},
        "mixture_encoder": {"width": 4, "blocks": 1},
        "speech_decoder": {"widths": [12]},
        "mixture_decoder": {"widths": [12]},
        "noise_code": 3,
        "mask_pretask": True,
        "mask": {"width": 4, "blocks": 1},
    },
}


def speech(seconds=1.0, start_seconds=2.0, kind="noisy"):
    """Return real speech at 16 kHz, clean or noisy."""
    samples, rate = sf.read(
        EXAMPLES / "pairs" / kind / "fileid_0007.flac",
        start=round(start_seconds * RATE),
        frames=round(seconds * RATE),
        dtype="float32",
    )
    assert rate == RATE
    return samples


def changed(content, change):
    """Return a nested mapping with some of its values changed."""
    merged = dict(content)
    for key, value in change.items():
        deeper = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = changed(merged[key], value) if deeper else value
    return merged


def small_settings(**change):
    """Return the settings of a system of the structure of `default`, but a thousandth of its size."""
    content = load_settings(find_settings("default")).model_dump(mode="json")
    return parse_settings(changed(changed(content, SMALL), change), "tests")


# Each choice of the structure both ways, in as few graphs as that takes.
SMALL_SYSTEMS = {
    "small": small_settings,
    "unequal windows": lambda: small_settings(
        frontend={"window": 96, "synthesis_window": 40, "hop": 20},
        model={"phase_features": "compressed", "room_choice": False},
    ),
}


def build(settings, seed=0):
    """Return a system with random values, ready to be used."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return JointAutoencoder(settings.frontend, settings.model).eval()


@contextlib.contextmanager
def traced_once(folder):
    """Take graphs from a folder, and trace only those that are not there: for all processes and phases of the tests.

    Tracing takes most of an export, twenty seconds. It depends on the settings, the code and the versions of the
    exporter: the name of a graph is their hash. Weights and metadata are always the test's own.
    """
    code = hashlib.sha256()
    for path in (*sorted((PACKAGE / "models").rglob("*.py")), PACKAGE / "signal" / "stft.py", PACKAGE / "config.py"):
        code.update(path.read_bytes())
    for package in ("torch", "onnx", "onnxscript"):
        code.update(version(package).encode())
    trace = export._trace

    def kept(*settings):
        name = code.copy()
        name.update("".join(part.model_dump_json() for part in settings).encode())
        path = folder / f"{name.hexdigest()}.onnx"
        with FileLock(f"{path}.lock"):  # the other process waits: tracing twice would take as long, and both cores
            if not path.exists():
                with replacing(path) as temporary:
                    onnx.save(trace(*settings), temporary)
        return onnx.load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_trace", kept)
        patch.setattr(torch.onnx, "export", functools.partial(unmeasured, torch.onnx.export))
        yield


def without_warm_up(enhancer, waveform, rate=16000, **options):
    """What a stream gives that does not know the beginning before; `(samples,)` or `(channels, samples)`."""
    signal = np.atleast_2d(waveform)
    stream = enhancer.stream(rate, len(signal), **options)
    return np.concatenate([stream.push(signal), stream.flush()], axis=1).reshape(waveform.shape)
