"""A bundled recording as 16-bit samples, what an enhancer's stream gives for it, and the examples of the page."""

import math
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "examples" / "real" / "2609-156975-0004.flac"
PAGE = ROOT / "docs" / "voice_agents.md"


def recording(rate, channels=1, seconds=0.5):
    """Samples `(n, channels)` of the recording; the second channel is the first one backwards."""
    sound, source_rate = sf.read(RECORDING, start=16000, frames=round(seconds * 16000), dtype="float32")
    sound = soxr.resample(sound, source_rate, rate)
    return (32767 * np.stack([sound, sound[::-1]][:channels], axis=1)).astype(np.int16)


def blocks(samples, *sizes):
    """Cut samples `(n, channels)` into blocks of these sizes, over and over."""
    start = 0
    for size in cycle(sizes):
        if start >= len(samples):
            return
        yield samples[start : start + size]
        start += size


def expected(enhancer, samples, rate, *sizes, **options):
    """What a stream gives for the blocks, behind the silence; the network's last bits depend on the cuts."""
    stream = enhancer.stream(rate, samples.shape[1], live=True, **options)
    latency = math.ceil(stream.latency_seconds * rate)
    enhanced = [stream.push(block.T.astype(np.float32) / 32768) for block in blocks(samples, *sizes)]
    enhanced = np.clip(np.rint(np.concatenate(enhanced, axis=1).T * 32768), -32768, 32767).astype(np.int16)
    return np.concatenate([np.zeros((latency, samples.shape[1]), np.int16), enhanced])[: len(samples)]


def example(framework):
    """Run the page's example for a framework, and give the names that it defines."""
    pieces = PAGE.read_text(encoding="utf-8").split("```python\n")[1:]
    (code,) = [piece for piece, *_ in (piece.split("```") for piece in pieces) if f"from {framework}" in piece]
    names = {}
    exec(code, names)
    return names
