"""Sound files are found, probed, and read by blocks."""

import contextlib
import heapq
import json
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import soundfile as sf

from sottovoce.errors import AudioError, StorageError, UnknownFormatError
from sottovoce.paths import require_sound_file, unreadable
from sottovoce.signal.audio import pyav
from sottovoce.signal.audio.containers import Head, find_defect, missing_head, sound_length, stated_frames
from sottovoce.signal.audio.formats import (
    AUDIO_SUFFIXES,
    FOUND_SUFFIXES,
    LINEAR,
    PYAV_SUFFIXES,
    SAMPLE_BYTES,
    AudioInfo,
    Float32Array,
    damaged,
    listing,
)
from sottovoce.signal.audio.layout import read_layout
from sottovoce.signal.audio.lossy import read_bit_rate
from sottovoce.signal.audio.metadata import TEXTS, Metadata, read_parts
from sottovoce.signal.limits import implausible

log = logging.getLogger(__name__)

_READ_FRAMES = 65536
# Entries of a folder that are sorted in memory, some 20 MiB; more are sorted by way of temporary files.
_SORTED_AT_ONCE = 100_000
# What else libsndfile reads has no length in its header, or one that nobody checks: a cut file would seem whole. And
# libsndfile takes whatever is named .au or .snd for plain samples.
_CONTAINERS = ("AIFF", "AU", "CAF", "FLAC", "MP3", "NIST", "OGG", "RF64", "VOC", "W64", "WAV", "WAVEX")
# What libsndfile decodes from the beginning alone.
_UNSEEKABLE = (
    *("GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"),
    *("DWVW_12", "DWVW_16", "DWVW_24"),
)
# Frames of an MP3 take bits from those before, as many as fit into this many at the lowest rates.
_RUN_UP_FRAMES = {"MPEG_LAYER_III": 32 * 1152}
# What libsndfile says of a file whose length it does not know.
_FRAMES_UNKNOWN = 2**63 - 1
# More samples than fill the last block of any compressed WAV, with the delay of an MP3 decoder.
_MAX_FILLING = 8192


def find_audio(folder: Path) -> list[Path]:
    """List the recordings in a folder and in the folders below it.

    Args:
        folder: An existing folder.

    Returns:
        What `walk_audio` gives.

    Raises:
        AudioError: The folder is missing, is a file, or holds no recording.
    """
    return list(walk_audio(folder))


def walk_audio(folder: Path, also: tuple[str, ...] = ()) -> Iterator[Path]:
    """Find the recordings in a folder and in the folders below it, one after the other, however many there are.

    Args:
        folder: An existing folder.
        also: Endings in lower case of the names of other files to find, such as `.tar`.

    Yields:
        Paths in sorted order, those that need PyAV included; files whose name begins with a dot are left out. Folders
        and files that cannot be looked into are among them, so that whoever reads them says so.

    Raises:
        AudioError: The folder is missing, is a file, or holds no recording.
        StorageError: So many names are in one folder that they are sorted on the disk, which takes no more.
    """
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise AudioError(f"found a file at {folder}, expected a folder with recordings")
        os.scandir(folder).close()
    except FileNotFoundError:
        raise AudioError(f"found nothing at {folder}, expected a folder with recordings") from None
    except OSError as error:
        raise unreadable(folder, error) from error
    is_empty = True
    # Of each folder on the way down, what has not been looked at yet.
    waiting = [_entries(folder, also)]
    while waiting:
        for path, is_folder in waiting[-1]:
            if is_folder:
                waiting.append(_entries(path, also))
                break
            is_empty = False
            yield path
        else:
            waiting.pop()
    if is_empty:
        raise AudioError(f"found no recording in the folder {folder}, expected {listing(FOUND_SUFFIXES)} files")


def _entries(folder: Path, also: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
    """Give the recordings and the folders in a folder, and whether each is a folder, in sorted order."""
    try:
        with os.scandir(folder) as entries:
            found = _in_order(
                (entry.name, is_folder)
                for entry in entries
                if (is_folder := _is_folder(entry)) or is_recording(entry.name, also)
                if not (is_folder and entry.is_symlink())
            )
    except OSError:
        yield folder, False
        return
    for name, is_folder in found:
        yield folder / name, is_folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere near
        return False


def is_recording(name: str, also: tuple[str, ...] = ()) -> bool:
    """Say whether a file is found as a recording, by its name.

    Args:
        name: The name, without folders.
        also: Endings in lower case that count, too.

    Returns:
        Whether it ends like a recording's, and does not begin with a dot.
    """
    return not name.startswith(".") and Path(name).suffix.lower() in (*FOUND_SUFFIXES, *also)


def _in_order(entries: Iterator[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Sort any number of entries in bounded memory: all are taken before the first is given."""
    runs: list[Iterator[tuple[str, bool]]] = []
    while True:
        run = sorted(islice(entries, _SORTED_AT_ONCE))
        if len(run) < _SORTED_AT_ONCE:
            return heapq.merge(run, *runs)
        runs.append(_on_disk(run))


def _on_disk(run: list[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    import tempfile

    try:
        file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115  # closed by whoever reads it
        # A name may hold the end of a line, or bytes that are no text.
        file.writelines(f"{json.dumps(entry)}\n" for entry in run)
        file.seek(0)
    except OSError as error:
        raise StorageError(
            f"cannot sort the names in a large folder in {tempfile.gettempdir()} ({error.strerror}): free some space "
            "there, or set TMPDIR to another folder"
        ) from error
    return _lines_of(file)


def _lines_of(file: TextIO) -> Iterator[tuple[str, bool]]:
    with file:
        for line in file:
            name, is_folder = json.loads(line)
            yield name, is_folder


def passed_over(folder: Path) -> list[Path]:
    """List the files that `find_audio` does not take for recordings by their names.

    Args:
        folder: An existing folder.

    Returns:
        Paths in sorted order; files whose name begins with a dot are left out.
    """
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and not is_recording(name)
    )


def probe(path: Path | str) -> AudioInfo:
    """Find out what a recording is, and that it is whole as far as its header shows.

    Args:
        path: A sound file.

    Returns:
        Format, rate, channels and length.

    Raises:
        AudioError: The file is missing, empty, cut, without samples, of an unknown kind, or of an implausible rate or
            number of channels.
    """
    path = Path(path)
    _require_sound(path)
    # What a file holds decides, not its name: libsndfile takes an MP4 with the ending .mp3 for a damaged MP3.
    if pyav.recognises(path):
        info = pyav.probe(path)
    else:
        try:
            info = _probe(path)
        except sf.SoundFileError as error:
            if path.suffix.lower() not in PYAV_SUFFIXES:
                raise UnknownFormatError(
                    f"{path} is not a sound file that can be read, or it is damaged: expected "
                    f"{listing(AUDIO_SUFFIXES)}; `ffmpeg -i {path.name} out.wav` converts other kinds"
                ) from error
            info = pyav.probe(path)
    wrong = implausible(info.sample_rate, info.channels)
    if wrong is not None:
        raise AudioError(f"{path} has an implausible header: found {wrong}; copy, record or convert it again")
    if info.frames == 0:
        raise AudioError(f"{path} holds no samples, expected a recording of one sample at least: record it again")
    return info


def read(path: Path | str, *, start: int = 0, frames: int | None = None) -> tuple[Float32Array, int]:
    """Read a recording, or a part of it, into memory.

    Args:
        path: A sound file.
        start: First sample to read.
        frames: Samples to read; None for all. Fewer come back at the end of the recording.

    Returns:
        Samples `(channels, samples)`, full scale ±1, those that are not finite replaced by 0; and the rate in Hz.

    Raises:
        AudioError: The file cannot be read (see `probe`), or begins to be unreadable after its header.
    """
    info = probe(path)
    pieces = list(_finite(info, _decode(info, _READ_FRAMES, start, frames)))
    empty = np.zeros((info.channels, 0), np.float32)
    return np.concatenate([empty, *pieces], axis=1), info.sample_rate


def blocks(path: Path | str, block_frames: int) -> Iterator[Float32Array]:
    """Read a recording piece by piece, in memory that does not depend on its length.

    Args:
        path: A sound file.
        block_frames: Most samples per block.

    Returns:
        An iterator over blocks `(channels, n)`, full scale ±1, samples that are not finite replaced by 0.

    Raises:
        AudioError: The file cannot be read (see `probe`); raised during iteration when its samples cannot.
    """
    info = probe(path)
    return _finite(info, _decode(info, block_frames))


def read_metadata(info: AudioInfo) -> Metadata:
    """Read what a recording says beside its samples.

    Args:
        info: A recording.

    Returns:
        Tags, covers, chapters, markers and time references.

    Raises:
        AudioError: The file cannot be read.
    """
    if info.needs_pyav:
        return pyav.read_metadata(info.path)
    try:
        with open_sound(info.path) as file:
            found = file.copy_metadata()
        return replace(read_parts(info.path), texts={name: found[name] for name in TEXTS if found.get(name)})
    except (OSError, sf.SoundFileError) as error:
        raise AudioError(f"{info.path} cannot be read ({error}): see whether it was moved or changed") from error


class _Sequential(sf.SoundFile):  # type: ignore[misc]
    """A sound file that is read on from where it is.

    soundfile seeks after every block to where the file is anyway: the decoder of an MP3 forgets by it what the next
    frame takes from earlier ones, and a FLAC of unknown length has no end to go to.
    """

    def seekable(self) -> bool:
        return False


class _WithHead:
    """A file with another beginning, for libsndfile to read.

    Args:
        file: The file.
        head: Its beginning.
    """

    def __init__(self, file: BinaryIO, head: Head) -> None:
        self._file = file
        self._head = head.content
        self._shift = head.skipped - len(head.content)
        self._end = file.seek(0, os.SEEK_END) if head.end is None else head.end
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._end - self._shift
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def read(self, count: int) -> bytes:
        content = self._head[self._position : self._position + count]
        if len(content) < count:
            start = self._position + len(content) + self._shift
            self._file.seek(start)
            content += self._file.read(max(0, min(count - len(content), self._end - start)))
        self._position += len(content)
        return content


def _require_sound(path: Path) -> None:
    """Refuse what is not a file with something in it, and what its container shows to be cut."""
    require_sound_file(path)
    try:
        defect = find_defect(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if defect is not None:
        raise AudioError(
            f"{path} {defect}: copy it again, or convert what is there with `ffmpeg -i {path.name} out.wav`"
        )


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[sf.SoundFile]:
    """Open a file with libsndfile, which sees a whole beginning where the file's own lacks something.

    Args:
        path: An existing file without a defect.

    Yields:
        The open file, which is read on from where it is.

    Raises:
        OSError: The file cannot be read.
        soundfile.SoundFileError: libsndfile does not read it.
    """
    head = missing_head(path)
    with contextlib.ExitStack() as stack:
        source = path if head is None else _WithHead(stack.enter_context(path.open("rb")), head)
        yield stack.enter_context(_Sequential(source))


def _probe(path: Path) -> AudioInfo:
    with open_sound(path) as file:
        if file.format not in _CONTAINERS:
            raise sf.SoundFileError(f"a container that is not read: {file.format}")
        frames = _length(file, path)
        layout, bit_rate = read_layout(path), read_bit_rate(path, file.subtype, frames / file.samplerate)
        return AudioInfo(path, file.samplerate, file.channels, frames, file.format, file.subtype, layout, bit_rate)


def _length(file: sf.SoundFile, path: Path) -> int:
    """Samples per channel, where libsndfile does not know it, too."""
    frames: int = file.frames
    if frames == _FRAMES_UNKNOWN:  # a FLAC from a pipe
        frames = 0
        while count := len(file.read(_READ_FRAMES)):
            frames += count
    if file.format == "W64" and file.subtype in LINEAR:
        # libsndfile takes what stands behind the samples for samples.
        frames = min(frames, sound_length(path) // (SAMPLE_BYTES[file.subtype] * file.channels))
    stated = None if file.subtype in LINEAR else stated_frames(path)
    return stated if stated and 0 <= frames - stated < _MAX_FILLING else frames


def _decode(info: AudioInfo, block_frames: int, start: int = 0, frames: int | None = None) -> Iterator[Float32Array]:
    """Blocks `(channels, n)` of the part of a recording that begins at `start`."""
    if info.needs_pyav:
        yield from pyav.regroup(pyav.decode(info, start, frames), block_frames)
        return
    remaining = max(0, info.frames - start if frames is None else min(frames, info.frames - start))
    try:
        with open_sound(info.path) as file:
            if start and remaining:
                _go_to(file, start)
            while remaining > 0:
                block = file.read(min(block_frames, remaining), dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                remaining -= len(block)
                yield block.T
    except sf.SoundFileError as error:
        raise damaged(info, remaining) from error
    if remaining:
        raise damaged(info, remaining)


def _go_to(file: sf.SoundFile, start: int) -> None:
    """Bring a file to a sample from which it is decoded as in one go."""
    position = 0 if file.subtype in _UNSEEKABLE else max(0, start - _RUN_UP_FRAMES.get(file.subtype, 0))
    if position:
        file.seek(position)
    while position < start and (count := len(file.read(min(_READ_FRAMES, start - position)))):
        position += count


def _finite(info: AudioInfo, source: Iterator[Float32Array]) -> Iterator[Float32Array]:
    replaced = 0
    for block in source:
        finite = np.isfinite(block)
        replaced += finite.size - int(np.count_nonzero(finite))
        yield np.where(finite, block, np.float32(0))
    if replaced:
        log.warning("%s: %d samples are not finite numbers and were taken as 0", info.path, replaced)
