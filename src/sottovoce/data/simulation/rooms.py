"""Room impulse responses, simulated or measured, with the direct sound at a known sample and of unit energy."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.simulation.augmentation import transform_size
from sottovoce.errors import DataError
from sottovoce.extras import require
from sottovoce.signal import audio
from sottovoce.signal.resampling import resample

DIRECT_SECONDS = 0.0025
"""Where the direct sound is in every response of this module."""

EARLY_MS = 50.0
"""Earlier reflections make speech clearer; ISO 3382 draws the line for speech here."""

_DIRECT_EXTENT_SECONDS = 0.001  # Loudspeaker and microphone smear the direct sound by about as much.
_ONSET = 10.0 ** (-10.0 / 20.0)
_MIXING_SECONDS = 0.08
_CROSSFADE_SECONDS = 0.02
_SIZE_METRES = ((3.0, 8.0), (2.5, 7.0), (2.4, 3.5))
_WALL_DISTANCE_METRES = 0.5
_HALL_T60_SECONDS = (0.5, 1.5)
_SPEAKER_DISTANCE_METRES = (0.4, 3.0)


@dataclass(frozen=True)
class Room:
    """A speaker and a microphone in a room.

    Attributes:
        response: Impulse response `(taps,)`, direct sound at `direct_sample(sample_rate)` and of unit energy.
        sample_rate: Rate in Hz.
        t60_seconds: Reverberation time; not known of every room.
    """

    response: NDArray[np.float32]
    sample_rate: int
    t60_seconds: float | None = None

    def early_and_full(self, early_ms: float = EARLY_MS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Split off what the ear takes for one with the direct sound.

        Args:
            early_ms: Time after the direct sound that counts as early.

        Returns:
            Direct sound and early reflections, zero afterwards; and the full response. Equal shapes.
        """
        early = self.response.copy()
        early[direct_sample(self.sample_rate) + round(early_ms / 1000.0 * self.sample_rate) :] = 0.0
        return early, self.response

    def apply(self, speech: NDArray[np.floating]) -> NDArray[np.float32]:
        """Put dry speech into the room, without moving it in time.

        Args:
            speech: Dry speech `(samples,)`, full scale ±1; it may be shorter than the response.

        Returns:
            Reverberant speech `(samples,)`, its direct sound aligned with `speech`; the decay behind the end is cut.
        """
        return self._convolve(speech, self.response)

    def apply_early(self, speech: NDArray[np.floating], early_ms: float = EARLY_MS) -> NDArray[np.float32]:
        """Put dry speech into the room, but without its late reverberation.

        Args:
            speech: Dry speech `(samples,)`, full scale ±1.
            early_ms: Time after the direct sound that counts as early.

        Returns:
            Direct sound and early reflections `(samples,)`, aligned with `speech`.
        """
        return self._convolve(speech, self.early_and_full(early_ms)[0])

    def apply_damped(
        self, speech: NDArray[np.floating], t60_seconds: float, early_ms: float = EARLY_MS
    ) -> NDArray[np.float32]:
        """Put dry speech into the room as if its walls were softer: late reverberation decays faster.

        Args:
            speech: Dry speech `(samples,)`, full scale ±1.
            t60_seconds: Reverberation time of the softer room; a room that has less already stays as it is.
            early_ms: Time after the direct sound in which nothing changes.

        Returns:
            Speech `(samples,)`, aligned with `speech`.

        Raises:
            DataError: The room's own reverberation time is not known.
        """
        if self.t60_seconds is None:
            raise DataError("found a room of unknown reverberation time, expected a simulated one to damp")
        start = direct_sample(self.sample_rate) + round(early_ms / 1000.0 * self.sample_rate)
        late_seconds = np.maximum(np.arange(self.response.size) - start, 0) / self.sample_rate
        faster = max(0.0, 1.0 / t60_seconds - 1.0 / self.t60_seconds)
        return self._convolve(speech, (self.response * 10.0 ** (-3.0 * faster * late_seconds)).astype(np.float32))

    def from_further_away(self, ratio: float) -> "Room":
        """The same room with the speaker at another distance.

        Direct sound falls by 6 dB per doubling of the distance, diffuse sound is equally loud everywhere. All that is
        reflected counts as diffuse, and the direct sound keeps its unit energy.

        Args:
            ratio: New distance over the old one.

        Returns:
            A room whose direct-to-reverberant ratio is 20 log10(ratio) dB lower.
        """
        response = self.response.copy()
        extent = round(_DIRECT_EXTENT_SECONDS * self.sample_rate)
        response[direct_sample(self.sample_rate) + extent :] *= np.float32(ratio)
        return replace(self, response=response)

    def _convolve(self, speech: NDArray[np.floating], response: NDArray[np.float32]) -> NDArray[np.float32]:
        direct = direct_sample(self.sample_rate)
        size = 1 << (speech.size + response.size - 1).bit_length()
        wet = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(response, size), size)
        return wet[direct : direct + speech.size].astype(np.float32)


def direct_sample(sample_rate: int) -> int:
    """Index of the direct sound in a response.

    Args:
        sample_rate: Rate of the response in Hz.

    Returns:
        Samples from the response's start.
    """
    return round(DIRECT_SECONDS * sample_rate)


def simulate_room(
    rng: np.random.Generator, sample_rate: int, t60_range_seconds: tuple[float, float] = (0.2, 0.8)
) -> Room:
    """Simulate a speaker and a microphone in a box-shaped room.

    Size of the room, reverberation time and both places are drawn; a room in which the drawn time is out of reach is
    drawn again. The first reflections are image sources, the rest is noise that decays: there the reflections are too
    many to be distinct, and their number grows with the cube of time.

    Args:
        rng: Where the draws come from.
        sample_rate: Rate in Hz.
        t60_range_seconds: Shortest and longest reverberation time by Sabine's formula, > 0.

    Returns:
        A room whose response is as long as its reverberation time.

    Raises:
        DataError: No room reaches such a time.
        MissingExtraError: pyroomacoustics is not installed.

    Source:
        J. B. Allen, D. A. Berkley, "Image method for efficiently simulating small-room acoustics", JASA 65(4), 1979.
        J. A. Moorer, "About this reverberation business", Computer Music Journal 3(2), 1979: noise as the tail.
    """
    require("train", "Simulating a room", "pyroomacoustics")
    import pyroomacoustics as pra

    low, high = (np.array(bounds) for bounds in zip(*_SIZE_METRES, strict=True))
    for _ in range(100):
        size = rng.uniform(low, high)
        t60_seconds = rng.uniform(*t60_range_seconds)
        speaker, microphone = (
            rng.uniform(_WALL_DISTANCE_METRES, size - _WALL_DISTANCE_METRES) for _ in ("speaker", "microphone")
        )
        distance = float(np.linalg.norm(speaker - microphone))
        if not _SPEAKER_DISTANCE_METRES[0] <= distance <= _SPEAKER_DISTANCE_METRES[1]:
            continue
        try:
            absorption, order = pra.inverse_sabine(t60_seconds, size)
        except ValueError:  # The walls would have to absorb more than everything.
            continue
        early_order = math.ceil(pra.constants.get("c") * _MIXING_SECONDS / size.min())
        room = pra.ShoeBox(size, fs=sample_rate, materials=pra.Material(absorption), max_order=min(order, early_order))
        room.add_source(speaker)
        room.add_microphone(microphone)
        room.compute_rir()
        early = align(room.rir[0][0], sample_rate)
        return Room(_with_diffuse_tail(early, t60_seconds, sample_rate, rng), sample_rate, t60_seconds)
    raise DataError(
        f"found no room of usual size with a reverberation time between {t60_range_seconds[0]:g} and "
        f"{t60_range_seconds[1]:g} s: expected something from 0.15 s up"
    )


def in_hall(clip: NDArray[np.float32], sample_rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A clip with as much diffuse sound as it has itself, as of people all over a hall.

    Args:
        clip: Samples `(T,)`.
        sample_rate: Rate in Hz.
        rng: Source of the reverberation time and of the reflections.

    Returns:
        Samples `(T,)`.
    """
    t60_seconds = rng.uniform(*_HALL_T60_SECONDS)
    time = np.arange(round(t60_seconds * sample_rate)) / sample_rate
    tail = rng.standard_normal(time.size) * 10.0 ** (-3.0 * time / t60_seconds)
    tail /= np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    size = transform_size(clip.size + tail.size)
    return np.fft.irfft(np.fft.rfft(clip, size) * np.fft.rfft(tail, size), size)[: clip.size].astype(np.float32)


def read_room(path: Path, sample_rate: int) -> Room:
    """Read a measured response; of several channels the first is taken.

    Args:
        path: Audio file with an impulse response.
        sample_rate: Rate in Hz to which the response is resampled.

    Returns:
        The room.

    Raises:
        AudioError: The file cannot be read.
        DataError: The response is silent.
    """
    channels, rate = audio.read(path)
    if not channels[0].any():
        raise DataError(f"found a silent room response in {path}: leave it out")
    return Room(align(resample(channels[0], rate, sample_rate), sample_rate), sample_rate)


def align(response: NDArray[np.floating], sample_rate: int) -> NDArray[np.float32]:
    """Move the direct sound to `direct_sample` and give it unit energy.

    The direct sound is the first peak less than 10 dB below the highest: a reflection may be stronger, none is earlier.

    Args:
        response: Impulse response `(samples,)`, not silent.
        sample_rate: Rate in Hz.

    Returns:
        Response `(samples,)` of another length: cut or filled with zeros before the direct sound.
    """
    magnitude = np.abs(response)
    onset = int(np.argmax(magnitude >= _ONSET * magnitude.max()))
    extent = max(1, round(_DIRECT_EXTENT_SECONDS * sample_rate))
    direct = onset + int(np.argmax(magnitude[onset : onset + extent]))
    energy = np.square(response[max(0, direct - extent) : direct + extent], dtype=np.float64).sum()
    shift = direct_sample(sample_rate) - direct
    moved = np.pad(response, (shift, 0)) if shift >= 0 else response[-shift:]
    aligned: NDArray[np.float32] = (moved / np.sqrt(energy)).astype(np.float32)
    return aligned


def _with_diffuse_tail(
    early: NDArray[np.float32], t60_seconds: float, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Crossfade a response into noise that decays by 60 dB in the reverberation time, at the level it has there."""
    taps = max(round(t60_seconds * sample_rate), early.size) + direct_sample(sample_rate)
    fade = round(_CROSSFADE_SECONDS * sample_rate)
    end = direct_sample(sample_rate) + round(_MIXING_SECONDS * sample_rate)
    border = slice(end - fade, end)
    tail = rng.standard_normal(taps) * 10.0 ** (-3.0 * np.arange(taps) / (t60_seconds * sample_rate))
    response = np.pad(early, (0, taps - early.size)).astype(np.float64)
    tail *= np.sqrt(np.square(response[border]).sum() / np.square(tail[border]).sum())
    # Uncorrelated, so the powers add up: cosine and sine keep the level.
    angle = np.linspace(0.0, np.pi / 2, fade, endpoint=False)
    response[border] = np.cos(angle) * response[border] + np.sin(angle) * tail[border]
    response[end:] = tail[end:]
    return response.astype(np.float32)
