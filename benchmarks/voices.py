"""What is lost of low voices and of held vowels in clean speech.

    python benchmarks/voices.py

Clean sentences of held-out speakers as they are, played slower by two, three and four semitones, and sung vowels: pulse
trains through the resonances of five vowels, with vibrato, as no singing with an open licence is at hand. A frame of
16 ms counts when it is within 30 dB of the loudest; the share of those that lose more than 6 dB is the measure. Of a
vowel, the level from its second second on is measured.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from onsets import DATA, RATE, find_words

import sottovoce
from sottovoce.metrics.report import markdown_table, mean
from sottovoce.signal.resampling import resample

RESULTS = Path(__file__).parent / "results" / "voices.md"
SEMITONES = (0, 2, 3, 4)
FRAME = 256
RANGE_DB, LOST_DB = -30.0, -6.0
# Resonances of the vowels of a man's voice in Hz: a, e, i, o, u (Peterson and Barney, 1952, rounded).
VOWELS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
BANDWIDTHS_HZ = (80.0, 90.0, 120.0)
SUNG_HZ = (98.0, 147.0, 220.0, 330.0)
SUNG_SECONDS = 4.0
VIBRATO_HZ, VIBRATO_SEMITONES = 5.5, 0.4
QUIET_DB = -60.0

Float32Array = NDArray[np.float32]
Enhance = Callable[[Float32Array, int], Float32Array]


def main() -> int:
    """Measure the bundled models, and others that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="another model to measure")
    arguments = parser.parse_args()
    names = {"default": "default", "live": "live"} | dict(pair.split("=", 1) for pair in arguments.model)
    systems = {name: sottovoce.load(model).enhance for name, model in names.items()}
    sentences = dict.fromkeys(word.file for word in find_words())
    if not sentences:
        print(f"Skipped the voices: found no speech in {DATA}; SOTTOVOCE_DATA names the folder.")
    rows = [["", *(f"{name}" for name in systems)]]
    for semitones in SEMITONES if sentences else ():
        spoken = [lowered(soundfile.read(file, dtype="float32")[0], semitones) for file in sentences]
        title = f"speech {semitones} semitones lower" if semitones else "speech"
        rows.append([title, *(f"{lost(spoken, enhance)} % of frames" for enhance in systems.values())])
    for hz in SUNG_HZ:
        vowels = list(sung(hz))
        rows.append([f"sung vowels at {hz:g} Hz", *(f"{held_db(vowels, enhance)} dB" for enhance in systems.values())])
    lines = [
        "# Low voices and held vowels",
        "",
        f"Clean speech in ({len(sentences)} sentences of held-out speakers): share of the frames within 30 dB of the "
        "loudest that lose more than 6 dB, mean over sentences. Sung vowels (made: pulses through the resonances of "
        f"{', '.join(VOWELS)}): change of level from the second second on, mean over vowels. 95 % confidence intervals "
        "(`benchmarks/voices.py`).",
        "",
        *markdown_table(rows),
    ]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def lowered(waveform: Float32Array, semitones: float) -> Float32Array:
    """The waveform played slower: pitch and resonances lower by so many semitones."""
    if not semitones:
        return waveform
    return resample(waveform, RATE, round(RATE * 2 ** (semitones / 12)))


def lost(waveforms: list[Float32Array], enhance: Enhance) -> str:
    """Share of frames that lose more than 6 dB, in %."""
    shares = []
    for waveform in waveforms:
        before, after = (frame_power(signal) for signal in (waveform, enhance(waveform, RATE)))
        loud = before > before.max() * 10 ** (RANGE_DB / 10)
        shares.append(100 * float(np.mean(after[loud] < before[loud] * 10 ** (LOST_DB / 10))))
    return str(mean(shares))


def held_db(vowels: list[Float32Array], enhance: Enhance) -> str:
    """Change of level from the second second of a vowel on."""
    part = slice(2 * RATE, round((SUNG_SECONDS + 0.5) * RATE))
    changes = []
    for waveform in vowels:
        before, after = (float(np.square(signal[part]).sum()) for signal in (waveform, enhance(waveform, RATE)))
        changes.append(10 * np.log10(after / before))
    return str(mean(changes))


def sung(fundamental_hz: float) -> Iterator[Float32Array]:
    """Vowels of a singer in a quiet room, each after one second of the room alone."""
    rng = np.random.default_rng(round(fundamental_hz))
    samples = round(SUNG_SECONDS * RATE)
    time = np.arange(samples) / RATE
    vibrato = VIBRATO_SEMITONES / 12 * np.sin(2 * np.pi * VIBRATO_HZ * time)
    phase = 2 * np.pi * np.cumsum(fundamental_hz * 2**vibrato) / RATE
    for resonances in VOWELS.values():
        vowel = np.zeros(samples)
        for number in range(1, int(0.45 * RATE / fundamental_hz)):
            # The pulses of a voice fall by 12 dB per octave, and its lips raise them by 6.
            vowel += resonance(number * fundamental_hz, resonances) / number * np.cos(number * phase)
        vowel *= 0.05 / np.sqrt(np.mean(vowel**2)) * np.clip(np.minimum(time, SUNG_SECONDS - time) / 0.05, 0, 1)
        padded = np.concatenate([np.zeros(RATE), vowel, np.zeros(RATE // 2)])
        yield (padded + 0.05 * 10 ** (QUIET_DB / 20) * rng.standard_normal(padded.size)).astype(np.float32)


def resonance(hz: float, resonances: tuple[float, ...]) -> float:
    """Gain of a vowel's resonances in series."""
    gain = 1.0
    for centre, bandwidth in zip(resonances, BANDWIDTHS_HZ, strict=True):
        gain *= centre**2 / abs(centre**2 - hz**2 + 1j * hz * bandwidth)
    return gain


def frame_power(waveform: Float32Array) -> NDArray[np.float32]:
    """Mean power of frames of 16 ms."""
    return np.square(waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)).mean(axis=1)


if __name__ == "__main__":
    raise SystemExit(main())
