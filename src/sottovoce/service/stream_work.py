"""What a process of live streams does; it knows nothing of HTTP."""

import contextlib
import gc
import os
import pickle
import select
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from sottovoce.engine.enhancer import Enhancer, Stream, advance
from sottovoce.engine.options import EnhanceOptions
from sottovoce.engine.workers import heed_signals
from sottovoce.signal.pcm import PcmFormat, PcmName

_LENGTH = struct.Struct("<I")
READ_BYTES = 2**18
# From the beginning of a turn to that of the next one: a share of a block's length, and so much at most. The more
# streams go through the network at once, the less each of them costs. A turn begins earlier when all streams have
# sound, such as one that is alone, or when one has sound left.
_GATHERING_SHARE, _MAX_GATHERING_SECONDS = 0.4, 0.008
# Frames of all channels in a turn, so that a long block makes no other stream wait for more than some milliseconds.
_FRAMES_AT_ONCE = 32
# What a stream takes of a core is measured on so many at once, before the first of a model begins: some 30 ms.
_MEASURED_STREAMS, _MEASURED_HOPS = 16, 4


class StreamOrder(NamedTuple):
    """What a stream is to do: model, rate in Hz, format of its samples, options."""

    model: str
    rate: int
    channels: int
    format: PcmName
    options: EnhanceOptions


def packed(message: object) -> bytes:
    """Write a message to, or from, a process of live streams."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


def unpacked(received: bytearray) -> Iterator[Any]:
    """Take the whole messages from what was received, which keeps the rest."""
    while len(received) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(received)[0]
        if len(received) < end:
            return
        message = pickle.loads(received[_LENGTH.size : end])
        del received[:end]
        yield message


def serve() -> None:
    """Be a process for live streams until the one that it works for closes standard input, or ends."""
    heed_signals()
    # Compiled code that prints something would print it between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    streams = _LocalStreams()
    begun = 0.0
    while True:
        # If nobody has sound left, the turn waits for some; then once, asleep, for that of others.
        if not streams.is_working:
            if not streams.receive():
                return
            if not streams.are_all_at_work:
                time.sleep(max(0.0, begun + streams.patience_seconds - time.monotonic()))
            begun = time.monotonic()
        while not streams.are_all_at_work and _is_readable():
            if not streams.receive():
                return
        if answered := streams.work():
            answers.write(packed(answered))
            answers.flush()


def _is_readable() -> bool:
    """Whether something is on standard input; Windows cannot say whether there is something, so there is not."""
    return os.name == "posix" and bool(select.select([0], [], [], 0.0)[0])


def measured_load(enhancer: Enhancer) -> float:
    """Measure what a live stream takes of a core, with others in the same calls of the network.

    Args:
        enhancer: The engine; the rate of the stream is that of its model.

    Returns:
        Processor time per second of one channel.
    """
    metadata = enhancer.model.metadata
    streams = [Stream(enhancer, metadata.sample_rate, live=True) for _ in range(_MEASURED_STREAMS)]
    hop = np.zeros((1, metadata.hop), np.float32)
    seconds = []
    for _ in range(_MEASURED_HOPS):
        begun = time.process_time()
        for stream in streams:
            stream.append(hop)
        advance(streams)
        for stream in streams:
            stream.take()
        seconds.append(time.process_time() - begun)
    # What else the processor does takes time at times, and never gives any.
    return min(seconds) / len(streams) * metadata.sample_rate / metadata.hop


class _LocalStreams:
    """The streams of this process, which take turns: in each, one call of a network has some frames of all of them."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._enhancers: dict[str, Enhancer] = {}
        self._streams: dict[int, tuple[Stream, PcmFormat]] = {}
        # What is wanted of streams and for how long it may wait, and answers that are not given yet.
        self._wanted: dict[int, tuple[str, float]] = {}
        self._answers: list[tuple[int, object]] = []

    @property
    def is_working(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._wanted or self._answers)

    @property
    def are_all_at_work(self) -> bool:
        """Whether all streams have sound, so that there is nobody to wait for."""
        return len(self._wanted) == len(self._streams)

    @property
    def patience_seconds(self) -> float:
        """How long those that have sound may wait for others."""
        return min((seconds for _, seconds in self._wanted.values()), default=0.0)

    def receive(self) -> bool:
        """Take the messages that are on standard input, or the next one; whether there will be more."""
        chunk = os.read(0, READ_BYTES)
        self._received += chunk
        for message in unpacked(self._received):
            self.take(*message)
        return bool(chunk)

    def take(self, number: int, kind: str, content: Any) -> None:
        """Take a message."""
        if kind == "unload":
            del self._enhancers[content]
        elif kind == "end":
            self._streams.pop(number, None)
            self._wanted.pop(number, None)
        else:
            with self._failing(number):
                self._begin(number, kind, content)

    def work(self) -> list[tuple[int, object]]:
        """Do the next turn; gives the answers to those whose sound is through, with the numbers of their streams."""
        at_work = [self._streams[number][0] for number in self._wanted]
        if waiting := [stream for stream in at_work if stream.waiting_frames]:
            advance(waiting, _FRAMES_AT_ONCE)
        for number, (kind, _) in list(self._wanted.items()):
            stream, pcm = self._streams[number]
            if not stream.waiting_frames:
                del self._wanted[number]
                with self._failing(number):
                    self._answers.append((number, pcm.encode(stream.take())))
                    if kind == "flush":
                        stream.reset()
        answers, self._answers = self._answers, []
        return answers

    def _load(self, name: str, enhancer: Enhancer) -> float:
        self._enhancers[name] = enhancer
        # What stays needs not be looked at whenever garbage is collected.
        gc.collect()
        gc.freeze()
        return measured_load(enhancer)

    def _begin(self, number: int, kind: str, content: Any) -> None:
        """Begin what is wanted."""
        if kind == "load":
            self._answers.append((number, self._load(*content)))
            return
        if kind == "begin":
            order: StreamOrder = content
            begun = Stream(self._enhancers[order.model], order.rate, order.channels, order.options, live=True)
            self._streams[number] = begun, PcmFormat(order.format, order.channels)
            self._answers.append((number, begun.latency_seconds))
            return
        stream, pcm = self._streams[number]
        patience_seconds = 0.0
        if kind == "push":
            block = pcm.decode(content)
            stream.append(block)
            patience_seconds = min(_GATHERING_SHARE * block.shape[1] / stream.sample_rate, _MAX_GATHERING_SECONDS)
        else:
            stream.end()
        self._wanted[number] = kind, patience_seconds

    @contextlib.contextmanager
    def _failing(self, number: int) -> Iterator[None]:
        """What fails for one stream is an answer to it."""
        try:
            yield
        except Exception as error:
            self._answers.append((number, error))
