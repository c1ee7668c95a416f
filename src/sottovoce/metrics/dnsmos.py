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
from sottovoce.signal.resampling import Resampler

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
    meter = DnsmosMeter(SAMPLE_RATE)
    meter.push(waveform[None])
    return meter.result()


class DnsmosMeter:
    """Rates a recording that comes in blocks, as `dnsmos` rates a whole one; memory is constant.

    Args:
        sample_rate: Rate in Hz.

    Raises:
        MissingExtraError: The package speechmos, which brings the weights, is not installed.
    """

    def __init__(self, sample_rate: int) -> None:
        self._session = _session()
        self._resampler = Resampler(sample_rate, SAMPLE_RATE, 1)
        # What has come from second `start` on.
        self._waiting = np.zeros(0, np.float32)
        self._start = 0
        self._ratings = np.zeros(len(_CALIBRATION))
        self._count = 0
        self._energy = 0.0
        self._samples = 0

    def push(self, block: FloatArray) -> None:
        """Take some samples.

        Args:
            block: Samples `(channels, n)`, full scale ±1; channels are averaged.
        """
        self._take(self._resampler.push(block.mean(axis=0, keepdims=True))[0])

    def result(self) -> Dnsmos:
        """Rate what has come; nothing comes afterwards.

        Returns:
            As of `dnsmos`.
        """
        self._take(self._resampler.push(np.zeros((1, 0), np.float32), last=True)[0])
        if is_silent(np.sqrt([self._energy / max(1, self._samples)])):
            return Dnsmos(math.nan, math.nan, math.nan)
        if self._count == 0:
            while len(self._waiting) < _SEGMENT_SECONDS * SAMPLE_RATE:
                self._waiting = np.concatenate([self._waiting, self._waiting])
            self._rate_waiting()
        if self._count == 0:
            self._rate_next()
        return Dnsmos(*(float(rating) for rating in self._ratings / self._count))

    def _take(self, samples: FloatArray) -> None:
        self._energy += float(np.square(samples, dtype=np.float64).sum())
        self._samples += len(samples)
        self._waiting = np.concatenate([self._waiting, np.clip(samples, -1.0, 1.0).astype(np.float32)])
        self._rate_waiting()

    def _rate_waiting(self) -> None:
        # A segment counts when the second in which it ends has passed.
        while len(self._waiting) >= math.ceil(_SEGMENT_SECONDS) * SAMPLE_RATE:
            self._rate_next()
            self._waiting = self._waiting[SAMPLE_RATE:]
            self._start += 1

    def _rate_next(self) -> None:
        length = int((self._start + _SEGMENT_SECONDS) * SAMPLE_RATE) - self._start * SAMPLE_RATE
        # In the authors' script the rounding of a segment's end drops some: their numbers are the published ones.
        if length == int(_SEGMENT_SECONDS * SAMPLE_RATE):
            self._ratings += _rate(self._session, self._waiting[:length])
            self._count += 1


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
