"""Files and folders through an enhancer: by blocks, several at once, each output whole or absent."""

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from sottovoce.atomic import clear_leftovers
from sottovoce.engine.confidence import Caution, ConfidenceMeter, trusted_confidence
from sottovoce.engine.enhancer import WARM_UP_SECONDS, Enhancer, Stream
from sottovoce.engine.options import EnhanceOptions
from sottovoce.engine.workers import WorkerDiedError, Workers
from sottovoce.errors import AudioError, ChangedError, ConfigError, ModelError, StorageError
from sottovoce.paths import advice_on, is_folder, resolved
from sottovoce.progress import Progress
from sottovoce.signal.audio import (
    AudioInfo,
    Float32Array,
    blocks,
    find_audio,
    open_writer,
    passed_over,
    probe,
    read_metadata,
    written_suffix,
)
from sottovoce.signal.limits import block_frames
from sottovoce.signal.output import OutputOptions

log = logging.getLogger(__name__)

T = TypeVar("T")
Advance = Callable[[float], None]
"""Takes the seconds of sound that were done since it was called last."""
Watch = Callable[[Float32Array, Float32Array], None]
"""Takes a block as it was read, and a block as it was written."""


@dataclass(frozen=True)
class FileResult:
    """What became of one recording.

    Attributes:
        source: The recording.
        target: The file for its enhanced version.
        seconds: Length of the recording; 0 if it cannot be read.
        error: Why there is no enhanced version; None if there is one.
        kept: The enhanced version is that of an earlier run.
        confidence: How sure the model is that there is speech as it knows it, 0 to 1; None if nobody asked.
    """

    source: Path
    target: Path
    seconds: float
    error: str | None = None
    kept: bool = False
    confidence: float | None = None


def measure_confidence(enhancer: Enhancer, recording: AudioInfo, *, advance: Advance) -> ConfidenceMeter:
    """Find out, by blocks, how sure a model is of a recording.

    Args:
        enhancer: The engine.
        recording: What was found out about the recording.
        advance: Called after every block with its length in seconds.

    Returns:
        The meter, behind the end of the recording.

    Raises:
        AudioError: The recording cannot be read to its end.
        ModelError: The network fails, or has no decoder of speech.
    """
    meter = ConfidenceMeter(enhancer, recording.sample_rate, recording.channels)
    for block in blocks(recording.path, block_frames(recording.sample_rate, recording.channels)):
        meter.push(block)
        advance(block.shape[1] / recording.sample_rate)
    meter.push(np.zeros((recording.channels, 0), np.float32), last=True)
    return meter


def enhance_file(
    enhancer: Enhancer,
    recording: AudioInfo,
    target: Path,
    options: EnhanceOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    confidence: Float32Array | None = None,
    overwrite: bool = False,
    advance: Advance,
    watch: Watch | None = None,
) -> float:
    """Enhance one recording by blocks, after a warm-up on its beginning; the output appears whole or not at all.

    Args:
        enhancer: The engine.
        recording: What was found out about the recording.
        target: The file for its enhanced version; its suffix sets the kind, and its folder is made.
        options: How to enhance.
        output_options: What is kept beside the sound, and how small lossy files become.
        confidence: Of every second of the recording; where it is low, the recording is left alone. See `Caution`.
        overwrite: Replace an existing file.
        advance: Called after every block with its length in seconds.
        watch: Called with every block that is read and with what is written of its enhanced version meanwhile, which
            is behind by the latency of the stream; both `(channels, samples)`.

    Returns:
        Length of what was decoded, in seconds.

    Raises:
        AudioError: The recording cannot be read to its end or changes meanwhile, or the output cannot be written.
        ModelError: The network fails, or gives what is no sound.
    """
    source = recording.path
    state = _state(source)
    writer = open_writer(
        target, recording, metadata=read_metadata(recording), options=output_options, overwrite=overwrite
    )
    make_folder(target.parent)
    stream = Stream(enhancer, recording.sample_rate, recording.channels, options)
    caution = None
    if confidence is not None:
        removed = options is not None and options.removed
        trusted = trusted_confidence(enhancer.model)
        caution = Caution(confidence, trusted, recording.sample_rate, recording.channels, removed=removed)
    taken = 0
    with writer:
        stream.reset(_beginning(recording))
        for block in blocks(source, block_frames(recording.sample_rate, recording.channels)):
            enhanced = stream.push(block)
            if caution is not None:
                enhanced = caution.mixed(block, enhanced)
            writer.write(enhanced)
            if watch is not None:
                watch(block, enhanced)
            taken += block.shape[1]
            advance(block.shape[1] / recording.sample_rate)
        enhanced = stream.flush()
        if caution is not None:
            enhanced = caution.mixed(enhanced[:, :0], enhanced)
        writer.write(enhanced)
        if watch is not None:
            watch(enhanced[:, :0], enhanced)
        _refuse_changed(source, state)
    return taken / recording.sample_rate


def _beginning(recording: AudioInfo) -> Iterator[Float32Array]:
    """Blocks of the first `WARM_UP_SECONDS` of a recording."""
    missing = round(WARM_UP_SECONDS * recording.sample_rate)
    for block in blocks(recording.path, block_frames(recording.sample_rate, recording.channels)):
        yield block[:, :missing]
        missing -= block.shape[1]
        if missing <= 0:
            return


class _CancelledError(Exception):
    """The run was interrupted while a worker was within a file."""


def enhance_files(
    inputs: Sequence[Path],
    output: Path,
    enhancer: Enhancer,
    options: EnhanceOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    safe: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    jobs: int = 1,
    isolate: bool = True,
    on_progress: Progress | None = None,
) -> list[FileResult]:
    """Enhance recordings; rate, channels, length, sample format and metadata stay.

    A recording that cannot be enhanced is reported in its result, and the others go on. Memory depends on `jobs` and on
    the number of channels, not on the length of the recordings. One that changes while it is read has no enhanced
    version; those that come into a folder meanwhile are left out, and a warning names them.

    Args:
        inputs: Files, and folders that are searched with the folders below them.
        output: A file for one input file, otherwise a folder, in which the folders of the inputs are made again. There,
            what is read but not written, such as .avi, becomes .wav, with a warning: talk.wav, or talk.avi.wav beside
            a talk.wma.
        enhancer: The engine; its model serves all workers.
        options: How to enhance.
        output_options: What is kept beside the sound, and how small lossy files become.
        safe: Leave alone what the model does not know: each recording goes through the network twice, first to find
            the confidence of each of its seconds.
        overwrite: Replace existing files.
        resume: Keep what an earlier run has finished, and do what is missing, damaged, or older than its recording. An
            output is whole or absent, so its name and time are enough; the model and the options of the earlier run are
            not compared.
        jobs: Number of recordings at once.
        isolate: Work on several recordings in other processes, `jobs` at most, each of which takes the memory of one:
            a recording that makes its decoder or encoder crash is reported, and the others go on.
        on_progress: Called with the seconds of sound after every block, by one thread at a time.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AudioError: There is nothing to enhance, an output is an input, two recordings would have one output, or the
            output folder cannot be made.
        ConfigError: A number is out of its range, or the model is none of those of which `safe` knows the confidence.
    """
    options = options or EnhanceOptions()
    enhancer.model.initial_past(1, options.room)  # refuses a choice that the model does not have, once for all
    if safe:
        trusted_confidence(enhancer.model)
    if jobs < 1:
        raise ConfigError(f"found {jobs} jobs, expected 1 at least")
    if resume and overwrite:
        raise ConfigError("found both resume and overwrite, expected one: resume keeps what is finished")
    pairs = _pair_outputs(inputs, output)
    # Beside a single recording there is nothing that a crash could take.
    workers = Workers(enhancer) if isolate and len(pairs) > 1 else None
    run = _Run(
        enhancer,
        options=options,
        output_options=output_options,
        safe=safe,
        overwrite=overwrite,
        resume=resume,
        workers=workers,
        on_progress=on_progress,
    )
    with workers or contextlib.nullcontext(), ThreadPoolExecutor(jobs) as pool:
        try:
            # In this process it is the main thread that looks at the recordings, which Ctrl-C reaches.
            recordings = list(map(run.examine, pairs) if workers is None else pool.map(run.examine, pairs))
            run.total_seconds = sum(recording.seconds_to_do for recording in recordings)
            results = list(pool.map(run.work, recordings))
        except BaseException:
            # Ctrl-C reaches the main thread only: the others stop at their next block and leave nothing behind.
            run.cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if workers is not None:
                workers.stop()
            raise
    _warn_of_newcomers(inputs, output, pairs)
    return results


class _Run:
    """What the threads of a run share: each gives one recording after the other to a worker, or does it itself."""

    def __init__(
        self,
        enhancer: Enhancer,
        *,
        options: EnhanceOptions,
        output_options: OutputOptions | None,
        safe: bool,
        overwrite: bool,
        resume: bool,
        workers: Workers | None,
        on_progress: Progress | None,
    ) -> None:
        self.cancelled = threading.Event()
        self.total_seconds = 0.0
        self._done_seconds = 0.0
        self._enhancer = enhancer
        self._options = options
        self._output_options = output_options
        self._safe = safe
        self._overwrite = overwrite
        self._resume = resume
        self._workers = workers
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def examine(self, pair: tuple[Path, Path]) -> "_Recording":
        try:
            return self._call(_examine, *pair, self._resume, advance=self._advance)
        except WorkerDiedError as error:
            return _Recording(*pair, None, _crashed(pair[0], error))

    def work(self, recording: "_Recording") -> FileResult:
        source, target, info = recording.source, recording.target, recording.info
        if isinstance(info, AudioError):
            return FileResult(source, target, 0.0, str(info))
        if recording.is_kept:
            return FileResult(source, target, info.seconds, kept=True)
        taken_seconds = 0.0

        def advance(seconds: float) -> None:
            nonlocal taken_seconds
            taken_seconds += seconds
            self._advance(seconds)

        overwrite = self._overwrite or self._resume
        function = partial(_enhance, safe=self._safe, overwrite=overwrite)
        try:
            return self._call(function, recording, self._options, self._output_options, advance=advance)
        except WorkerDiedError as error:
            clear_leftovers(target.parent)
            self._advance(info.seconds - taken_seconds)
            return FileResult(source, target, info.seconds, str(_crashed(source, error)))

    def _call(self, function: Callable[..., T], *arguments: object, advance: Advance) -> T:
        self._refuse_cancelled()
        if self._workers is None:
            return function(self._enhancer, *arguments, advance=advance)
        try:
            return self._workers.call(function, *arguments, advance=advance)
        except WorkerDiedError:
            self._refuse_cancelled()
            raise

    def _advance(self, seconds: float) -> None:
        self._refuse_cancelled()
        with self._lock:
            self._done_seconds += seconds
            if self._on_progress is not None:
                self._on_progress("enhancing", self._done_seconds, self.total_seconds)

    def _refuse_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise _CancelledError


@dataclass(frozen=True)
class _Recording:
    """What there is to do for one recording.

    Attributes:
        source: The recording.
        target: The file for its enhanced version.
        state: What a change is noticed by.
        info: What the recording is, or why it cannot be read.
        is_kept: The enhanced version is that of an earlier run.
    """

    source: Path
    target: Path
    state: tuple[int, int] | None
    info: AudioInfo | AudioError
    is_kept: bool = False

    @property
    def seconds_to_do(self) -> float:
        return 0.0 if isinstance(self.info, AudioError) or self.is_kept else self.info.seconds


def _examine(enhancer: Enhancer, source: Path, target: Path, resume: bool, *, advance: Advance) -> _Recording:
    """Find out what is to be done for a recording."""
    state = _state(source)
    return _Recording(source, target, state, _probe_or_error(source), resume and _is_finished(source, target))


def _enhance(
    enhancer: Enhancer,
    recording: _Recording,
    options: EnhanceOptions,
    output_options: OutputOptions | None,
    *,
    safe: bool,
    overwrite: bool,
    advance: Advance,
) -> FileResult:
    """Enhance one recording of a run, and report what became of it."""
    source, target, info = recording.source, recording.target, recording.info
    if isinstance(info, AudioError):
        raise info
    taken_seconds = 0.0

    def count(seconds: float) -> None:
        nonlocal taken_seconds
        share = seconds / 2 if safe else seconds  # of two ways through the network
        taken_seconds += share
        advance(share)

    try:
        if _state(source) is None:
            raise AudioError(f"{source} was there when this run began and is gone now: it was moved or deleted")
        _refuse_changed(source, recording.state)
        meter = measure_confidence(enhancer, info, advance=count) if safe else None
        seconds = enhance_file(
            enhancer,
            info,
            target,
            options,
            output_options=output_options,
            confidence=None if meter is None else meter.per_second,
            overwrite=overwrite,
            advance=count,
        )
    except (AudioError, ModelError) as error:
        advance(info.seconds - taken_seconds)
        # A network may fail on one recording alone.
        reason = f"{source}: {error}" if isinstance(error, ModelError) else str(error)
        return FileResult(source, target, info.seconds, reason)
    log.info("%s: enhanced to %s", source, target)
    return FileResult(source, target, seconds, confidence=None if meter is None else meter.whole)


def _crashed(source: Path, error: WorkerDiedError) -> AudioError:
    return AudioError(
        f"{source} made the process crash that worked on it ({error}) and has no enhanced version; it may be damaged: "
        f"copy it again, or convert it with `ffmpeg -i {source.name} out.wav`"
    )


def _state(source: Path) -> tuple[int, int] | None:
    """Time of the last change and size, by which a change is noticed; None if the file is gone."""
    try:
        status = source.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _refuse_changed(source: Path, state: tuple[int, int] | None) -> None:
    # One that was moved away while it was read was still read whole.
    if _state(source) not in (state, None):
        raise ChangedError(
            f"{source} changed since this run began: enhance it again when nothing writes to it any more"
        )


def _is_finished(source: Path, target: Path) -> bool:
    """Say whether an enhanced version is there, whole, and not older than its recording."""
    before, after = _state(source), _state(target)
    if before is None or after is None or after[0] < before[0]:
        return False
    return isinstance(_probe_or_error(target), AudioInfo)


def _warn_of_newcomers(inputs: Sequence[Path], output: Path, pairs: Sequence[tuple[Path, Path]]) -> None:
    """Say which recordings came into the folders while the others were enhanced."""
    known = {source for source, _ in pairs}
    try:
        newcomers = [source for source, _ in _pairs_in_folder(list(filter(is_folder, inputs)), output)]
    except AudioError:  # the folder was emptied
        return
    newcomers = [source for source in newcomers if source not in known]
    if newcomers:
        log.warning(
            "%d recording(s) came in meanwhile and were left out, the first is %s: run the same command with --resume",
            len(newcomers),
            newcomers[0],
        )


def _probe_or_error(source: Path) -> AudioInfo | AudioError:
    try:
        return probe(source)
    except AudioError as error:
        return error


def _pair_outputs(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Find the recordings and name the output of each."""
    if not inputs:
        raise AudioError("found no input, expected recordings or folders of recordings")
    is_file = len(inputs) == 1 and not is_folder(inputs[0]) and not is_folder(output) and output.suffix != ""
    if is_file:
        pairs = [(inputs[0], output)]
    else:
        make_folder(output)
        # A file that is named twice, or is also in a folder that is named, is one recording.
        pairs = _pairs_in_folder(inputs, output)
        if not pairs:
            raise AudioError(
                f"found no recording in {', '.join(map(str, inputs))} but what lies in the output folder {output}: "
                "name another output"
            )
    sources = {resolved(source): source for source, _ in pairs}
    targets: dict[Path, Path] = {}
    for source, target in pairs:
        if resolved(target) in sources:
            raise AudioError(f"the output {target} is an input as well: name another output, originals are kept")
        if target in targets:
            raise AudioError(
                f"{targets[target]} and {source} would both be written to {target}: enhance them into different folders"
            )
        targets[target] = source
    for folder in filter(is_folder, inputs):
        _report_passed_over(folder, output)
    if not is_file:
        _report_other_kinds(pairs)
    return pairs


def _pairs_in_folder(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Recordings with their outputs; one that is named twice, or is also in a folder that is named, is one."""
    found: dict[tuple[Path, Path], Path] = {}
    for path in inputs:
        # The output may lie in the input folder; what an earlier run wrote there is no input.
        has_many = is_folder(path)
        inside = has_many and resolved(path) in resolved(output).parents
        for source in find_audio(path) if has_many else [path]:
            if inside and resolved(source).is_relative_to(resolved(output)):
                continue
            named = output / (source.relative_to(path) if has_many else source.name)
            found[source, named] = named if is_folder(source) else named.with_suffix(written_suffix(named.suffix))
    counts = Counter(found.values())
    # Beside talk.wav or talk.wma, talk.avi becomes talk.avi.wav, and talk.wma talk.wma.wav.
    return [
        (source, target if counts[target] == 1 or target == named else named.with_name(f"{named.name}.wav"))
        for (source, named), target in found.items()
    ]


def _report_other_kinds(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Say which kinds of files become WAV, as they are not written."""
    kinds = sorted({source.suffix.lower() for source, target in pairs if source.name != target.name})
    if kinds:
        log.warning("these kinds of files are not written, and their sound becomes .wav: %s", ", ".join(kinds))


def _report_passed_over(folder: Path, output: Path) -> None:
    """Say what in a folder is taken for no recording."""
    paths = [path for path in passed_over(folder) if not resolved(path).is_relative_to(resolved(output))]
    if paths:
        log.warning("%s: passed over %d files that are no sound by their names", folder, len(paths))


def make_folder(folder: Path) -> None:
    """Make a folder to write to, with those above it.

    Args:
        folder: The folder; it may exist.

    Raises:
        StorageError: It cannot be made, or you may not write in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        advice = advice_on(error, "name one that you may write to")
        raise StorageError(f"cannot make the output folder {folder} ({error.strerror}): {advice}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write in the output folder {folder}: name one that you may write to")
