"""A page that holds recordings and the player of the service's page: one file, without service and network."""

import base64
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sottovoce.atomic import replacing, temporary_folder
from sottovoce.errors import AudioError, DataError
from sottovoce.paths import is_folder
from sottovoce.progress import TaskProgress
from sottovoce.service import page
from sottovoce.signal import audio
from sottovoce.signal.limits import block_frames

MAX_BYTES = 100_000_000
"""The most sound in one page; browsers hold it as text, and twice."""

_FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'(\bfrom |\bimport )"(?:\./|\.\./page/)([\w-]+\.js)"')
_CHUNK_BYTES = 3 * 2**16  # a multiple of 3, so that base64 of chunks is that of the whole


@dataclass(frozen=True)
class Versions:
    """Versions of one recording.

    Attributes:
        name: What they are called.
        paths: Their files.
    """

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        recordings: Number of recordings.
        size: Size of the page in bytes.
        problems: Why others were left out, a sentence each.
    """

    recordings: int
    size: int
    problems: tuple[str, ...]


def match(inputs: Sequence[Path]) -> tuple[list[Versions], list[str]]:
    """Find the versions of each recording.

    Args:
        inputs: Two or more files, which are versions of one recording; or two or more folders, whose files are paired
            by their path below them, without suffix.

    Returns:
        The recordings, and why others are left out, a sentence each.

    Raises:
        DataError: There are files and folders, or no name is in all folders.
        AudioError: A folder holds no recording.
    """
    folders = [path for path in inputs if is_folder(path)]
    if not folders:
        return [Versions(inputs[-1].name, tuple(inputs))], []
    if len(folders) < len(inputs):
        files = [path for path in inputs if path not in folders]
        raise DataError(f"found the file {files[0]} and the folder {folders[0]}, expected files alone or folders alone")
    found = [_by_name(folder) for folder in folders]
    names = list(dict.fromkeys(name for files in found for name in files))
    shared = [name for name in names if all(name in files for files in found)]
    if not shared:
        raise DataError(
            f"found no name that all of {', '.join(map(str, folders))} share, expected recordings paired by their path "
            "below the folder"
        )
    problems = [
        f"{name}: found no version in {folder}"
        for name in names
        for folder, files in zip(folders, found, strict=True)
        if name not in files
    ]
    return [Versions(name, tuple(files[name] for files in found)) for name in shared], problems


def labels_of(inputs: Sequence[Path]) -> list[str]:
    """Name the versions.

    Args:
        inputs: Files or folders.

    Returns:
        Before and After for two; for more, as much of their paths as sets them apart.
    """
    if len(inputs) == 2:
        return ["Before", "After"]
    for parts in range(1, max(len(path.absolute().parts) for path in inputs) + 1):
        labels = ["/".join(path.absolute().parts[-parts:]) for path in inputs]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{number}: {path}" for number, path in enumerate(inputs, 1)]


def write_page(
    target: Path,
    labels: Sequence[str],
    recordings: Sequence[Versions],
    *,
    overwrite: bool = False,
    progress: TaskProgress | None = None,
) -> Written:
    """Write a page with recordings; their samples are kept, as FLAC.

    Args:
        target: The page.
        labels: What the versions are called.
        recordings: Versions of each recording.
        overwrite: Replace an existing file.
        progress: Called with (recordings done, recordings in all).

    Returns:
        What was written.

    Raises:
        DataError: There is too much sound, nothing can be compared, or the target exists.
        OSError: It cannot be written.
    """
    problems: list[str] = []
    content: list[dict[str, object]] = []
    with temporary_folder(target.absolute()) as folder:
        encoded: list[Path] = []
        for number, versions in enumerate(recordings):
            sounds = [folder / f"sound-{number}-{version}.flac" for version in range(len(versions.paths))]
            try:
                _encode(versions, sounds)
            except (AudioError, DataError) as error:
                if len(recordings) == 1:
                    raise
                problems.append(str(error))
            else:
                content.append({"name": versions.name, "sounds": [sound.stem for sound in sounds]})
                encoded += sounds
                size = sum(sound.stat().st_size for sound in encoded)
                if size > MAX_BYTES:
                    raise DataError(
                        f"found more than {MAX_BYTES / 1e6:g} MB of sound, expected that at most in one page: compare "
                        "fewer or shorter recordings"
                    )
            if progress is not None:
                progress(number + 1, len(recordings))
        if not content:
            raise DataError(f"found nothing to compare: {problems[0]}")
        with replacing(target, overwrite=overwrite) as temporary, temporary.open("w", encoding="utf-8") as file:
            size = 0
            for part in _parts(labels, content, encoded):
                file.write(part)
                size += len(part.encode())
    return Written(len(content), size, tuple(problems))


def _by_name(folder: Path) -> dict[str, Path]:
    """Recordings of a folder by their path below it, without suffix."""
    found: dict[str, Path] = {}
    for path in audio.find_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(
                f"found {found[name].name} and {path.name} in {path.parent}, expected one recording of a name"
            )
        found[name] = path
    return found


def _encode(versions: Versions, targets: Sequence[Path]) -> None:
    """Write the versions of a recording as FLAC, and see that they fit each other."""
    infos = [audio.probe(path) for path in versions.paths]
    first, *others = infos
    for other in others:
        if (other.sample_rate, other.channels) != (first.sample_rate, first.channels):
            raise DataError(
                f"found {first.sample_rate} Hz and {_channels(first)} in {first.path}, {other.sample_rate} Hz and "
                f"{_channels(other)} in {other.path}, expected the same: convert one with `ffmpeg -i IN -ar "
                f"{first.sample_rate} -ac {first.channels} OUT.wav`"
            )
    lengths = []
    for info, target in zip(infos, targets, strict=True):
        frames = 0
        with audio.Writer(target, info.sample_rate, info.channels, like=info) as writer:
            for block in audio.blocks(info.path, block_frames(info.sample_rate, info.channels)):
                writer.write(block)
                frames += block.shape[1]
        lengths.append(frames)
    for other, frames in zip(others, lengths[1:], strict=True):
        if frames != lengths[0]:
            raise DataError(
                f"found {lengths[0]} samples in {first.path}, {frames} in {other.path}, expected as many in both: cut "
                "the longer one"
            )


def _channels(info: audio.AudioInfo) -> str:
    return "1 channel" if info.channels == 1 else f"{info.channels} channels"


def _parts(labels: Sequence[str], content: object, sounds: Sequence[Path]) -> Iterator[str]:
    """The page, piece by piece; what others have named is escaped."""
    title = html.escape(f"Comparison of {' and '.join(labels)}")
    style = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")
    template = (_FOLDER / "comparison.html").read_text(encoding="utf-8")
    before, after = template.split("@SOUNDS@")
    for name, text in (
        ("TITLE", title),
        ("STYLE", style),
        ("MODULES", json.dumps({"imports": _modules()})),
        # In a script, only a tag could end it.
        ("RECORDINGS", json.dumps({"labels": labels, "recordings": content}).replace("<", "\\u003c")),
    ):
        before = before.replace(f"@{name}@", text)
    yield before
    for sound in sounds:
        yield f'    <script type="text/plain" id="{sound.stem}">'
        with sound.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield base64.b64encode(chunk).decode()
        yield "</script>\n"
    yield after


def _modules() -> dict[str, str]:
    """The page's program: a module and all that it imports, as addresses that hold them, by name.

    In a module of such an address only bare names lead to others, by the page's import map.
    """
    found: dict[str, str] = {}
    waiting = [_FOLDER / "comparison.js"]
    while waiting:
        module = waiting.pop()
        source = module.read_text(encoding="utf-8")
        imported = [name for _, name in _IMPORT.findall(source) if name not in found]
        waiting += [Path(page.__file__).parent / name for name in imported]
        bare = _IMPORT.sub(r'\1"\2"', source).encode()
        found[module.name] = f"data:text/javascript;base64,{base64.b64encode(bare).decode()}"
    return found
