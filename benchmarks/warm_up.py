"""What it gains to run the network over some sound before a recording begins: over its own start, or other sound.

    python recipes/prepare_data.py data
    python benchmarks/warm_up.py data

The network runs over that sound without output, and the recording begins in the state that it then has. The sound is
the first seconds of the recording itself, which is what files get, or the same backwards; noise from outside of the
mixture, but of the same recording of noise, as loud as in it; noise of another kind, at that level; or clean speech of
somebody else. A second set has recordings that change: four seconds of one mixture, which are scored, and six of
another one, with another voice and noise, which is 20 dB weaker, as loud, or 20 dB louder.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from _scoring import DATA
from numpy.typing import NDArray
from pesq import NoUtterancesError, pesq

import sottovoce
from sottovoce.data.corpora.folders import read_table
from sottovoce.data.simulation.mixtures import TABLE, Mixture
from sottovoce.metrics.report import Mean, markdown_table, mean
from sottovoce.signal.levels import from_db, rms
from sottovoce.weights import MODELS

RESULTS = Path(__file__).parent / "results" / "warm_up.md"
RATE = 16000
BEGINNING_SECONDS = 2.0
CHANGE_SECONDS = 4.0
CHANGES_DB = (-20.0, 0.0, 20.0)

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Test:
    """A recording, clean speech of its first part, which is scored, and the sound before it by name."""

    noisy: Float32Array
    clean: Float32Array
    sounds: dict[str, Float32Array]


def main() -> int:
    """Measure the bundled models on development sets that know their noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, nargs="?", default=Path("data"), help="folder of recipes/prepare_data.py")
    add("-o", "--output", type=Path, default=RESULTS)
    add("--set", default="dry", help="a folder of data/development")
    add("--every", type=int, default=3, help="take every n-th mixture")
    arguments = parser.parse_args()
    folder = arguments.data / "development" / arguments.set
    if not folder.is_dir() or not DATA.is_dir():
        print(f"Skipped: found no {folder} or no noise in {DATA}; make them with recipes/prepare_data.py.")
        return 0
    steady, changing = list(tests(folder, arguments.every)), list(changing_tests(folder, arguments.every))
    lines = [
        "# Warm-up",
        "",
        f"Mixtures of the development set `{arguments.set}` (`benchmarks/warm_up.py`). PESQ wb after the network has "
        "run over the named sound, against that without: paired differences with 95 % confidence intervals. Changing: "
        f"only the first {CHANGE_SECONDS:g} s of a recording are the mixture; then come another voice and noise, 20 dB "
        "weaker, as loud, or 20 dB louder.",
    ]
    for name in MODELS:
        enhancer = sottovoce.load(name)
        columns = {
            f"{len(steady)} mixtures": gains(enhancer, steady),
            f"their first {BEGINNING_SECONDS:g} s": gains(enhancer, [beginning(test) for test in steady]),
            f"{len(changing)} changing recordings": gains(enhancer, changing),
        }
        rows = [["before the recording", *columns]]
        for sound in steady[0].sounds:
            found = [column.get(sound) for column in columns.values()]
            rows.append([sound, *("-" if gain is None else f"{gain:+.3f}" for gain in found)])
        lines += ["", f"## {name}", "", *markdown_table(rows)]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def gains(enhancer: sottovoce.Enhancer, given: Sequence[Test]) -> dict[str, Mean]:
    """Mean gain in PESQ wb of each sound before the recordings."""
    found: dict[str, list[float]] = {}
    for test in given:
        without = pesq_wb(test.clean, enhanced_after(enhancer, test.noisy, None))
        for name, sound in test.sounds.items():
            gain = pesq_wb(test.clean, enhanced_after(enhancer, test.noisy, sound)) - without
            found.setdefault(name, []).append(gain)
    return {name: mean([gain for gain in column if not math.isnan(gain)]) for name, column in found.items()}


def tests(folder: Path, every: int) -> Iterator[Test]:
    """Mixtures as they are."""
    rows = read_table(folder / TABLE, Mixture)
    for index, row in enumerate(rows):
        if index % every:
            continue
        noisy, clean = (read(folder / side / row.file) for side in ("noisy", "clean"))
        place = noise_beside(row, len(noisy), 3.0)
        others = [other for other in rows if kind(other) != kind(row)]
        other = noise_beside(others[index % len(others)], 0, 3.0)
        speech = read(folder / "clean" / rows[(index + 5) % len(rows)].file)
        sounds = {
            "3 s of the noise of the place": place,
            "3 s of another kind of noise": (rms(place) / max(float(rms(other)), 1e-9) * other).astype(np.float32),
            "3 s of other speech": speech[RATE : 4 * RATE],
        }
        yield Test(noisy, clean, own_starts(noisy) | sounds)


def changing_tests(folder: Path, every: int) -> Iterator[Test]:
    """Mixtures after which another one follows."""
    rows = read_table(folder / TABLE, Mixture)
    samples = round(CHANGE_SECONDS * RATE)
    for index, level_db in zip(range(0, len(rows), every), itertools.cycle(CHANGES_DB), strict=False):
        noisy, clean = (read(folder / side / rows[index].file)[:samples] for side in ("noisy", "clean"))
        after = read(folder / "noisy" / rows[(index + len(rows) // 2) % len(rows)].file)[: 6 * RATE]
        recording = np.concatenate([noisy, from_db(level_db) * after]).astype(np.float32)
        recording /= max(1.0, np.abs(recording).max())
        yield Test(recording, clean, own_starts(recording))


def own_starts(recording: Float32Array) -> dict[str, Float32Array]:
    """The first seconds of a recording, as they go through the network."""
    first, longer, longest = (recording[: seconds * RATE] for seconds in (3, 5, 10))
    return {
        "its own first 3 s, backwards": first[::-1],
        "its own first 5 s, backwards": longer[::-1],
        "its own first 10 s, backwards": longest[::-1],
        "its own first 3 s (what files get)": first,
        "its own first 10 s": longest,
    }


def beginning(test: Test) -> Test:
    """The same test, of which the first seconds are scored."""
    return replace(test, clean=test.clean[: round(BEGINNING_SECONDS * RATE)])


def kind(row: Mixture) -> str:
    """Kind of noise: recordings of a crowd in two places are of one kind."""
    return Path(row.noise).parent.name.split("_")[0]


def noise_beside(row: Mixture, samples: int, seconds: float) -> Float32Array:
    """Noise from the recording of a mixture's noise, from outside of the mixture where that is long enough."""
    noise = read(DATA / row.noise)
    start, wanted = round(row.noise_offset_seconds * RATE), round(seconds * RATE)
    before, after = noise[:start], noise[start + samples :]
    longest = max(before, after, key=len)
    source = longest if len(longest) >= wanted else noise
    source = np.tile(source, -(-wanted // len(source)))
    return (from_db(row.noise_gain_db) * source[:wanted]).astype(np.float32)


def read(path: Path) -> Float32Array:
    """The first channel of a recording."""
    waveform, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(waveform[:, 0])


def enhanced_after(enhancer: sottovoce.Enhancer, recording: Float32Array, before: Float32Array | None) -> Float32Array:
    """A recording enhanced after the network has run over some sound."""
    stream = enhancer.stream(RATE)
    if before is not None:
        stream.reset([before])
    return np.concatenate([stream.push(recording), stream.flush()], axis=1)[0]


def pesq_wb(clean: Float32Array, enhanced: Float32Array) -> float:
    """PESQ wb of the part whose clean speech is known; NaN where nobody speaks in it."""
    try:
        return float(pesq(RATE, clean, enhanced[: len(clean)], "wb"))
    except NoUtterancesError:
        return float("nan")


if __name__ == "__main__":
    sys.exit(main())
