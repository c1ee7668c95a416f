"""DNSMOS P.835: ratings that a network predicts from the processed signal alone, without a reference."""

import functools
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sottovoce.extras import require
from sottovoce.metrics.intrusive import SAMPLE_RATE, FloatArray, is_silent
from sottovoce.runtime import load_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

_SEGMENT_SECONDS = 9.01
# From the network's outputs to opinion scores, highest power first.
_CALIBRATION = {
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
}


class Dnsmos(NamedTuple):
    """Predicted mean opinion scores, about 1 to 5."""

    ovrl: float
    """Overall quality."""
    sig: float
    """Distortion of the speech itself."""
    bak: float
    """Intrusiveness of the background."""


def dnsmos(waveform: FloatArray) -> Dnsmos:
    """Predict ITU-T P.835 ratings of a recording: the mean over segments of 9.01 s, one every second.

    Args:
        waveform: Speech `(samples,)` at 16 kHz, full scale ±1; clipped beyond. A signal shorter than a segment is
            repeated, as the authors do.

    Returns:
        Overall, signal and background rating; all NaN for a silent signal.

    Raises:
        MissingExtraError: The package speechmos, which brings the weights, is not installed.

    Source:
        Reddy et al., DNSMOS P.835, ICASSP 2022; segments and calibration as in `speechmos.dnsmos.run`.
    """
    session = _session()
    if is_silent(waveform):
        return Dnsmos(math.nan, math.nan, math.nan)
    signal = np.clip(waveform, -1.0, 1.0).astype(np.float32)
    while len(signal) < _SEGMENT_SECONDS * SAMPLE_RATE:
        signal = np.concatenate([signal, signal])
    starts = range(int(len(signal) // SAMPLE_RATE - _SEGMENT_SECONDS) + 1)
    segments = [signal[start * SAMPLE_RATE : int((start + _SEGMENT_SECONDS) * SAMPLE_RATE)] for start in starts]
    # In the authors' script the rounding of a segment's end drops some: their numbers are the published ones.
    complete = [segment for segment in segments if len(segment) == len(segments[0])]
    outputs = np.mean([_rate(session, segment) for segment in complete], axis=0)
    return Dnsmos(*(float(rating) for rating in outputs))


def _rate(session: "onnxruntime.InferenceSession", segment: FloatArray) -> list[float]:
    """Ratings of one segment, in the order of `Dnsmos`."""
    sig, bak, ovrl = session.run(None, {"input_1": segment[None]})[0][0]
    return [float(np.polyval(_CALIBRATION[name], raw)) for name, raw in (("ovrl", ovrl), ("sig", sig), ("bak", bak))]


@functools.cache
def _session() -> "onnxruntime.InferenceSession":
    # Only the weights are taken: importing speechmos.dnsmos would bring librosa, pandas and a second network.
    require("metrics", "DNSMOS", "speechmos")
    package = importlib.util.find_spec("speechmos")
    assert package is not None
    assert package.submodule_search_locations
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    # Files are scored in parallel, one process each.
    options.intra_op_num_threads = 1
    weights = Path(package.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
