"""The command `python -m images`."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sottovoce import interruption, terminal
from sottovoce.errors import SottovoceError
from sottovoce.paths import require_writable


def images(
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    volume: Path | None = None,
    systems: tuple[Literal["published", "simulated", "joint", "paired"], ...] = (
        "published",
        "simulated",
        "joint",
        "paired",
    ),
    seeds: tuple[int, ...] = (1, 2, 3),
    steps: tuple[int, int] = (200, 450),
) -> None:
    """Denoise medical images without pairs, beside classical methods and a bound. Not for clinical use.

    The same command goes on with an interrupted experiment, and does nothing twice.

    Example:
        python -m images -o results/images

    Args:
        output: Folder of the experiment: trainings, scores, results.csv, results.md, figures.
        volume: Slices of your own without noise, an array (slices, rows, columns) as numpy.save writes it, in place of
            the template of the brain that nilearn brings.
        systems: Trained systems: as published; simulated pairs alone; joint, which is both; paired, the bound.
        seeds: Seeds of the trainings.
        steps: Steps of both stages of every training.
    """
    require_writable(output)
    with interruption.ending_at_once(f"what is finished is kept in {output}: the same command goes on from there"):
        from images import experiment, report, slices
        from images.packages import require_packages

    require_packages("This experiment", "skimage", "pywt")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if volume is None:
        array, source, unseen = slices.brain(), "nilearn's template", slices.retina()
    else:
        array, source, unseen = slices.read_volume(volume), volume.name, None
    wanted = experiment.Experiment(array, source, unseen=unseen, systems=systems, seeds=seeds, steps=steps)
    with terminal.progress() as show:
        results = experiment.conduct(wanted, output, show)
    files = report.write(wanted, results, output)
    terminal.say(f"Wrote {', '.join(str(path) for path in files)}.")


def main() -> int:
    """Run the command line of this process.

    Returns:
        Exit code.
    """
    try:
        with interruption.raised(), terminal.sentences():
            tyro.cli(images, prog="python -m images")
    except SottovoceError as error:
        terminal.warn(str(error))
        return 1
    except KeyboardInterrupt as interrupt:
        terminal.warn("interrupted: what is finished is kept, and the same command goes on from there")
        return interruption.exit_code(interrupt)
    return 0
