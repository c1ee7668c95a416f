"""The command `sottovoce benchmark`."""

import os

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output
from sottovoce.extras import require
from sottovoce.paths import require_writable


def benchmark(
    *,
    output: Output,
    protocol: tuple[str, ...] = ("poster",),
    speech: tuple[str, ...] = (),
    noise: tuple[str, ...] = (),
    rooms: tuple[str, ...] = (),
    test_speech: tuple[str, ...] = (),
    test_noise: tuple[str, ...] = (),
    test_rooms: tuple[str, ...] = (),
    systems: tuple[str, ...] = ("main",),
    seeds: tuple[int, ...] = (1, 2, 3),
    steps: tuple[int, int] | None = None,
    clean_signals: int = 28,
    clean_seconds: float = 30.0,
    mixtures: int = 392,
    mixture_seconds: float = 30.0,
    test_mixtures: int = 140,
    test_seconds: float = 5.0,
    protocol_seed: int = 1,
    pages: tuple[str, ...] = (),
    quick: bool = False,
    jobs: int = os.cpu_count() or 1,
) -> None:
    """Repeat the published experiment: train all compared systems, score them, write tables and figures.

    Needs clean speech, noises and measured rooms; without any, the recordings of the repository's examples/ serve.
    Speakers, noises and rooms of the test are not in the training. The same command goes on with an interrupted
    benchmark, and does nothing twice. A corpus is written as NAME:FOLDER (docs/corpora.md lists the names),
    or as a plain folder with a sub-folder per speaker, kind of noise or room.

    Example:
        sottovoce benchmark --quick -o results/quick
        sottovoce benchmark --pages phase --seeds 1 --systems unprocessed -o results/phase
        sottovoce benchmark --speech daps:/data/daps --noise noisex92:/data/noisex --rooms /data/rooms -o results/poster

    Args:
        output: Folder of the benchmark: protocol, trained systems, scores, results.md, results.csv, costs.md, figures.
        protocol: Conditions: poster (unseen noises and rooms, reverberant), matched (the training's noises and rooms),
            dry (unseen noises, no rooms).
        speech: Clean speech.
        noise: Noises.
        rooms: Measured room impulse responses.
        test_speech: Speech of the test alone; otherwise speakers are divided by seed.
        test_noise: Noises of the test alone; otherwise kinds are divided by seed.
        test_rooms: Rooms of the test alone; otherwise rooms are divided by seed.
        systems: Rows: main, ablations, all, or names such as joint or log_mmse.
        seeds: Seeds of the trainings; ablations take the first.
        steps: Steps of the two stages of every training, in place of those of the settings.
        clean_signals: Clean signals for the speech autoencoder.
        clean_seconds: Maximum length of each in seconds.
        mixtures: Noisy recordings to learn from.
        mixture_seconds: Length of each.
        test_mixtures: Mixtures to test with, at -5, 0 and 5 dB in turn.
        test_seconds: Length of each.
        protocol_seed: Seed of the split and of all mixtures.
        pages: Further pages: phase (phase.md: clean and estimated amplitudes with the phases of mixture, heap
            integration, Griffin-Lim, D_P and clean speech; with the row joint, by the poster's decoders as well),
            curves (curves.md: scores of the networks after a sixteenth to a half of each training's last stage, on
            the first 48 test mixtures), latents (latents.md: how close mixtures come to their words in latent space).
        quick: Scale everything down, to see within minutes that it all works; the scores mean nothing.
        jobs: Number of processes.
    """
    require("train", "A benchmark")
    require("metrics", "A benchmark", "pesq", "pystoi", "scipy")
    require_writable(output)
    with interruption.ending_at_once(f"what is finished is kept in {output}: the same command goes on from there"):
        from sspd2023 import experiment
        from sspd2023.protocol import Counts

    counts = Counts(clean_signals, clean_seconds, mixtures, mixture_seconds, test_mixtures, test_seconds)
    wanted = experiment.Experiment(
        conditions=protocol,
        sources=experiment.SourceNames(speech, noise, rooms, test_speech, test_noise, test_rooms),
        systems=systems,
        seeds=seeds,
        steps=steps,
        counts=counts,
        protocol_seed=protocol_seed,
        pages=pages,
    )
    if quick:
        wanted = experiment.quick(wanted)
    with terminal.progress() as show:
        report = experiment.conduct(
            wanted,
            output,
            jobs=jobs,
            on_progress=show,
        )
    for title, rows in report.tables.items():
        terminal.print_table(rows, title=title)
    for note in report.notes:
        terminal.say(f"note: {note}", to_stderr=True)
    terminal.say(f"Wrote {', '.join(str(path) for path in report.files)}.")
