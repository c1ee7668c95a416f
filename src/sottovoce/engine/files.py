"""Files and folders through an enhancer: by blocks, several at once, each output whole or absent."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.errors import AudioError, ConfigError
from sottovoce.signal.audio import AUDIO_SUFFIXES, AudioInfo, Writer, blocks, find_audio, probe

if TYPE_CHECKING:
    from sottovoce.engine.enhancer import Enhancer

# Longer blocks run no faster: their arrays leave the caches, and every worker holds one.
_BLOCK_SECONDS = 1.0

OnProgress = Callable[[float, float], None]
"""Takes the seconds of sound that are done, and the seconds in all."""


@dataclass(frozen=True)
class FileResult:
    """What became of one recording.

    Attributes:
        source: The recording.
        target: The file for its enhanced version.
        seconds: Length of the recording; 0 if it cannot be read.
        error: Why there is no enhanced version; None if there is one.
    """

    source: Path
    target: Path
    seconds: float
    error: str | None = None


class _CancelledError(Exception):
    """The run was interrupted while a worker was within a file."""


def enhance_files(
    inputs: Sequence[Path],
    output: Path,
    enhancer: "Enhancer",
    *,
    limit_db: float | None = None,
    mix: float = 1.0,
    overwrite: bool = False,
    jobs: int = 1,
    on_progress: OnProgress = lambda done_seconds, total_seconds: None,
) -> list[FileResult]:
    """Enhance recordings; rate, channels, length and sample format stay.

    A recording that cannot be enhanced is reported in its result, and the others go on. Memory depends on `jobs` and on
    the number of channels, not on the length of the recordings.

    Args:
        inputs: Files, and folders that are searched with the folders below them.
        output: A file for one input file, otherwise a folder, in which the folders of the inputs are made again.
        enhancer: The engine; its model serves all workers.
        limit_db: The most attenuation allowed at any time and frequency, in dB; None for no limit.
        mix: Share of the enhanced signal in the output, 0 (the input) to 1.
        overwrite: Replace existing files.
        jobs: Number of recordings at once.
        on_progress: Called after every block, by one thread at a time.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AudioError: There is nothing to enhance, an output is an input, two recordings would have one output, or the
            output folder cannot be made.
        ConfigError: A number is out of its range.
    """
    if limit_db is not None and not limit_db >= 0:
        raise ConfigError(f"found a limit of {limit_db} dB, expected the most attenuation allowed, 0 dB or more")
    if not 0 <= mix <= 1:
        raise ConfigError(f"found a mix of {mix}, expected a number from 0 (the input) to 1 (enhanced only)")
    if jobs < 1:
        raise ConfigError(f"found {jobs} jobs, expected 1 at least")
    pairs = _pair_outputs(inputs, output)
    infos = [_probe_or_error(source) for source, _ in pairs]
    total_seconds = sum(info.seconds for info in infos if isinstance(info, AudioInfo))
    done_seconds = 0.0
    lock, cancelled = threading.Lock(), threading.Event()

    def advance(seconds: float) -> None:
        nonlocal done_seconds
        if cancelled.is_set():
            raise _CancelledError
        with lock:
            done_seconds += seconds
            on_progress(done_seconds, total_seconds)

    def work(pair: tuple[Path, Path], info: AudioInfo | AudioError) -> FileResult:
        source, target = pair
        if isinstance(info, AudioError):
            return FileResult(source, target, 0.0, str(info))
        remaining_seconds = info.seconds
        try:
            writer = Writer(target, info.sample_rate, info.channels, like=info, overwrite=overwrite)
            _make_folder(target.parent)
            stream = enhancer.stream(info.sample_rate, info.channels, limit_db=limit_db, mix=mix)
            with writer:
                for block in blocks(source, max(1, round(_BLOCK_SECONDS * info.sample_rate))):
                    writer.write(stream.push(block))
                    seconds = block.shape[1] / info.sample_rate
                    remaining_seconds -= seconds
                    advance(seconds)
                writer.write(stream.flush())
        except AudioError as error:
            advance(remaining_seconds)
            return FileResult(source, target, info.seconds, str(error))
        return FileResult(source, target, info.seconds)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(work, pairs, infos))
        except BaseException:
            # Ctrl-C reaches the main thread only: the workers stop at their next block and leave nothing behind.
            cancelled.set()
            raise


def _probe_or_error(source: Path) -> AudioInfo | AudioError:
    try:
        return probe(source)
    except AudioError as error:
        return error


def _pair_outputs(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Find the recordings and name the output of each."""
    if not inputs:
        raise AudioError("found no input, expected recordings or folders of recordings")
    is_file = len(inputs) == 1 and not inputs[0].is_dir() and not output.is_dir() and output.suffix != ""
    if is_file:
        pairs = [(inputs[0], output)]
    else:
        _make_folder(output)
        # A file that is named twice, or is also in a folder that is named, is one recording.
        pairs = list(dict.fromkeys(_pairs_in_folder(inputs, output)))
    sources = {source.resolve(): source for source, _ in pairs}
    targets: dict[Path, Path] = {}
    for source, target in pairs:
        if target.resolve() in sources:
            raise AudioError(f"the output {target} is an input as well: name another output, originals are kept")
        if target in targets:
            raise AudioError(
                f"{targets[target]} and {source} would both be written to {target}: enhance them into different folders"
            )
        targets[target] = source
    return pairs


def _pairs_in_folder(inputs: Sequence[Path], output: Path) -> Iterator[tuple[Path, Path]]:
    for path in inputs:
        for source in find_audio(path) if path.is_dir() else [path]:
            # The output may lie in the input folder; what an earlier run wrote there is no input.
            if (
                path.is_dir()
                and output.resolve() != path.resolve()
                and source.resolve().is_relative_to(output.resolve())
            ):
                continue
            target = output / (source.relative_to(path) if path.is_dir() else source.name)
            yield source, target if target.suffix.lower() in AUDIO_SUFFIXES else target.with_suffix(".wav")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(
            f"cannot make the output folder {folder} ({error.strerror}): name one that you may write to"
        ) from error
