"""The `sottovoce` command: one typed function per sub-command, in the order in which a newcomer meets them."""

import contextlib
import errno
import inspect
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from sottovoce import terminal
from sottovoce.errors import AudioError, ConfigError, DataError, MissingExtraError, SottovoceError

if TYPE_CHECKING:
    from sottovoce.engine.model import ModelMetadata

COMMANDS: dict[str, Callable[..., int | None]] = {}

HELP = "sottovoce: speech enhancement that learns from the recordings people have.\n\nUsage: sottovoce COMMAND ...\n"

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


STANDARD = Path("-")
"""Standard input or output, in place of a file."""


class Paths(tuple[Path, ...]):
    """Paths of a command line.

    A class, and `Optional` in place of `X | None`, in the commands that should start quickly: tyro knows how to check
    their defaults, and loads typeguard, asyncio and unittest, which takes 45 ms, to check those of other types.
    """


Inputs = Annotated[
    Paths,
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="IN",
        instance_from_str=lambda words: Paths(map(Path, words)),
        is_instance=lambda value: isinstance(value, Paths),
        str_from_instance=lambda paths: [str(path) for path in paths],
    ),
    tyro.conf.arg(metavar="IN [IN ...]"),
]


def enhance(
    inputs: Inputs,
    /,
    *,
    output: Output,
    model: str = "default",
    limit_db: Optional[float] = None,
    mix: float = 1.0,
    full_band: bool = True,
    linked: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    jobs: int = os.cpu_count() or 1,
    raw: Optional[Literal["s16le", "f32le"]] = None,
    rate: Optional[int] = None,
    channels: Optional[int] = None,
) -> int:
    """Take noise and reverberation out of recordings.

    Rate, channels, length and sample format stay. A folder is searched with the folders below it, which are made again
    in the output. What cannot be read is reported, the rest is enhanced, and the exit code is 1. A single dash is
    standard input or output: WAV, or samples without a header (--raw), which pass as they come.

    Example:
        sottovoce enhance interview.wav -o clear.wav
        sottovoce enhance recordings/ -o enhanced/ --limit-db 20 --resume
        ffmpeg -i talk.mp4 -f wav - | sottovoce enhance - -o - | ffmpeg -i - talk.mp3

    Args:
        inputs: Recordings, and folders of recordings; - for standard input.
        output: A file for one recording, otherwise a folder; - for standard output.
        model: A bundled model, default or live, of which live gives each sample 16 ms sooner; or the folder of a
            training or an adaptation, or the model.onnx in it.
        limit_db: The most attenuation allowed, in dB: 20 leaves a little of the room, and fewer artefacts.
        mix: Share of the enhanced signal: 1 is enhanced only, 0 the recording.
        full_band: Keep what lies above the model's band (8 kHz), with less noise there too; --no-full-band removes it.
        linked: Treat all channels of a recording alike, so that no source moves between them; also faster.
        overwrite: Replace existing files.
        resume: Go on with an interrupted run: keep what it finished, unless the recording is newer, and do the rest.
        jobs: Number of recordings at once.
        raw: Samples without a header, in ffmpeg's words, on standard input and output. At other rates than the
            model's they come out sooner than those of a WAV, through a shorter filter.
        rate: Rate of raw standard input in Hz.
        channels: Number of channels of raw standard input, 1 if not given.
    """
    import sottovoce
    from sottovoce.engine.files import enhance_files

    _end_by_sigterm_as_by_ctrl_c()
    if STANDARD in (*inputs, output):
        if resume:
            raise ConfigError("found --resume with standard input or output, expected folders: a pipe begins anew")
        return _enhance_pipe(
            inputs,
            output,
            model,
            raw=raw,
            rate=rate,
            channels=channels,
            limit_db=limit_db,
            mix=mix,
            full_band=full_band,
            linked=linked,
            overwrite=overwrite,
        )
    if (raw, rate, channels) != (None, None, None):
        raise ConfigError("found --raw, --rate or --channels with files, which tell it: they are for a pipe (-)")

    start = time.perf_counter()
    try:
        with terminal.progress() as show:
            results = enhance_files(
                inputs,
                output,
                sottovoce.load(model),
                limit_db=limit_db,
                mix=mix,
                full_band=full_band,
                linked=linked,
                overwrite=overwrite,
                resume=resume,
                jobs=jobs,
                on_progress=lambda done, total: show(
                    "enhancing", done, total, f" {terminal.duration(done)} of {terminal.duration(total)}"
                ),
            )
    except KeyboardInterrupt:
        if output.is_dir():
            print("sottovoce: what is finished is kept; --resume goes on from there.", file=sys.stderr)
        raise
    elapsed_seconds = time.perf_counter() - start
    failed = [result for result in results if result.error is not None]
    for result in failed:
        print(f"sottovoce: {result.error}", file=sys.stderr)
    kept = sum(result.kept for result in results)
    seconds = sum(result.seconds for result in results if result.error is None and not result.kept)
    print(
        f"Enhanced {len(results) - len(failed) - kept} of {len(results)} recordings, "
        f"{terminal.duration(seconds)} of sound in {elapsed_seconds:.1f} s: {seconds / elapsed_seconds:.1f} times as "
        "fast as real time; " + (f"{kept} kept from earlier; " if resume else "") + f"{len(failed)} failed."
    )
    return 1 if failed else 0


def _enhance_pipe(
    inputs: tuple[Path, ...],
    output: Path,
    model: str,
    *,
    raw: Literal["s16le", "f32le"] | None,
    rate: int | None,
    channels: int | None,
    limit_db: float | None,
    mix: float,
    full_band: bool,
    linked: bool,
    overwrite: bool,
) -> int:
    """Enhance with standard input or output; everything but sound goes to standard error."""
    import sottovoce
    from sottovoce.engine.pipes import enhance_pipe
    from sottovoce.signal.pipes import RawSound

    if len(inputs) != 1 or inputs[0].is_dir():
        raise ConfigError("found several recordings with standard input or output (-), expected one")
    source_raw = None
    if raw is not None and inputs[0] == STANDARD:
        if rate is None:
            raise ConfigError("found --raw without --rate, expected the rate in Hz: raw samples do not tell it")
        source_raw = RawSound(raw, rate, 1 if channels is None else channels)
    elif (rate, channels) != (None, None):
        raise ConfigError("found --rate or --channels without raw standard input, which alone needs them")
    if inputs[0] == STANDARD and sys.stdin is None:
        raise ConfigError("standard input is closed, expected sound: put a program before it, as in `ffmpeg ... |`")
    if output == STANDARD and sys.stdout is None:
        raise ConfigError("standard output is closed, expected where the sound shall go: add `| PROGRAM` or `> FILE`")
    if inputs[0] == STANDARD and sys.stdin.isatty():
        raise ConfigError("standard input is a terminal, expected sound: put a program before it, as in `ffmpeg ... |`")
    if output == STANDARD and sys.stdout.isatty():
        raise ConfigError("standard output is a terminal, which cannot take sound: add `| PROGRAM` or `> FILE`")
    start = time.perf_counter()
    with terminal.progress():
        seconds = enhance_pipe(
            terminal.unbuffered(sys.stdin) if inputs[0] == STANDARD else inputs[0],
            terminal.unbuffered(sys.stdout) if output == STANDARD else output,
            sottovoce.load(model),
            source_raw=source_raw,
            target_raw=raw,
            limit_db=limit_db,
            mix=mix,
            full_band=full_band,
            linked=linked,
            # Raw samples are what live programs give; whoever has time can send a WAV.
            live=source_raw is not None,
            overwrite=overwrite,
        )
    elapsed_seconds = time.perf_counter() - start
    print(f"sottovoce: enhanced {terminal.duration(seconds)} of sound in {elapsed_seconds:.1f} s.", file=sys.stderr)
    return 0


def _end_by_sigterm_as_by_ctrl_c() -> None:
    """Leave nothing half-written where a service manager, `timeout` or a closed terminal ends the program, either."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # What nohup has told us to ignore is ignored.
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def live(
    *,
    input: Optional[str] = None,
    output: Annotated[Optional[str], tyro.conf.arg(aliases=["-o"])] = None,
    list_devices: bool = False,
    model: str = "default",
    limit_db: Optional[float] = None,
    mix: float = 1.0,
    full_band: bool = True,
    linked: bool = False,
    rate: Optional[int] = None,
    channels: int = 1,
    block_ms: float = 10.0,
    seconds: Optional[float] = None,
) -> int:
    """Enhance a microphone while you speak, for headphones, a recording program or a call.

    Calls take a virtual device as their microphone: see docs/live.md. Shows the level before and after; the key b lets
    the recording through as it is and back, q ends, as Ctrl-C does. Tells the latency at the start, and at the end how
    often sound was lost.

    Example:
        sottovoce live --list-devices
        sottovoce live --input "USB microphone" --output clean --limit-db 20

    Args:
        input: Device to record from: its name, a part of it, or its number; the usual one if not given.
        output: Device to play to.
        list_devices: List the devices, and do nothing else.
        model: A bundled model, default or live, of which live gives each sample 16 ms sooner; or the folder of a
            training or an adaptation, or the model.onnx in it.
        limit_db: The most attenuation allowed, in dB: 20 leaves a little of the room, and fewer artefacts.
        mix: Share of the enhanced signal: 1 is enhanced only, 0 the recording.
        full_band: What lies above the model's band (8 kHz) stays, with less noise there too; otherwise it is removed.
        linked: Treat all channels alike, so that no source moves between them; also faster.
        rate: Rate of the devices in Hz; the model's if not given, where the devices take it.
        channels: Number of channels, each enhanced for itself.
        block_ms: Length of a block in ms: shorter is sooner, and fails sooner on a busy machine.
        seconds: End after this time; without it, go on.
    """
    import sottovoce
    from sottovoce.engine.live import Live, devices

    if list_devices:
        found = devices()
        if not found:
            raise AudioError("found no sound device, expected one at least: see whether a sound server runs")
        print("nr  in out  rate     device (* is the usual input, + the usual output)")
        for device in found:
            marks = "*" * device.is_default_input + "+" * device.is_default_output
            print(
                f"{device.number:2d} {device.inputs:3d} {device.outputs:3d}  {device.sample_rate:<7d}  "
                f"{device.name} ({device.system}) {marks}".rstrip()
            )
        return 0
    session = Live(
        sottovoce.load(model),
        input_device=_device(input),
        output_device=_device(output),
        sample_rate=rate,
        channels=channels,
        block_seconds=block_ms / 1000,
        limit_db=limit_db,
        mix=mix,
        full_band=full_band,
        linked=linked,
    )
    _end_by_sigterm_as_by_ctrl_c()
    with terminal.own_words_only(), session:
        start = time.monotonic()
        latency = session.latency
        try:
            with contextlib.suppress(KeyboardInterrupt), terminal.keys() as next_key, terminal.meters() as show:
                # Said where an interruption is an end: who reads this may interrupt at once.
                print(
                    f"From {session.input_name!r} to {session.output_name!r} at {session.sample_rate} Hz, "
                    f"{1000 * latency.total_seconds:.0f} ms late: model {1000 * latency.model_seconds:.0f}, "
                    f"blocks {1000 * latency.blocks_seconds:.0f}, input {1000 * latency.input_seconds:.0f}, "
                    f"output {1000 * latency.output_seconds:.0f}.",
                    flush=True,
                )
                while seconds is None or time.monotonic() - start < seconds:
                    session.check()
                    key = next_key()
                    if key == "q":
                        break
                    if key == "b":
                        session.relay.bypass = not session.relay.bypass
                    show(session.relay)
        finally:
            print(
                f"Ran {terminal.duration(time.monotonic() - start)}: {session.overruns} overrun(s), in which sound was "
                f"lost, and {session.underruns} underrun(s), in which there was silence.",
                flush=True,
            )
    return 0


def _device(text: str | None) -> str | int | None:
    return int(text) if text and text.isdecimal() else text


def evaluate(
    *,
    reference: Path,
    estimate: Path,
    unprocessed: Path | None = None,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    jobs: int = os.cpu_count() or 1,
    overwrite: bool = False,
) -> int:
    """Score recordings against their clean references: PESQ, STOI, SI-SDR, CSIG, CBAK, COVL, DNSMOS.

    Files are paired by their path below the folder, without suffix; other rates are resampled to 16 kHz. Prints the
    mean of each measure with its 95 % confidence interval. Recordings without counterpart or of different length are
    named and left out, and the exit code is then 1.

    Example:
        sottovoce evaluate --reference test/clean --estimate test/enhanced --unprocessed test/noisy -o test/scores

    Args:
        reference: Folder of clean recordings.
        estimate: Folder of enhanced recordings.
        unprocessed: Folder of the recordings before enhancement, to stand beside.
        output: Folder for scores.csv (every file), scores.md (means and every file) and scores.png (means).
        jobs: Number of processes.
        overwrite: Replace earlier scores in the output folder.
    """
    from rich.console import Console
    from rich.table import Table

    from sottovoce.atomic import replacing
    from sottovoce.metrics import plots, report, scores

    if jobs < 1:
        raise ConfigError(f"Found --jobs {jobs}, expected 1 or more.")
    targets = {name: output / f"scores.{name}" for name in ("csv", "md", "png")} if output else {}
    _refuse_existing(*targets.values(), overwrite=overwrite)
    systems = {"estimate": estimate} | ({"unprocessed": unprocessed} if unprocessed else {})
    tasks, problems = scores.match(reference, systems)
    with terminal.progress() as show:
        done = itertools.count(1)
        results, failures = scores.score_jobs(
            tasks, workers=jobs, on_done=lambda: show("scoring", next(done), len(tasks), "")
        )
    problems += failures
    for problem in problems:
        print(f"sottovoce: left out: {problem}", file=sys.stderr)
    if not results:
        raise DataError(f"Found no recording in {estimate} that can be scored: see above.")
    notes = scores.notes()
    heading, *rows = report.table(results)
    table = Table(*heading, title=f"mean ± 95 % confidence interval, {len(results) // len(systems)} file(s)")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for note in notes:
        print(f"sottovoce: note: {note}", file=sys.stderr)
    if output:
        for name, text in {"csv": report.to_csv(results), "md": report.to_markdown(results, notes=notes)}.items():
            with replacing(targets[name]) as path:
                path.write_text(text, encoding="utf-8")
        plots.save(plots.score_chart(report.summarise(results), title=estimate.name), targets["png"])
        print(f"Wrote {', '.join(str(path) for path in targets.values())}.")
    return 1 if problems else 0


def mix(
    *,
    speech: Path,
    noise: Path,
    output: Output,
    count: int,
    rooms: Path | None = None,
    simulated_rooms: float | None = None,
    snr_db: tuple[float, ...] = (-5.0, 0.0, 5.0),
    seconds: float | None = None,
    target: Literal["dry", "early"] = "dry",
    sample_rate: int = 16000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Make noisy mixtures with known clean speech, to test with.

    Writes noisy/, clean/ and mixtures.csv, which tells how each mixture was made. Equal arguments give equal files. The
    first folder below --speech names the talker, that below --noise the kind of noise; both are dealt out evenly.

    Example:
        sottovoce mix --speech clean/ --noise noise/ --count 90 --snr-db 0 5 10 -o test/
        sottovoce mix --speech clean/ --noise noise/ --simulated-rooms 0.5 --seconds 30 --count 40 -o field/

    Args:
        speech: Folder of clean speech, a sub-folder per talker.
        noise: Folder of noise, a sub-folder per kind.
        output: Folder to make.
        count: Number of mixtures.
        rooms: Folder of measured room impulse responses; every mixture is in one of them.
        simulated_rooms: Share of the mixtures in a simulated room, 0 to 1.
        snr_db: Ratios of active speech to noise in dB, taken in turn.
        seconds: Length of each mixture, from utterances of one talker with the pauses of a conversation; without it,
            a mixture is one utterance.
        target: What counts as clean: dry speech, or direct sound with early reflections (50 ms).
        sample_rate: Rate of the mixtures in Hz.
        seed: Another seed gives other mixtures.
        overwrite: Replace an existing folder of mixtures.
    """
    from sottovoce.data.manifest import scan
    from sottovoce.data.mixtures import TABLE, make_mixtures
    from sottovoce.signal.audio import find_audio

    if rooms is not None and simulated_rooms is not None:
        raise ConfigError("Found --rooms and --simulated-rooms, expected one of them.")
    with terminal.progress() as show:

        def tell(task: str) -> Callable[[int, int], None]:
            return lambda done, total: show(task, done, total, f" {done} of {total}")

        talkers = scan(speech, progress=tell("looking at the speech"))
        noises = scan(noise, progress=tell("looking at the noise"))
        rows = make_mixtures(
            talkers,
            noises,
            output,
            count=count,
            snr_db=snr_db,
            seed=seed,
            responses=find_audio(rooms) if rooms else (),
            room_share=1.0 if rooms else simulated_rooms or 0.0,
            seconds=seconds,
            target=target,
            sample_rate=sample_rate,
            overwrite=overwrite,
            progress=tell("mixing"),
        )
    for unusable in (*talkers.unusable, *noises.unusable):
        print(f"sottovoce: left out: {unusable.reason}", file=sys.stderr)
    seconds_in_all = sum(row.seconds for row in rows)
    print(f"Mixed {len(rows)} files, {terminal.duration(seconds_in_all)} of sound; see {output / TABLE}.")


def plot(
    before: Annotated[Path, tyro.conf.arg(metavar="BEFORE")],
    after: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="AFTER")] = (),
    /,
    *,
    output: Output,
    overwrite: bool = False,
) -> None:
    """Draw waveforms and spectrograms of recordings side by side, on shared scales.

    Of a recording with several channels the first is drawn.

    Example:
        sottovoce plot noisy.wav enhanced.wav -o picture.png

    Args:
        before: A recording.
        after: More of them, e.g. enhanced by several models.
        output: Picture to write; the suffix chooses the format (.png, .pdf, .svg).
        overwrite: Replace an existing picture.
    """
    from sottovoce.metrics import plots
    from sottovoce.signal.audio import read

    _refuse_existing(output, overwrite=overwrite)
    signals = []
    for path in (before, *after):
        waveform, rate = read(path)
        # The folder tells noisy/1.wav from enhanced/1.wav.
        signals.append(("/".join(path.parts[-2:]), waveform[0], rate))
    plots.save(plots.recordings(signals), output)


def info(file: Annotated[str, tyro.conf.arg(metavar="FILE")] = "default", /) -> None:
    """Tell what is in a recording or in a model.

    Example:
        sottovoce info interview.wav
        sottovoce info runs/my_place/model.onnx

    Args:
        file: A recording; or a model: the name of a bundled one (default, live), a file with the ending .onnx, or the
            folder of a training.
    """
    from sottovoce.weights import MODELS

    path = Path(file)
    if file not in MODELS and path.suffix.lower() != ".onnx" and not path.is_dir():
        lines = _describe_recording(path)
    else:
        import sottovoce

        lines = _describe_model(sottovoce.load(file).model.metadata)
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")


def train(
    *,
    speech: Path,
    mixtures: Path,
    output: Output,
    config: str = "default",
    seed: int | None = None,
    clean: Path | None = None,
    licence: str = "not stated",
    training_data: tuple[str, ...] = (),
) -> None:
    """Train on clean speech of anyone and noisy recordings of the place; no pairs are needed.

    The first folder below --speech names the talker, that below --mixtures the session. Noise is taken from pauses of
    a second and more in the recordings: some minutes of them are enough to begin with. Writes the model, its
    training checkpoint, curves as pictures, TensorBoard logs and everything that was found to the output folder. The
    same command goes on with an interrupted run.

    Example:
        sottovoce train --speech clean/ --mixtures my_room/ -o runs/my_room
        sottovoce enhance meeting.wav -o clear.wav --model runs/my_room/model.onnx

    Args:
        speech: Folder of clean speech, of anyone.
        mixtures: Folder of noisy recordings.
        output: Folder of the run.
        config: Settings: the name of one that comes with sottovoce (default, example, poster, baselines/irm, ...) or a
            YAML file.
        seed: Another seed than that of the settings.
        clean: Folder of the mixtures' own clean versions, by the same names: for the supervised baselines alone.
        licence: Licence of the weights, to be kept in the model.
        training_data: Corpora of the training, one sentence each, to be kept in the model.
    """
    import shlex

    from sottovoce.config import find_settings, load_settings

    settings = load_settings(find_settings(config))
    if seed is not None:
        settings = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
    try:
        from sottovoce.training.run import Provenance
        from sottovoce.training.run import train as run
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train", "Training") from error

    logging.getLogger("sottovoce").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with terminal.progress() as show:
        model = run(
            speech,
            mixtures,
            output,
            settings,
            Provenance(licence, training_data, shlex.join(["sottovoce", *sys.argv[1:]])),
            clean=clean,
            on_preparation=lambda task, done, total: show(task, done, total, f" {done} of {total}"),
            on_progress=lambda stage, step, steps, loss: show(
                f"{stage} stage", step, steps, f" step {step} of {steps}, loss {loss:.4f}"
            ),
        )
    curves = [path for name in ("losses.png", "health.png") if (path := output / name).exists()]
    print(f"Wrote {model}; curves: {', '.join(map(str, curves))}.")


def adapt(
    *,
    mixtures: Path,
    output: Output,
    model: str = "default",
    speech: Path | None = None,
    steps: int = 600,
    seed: int = 1,
) -> None:
    """Make a model better for one place, from noisy recordings of it; no clean version of anything is needed.

    Some minutes of recordings teach the noise and the voices of the place; they should have pauses in which nobody
    speaks. A part of them is held back, and the new model is taken only if it is better there; otherwise the output
    holds the old one. A single long recording serves as well. The same command goes on where it was interrupted.

    Example:
        sottovoce adapt --mixtures my_room/ -o runs/my_room
        sottovoce enhance meeting.wav -o clear.wav --model runs/my_room/model.onnx

    Args:
        mixtures: Noisy recordings of the place: a folder, or one file.
        output: Folder to write: model.onnx, its checkpoint, what was heard, and pictures.
        model: What to start from: a bundled model (default, live), a run's folder, or the checkpoint.safetensors in it.
        speech: Folder of clean speech of anyone; some that comes along by default.
        steps: Steps of the training; 600 take some minutes on two cores.
        seed: Seed of all draws.
    """
    import shlex

    from sottovoce.weights import CHECKPOINTS, DEFAULT_SPEECH

    checkpoint = CHECKPOINTS.get(model, Path(model))
    if checkpoint.is_dir():
        checkpoint /= "checkpoint.safetensors"
    if checkpoint.suffix == ".onnx":
        raise DataError(
            f"found the exported model {checkpoint}, expected a training checkpoint: give the checkpoint.safetensors "
            "that lies beside it in its run's folder."
        )
    try:
        from sottovoce.training.adapt import adapt as run
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train", "Adapting") from error

    logging.getLogger("sottovoce").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with terminal.progress() as show:
        adaptation = run(
            mixtures,
            output,
            checkpoint=checkpoint,
            speech=DEFAULT_SPEECH if speech is None else speech,
            steps=steps,
            seed=seed,
            command=shlex.join(["sottovoce", *sys.argv[1:]]),
            on_preparation=lambda task, done, total: show(task, done, total, f" {done} of {total}"),
            on_progress=lambda _, step, steps, loss: show(
                "adapting", step, steps, f" step {step} of {steps}, loss {loss:.4f}"
            ),
        )
    for line in adaptation.place.sentences():
        print(line)
    print(f"{'Adapted' if adaptation.adopted else 'Kept the old model'}: {adaptation.reason}.")
    print(f"Wrote {adaptation.model}; pictures and numbers are beside it.")
    if adaptation.refused is not None:
        print(f"What was learned is in {adaptation.refused}, if you want to hear it.")


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
    quick: bool = False,
    jobs: int = os.cpu_count() or 1,
) -> None:
    """Repeat the published experiment: train all compared systems, score them, write tables and figures.

    Needs clean speech, noises and measured rooms; without any, the recordings of the repository's examples/ serve.
    Speakers, noises and rooms of the test are never heard in training. The same command goes on with an interrupted
    benchmark, and does nothing twice. A corpus is written as NAME:FOLDER (docs/corpora.md lists the names),
    or as a plain folder with a sub-folder per talker, kind of noise or room.

    Example:
        sottovoce benchmark --quick -o results/quick
        sottovoce benchmark --speech daps:/data/daps --noise noisex92:/data/noisex --rooms /data/rooms -o results/poster

    Args:
        output: Folder of the benchmark: protocol, trained systems, scores, results.md, results.csv, costs.md, figures.
        protocol: Conditions: poster (unseen noises and rooms, reverberant), matched (the training's noises and rooms),
            dry (unseen noises, no rooms).
        speech: Clean speech.
        noise: Noises.
        rooms: Measured room impulse responses.
        test_speech: Speech of the test alone; otherwise talkers are divided by seed.
        test_noise: Noises of the test alone; otherwise kinds are divided by seed.
        test_rooms: Rooms of the test alone; otherwise rooms are divided by seed.
        systems: Rows: main, ablations, all, or names such as joint or log_mmse.
        seeds: Seeds of the trainings; ablations take the first.
        steps: Steps of the two stages of every training, in place of those of the settings.
        clean_signals: Clean signals for the speech autoencoder.
        clean_seconds: The longest that one of them is.
        mixtures: Noisy recordings to learn from.
        mixture_seconds: Length of each.
        test_mixtures: Mixtures to test with, at -5, 0 and 5 dB in turn.
        test_seconds: Length of each.
        protocol_seed: Seed of the split and of all mixtures.
        quick: Scale everything down, to see in some minutes that it all works; the scores mean nothing.
        jobs: Number of processes.
    """
    from rich.console import Console
    from rich.table import Table

    from sottovoce.benchmark import experiment
    from sottovoce.benchmark.protocol import Counts

    counts = Counts(clean_signals, clean_seconds, mixtures, mixture_seconds, test_mixtures, test_seconds)
    wanted = experiment.Experiment(
        conditions=protocol,
        sources=experiment.SourceNames(speech, noise, rooms, test_speech, test_noise, test_rooms),
        systems=systems,
        seeds=seeds,
        steps=steps,
        counts=counts,
        protocol_seed=protocol_seed,
    )
    if quick:
        wanted = experiment.quick(wanted)
    logging.getLogger("sottovoce").setLevel(logging.WARNING)
    with terminal.progress() as show:
        report = experiment.conduct(
            wanted,
            output,
            jobs=jobs,
            on_progress=lambda task, done, total: show(task, done, total, f" {done} of {total}"),
        )
    for title, (heading, *rows) in report.tables.items():
        table = Table(*heading, title=title)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    for note in report.notes:
        print(f"sottovoce: note: {note}", file=sys.stderr)
    print(f"Wrote {', '.join(str(path) for path in report.files)}.")


def fetch(corpus: Annotated[str, tyro.conf.arg(metavar="CORPUS")], /, *, output: Output) -> None:
    """Download a public corpus, and check that it is whole.

    Nothing else of sottovoce uses the network, and nothing needs this command: docs/corpora.md tells where every corpus
    is to be had.

    Example:
        sottovoce fetch librispeech-test-clean -o corpora/librispeech
        sottovoce benchmark --speech librispeech:corpora/librispeech --noise noise/ --rooms rooms/ -o results

    Args:
        corpus: Name of an archive; an unknown one lists them all.
        output: Folder to make.
    """
    from sottovoce.data.corpora import fetch as download

    with terminal.progress() as show:
        download(corpus, output, progress=lambda done, total: show("downloading", done, total, ""))
    print(f"Wrote {output}.")


def _describe_recording(path: Path) -> dict[str, str]:
    import numpy as np

    from sottovoce.signal import audio
    from sottovoce.signal.levels import SILENCE_DB, to_db

    recording = audio.probe(path)
    # The largest number that 16 bits can hold; recordings of more bits that clip reach it as well.
    full_scale = 1 - 2**-15
    peak, energy, clipped, frames = 0.0, 0.0, 0, 0
    for block in audio.blocks(path, recording.sample_rate):
        magnitude = np.abs(block)
        peak = max(peak, float(magnitude.max(initial=0)))
        energy += float(np.sum(np.square(magnitude, dtype=np.float64)))
        clipped += int(np.count_nonzero(magnitude >= full_scale))
        frames += block.shape[1]
    samples = frames * recording.channels

    def level(amplitude: float) -> str:
        level_db = float(to_db(amplitude))
        return f"{level_db:.1f} dBFS" if level_db > SILENCE_DB else "silence"

    return {
        "format": f"{recording.format}, {recording.subtype}",
        "rate": f"{recording.sample_rate} Hz",
        "channels": str(recording.channels),
        "length": f"{terminal.duration(frames / recording.sample_rate)} ({frames} samples)",
        "peak": level(peak),
        "rms": level((energy / max(1, samples)) ** 0.5),
        "clipped": f"{clipped} samples at full scale ({100 * clipped / max(1, samples):.3g} %)",
    }


def _describe_model(metadata: "ModelMetadata") -> dict[str, str]:
    import json

    return {
        "name": metadata.name,
        "rate": f"{metadata.sample_rate} Hz",
        "latency": f"{1000 * metadata.latency_seconds:.0f} ms (window and network)",
        "windows": f"{', '.join(map(str, metadata.windows))} samples, synthesis {metadata.synthesis_window}, "
        f"hop {metadata.hop}",
        "size": f"{metadata.parameters:,} parameters",
        "cost": f"{metadata.multiply_adds_per_second / 1e6:,.0f} million multiply-adds per second of sound",
        "licence": metadata.licence,
        "data": "; ".join(metadata.training_data),
        "command": metadata.command,
        "settings": json.dumps(metadata.settings, indent=2, ensure_ascii=False),
    }


def _refuse_existing(*paths: Path, overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise DataError(f"Found {path}, which is kept: name another output, or add --overwrite.")


COMMANDS |= {
    "enhance": enhance,
    "live": live,
    "train": train,
    "mix": mix,
    "evaluate": evaluate,
    "plot": plot,
    "info": info,
}
COMMANDS |= {"adapt": adapt, "benchmark": benchmark, "fetch": fetch}


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        code = _run(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        failure = "standard output was closed before its end"
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        failure = f"standard output or a file cannot be written ({error.strerror})"
    else:
        return code
    if sys.stdout is not None:
        # The interpreter would write the rest at its end, and fail again.
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    print(f"sottovoce: {failure}; what was finished before is kept.", file=sys.stderr)
    return 1


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(HELP + "\nCommands:")
        for command, function in COMMANDS.items():
            print(f"  {command:<10} {(function.__doc__ or '').splitlines()[0]}")
        print("\n`sottovoce COMMAND --help` explains one, with an example.")
        return 0
    if name not in COMMANDS:
        print(
            f"sottovoce: found the command {name!r}, expected one of {', '.join(COMMANDS)}; see `sottovoce --help`.",
            file=sys.stderr,
        )
        return 2
    # Only the chosen command's parser is built: start-up time is a feature.
    try:
        # tyro would leave out the example of the docstring.
        description = (inspect.getdoc(COMMANDS[name]) or "").partition("\n\nArgs:")[0]
        config = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)
        prog = f"sottovoce {name}"
        return tyro.cli(COMMANDS[name], args=arguments[1:], prog=prog, description=description, config=config) or 0
    except SottovoceError as error:
        print(f"sottovoce: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sottovoce: interrupted.", file=sys.stderr)
        return 130
