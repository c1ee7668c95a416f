"""What it gains to run the network over some other sound before a recording: over noise of its place, or its own start.

    python recipes/prepare_data.py data
    python benchmarks/prompts.py data

A prompt is sound over which the network runs, without output; the recording then begins in the state of the network.
Prompts are noise of the same recording of noise from outside of the mixture, as loud as in it; noise of another kind,
at that level; clean speech of somebody else; and the first seconds of the recording itself, which is `--two-pass`.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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

RESULTS = Path(__file__).parent / "results" / "prompts.md"
RATE = 16000
BEGINNING_SECONDS = 2.0

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Test:
    """A mixture, and the prompts for it by name."""

    noisy: Float32Array
    clean: Float32Array
    prompts: dict[str, Float32Array]


def main() -> int:
    """Measure the bundled model on development sets that know their noise."""
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
    differences: dict[str, list[list[float]]] = {}
    count, enhancer = 0, sottovoce.load()
    for test in tests(folder, arguments.every):
        count += 1
        without = scores(test, prompted(enhancer, test.noisy, None))
        for name, prompt in test.prompts.items():
            found = scores(test, prompted(enhancer, test.noisy, prompt))
            differences.setdefault(name, []).append([one - other for one, other in zip(found, without, strict=True)])
    rows = [["prompt", "whole recording", f"its first {BEGINNING_SECONDS:g} s"]]
    for name, columns in differences.items():
        whole, beginning = (gain(column) for column in zip(*columns, strict=True))
        rows.append([name, f"{whole:+.3f}", f"{beginning:+.3f}"])
    lines = [
        "# Prompts",
        "",
        f"{count} mixtures of the development set `{arguments.set}` (`benchmarks/prompts.py`). PESQ wb of the bundled "
        "model after a prompt against that without one: paired differences with 95 % confidence intervals. A prompt is "
        "sound over which the network runs before the recording begins.",
        "",
        *markdown_table(rows),
    ]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def tests(folder: Path, every: int) -> Iterator[Test]:
    """Mixtures with their prompts."""
    rows = read_table(folder / TABLE, Mixture)
    for index, row in enumerate(rows):
        if index % every:
            continue
        noisy, clean = (read(folder / side / row.file) for side in ("noisy", "clean"))
        place = noise_beside(row, len(noisy), 10.0)
        others = [other for other in rows if kind(other) != kind(row)]
        other = noise_beside(others[index % len(others)], 0, 3.0)
        speech = read(folder / "clean" / rows[(index + 5) % len(rows)].file)
        prompts = {
            "3 s of the noise of the place": place[: 3 * RATE],
            "10 s of the noise of the place": place,
            "3 s of another kind of noise": (rms(place) / max(float(rms(other)), 1e-9) * other).astype(np.float32),
            "3 s of other speech": speech[RATE : 4 * RATE],
            "its own first 3 s": noisy[: 3 * RATE],
            "its own first 10 s (`--two-pass`)": noisy[: 10 * RATE],
        }
        yield Test(noisy, clean, prompts)


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


def prompted(enhancer: sottovoce.Enhancer, waveform: Float32Array, prompt: Float32Array | None) -> Float32Array:
    """A recording enhanced after a prompt."""
    stream = enhancer.stream(RATE)
    if prompt is not None:
        stream.push(prompt)
        stream.reset(keep_state=True)
    return np.concatenate([stream.push(waveform), stream.flush()], axis=1)[0]


def scores(test: Test, enhanced: Float32Array) -> tuple[float, float]:
    """PESQ wb of the whole, and of the first seconds; NaN where nobody speaks in them."""
    beginning = round(BEGINNING_SECONDS * RATE)
    return pesq_wb(test.clean, enhanced), pesq_wb(test.clean[:beginning], enhanced[:beginning])


def pesq_wb(clean: Float32Array, enhanced: Float32Array) -> float:
    """PESQ wb; NaN without speech."""
    try:
        return float(pesq(RATE, clean, enhanced, "wb"))
    except NoUtterancesError:
        return float("nan")


def gain(differences: tuple[float, ...]) -> Mean:
    """Mean over the mixtures that have a score."""
    return mean([difference for difference in differences if not np.isnan(difference)])


if __name__ == "__main__":
    sys.exit(main())
