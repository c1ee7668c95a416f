"""The command `search`."""

from pathlib import Path
from typing import Literal

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output
from sottovoce.extras import require
from sottovoce.paths import require_writable


def search(
    *,
    speech: Path,
    mixtures: Path,
    space: Path,
    output: Output,
    trials: int,
    config: str = "default",
    repeats: int = 2,
    measure: Literal["pesq_wb", "estoi", "si_sdr_db"] = "pesq_wb",
    development: Path | None = None,
    seed: int | None = None,
) -> None:
    """Search loss weights and widths by short trainings.

    Each trial is an ordinary training. No pairs are needed to score it: a quarter of the speakers and sessions is held
    out of all trainings, and the noise in the pauses of these recordings is put on the speech of these speakers. Trials
    that fall behind are cut short. At the end, the best settings and those as they are are trained with other seeds.
    The same command goes on where it was interrupted, and so does one with more trials.

    Example:
        sottovoce search --speech clean/ --mixtures my_room/ --space space.yaml --trials 20 -o runs/search
        sottovoce train --speech clean/ --mixtures my_room/ --config runs/search/best.yaml -o runs/my_room

    Args:
        speech: Folder of clean speech, of anyone.
        mixtures: Folder of noisy recordings.
        space: YAML file of what to search, such as `joint_weights.cycle: {low: 0.05, high: 1, log: true}`.
        output: Folder of the search: report, best.yaml, trainings, and study.db of Optuna.
        trials: Number of trials, those before an interruption included.
        config: Settings to search around: the name of one that comes with sottovoce, or a YAML file.
        repeats: Number of other seeds with which the best settings and those as they are are trained at the end.
        measure: What trials are chosen by.
        development: Folder with noisy/ and clean/ to score on instead, of other speakers and noises than those trained
            on.
        seed: Another seed than that of the settings.
    """
    for extra, modules in {"train": (), "metrics": ("pesq", "pystoi", "scipy"), "search": ()}.items():
        require(extra, "A search", *modules)
    require_writable(output)
    from sottovoce.config import changed, find_settings, load_settings
    from sottovoce.search.space import read_space

    settings = load_settings(find_settings(config))
    if seed is not None:
        settings = changed(settings, {"training": {"seed": seed}}, "--seed")
    searched = read_space(space, settings)
    saved = f"what was trained is saved in {output}: the same command goes on from there"
    with interruption.ending_at_once(saved):
        import logging

        from sottovoce.search.study import search as run

    terminal.say_every_step()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with interruption.noted(lambda: saved), terminal.progress() as show:
        outcome = run(
            speech,
            mixtures,
            output,
            settings,
            searched,
            trials=trials,
            repeats=repeats,
            measure=measure,
            development=development,
            on_progress=show,
        )
    terminal.say(outcome.verdict())
    terminal.say(f"Wrote {output / 'README.md'}; settings: {output / 'best.yaml'}.")
