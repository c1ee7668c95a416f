"""A microphone through an enhancer to a loudspeaker, or to a virtual device that other programs listen to."""

import atexit
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.enhancer import Enhancer, Stream
from sottovoce.engine.model import Model
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import AudioError, ConfigError
from sottovoce.extras import require
from sottovoce.signal.audio import Float32Array
from sottovoce.signal.levels import SILENCE_DB, rms, to_db
from sottovoce.signal.limits import implausible
from sottovoce.signal.queue import SampleQueue

# Blocks that wait for the output at the start: one that is played, and one for what the worker may be late.
_CUSHION_BLOCKS = 2
# What may wait beyond that, on either side, before sound is dropped at once.
_MAX_SURPLUS_SECONDS = 0.25
# Where the output has run dry and more than this waits for the model, the model stood still, and all but the newest is
# too late. Less may be what a device gives at once, and is needed until that device gives again.
_MAX_BACKLOG_SECONDS = 0.1
# A surplus that was not needed for so long is dropped: delay must not stay longer after a gap, nor grow because the
# input's clock is faster. Some devices ask for several blocks at once every now and then, and would run dry each time
# if it were dropped earlier.
_NEEDLESS_SECONDS = 5.0
# A device that asks for nothing during this time is gone, even where the system says nothing.
_SILENT_DEVICE_SECONDS = 2.0
_CLOSING_SECONDS = 2.0


class Relay:
    """Carries sound from one device to another through a stream; neither device ever waits.

    The devices' threads only put a block down (`take`) and pick one up (`give`); the model runs in a thread of its own.
    A device asks every few milliseconds and drops sound when its answer is late. Usually a block takes the model a
    tenth of that, but now and then Python collects garbage or the system is busy, and a resampler gives blocks of other
    lengths than it takes, so a few blocks have to wait between the two anyway.

    Args:
        stream: An enhancer's stream.
        block_frames: Samples per block of the devices.
        stream_frames: Maximum number of samples that the stream buffers when it has taken a block.

    Attributes:
        bypass: Let the recording through as it is, with the same delay; may be set at any time.
        listener: Called in the model's thread with every block `(channels, n)` that came, after it was enhanced; may be
            set before the start.
        overruns: Times at which sound from the input was lost: the model was late, or the output too slow, or more had
            gathered than is needed.
        underruns: Times at which the output got silence because nothing was ready.
        before_db: Level of the last block that came, in dBFS.
        after_db: Level of the last block that was made, in dBFS.
        error: What ended the model's thread, if anything did.
    """

    def __init__(self, stream: Stream, block_frames: int, stream_frames: int) -> None:
        self.bypass = False
        self.listener: Callable[[Float32Array], None] | None = None
        self.overruns = 0
        self.underruns = 0
        self.before_db = self.after_db = SILENCE_DB
        self.error: Exception | None = None
        self._stream = stream
        # Of what the stream buffers and what is ready, together: their sum is the delay. Either alone goes up and
        # down with every hop of the model.
        self._cushion = stream_frames + _CUSHION_BLOCKS * block_frames
        self._max_surplus = round(_MAX_SURPLUS_SECONDS * stream.sample_rate)
        max_blocks = max(2, (self._cushion + self._max_surplus) // block_frames)
        max_backlog = round(_MAX_BACKLOG_SECONDS * stream.sample_rate)
        self._max_backlog_blocks = max(_CUSHION_BLOCKS, max_backlog // block_frames)
        self._taken: queue.Queue[Float32Array | None] = queue.Queue(max_blocks)
        self._buffered = 0
        self._ready = SampleQueue(stream.channels)
        self._lock = threading.Lock()  # of both; held for as long as it takes to copy a block
        self._is_playing = False
        self._min_surplus = self._watched_frames = 0
        self._dry = np.zeros((stream.channels, 0), np.float32)
        self._dry_share = 0.0
        self._thread = threading.Thread(target=self._work, name="enhance", daemon=True)

    def start(self) -> None:
        """Begin to enhance what is taken."""
        self._thread.start()

    def stop(self) -> None:
        """End; what has not been given by then is lost."""
        while True:
            try:
                self._taken.put_nowait(None)
                break
            except queue.Full:
                with contextlib.suppress(queue.Empty):  # the model's thread was faster
                    self._taken.get_nowait()
        self._thread.join()

    def exchange(self, model: Model) -> None:
        """Go on with another model from the next frame on, from any thread: see `Stream.exchange`.

        Args:
            model: A model with the same frames and states, which has run before: the first run takes longer.

        Raises:
            ModelError: It has others.
        """
        self._stream.exchange(model)

    def take(self, block: NDArray[np.floating]) -> None:
        """Put a block down.

        Args:
            block: Samples `(channels, n)`, which are copied.
        """
        try:
            self._taken.put_nowait(np.array(block, np.float32))
        except queue.Full:
            self.overruns += 1

    def give(self, frames: int) -> Float32Array:
        """Pick a block up.

        Args:
            frames: Wanted samples.

        Returns:
            Samples `(channels, frames)`: enhanced ones, or silence where there are none yet.
        """
        with self._lock:
            if self._is_playing:
                self._watch_surplus(frames)
            # After a gap the cushion is filled again: one longer gap is better than a row of short ones.
            elif self._surplus >= 0:
                if not self.underruns:  # nothing has been played yet, so nothing is lost
                    self._drop_surplus(self._surplus)
                self._watched_frames = 0
                self._is_playing = True
            if self._is_playing and len(self._ready) < frames:
                self.underruns += 1
                self._is_playing = False
            if not self._is_playing:
                return np.zeros((self._stream.channels, frames), np.float32)
            return self._ready.take(frames).copy()

    @property
    def _surplus(self) -> int:
        """Samples that wait beyond the cushion."""
        return self._buffered + len(self._ready) - self._cushion

    def _watch_surplus(self, frames: int) -> None:
        self._min_surplus = min(self._min_surplus, self._surplus) if self._watched_frames else self._surplus
        self._watched_frames += frames
        if self._watched_frames >= _NEEDLESS_SECONDS * self._stream.sample_rate:
            self._watched_frames = 0
            if self._min_surplus > 0:
                self.overruns += 1
                self._drop_surplus(self._min_surplus)

    def _drop_surplus(self, frames: int) -> None:
        self._ready.take(min(frames, len(self._ready)))

    def _work(self) -> None:
        try:
            self._enhance()
        except Exception as error:  # whatever it is, the thread that watches has to know
            self.error = error

    def _enhance(self) -> None:
        while (block := self._next_block()) is not None:
            self.before_db = float(to_db(rms(block)))
            made = self._mixed(block)
            if made.shape[1]:
                self.after_db = float(to_db(rms(made)))
            with self._lock:
                self._buffered += block.shape[1] - made.shape[1]
                self._ready.append(made)
                if self._surplus > self._max_surplus:
                    self.overruns += 1
                    self._drop_surplus(self._surplus)
            if self.listener is not None:
                self.listener(block)

    def _next_block(self) -> Float32Array | None:
        is_dry = self.underruns > 0 and not self._is_playing
        if is_dry and self._taken.qsize() > self._max_backlog_blocks:
            self.overruns += 1
            while self._taken.qsize() > 1:
                self._taken.get()
        return self._taken.get()

    def _mixed(self, block: Float32Array) -> Float32Array:
        """Enhance; with `bypass` give back the same samples as they came, and fade between the two."""
        enhanced = self._stream.push(block)
        count = enhanced.shape[1]
        waiting = np.concatenate([self._dry, block], axis=1)
        dry, self._dry = waiting[:, :count], waiting[:, count:]
        if not count:
            return enhanced
        share, self._dry_share = self._dry_share, float(self.bypass)
        fade = np.linspace(share, self._dry_share, count, dtype=np.float32)
        return (enhanced + fade * (dry - enhanced)).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Latency:
    """Maximum latency of the output, in seconds; the parts add up.

    Attributes:
        model_seconds: Window, network, and resampling where the devices have another rate.
        blocks_seconds: Blocks that are collected, and that wait for the output.
        input_seconds: The input device's own, as it reports it.
        output_seconds: The output device's own, as it reports it.
    """

    model_seconds: float
    blocks_seconds: float
    input_seconds: float
    output_seconds: float

    @property
    def total_seconds(self) -> float:
        """All of it."""
        return self.model_seconds + self.blocks_seconds + self.input_seconds + self.output_seconds


@dataclass(frozen=True)
class Device:
    """A sound device.

    Attributes:
        number: Its number.
        name: Its name.
        system: The sound system through which it is reached, such as ALSA.
        inputs: Number of channels that can be recorded; 0 if none.
        outputs: Number of channels that can be played; 0 if none.
        sample_rate: Its usual rate in Hz.
        is_default_input: It is recorded from unless another is named.
        is_default_output: It is played to unless another is named.
    """

    number: int
    name: str
    system: str
    inputs: int
    outputs: int
    sample_rate: int
    is_default_input: bool
    is_default_output: bool


def devices() -> list[Device]:
    """List the sound devices.

    Returns:
        All devices that PortAudio knows; perhaps none.

    Raises:
        MissingExtraError: The package sounddevice is not installed.
        AudioError: PortAudio is not installed, or does not work.
    """
    sounddevice = _sounddevice()
    default_input, default_output = sounddevice.default.device
    return [
        Device(
            number,
            device["name"],
            sounddevice.query_hostapis(device["hostapi"])["name"],
            device["max_input_channels"],
            device["max_output_channels"],
            round(device["default_samplerate"]),
            number == default_input,
            number == default_output,
        )
        for number, device in enumerate(sounddevice.query_devices())
    ]


class Live:
    """Sound from one device to another, enhanced on its way, as a context manager.

    Args:
        enhancer: The engine.
        options: How to enhance.
        input_device: Name, part of the name, or number of the device to record from; None for the usual one.
        output_device: The same of the device to play to.
        sample_rate: Rate of both devices in Hz; None for the model's where the devices take it, and otherwise for the
            usual one of the input.
        channels: Number of channels, each enhanced on its own; one is played on both of a stereo device.
        block_seconds: Length of a block: shorter blocks have less latency, and more gaps on a busy machine.

    Raises:
        MissingExtraError: The package sounddevice is not installed.
        AudioError: PortAudio is not installed, there is no such device, or it does not take the rate or the channels.
        ConfigError: A number is out of its range.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        options: EnhanceOptions | None = None,
        *,
        input_device: str | int | None = None,
        output_device: str | int | None = None,
        sample_rate: int | None = None,
        channels: int = 1,
        block_seconds: float = 0.01,
    ) -> None:
        if not 0.001 <= block_seconds <= 0.5:
            raise ConfigError(f"found blocks of {1000 * block_seconds:g} ms, expected 1 to 500 ms")
        model_rate = enhancer.model.metadata.sample_rate
        wrong = implausible(model_rate if sample_rate is None else sample_rate, channels)
        if wrong is not None:
            raise ConfigError(f"found {wrong}")
        self._sounddevice = _sounddevice()
        self._channels = channels
        self._input = self._find(input_device, "input")
        self._output = self._find(output_device, "output")
        self._played = max(channels, min(2, self._output["max_output_channels"]))
        self.sample_rate = self._choose_rate(sample_rate, model_rate)
        self._block_frames = max(1, round(block_seconds * self.sample_rate))
        stream = Stream(enhancer, self.sample_rate, channels, options, live=True)
        stream_frames = self._rehearse(stream)
        stream.reset()
        self._model_seconds = stream_frames / self.sample_rate
        self.relay = Relay(stream, self._block_frames, stream_frames)
        self._overflows = self._underflows = 0
        self._received_at = self._asked = time.monotonic()
        self._streams: list[Any] = []

    @property
    def input_name(self) -> str:
        """Name of the device that is recorded from."""
        return str(self._input["name"])

    @property
    def output_name(self) -> str:
        """Name of the device that is played to."""
        return str(self._output["name"])

    @property
    def overruns(self) -> int:
        """Times at which sound of the input was lost, in the device or because the model was late."""
        return self._overflows + self.relay.overruns

    @property
    def underruns(self) -> int:
        """Times at which the output had nothing to play, in the device or because the model was late."""
        return self._underflows + self.relay.underruns

    @property
    def latency(self) -> Latency:
        """How late the output is at most, unless the devices ask unevenly; known when they are open."""
        blocks_seconds = (1 + _CUSHION_BLOCKS) * self._block_frames / self.sample_rate
        return Latency(self._model_seconds, blocks_seconds, self._source.latency, self._sink.latency)

    def __enter__(self) -> Self:
        options = {
            "samplerate": self.sample_rate,
            "blocksize": self._block_frames,
            "dtype": "float32",
            "latency": "low",
        }
        try:
            self._source = self._sounddevice.InputStream(
                device=self._input["index"], channels=self._channels, callback=self._on_input, **options
            )
            self._streams.append(self._source)
            self._sink = self._sounddevice.OutputStream(
                device=self._output["index"], channels=self._played, callback=self._on_output, **options
            )
            self._streams.append(self._sink)
            self._sink.start()
            self._source.start()
        except self._sounddevice.PortAudioError as error:
            self._close()
            raise AudioError(
                f"cannot open the devices {self.input_name!r} and {self.output_name!r} at {self.sample_rate} Hz "
                f"({_reason(error)}): see whether another program holds them, or try another --rate"
            ) from error
        self._received_at = self._asked = time.monotonic()
        self.relay.start()
        return self

    def check(self) -> None:
        """Find out whether both devices are still there; to be called now and then.

        Raises:
            AudioError: One of them is gone.
        """
        if self.relay.error is not None:
            raise self.relay.error
        now = time.monotonic()
        for kind, name, stream, last in (
            ("input", self.input_name, self._source, self._received_at),
            ("output", self.output_name, self._sink, self._asked),
        ):
            if not stream.active or now - last > _SILENT_DEVICE_SECONDS:
                raise AudioError(
                    f"the {kind} device {name!r} is gone or stopped: plug it in again, or see whether its sound server "
                    "runs"
                )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(_CLOSING_SECONDS)
        if closing.is_alive():
            # PortAudio waits for a device that does not answer, and would again, perhaps for ever, when the process
            # ends: what is registered last is called first, and ends it at once.
            atexit.register(os._exit, 1)
        self.relay.stop()

    def _close(self) -> None:
        for stream in self._streams:
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)

    def _on_input(self, samples: Float32Array, _frames: int, _time: Any, status: Any) -> None:
        self._overflows += bool(status.input_overflow)
        self._received_at = time.monotonic()
        self.relay.take(samples.T)

    def _on_output(self, samples: Float32Array, frames: int, _time: Any, status: Any) -> None:
        self._underflows += bool(status.output_underflow)
        self._asked = time.monotonic()
        samples[:] = self.relay.give(frames).T  # one channel fills both of a stereo device

    def _find(self, device: str | int | None, kind: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._sounddevice.query_devices(device, kind)
        # sounddevice raises a ValueError where a name fits no device or several.
        except (ValueError, self._sounddevice.PortAudioError) as error:
            found_instead = f"no usual {kind} device" if device is None else f"none or several for {device!r}"
            raise AudioError(
                f"found {found_instead}, expected one {kind} device: `sottovoce live --list-devices` lists them"
            ) from error
        most = found[f"max_{kind}_channels"]
        if most < self._channels:
            raise AudioError(f"found {most} {kind} channel(s) of {found['name']!r}, expected {self._channels} at least")
        return found

    def _choose_rate(self, wanted: int | None, model_rate: int) -> int:
        rates = [wanted] if wanted else [model_rate, round(self._input["default_samplerate"])]
        for rate in rates:
            try:
                self._sounddevice.check_input_settings(self._input["index"], self._channels, "float32", None, rate)
                self._sounddevice.check_output_settings(self._output["index"], self._played, "float32", None, rate)
            except self._sounddevice.PortAudioError as error:
                reason = _reason(error)
            else:
                return rate
        raise AudioError(
            f"the devices {self.input_name!r} and {self.output_name!r} do not take {self._channels} channel(s) at "
            f"{' or '.join(map(str, rates))} Hz ({reason}): try another --rate or --channels"
        )

    def _rehearse(self, stream: Stream) -> int:
        """Send two seconds of silence through a stream, which also warms the model up.

        Returns the most samples that a block leaves on their way: the latency of window, network and resampling.
        """
        silence = np.zeros((self._channels, self._block_frames), np.float32)
        on_their_way = most = 0
        for _ in range(2 * self.sample_rate // self._block_frames):
            on_their_way += self._block_frames - stream.push(silence).shape[1]
            most = max(most, on_their_way)
        return most


def _sounddevice() -> Any:
    require("live", "Live sound")
    try:
        import sounddevice
    except OSError as error:
        raise AudioError(
            "found no PortAudio library, which live sound needs: install it with your system's packages "
            "(`apt install libportaudio2`, `dnf install portaudio`, `brew install portaudio`)"
        ) from error
    return sounddevice


def _reason(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)
