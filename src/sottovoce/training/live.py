"""A model learns a place from what a live session receives, in a process beside the session.

The session goes on with the old model meanwhile. Its threads only copy sound; the training has a low priority and
leaves a core free.
"""

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import replacing
from sottovoce.engine.adapters import BASE_NAME
from sottovoce.engine.model import Model
from sottovoce.engine.workers import Kill, WorkerDiedError, Workers
from sottovoce.errors import DataError, SottovoceError
from sottovoce.signal import audio
from sottovoce.signal.audio import Float32Array
from sottovoce.signal.queue import SampleQueue
from sottovoce.signal.resampling import PolyphaseResampler

ATTEMPTS_SECONDS = (180.0, 600.0)
"""Seconds of sound after which a place is learned: again after more sound where the first attempt was not better."""

_PIECE_SECONDS = 1.0
_WAIT_SECONDS = 0.2
_NICENESS = 15
_INT16_SCALE = 32767.0


class RecentSound:
    """The newest minutes of live sound, mono and at 16 bits, in bounded memory: 32 kB a second at 16 kHz.

    One thread appends; any other may read.

    Args:
        sample_rate: Rate of the blocks in Hz.
        channels: Their channels, whose mean is kept.
        kept_rate: Rate at which they are kept.
        max_seconds: Length of what is kept.

    Attributes:
        seconds: Length of all that came, whole seconds.
    """

    def __init__(self, sample_rate: int, channels: int, kept_rate: int, max_seconds: float) -> None:
        self._resampler = PolyphaseResampler(sample_rate, kept_rate, 1) if sample_rate != kept_rate else None
        self._channels = channels
        self._piece_frames = round(_PIECE_SECONDS * kept_rate)
        self._pieces: deque[NDArray[np.int16]] = deque(maxlen=round(max_seconds / _PIECE_SECONDS))
        self._next_piece = SampleQueue(1)
        self.seconds = 0.0

    def append(self, block: Float32Array) -> None:
        """Keep a block.

        Args:
            block: Samples `(channels, n)`, full scale ±1.
        """
        mono = block.mean(axis=0, keepdims=True)
        self._next_piece.append(mono if self._resampler is None else self._resampler.push(mono))
        while len(self._next_piece) >= self._piece_frames:
            piece = np.nan_to_num(self._next_piece.take(self._piece_frames)[0], nan=0.0)
            self._pieces.append(np.round(_INT16_SCALE * np.clip(piece, -1.0, 1.0)).astype(np.int16))
            self.seconds += _PIECE_SECONDS

    def samples(self) -> NDArray[np.int16]:
        """Copy what is kept.

        Returns:
            Samples `(n,)`, the oldest first.
        """
        return np.concatenate([np.zeros(0, np.int16), *self._pieces.copy()])


@dataclass(frozen=True)
class Learned:
    """What an attempt came to.

    Attributes:
        reason: Why the adapted model is taken, or not, as a sentence.
        model: The bytes of the adapted model; None where the old one is kept.
        place: The bytes of its file of the place.
        base: The bytes of the model that the place belongs to, where that is not a bundled one.
    """

    reason: str
    model: bytes | None = None
    place: bytes = b""
    base: bytes | None = None


def learn(
    _: object,
    sound: NDArray[np.int16],
    sample_rate: int,
    folder: Path,
    checkpoint: Path,
    command: str,
    *,
    advance: Callable[[object], None],
) -> Learned:
    """Adapt a model to sound, as `sottovoce adapt` does: what a process of its own does.

    Args:
        sound: Noisy sound of a place `(n,)`.
        sample_rate: Its rate in Hz.
        folder: An empty folder to work in.
        checkpoint: Training checkpoint of the model.
        command: The command line, to be kept in the model.
        advance: Not called: nobody waits.

    Returns:
        What was learned.

    Raises:
        SottovoceError: There is too little to learn from, or the checkpoint cannot be used.
    """
    if hasattr(os, "setpriority"):  # before torch starts its threads
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    recording, out = folder / "recent.wav", folder / "adapted"
    with audio.Writer(recording, sample_rate, 1) as writer:
        writer.write((sound / np.float32(_INT16_SCALE))[np.newaxis])
    import torch

    from sottovoce.training.adapt import adapt
    from sottovoce.weights import DEFAULT_SPEECH

    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    try:
        adaptation = adapt(recording, out, checkpoint=checkpoint, speech=DEFAULT_SPEECH, command=command)
    except DataError as error:
        # The file is nobody's: where it lies is of no use.
        raise DataError(str(error).replace(f" at {recording}", "")) from None
    if not adaptation.adopted:
        return Learned(adaptation.reason)
    base = out / BASE_NAME
    return Learned(
        adaptation.reason,
        adaptation.model.read_bytes(),
        adaptation.model.with_suffix(".place").read_bytes(),
        base.read_bytes() if base.exists() else None,
    )


class LiveAdaptation:
    """Learns the place of a live session in the background, as a context manager, and hands the adapted model over.

    Args:
        sample_rate: Rate of the session in Hz.
        channels: Its channels.
        model_rate: Rate of its model in Hz.
        checkpoint: Training checkpoint of that model.
        exchange: Called with the adapted model, which has run.
        say: Called with a sentence about every step.
        keep: File for the place; None to keep none.
        command: The command line, to be kept in the model.
    """

    def __init__(
        self,
        sample_rate: int,
        channels: int,
        *,
        model_rate: int,
        checkpoint: Path,
        exchange: Callable[[Model], None],
        say: Callable[[str], None],
        keep: Path | None = None,
        command: str = "",
    ) -> None:
        self._recent = RecentSound(sample_rate, channels, model_rate, ATTEMPTS_SECONDS[-1])
        self._model_rate = model_rate
        self._checkpoint = checkpoint
        self._exchange = exchange
        self._say = say
        self._keep = keep
        self._command = command
        self._workers = Workers(None, single_use=True)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="adapt", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._workers.stop()
        self._thread.join()

    def receive(self, block: Float32Array) -> None:
        """Take what the session has received, in the session's thread, which only copies it.

        Args:
            block: Samples `(channels, n)`, full scale ±1.
        """
        self._recent.append(block)

    def _run(self) -> None:
        for seconds in ATTEMPTS_SECONDS:
            while self._recent.seconds < seconds and not self._is_over.is_set():
                self._is_over.wait(_WAIT_SECONDS)
            if self._is_over.is_set():
                return
            self._say(f"Learning this place in the background, from the last {seconds / 60:g} minutes.")
            began = time.monotonic()
            try:
                learned = self._attempt()
                if self._is_over.is_set():
                    return
                if learned.model is not None:
                    self._hand_over(learned.model)
                    minutes = (time.monotonic() - began) / 60
                    self._say(f"Adapted to this place after {minutes:.0f} minutes: {learned.reason}.")
                    self._keep_place(learned)
                    return
                self._say(f"Kept the old model: {learned.reason}.")
            except (SottovoceError, WorkerDiedError, OSError) as error:
                if not self._is_over.is_set():
                    self._say(f"Kept the model as it is: {error}.")

    def _attempt(self) -> Learned:
        with tempfile.TemporaryDirectory(prefix="sottovoce-") as folder:
            return self._workers.call(
                learn,
                self._recent.samples(),
                self._model_rate,
                Path(folder),
                self._checkpoint,
                self._command,
                advance=lambda _: None,
                on_start=self._begin,
            )

    def _begin(self, kill: Kill) -> None:
        # The session may have ended just before, and nothing else would end what begins now.
        if self._is_over.is_set():
            kill()

    def _hand_over(self, content: bytes) -> None:
        model = Model(content, "the adapted model")
        bins = sum(window // 2 + 1 for window in model.metadata.windows)
        model.run(np.zeros((1, 2, bins, 1), np.float32), model.initial_past(1))
        self._exchange(model)

    def _keep_place(self, learned: Learned) -> None:
        if self._keep is None:
            return
        for path, content in ((self._keep.with_name(BASE_NAME), learned.base), (self._keep, learned.place)):
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as temporary:
                    temporary.write_bytes(content)
        self._say(f"Wrote {self._keep}.")
