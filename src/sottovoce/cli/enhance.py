"""The command `enhance`."""

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Optional

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import DEFAULT_OPTIONS, DEFAULT_WRITING, STANDARD, Inputs, Options, Output, Writing
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import ConfigError
from sottovoce.paths import is_folder
from sottovoce.signal.output import OutputOptions


def enhance(
    inputs: Inputs,
    /,
    *,
    output: Output,
    model: str = "default",
    options: Options = DEFAULT_OPTIONS,
    writing: Writing = DEFAULT_WRITING,
    safe: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    jobs: int = os.cpu_count() or 1,
    raw: Optional[Literal["s16le", "f32le"]] = None,
    rate: Optional[int] = None,
    channels: Optional[int] = None,
    json: bool = False,
) -> int:
    """Take noise and reverberation out of recordings.

    Rate, channels, length, sample format and metadata stay. A folder is searched with all folders below it; the output
    has the same folders. A recording that cannot be read is reported, the others are enhanced, and the exit code is 1.
    In a film, the sound is replaced and the picture copied. A single dash is standard input or output: WAV, or samples
    without a header (--raw), enhanced as they arrive.

    Example:
        sottovoce enhance interview.wav -o clear.wav
        sottovoce enhance recordings/ -o enhanced/ --limit-db 20 --resume
        sottovoce enhance talk.mp4 -o clear.mp4
        sottovoce enhance interview.wav -o taken_away.wav --removed
        ffmpeg -i talk.m4a -f wav - | sottovoce enhance - -o - | ffmpeg -i - talk.mp3

    Args:
        inputs: Recordings, and folders of recordings; - for standard input.
        output: A file for one recording, otherwise a folder; - for standard output.
        model: A bundled model: default, or live, which has 16 ms less latency. Or the folder of a training or an
            adaptation, or the model.onnx in it; or the model.place that an adaptation wrote.
        options: How to enhance.
        writing: What is written beside the sound.
        safe: Leave alone what the model does not know, such as music, singing and laughter, and recordings in which
            nobody speaks. Each recording goes through the network twice. See docs/files.md.
        overwrite: Replace existing files.
        resume: Continue an interrupted run: keep what it finished, unless the recording is newer, and do the rest.
        jobs: Number of recordings at once, each in a process of its own, which takes about 90 MiB.
        raw: Read and write samples without a header on standard input and output, in the format that ffmpeg calls by
            this name. At other rates than the model's, a shorter filter gives less latency than for a WAV.
        rate: Rate of raw standard input in Hz.
        channels: Number of channels of raw standard input, 1 if not given.
        json: Print the result of each recording as JSON, in place of a sentence.
    """
    import sottovoce
    from sottovoce.engine.files import enhance_files

    if STANDARD in (*inputs, output):
        if json:
            raise ConfigError("found --json with standard input or output, expected files: it reports on these")
        if resume:
            raise ConfigError("found --resume with standard input or output, expected folders: a pipe starts again")
        if safe:
            raise ConfigError("found --safe with standard input or output, expected files: it looks at the whole first")
        return _enhance_pipe(
            inputs,
            output,
            model,
            options,
            writing,
            raw=raw,
            rate=rate,
            channels=channels,
            overwrite=overwrite,
        )
    if (raw, rate, channels) != (None, None, None):
        raise ConfigError("found --raw, --rate or --channels with files, whose headers say it: they are for a pipe (-)")

    start = time.perf_counter()

    def saved() -> str:
        return "what is finished is kept; --resume goes on from there" if is_folder(output) else ""

    with interruption.noted(saved), terminal.progress() as show:
        results = enhance_files(
            inputs,
            output,
            sottovoce.load(model),
            options,
            output_options=writing,
            safe=safe,
            overwrite=overwrite,
            resume=resume,
            jobs=jobs,
            on_progress=lambda task, done, total, note="": show(
                task, done, total, note or f"{terminal.duration(done)} of {terminal.duration(total)}"
            ),
        )
    elapsed_seconds = time.perf_counter() - start
    failed = [result for result in results if result.error is not None]
    for result in failed:
        terminal.warn(str(result.error))
    if json:
        terminal.print_json([{"model": model, **asdict(result)} for result in results])
        return 1 if failed else 0
    if len(results) == len(failed) == 1:
        return 1  # its sentence says it all
    kept = sum(result.kept for result in results)
    seconds = sum(result.seconds for result in results if result.error is None and not result.kept)
    terminal.say(
        f"Enhanced {len(results) - len(failed) - kept} of {len(results)} recordings, "
        f"{terminal.duration(seconds)} of sound in {elapsed_seconds:.1f} s: {seconds / elapsed_seconds:.1f} times as "
        "fast as real time; " + (f"{kept} kept from earlier; " if resume else "") + f"{len(failed)} failed."
    )
    return 1 if failed else 0


def _enhance_pipe(
    inputs: tuple[Path, ...],
    output: Path,
    model: str,
    options: EnhanceOptions,
    writing: OutputOptions,
    *,
    raw: Literal["s16le", "f32le"] | None,
    rate: int | None,
    channels: int | None,
    overwrite: bool,
) -> int:
    """Enhance with standard input or output; everything but sound goes to standard error."""
    import sottovoce
    from sottovoce.engine.pipes import enhance_pipe
    from sottovoce.signal.pipes import RawSound

    if len(inputs) != 1 or is_folder(inputs[0]):
        raise ConfigError("found several recordings with standard input or output (-), expected one")
    source_raw = None
    if raw is not None and inputs[0] == STANDARD:
        if rate is None:
            raise ConfigError("found --raw without --rate, expected the rate in Hz: raw samples do not say it")
        source_raw = RawSound(raw, rate, 1 if channels is None else channels)
    elif (rate, channels) != (None, None):
        raise ConfigError("found --rate or --channels without raw standard input, which alone needs them")
    if inputs[0] == STANDARD and sys.stdin is None:
        raise ConfigError("standard input is closed, expected sound: put a program before it, as in `ffmpeg ... |`")
    if output == STANDARD and sys.stdout is None:
        raise ConfigError(
            "standard output is closed, expected somewhere to send the sound: add `| PROGRAM` or `> FILE`"
        )
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
            options,
            output_options=writing,
            source_raw=source_raw,
            target_raw=raw,
            # Raw samples are what live programs give; whoever has time can send a WAV.
            live=source_raw is not None,
            overwrite=overwrite,
        )
    elapsed_seconds = time.perf_counter() - start
    terminal.say(f"enhanced {terminal.duration(seconds)} of sound in {elapsed_seconds:.1f} s.", to_stderr=True)
    return 0
