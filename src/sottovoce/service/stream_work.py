"""What a process of live streams does; it knows nothing of HTTP."""

import gc
import os
import pickle
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from sottovoce.engine.enhancer import Enhancer, Stream
from sottovoce.engine.options import EnhanceOptions
from sottovoce.engine.workers import heed_signals
from sottovoce.signal.pcm import PcmFormat, PcmName

_LENGTH = struct.Struct("<I")
READ_BYTES = 2**18


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
    received = bytearray()
    while chunk := os.read(0, READ_BYTES):
        received += chunk
        for number, kind, content in unpacked(received):
            if kind == "load":
                streams.load(*content)
            elif kind == "unload":
                streams.unload(content)
            elif kind == "end":
                streams.end(number)
            else:
                try:
                    answer = streams.answer(number, kind, content)
                except Exception as error:
                    answer = error
                answers.write(packed((number, answer)))
                answers.flush()


class _LocalStreams:
    """The streams of this process."""

    def __init__(self) -> None:
        self._enhancers: dict[str, Enhancer] = {}
        self._streams: dict[int, tuple[Stream, PcmFormat]] = {}

    def load(self, name: str, enhancer: Enhancer) -> None:
        self._enhancers[name] = enhancer
        # What stays needs not be looked at whenever garbage is collected.
        gc.collect()
        gc.freeze()

    def unload(self, name: str) -> None:
        del self._enhancers[name]

    def answer(self, number: int, kind: str, content: Any) -> object:
        if kind == "begin":
            order: StreamOrder = content
            stream = Stream(self._enhancers[order.model], order.rate, order.channels, order.options, live=True)
            self._streams[number] = stream, PcmFormat(order.format, order.channels)
            return stream.latency_seconds
        stream, pcm = self._streams[number]
        if kind == "push":
            return pcm.encode(stream.push(pcm.decode(content)))
        enhanced = stream.flush()
        stream.reset()
        return pcm.encode(enhanced)

    def end(self, number: int) -> None:
        self._streams.pop(number, None)
