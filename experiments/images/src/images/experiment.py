"""From slices to tables: train, denoise, score, resume."""

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from images import classical
from images.networks import ImageSystem
from images.noise import NOISES, Noise, air_blocks, level_of
from images.scores import Scores, score
from images.slices import Images, Split, checked, split
from images.training import PUBLISHED, SYSTEMS, Material, material, train
from sottovoce.atomic import replacing
from sottovoce.errors import DataError
from sottovoce.progress import Progress, part

UNPROCESSED = "unprocessed"
CEILING = "ceiling"
"""The clean slice through the clean autoencoder: what its decoder can give at best."""

GAP = 8
"""Slices between two slabs: in the template, slices so far apart share little detail."""

SLICES, UNSEEN = "slices", "unseen"
"""Test slices of the volume; images of another kind, of which nothing was learned."""

_AIR_BLOCK = 16
_DARK_FRAME = 64
_TEST_EVERY, _DEVELOPMENT_EVERY = 4, 6
_TISSUE = 0.02


@dataclass(frozen=True)
class Result:
    """The scores of one slice.

    Attributes:
        noise: The instrument.
        level: Its level.
        system: Name of the system.
        seed: Seed of its training; None where nothing is trained.
        images: `SLICES`, or `UNSEEN` for images of another kind.
        position: Of the slice among these.
        scores: All measures.
    """

    noise: str
    level: float
    system: str
    seed: int | None
    images: str
    position: int
    scores: Scores


@dataclass(frozen=True)
class Case:
    """A noisy image whose clean version is known.

    Attributes:
        images: `SLICES` or `UNSEEN`.
        position: Of the slice in the volume.
        level: Of the noise.
        measured: In units, `(rows, columns)`.
        truth: From 0 to 1, `(rows, columns)`.
        tissue: Where something is shown.
        air: Noise alone, `(blocks, side, side)`, in the representation; it tells classical methods how strong it is.
    """

    images: str
    position: int
    level: float
    measured: Images
    truth: Images
    tissue: NDArray[np.bool_]
    air: Images


def cases(volume: Images, positions: Iterable[int], noise: Noise, images: str = SLICES) -> list[Case]:
    """Measure slices at every level.

    Args:
        volume: `(slices, rows, columns)`, from 0 to 1.
        positions: Which slices.
        noise: The instrument.
        images: `SLICES`, whose noise is seen in the air around; or `UNSEEN`, with a dark frame beside each.

    Returns:
        One case per level and slice.
    """
    found = []
    for number, level in enumerate(noise.levels):
        for position in positions:
            generator = np.random.default_rng([position, 2, number])
            truth = noise.clean(volume[position])
            measured = noise.measure(truth, level, generator)
            if images == SLICES:
                air = air_blocks(noise.represent(measured), _AIR_BLOCK)
            else:
                nothing = noise.clean(np.zeros((1, _DARK_FRAME, _DARK_FRAME), np.float32))
                air = noise.represent(noise.measure(nothing, level, generator))
            found.append(Case(images, position, level, measured, truth, volume[position] > _TISSUE, air))
    return found


def denoise(network: ImageSystem, measured: Images, noise: Noise) -> Images:
    """Denoise a measured image of any size with a trained system. Not for clinical use.

    Args:
        network: In evaluation mode.
        measured: `(rows, columns)` in the instrument's units.
        noise: The instrument that the system was trained for.

    Returns:
        `(rows, columns)` in units; not finite where the training has diverged.

    Raises:
        DataError: The image is too small, constant, negative or not finite.
    """
    if measured.ndim != 2:
        raise DataError(f"found an image of {measured.ndim} axes, expected (rows, columns): give slices one by one")
    represented = noise.represent(checked(measured, "the image"))
    scale = np.float32(level_of(represented))
    denoised = network(torch.from_numpy(represented / scale)[None, None])[0, 0].numpy()
    return noise.restore(denoised * scale)


def scored(estimate: Images, case: Case, noise: Noise) -> Scores:
    """Scores of an estimate in units."""
    return score(noise.from_units(estimate, case.level), case.truth, case.tissue)


def denoise_classically(method: str, case: Case, noise: Noise, choice: classical.Choice) -> Images:
    """Denoise a case in a classical way; the estimate is in units."""
    return noise.restore(classical.denoise(method, noise.represent(case.measured), case.air, noise, choice))


def choose(method: str, development: Sequence[Case], noise: Noise) -> dict[float, classical.Choice]:
    """Choose the strength of a classical method for every level, by PSNR over tissue.

    Args:
        method: Name of the method.
        development: Cases that are not scored.
        noise: The instrument.

    Returns:
        Choices by level.
    """

    def quality(choice: classical.Choice, level: float) -> float:
        those = [case for case in development if case.level == level]
        return float(
            np.mean([scored(denoise_classically(method, case, noise, choice), case, noise).psnr_db for case in those])
        )

    corrections = (False, True) if noise.biased else (False,)
    choices = list(itertools.starmap(classical.Choice, itertools.product(classical.STRENGTHS[method], corrections)))
    return {level: max(choices, key=lambda choice: quality(choice, level)) for level in noise.levels}


@dataclass(frozen=True)
class Experiment:
    """What is to be done.

    Attributes:
        volume: Slices `(slices, rows, columns)`, from 0 to 1.
        source: What they are.
        unseen: Images of another kind `(images, rows, columns)`, measured with counting noise; None for no such test.
        noises: The instruments.
        systems: Names of trained systems.
        seeds: Seeds of their trainings.
        steps: Steps of both stages.
    """

    volume: Images
    source: str
    unseen: Images | None = None
    noises: tuple[Noise, ...] = NOISES
    systems: tuple[str, ...] = tuple(SYSTEMS)
    seeds: tuple[int, ...] = (1, 2, 3)
    steps: tuple[int, int] = (200, 450)


def conduct(wanted: Experiment, out: Path, on_progress: Progress | None = None) -> list[Result]:
    """Train and score; what is finished in `out` is not done again.

    Args:
        wanted: What is to be done.
        out: Folder: trainings, scores and examples by system, strengths of classical methods, results.csv.
        on_progress: Called with every task's progress.

    Returns:
        All results.

    Raises:
        DataError: The volume has too few slices or no air, or `out` holds an experiment with other slices or steps.
        MissingExtraError: A package is not installed.
    """
    _record(wanted, out)
    parts = split(wanted.volume, GAP)
    results: list[Result] = []
    benches = [_Bench(wanted, parts, noise, out, on_progress) for noise in wanted.noises]
    for bench in benches:
        results += bench.kept("classical", bench.classical)
    for seed, name, bench in itertools.product(wanted.seeds, wanted.systems, benches):
        results += bench.kept(f"{name}_{seed}", partial(bench.trained, name, seed))
    with replacing(out / "results.csv") as temporary:
        temporary.write_text(to_csv(results), encoding="utf-8")
    return results


def _record(wanted: Experiment, out: Path) -> None:
    """Keep what an experiment is made of, or see that it is that of the one in the folder."""
    recorded = out / "experiment.json"
    content = json.dumps(
        {
            "source": wanted.source,
            "slices": list(wanted.volume.shape),
            "sha256": hashlib.sha256(wanted.volume.tobytes()).hexdigest(),
            "steps": list(wanted.steps),
        },
        indent=2,
    )
    if recorded.exists() and recorded.read_text(encoding="utf-8") != content:
        raise DataError(f"found an experiment with other slices or steps in {out}: give another folder")
    with replacing(recorded) as temporary:
        temporary.write_text(content, encoding="utf-8")


class _Bench:
    """The part of an experiment with one instrument."""

    def __init__(self, wanted: Experiment, parts: Split, noise: Noise, out: Path, on_progress: Progress | None) -> None:
        self._wanted, self._noise, self._out, self._on_progress = wanted, noise, out, on_progress
        self._learned_from: Material = material(wanted.volume, parts, noise)
        self._development = cases(wanted.volume, parts.development[::_DEVELOPMENT_EVERY], noise)
        self._test = cases(wanted.volume, parts.test[::_TEST_EVERY], noise)
        self._example = self._test[-1]
        if wanted.unseen is not None and noise.unit == "counts":
            self._test += cases(wanted.unseen, range(len(wanted.unseen)), noise, UNSEEN)

    def kept(self, name: str, work: Callable[[], Iterable[Result]]) -> list[Result]:
        """Results of some work, which is done once."""
        path = self._out / "scores" / f"{self._noise.name}_{name}.csv"
        if not path.exists():
            text = to_csv(work())
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return from_csv(path.read_text(encoding="utf-8"))

    def classical(self) -> Iterator[Result]:
        """Scores of what needs no training."""
        for case in self._test:
            yield self._result(UNPROCESSED, None, case, self._noise.restore(self._noise.represent(case.measured)))
        show = part(self._on_progress, f"{self._noise.name}: classical methods")
        lines = []
        for number, method in enumerate(classical.STRENGTHS):
            if show is not None:
                show(number, len(classical.STRENGTHS))
            choices = choose(method, self._development, self._noise)
            lines += [[method, f"{level:g}", *map(str, astuple(choice))] for level, choice in choices.items()]
            for case in self._test:
                estimate = denoise_classically(method, case, self._noise, choices[case.level])
                yield self._result(method, None, case, estimate)
        with replacing(self._out / "strengths" / f"{self._noise.name}.csv") as temporary:
            temporary.write_text("\n".join(map(",".join, [["method", "level", "strength", "unbiased"], *lines, []])))

    def trained(self, name: str, seed: int) -> Iterator[Result]:
        """Scores of a system with one seed."""
        network = train(
            SYSTEMS[name],
            self._learned_from,
            self._noise,
            run_folder(self._out, self._noise, name, seed),
            seed=seed,
            steps=self._wanted.steps,
            on_progress=part(self._on_progress, f"{self._noise.name}: {name}, seed {seed}"),
        )
        for case in self._test:
            yield self._result(name, seed, case, denoise(network, case.measured, self._noise))
        if name == PUBLISHED:
            for case in self._test:
                yield self._result(CEILING, seed, case, self._ceiling(network, case))

    def _ceiling(self, network: ImageSystem, case: Case) -> Images:
        represented = self._noise.represent_clean(self._noise.in_units(case.truth, case.level))
        scale = np.float32(level_of(represented))
        decoded = network.reconstruct(torch.from_numpy(represented / scale)[None, None])[0, 0].numpy()
        return self._noise.restore_clean(decoded * scale)

    def _result(self, system: str, seed: int | None, case: Case, estimate: Images) -> Result:
        if case is self._example and seed in (None, self._wanted.seeds[0]):
            shown = {"truth": case.truth, system: self._noise.from_units(estimate, case.level)}
            for name, image in shown.items():
                with replacing(example(self._out, self._noise.name, name)) as temporary:
                    np.save(temporary, image)
        scores = scored(estimate, case, self._noise)
        return Result(self._noise.name, case.level, system, seed, case.images, case.position, scores)


def example(out: Path, noise: str, system: str) -> Path:
    """Where an image of a system is kept for the figure; "truth" is the slice without noise."""
    return out / "examples" / f"{noise}_{system}.npy"


_MEASURES = tuple(field.name for field in fields(Scores))
_COLUMNS = ("noise", "level", "system", "seed", "images", "position", *_MEASURES)


def to_csv(results: Iterable[Result]) -> str:
    """One line per result, with `undefined` where there is no score.

    Args:
        results: What to write; scores are rounded to four decimals.

    Returns:
        Comma-separated text.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for result in results:
        seed = "" if result.seed is None else result.seed
        values = ["undefined" if np.isnan(value) else f"{value:.4f}" for value in astuple(result.scores)]
        lines.writerow(
            [result.noise, f"{result.level:g}", result.system, seed, result.images, result.position, *values]
        )
    return text.getvalue()


def from_csv(text: str) -> list[Result]:
    """Read what `to_csv` wrote.

    Args:
        text: The table.

    Returns:
        Results in the order of the lines.

    Raises:
        DataError: The text is not such a table.
    """
    heading, *lines = csv.reader(io.StringIO(text))
    if tuple(heading) != _COLUMNS:
        raise DataError(f"found the columns {', '.join(heading)}, expected {', '.join(_COLUMNS)}: make the table again")
    results = []
    for noise, level, system, seed, images, position, *values in lines:
        scores = Scores(*(float("nan") if value == "undefined" else float(value) for value in values))
        results.append(Result(noise, float(level), system, int(seed) if seed else None, images, int(position), scores))
    return results


def run_folder(out: Path, noise: Noise, system: str, seed: int) -> Path:
    """Folder of a training."""
    return out / "runs" / f"{noise.name}_{system}_{seed}"
