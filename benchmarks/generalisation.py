"""What is lost on voices and noises that the training did not have.

    python recipes/prepare_data.py data
    python benchmarks/generalisation.py data

Speech and noise of the training and of the development set, each with each, at equal ratios and without a room. Noise
is what a mixture has beside its speech, which lies in `hidden`: no training reads that folder. A gain that is as high
on new voices and noises as on known ones is limited by the network and its training, and not by what it was trained on.
The data must be those of the measured model: for the bundled ones, as made by the recipe of commit 6c3e4f8.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from _scoring import read_items
from numpy.typing import NDArray

import sottovoce
from sottovoce.data.corpora.folders import read_table
from sottovoce.data.simulation.mixtures import Mixture
from sottovoce.metrics.intrusive import pesq
from sottovoce.metrics.report import markdown_table, mean
from sottovoce.signal.audio import find_audio, read
from sottovoce.signal.levels import noise_gain_for_snr
from sottovoce.signal.resampling import resample

RESULTS = Path(__file__).parent / "results" / "generalisation.md"
RATE = 16000
COUNT = 60
RATIOS_DB = (0.0, 5.0, 10.0)
SEED = 0
# In louder speech too little of the noise is left by rounding to 16 bits.
MAX_SNR_DB = 10.0

Float32Array = NDArray[np.float32]
KNOWN, NEW = "of the training", "held-out"


def main() -> int:
    """Measure the bundled models, and others that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that recipes/prepare_data.py made")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="another model to measure")
    arguments = parser.parse_args()
    names = {"default": "default", "live": "live"} | dict(pair.split("=", 1) for pair in arguments.model)
    systems = {name: sottovoce.load(model).enhance for name, model in names.items()}
    rng = np.random.default_rng(SEED)
    items = read_items(arguments.data / "development" / "dry")[:COUNT]
    new_voices = [samples(item.clean) for item in items]
    new_noises = [samples(item.noisy) - clean for item, clean in zip(items, new_voices, strict=True)]
    lengths = [voice.size for voice in new_voices]
    voices = {KNOWN: list(known_voices(arguments.data / "speech", lengths, rng)), NEW: new_voices}
    noises = {KNOWN: list(known_noises(arguments.data, lengths, rng)), NEW: new_noises}
    rows = [["speech", "noise", "unprocessed", *systems, *(f"{name}, gain" for name in systems)]]
    for speech in (KNOWN, NEW):
        for noise in (KNOWN, NEW):
            unprocessed: list[float] = []
            enhanced: dict[str, list[float]] = {name: [] for name in systems}
            for index, (voice, sound) in enumerate(zip(voices[speech], noises[noise], strict=True)):
                mixture, clean = mixed(voice, sound, RATIOS_DB[index % len(RATIOS_DB)])
                unprocessed.append(pesq(clean, mixture))
                for name, enhance in systems.items():
                    enhanced[name].append(pesq(clean, enhance(mixture, RATE)))
            gains = {
                name: [a - b for a, b in zip(scores, unprocessed, strict=True)] for name, scores in enhanced.items()
            }
            rows.append(
                [speech, noise, *(str(mean(scores)) for scores in (unprocessed, *enhanced.values(), *gains.values()))]
            )
            print(*rows[-1], sep=" | ", flush=True)
    lines = [
        "# Known and new voices and noises",
        "",
        f"PESQ wb of {len(items)} mixtures a row at {', '.join(f'{ratio:g}' for ratio in RATIOS_DB)} dB, without a "
        "room: speech and noise of the bundled models' training against those of the development set `dry`, whose "
        "speakers and kinds of noise it does not have. "
        f"Seed {SEED}, 95 % confidence intervals (`benchmarks/generalisation.py`).",
        "",
        *markdown_table(rows),
    ]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def samples(path: Path) -> Float32Array:
    """A monaural recording at 16 kHz."""
    waveform, rate = soundfile.read(path, dtype="float32")
    if rate != RATE or waveform.ndim != 1:
        raise SystemExit(f"found {path} at {rate} Hz with {waveform.ndim} dimensions, expected mono at {RATE} Hz")
    return np.asarray(waveform, np.float32)


def known_voices(folder: Path, lengths: list[int], rng: np.random.Generator) -> Iterator[Float32Array]:
    """Clean speech of the training, repeated where it is too short."""
    paths = find_audio(folder)
    for index, length in zip(rng.permutation(len(paths)), lengths, strict=False):
        waveform, rate = read(paths[index])
        yield np.resize(resample(waveform[0], rate, RATE), length)


def known_noises(data: Path, lengths: list[int], rng: np.random.Generator) -> Iterator[Float32Array]:
    """Noise of the training's mixtures: what they have beside their speech."""
    table = [row for row in read_table(data / "field.csv", Mixture) if not row.room and row.snr_db <= MAX_SNR_DB]
    for index, length in zip(rng.permutation(len(table)), lengths, strict=False):
        file = table[index].file
        yield np.resize(samples(data / "mixtures" / file) - samples(data / "hidden" / file), length)


def mixed(voice: Float32Array, noise: Float32Array, ratio_db: float) -> tuple[Float32Array, Float32Array]:
    """Mixture at a ratio and its speech, within full scale."""
    mixture = voice + noise * np.float32(noise_gain_for_snr(voice, noise, ratio_db, RATE))
    gain = np.float32(min(1.0, 0.9 / float(np.abs(mixture).max())))
    return gain * mixture, gain * voice


if __name__ == "__main__":
    raise SystemExit(main())
