"""How much is lost of words that begin with S, SH, F or CH after nobody spoke for a while.

    python benchmarks/onsets.py

Words of speakers that no bundled model was trained on, found in `SOTTOVOCE_DATA` by their spectrum: a fricative after a
short silence. Each is put behind two seconds of its own sentence and a pause of the recording's room noise, or of
digital silence, or behind a lead-in at the start of a file. The loss is the energy of the output over that of the input
in the first 60 ms of the word, and the room noise is measured in the second half of the same pause.

A second table has the shortest pause alone: Wiener gains in the frames of each model, computed from the word and from
the noise of the pause, which no model is given apart; and other noise suppressors that are installed.
"""

import argparse
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

import sottovoce
from sottovoce import Enhancer
from sottovoce.data.corpora.harvest import stationary_noise
from sottovoce.metrics.report import markdown_table

DATA = Path(os.environ.get("SOTTOVOCE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
RESULTS = Path(__file__).parent / "results" / "onsets.md"
RATE = 16000
READERS = "1578 1624 1743 1841 200 2391 2518 26 2836 2893 3699 4137 4195 4297 460 5163 5778 5867 6147 6181 6529 6880"
VCTK = "p225 p226 p227 p228 p229 p230 p231 p233 p236 p243 p244 p254 p258 p259 p267 p273 p280 p286 p287"
HELD_OUT = {
    "clean.csv": ("speaker", (*READERS.split(), "8123", "8238", "8797", "kathleen", "nathalie")),
    "more.csv": ("group", tuple(VCTK.split())),
}
"""Table of recordings, its column of speakers, and those of them that take no part in training."""
MAX_PER_SPEAKER = 4
PAUSES_SECONDS = (0.1, 1.0, 2.0, 5.0, 10.0, 60.0)
BEFORE_SECONDS, AFTER_SECONDS, LEAD_IN_SECONDS, SILENCE_SECONDS = 2.0, 1.0, 0.5, 5.0
ONSET_SECONDS = 0.06
MAX_LOST_DB = -6.0
PEERS = {"rnnoise": "RNNoise", "dtln": "DTLN", "deepfilternet": "DeepFilterNet 3"}

FRAME = 80  # samples: 5 ms
SILENT_FRAMES, ONSET_FRAMES = 16, 12
ABOVE_FLOOR_DB, BELOW_TOP_DB, MIN_RANGE_DB = 8.0, 33.0, 30.0
HIGH_HZ, HIGH_OVER_LOW_DB, MIN_HZ = 2500.0, 3.0, 100.0

Float32Array = NDArray[np.float32]
Enhance = Callable[[Float32Array, int], Float32Array]


@dataclass(frozen=True)
class Word:
    """A word that begins with a fricative.

    Attributes:
        file: Its recording.
        speaker: Who speaks.
        start: Sample at which it begins.
    """

    file: Path
    speaker: str
    start: int


@dataclass(frozen=True)
class Result:
    """What became of a word and of the noise before it, in dB of the input."""

    word_db: float
    noise_db: float


def main() -> int:
    """Measure the bundled models, and others that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="another model to measure")
    arguments = parser.parse_args()
    words = find_words()
    if not words:
        print(f"Skipped: found no speech in {DATA}; SOTTOVOCE_DATA names the folder.")
        return 0
    names = {"default": "default", "live": "live"} | dict(pair.split("=", 1) for pair in arguments.model)
    enhancers = {name: sottovoce.load(model) for name, model in names.items()}
    lines = report(words, {name: enhancer.enhance for name, enhancer in enhancers.items()})
    lines += ["", *report_shortest(words, enhancers)]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def find_words() -> list[Word]:
    """Words of held-out speakers, the first few of each."""
    words: list[Word] = []
    seen: set[str] = set()
    for table, (column, speakers) in HELD_OUT.items():
        if not (DATA / table).exists():
            continue
        with (DATA / table).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row[column] in speakers and row["file"].startswith("clean/")]
        for row in rows:
            waveform, rate = soundfile.read(DATA / row["file"], dtype="float32")
            sentence = row[column] + waveform[:RATE].tobytes().hex()
            if rate != RATE or sentence in seen:  # a recording may lie in two places
                continue
            seen.add(sentence)
            words += [Word(DATA / row["file"], row[column], start) for start in fricative_onsets(waveform)]
    counts: dict[str, int] = {}
    kept = []
    for word in words:
        counts[word.speaker] = counts.get(word.speaker, 0) + 1
        if counts[word.speaker] <= MAX_PER_SPEAKER:
            kept.append(word)
    return kept


def fricative_onsets(waveform: Float32Array) -> list[int]:
    """Samples at which a fricative follows a silence."""
    count = len(waveform) // FRAME
    # Differences weaken the rumble of a room, which would hide the silence.
    differences = np.diff(waveform, prepend=waveform[:1])[: count * FRAME].reshape(count, FRAME)
    level_db = 10 * np.log10(np.square(differences).mean(axis=1) + 1e-12)
    floor_db, top_db = np.percentile(level_db, (8, 95))
    if top_db - floor_db < MIN_RANGE_DB:
        return []
    silent = level_db < floor_db + ABOVE_FLOOR_DB
    found, run = [], 0
    for frame in range(count - 2 * ONSET_FRAMES):
        if silent[frame]:
            run += 1
            continue
        onset_db = level_db[frame : frame + ONSET_FRAMES]
        if (
            run >= SILENT_FRAMES
            and (onset_db > floor_db + ABOVE_FLOOR_DB).all()
            and onset_db[4:].mean() > top_db - BELOW_TOP_DB
            and is_fricative(waveform[frame * FRAME :][: ONSET_FRAMES * FRAME])
        ):
            found.append(frame * FRAME)
        run = 0
    return found


def is_fricative(onset: Float32Array) -> bool:
    """Whether most of the energy is in the highs."""
    power = np.square(np.abs(np.fft.rfft(onset * np.hanning(len(onset)))))
    hz = np.fft.rfftfreq(len(onset), 1 / RATE)
    low, high = power[(hz > MIN_HZ) & (hz <= HIGH_HZ)].sum(), power[hz > HIGH_HZ].sum()
    return bool(high > low * 10 ** (HIGH_OVER_LOW_DB / 10))


def situations(word: Word, seed: int) -> Iterator[tuple[str, Float32Array, int, int]]:
    """Recordings in which a word begins: name, samples, sample at which the pause begins, and the word."""
    waveform = soundfile.read(word.file, dtype="float32")[0]
    sentence = waveform[word.start : word.start + round(BEFORE_SECONDS * RATE)].copy()
    fade = RATE // 20
    sentence[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    onset = waveform[word.start : word.start + round(AFTER_SECONDS * RATE)]
    rng = np.random.default_rng(seed)

    def noise(seconds: float) -> Float32Array:
        return stationary_noise(waveform, round(seconds * RATE), rng)

    def spoken_before(pause: Float32Array) -> tuple[Float32Array, int, int]:
        return np.concatenate([sentence, pause, onset]), len(sentence), len(sentence) + len(pause)

    for seconds in PAUSES_SECONDS:
        yield f"{seconds:g} s", *spoken_before(noise(seconds))
    yield "digital silence", *spoken_before(np.zeros(round(SILENCE_SECONDS * RATE), np.float32))
    lead_in = noise(LEAD_IN_SECONDS)
    yield "start of a file", np.concatenate([lead_in, onset]), 0, len(lead_in)


def measure(enhance: Enhance, waveform: Float32Array, pause: int, start: int) -> Result:
    """Enhance, and measure a word and the pause before it."""
    return compare(enhance(waveform, RATE), waveform, pause, start)


def compare(enhanced: Float32Array, waveform: Float32Array, pause: int, start: int) -> Result:
    """Energies of output over input."""

    def gain_db(part: slice) -> float:
        after, before = (float(np.square(signal[part], dtype=np.float64).sum()) for signal in (enhanced, waveform))
        return 10 * np.log10(after / before + 1e-12) if before else float("nan")

    return Result(
        gain_db(slice(start, start + round(ONSET_SECONDS * RATE))), gain_db(slice((pause + start) // 2, start))
    )


def results(words: Sequence[Word], enhance: Enhance) -> dict[str, list[Result]]:
    """Results of all words by situation."""
    found: dict[str, list[Result]] = {}
    for seed, word in enumerate(words):
        for name, waveform, pause, start in situations(word, seed):
            found.setdefault(name, []).append(measure(enhance, waveform, pause, start))
    return found


def report(words: Sequence[Word], systems: dict[str, Enhance]) -> list[str]:
    """A table of systems and situations."""
    table = [["pause before the word", *(f"{name}: {what}" for name in systems for what in COLUMNS)]]
    found = {name: results(words, enhance) for name, enhance in systems.items()}
    for situation in next(iter(found.values())):
        row = [situation]
        for by_situation in found.values():
            row += cells(by_situation[situation])
        table.append(row)
    speakers = len({word.speaker for word in words})
    return [
        "# Words after a pause",
        "",
        f"{len(words)} words of {speakers} speakers that no bundled model was trained on, each beginning with a "
        "fricative (`benchmarks/onsets.py`). Median change of the level of their first 60 ms, share of the words that "
        f"lose more than {-MAX_LOST_DB:.0f} dB there, and median change of the room noise in the second half of the "
        "pause before. Digital silence: 5 s. Start of a file: 0.5 s of room noise before the word.",
        "",
        *markdown_table(table),
    ]


def cells(measured: Sequence[Result]) -> list[str]:
    """Medians, and the share of words that lose too much."""
    word_db = np.array([result.word_db for result in measured])
    noise_db = np.array([result.noise_db for result in measured])
    return [
        f"{np.median(word_db):.1f} dB",
        f"{np.mean(word_db < MAX_LOST_DB):.0%}",
        "-" if np.isnan(noise_db).all() else f"{np.median(noise_db):.1f} dB",
    ]


def report_shortest(words: Sequence[Word], enhancers: dict[str, Enhancer]) -> list[str]:
    """A table of ideal gains and of other noise suppressors in the shortest pause."""
    from sspd2023.systems import SYSTEMS

    recordings = [next(situations(word, seed))[1:] for seed, word in enumerate(words)]
    table = [["", *COLUMNS]]
    for name, enhancer in enhancers.items():
        ideal = [compare(ideally_masked(enhancer, *one), *one) for one in recordings]
        table.append([f"ideal Wiener gains in the frames of {name}", *cells(ideal)])
    for key, name in PEERS.items():
        system = SYSTEMS[key]
        if system.make is not None and not system.missing:
            enhance = system.make(np.zeros(0, np.float32)).enhance
            table.append([name, *cells([measure(enhance, *one) for one in recordings])])
    return [
        f"## The pause of {PAUSES_SECONDS[0]:g} s beside ideal gains and others",
        "",
        "The same measures. Ideal Wiener gains: computed in every bin of every frame from the power of the noise of "
        "the pause and the power of all else, so that they keep the word, whose first samples are in the last frames "
        "of the pause, too. Other noise suppressors: those that were installed.",
        "",
        *markdown_table(table),
    ]


def ideally_masked(enhancer: Enhancer, waveform: Float32Array, pause: int, start: int) -> Float32Array:
    """The recording after Wiener gains that are computed from the pause and from the rest."""
    stft = enhancer.stft
    noise = np.zeros_like(waveform)
    noise[pause:start] = waveform[pause:start]
    spectra = stft.analyse(np.stack([waveform, waveform - noise, noise]))
    wanted, unwanted = np.square(spectra[1:]).sum(axis=1)
    gains = wanted / np.maximum(wanted + unwanted, np.finfo(np.float32).tiny)
    return np.asarray(stft.synthesise(spectra[0] * gains, len(waveform)), np.float32)


COLUMNS = ("first 60 ms", "lose more than 6 dB", "noise")

if __name__ == "__main__":
    raise SystemExit(main())
