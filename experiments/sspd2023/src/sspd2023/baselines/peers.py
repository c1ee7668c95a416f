"""Noise suppressors of other projects, each called as its documentation shows and aligned with its input."""

import ctypes
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.extras import require
from sottovoce.signal.resampling import resample
from sspd2023.baselines.system import require_sample_rate

_FULL_SCALE = 32768.0

# Delays in samples at the peer's own rate, found by cross-correlation of clean speech with what comes out.
_RNNOISE_DELAY = 960  # pyrnnoise 0.4.5
_WEBRTC_DELAY = 96  # webrtc-noise-gain 1.3.0
_WEBRTC_BLOCK = 160  # 10 ms
_WEBRTC_NO_AUTO_GAIN = 0
_WEBRTC_LEVEL = 2


class NoiseReduce:
    """noisereduce as by default: spectral gating with a threshold that follows the noise (non-stationary).

    Raises:
        MissingExtraError: The package noisereduce is not installed.
    """

    def __init__(self) -> None:
        self._noisereduce = _peer("noisereduce")

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Enhance a whole signal.

        Args:
            waveform: Samples `(samples,)`, full scale ±1.
            sample_rate: 16000 Hz.

        Returns:
            Samples `(samples,)`, aligned.

        Raises:
            ConfigError: Another rate.
        """
        require_sample_rate(sample_rate)
        if not waveform.size:
            return waveform
        # It divides a silent stretch by its own level, and what comes out is not a number.
        with np.errstate(invalid="ignore"):
            cleaned = self._noisereduce.reduce_noise(y=waveform, sr=sample_rate)
        return np.asarray(np.nan_to_num(cleaned), np.float32)


class Rnnoise:
    """RNNoise, a recurrent network with pitch filters, at its own rate of 48 kHz.

    Raises:
        MissingExtraError: The package pyrnnoise is not installed.
    """

    def __init__(self) -> None:
        self._rnnoise = _peer("pyrnnoise.rnnoise")

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Enhance a whole signal.

        Args:
            waveform: Samples `(samples,)`, full scale ±1.
            sample_rate: 16000 Hz.

        Returns:
            Samples `(samples,)`, aligned.

        Raises:
            ConfigError: Another rate.
        """
        require_sample_rate(sample_rate)
        rate, frame = self._rnnoise.SAMPLE_RATE, self._rnnoise.FRAME_SIZE
        samples = _FULL_SCALE * resample(waveform, sample_rate, rate)
        frames = _blocks(samples, _RNNOISE_DELAY, frame)
        # The package's own loop casts to 16 bits, without a limit; the library takes floats.
        state = self._rnnoise.create()
        try:
            for block in frames:
                pointer = block.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
                self._rnnoise.lib.rnnoise_process_frame(state, pointer, pointer)
        finally:
            self._rnnoise.destroy(state)
        cleaned = frames.reshape(-1)[_RNNOISE_DELAY:][: len(samples)] / _FULL_SCALE
        return resample(cleaned, rate, sample_rate)[: len(waveform)]


class WebRtc:
    """The noise suppressor of WebRTC at level 2 of 4, without automatic gain.

    Raises:
        MissingExtraError: The package webrtc-noise-gain is not installed.
    """

    def __init__(self) -> None:
        self._webrtc = _peer("webrtc_noise_gain")

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Enhance a whole signal.

        Args:
            waveform: Samples `(samples,)`, full scale ±1; it is rounded to 16 bits.
            sample_rate: 16000 Hz.

        Returns:
            Samples `(samples,)`, aligned.

        Raises:
            ConfigError: Another rate.
        """
        require_sample_rate(sample_rate)
        processor = self._webrtc.AudioProcessor(_WEBRTC_NO_AUTO_GAIN, _WEBRTC_LEVEL)
        integers = np.clip(np.rint(_FULL_SCALE * waveform), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
        blocks = _blocks(integers, _WEBRTC_DELAY, _WEBRTC_BLOCK)
        cleaned = b"".join(processor.Process10ms(block.tobytes()).audio for block in blocks)
        aligned = np.frombuffer(cleaned, np.int16)[_WEBRTC_DELAY:][: len(waveform)]
        return (aligned / _FULL_SCALE).astype(np.float32)


def _peer(module: str) -> Any:
    require("peers", "This comparison", module.partition(".")[0])
    return importlib.import_module(module)


def _blocks(samples: NDArray[Any], delay: int, block: int) -> NDArray[Any]:
    """Whole blocks `(n, block)`, zeros behind the signal, so that even its last sample comes out of the delay."""
    return np.pad(samples, (0, delay + -(len(samples) + delay) % block)).reshape(-1, block)
