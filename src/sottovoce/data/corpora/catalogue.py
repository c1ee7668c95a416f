"""Well-known corpora as they lie on disk: what belongs to them, who speaks where, and what is noisy and clean.

A corpus is a function that turns its folder into a `Manifest`, and a line in `CORPORA`. Names are checked before any
file is read, so that an incomplete corpus is refused at once.
"""

import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from sottovoce.atomic import temporary_folder
from sottovoce.data.corpora.manifest import Manifest, Recording, Unusable, scan
from sottovoce.errors import AudioError, DataError
from sottovoce.extras import require
from sottovoce.progress import TaskProgress
from sottovoce.signal import audio

Kind = Literal["speech", "noise", "rooms"]

# The measured responses of small rooms last little more than a tenth of a second.
_MIN_SECONDS: dict[Kind, float] = {"speech": 0.5, "noise": 0.5, "rooms": 0.05}
_NAMED = 3

_NOISEX_FILES = [
    *("babble", "buccaneer1", "buccaneer2", "destroyerengine", "destroyerops", "f16", "factory1", "factory2"),
    *("hfchannel", "leopard", "m109", "machinegun", "pink", "volvo", "white"),
]
_NOISEX_TWIN = r"^(buccaneer|destroyer|factory)"
_DAPS_SPEAKERS = [f"{sex}{number}" for sex in "fm" for number in range(1, 11)]
_DAPS_SCRIPTS = range(1, 6)

# A group of an expression is a part of the name of the speaker, kind or room. Names are searched without suffix.
_DAPS_NAME = r"([fm]\d+)_script\d_clean$"
_LIBRISPEECH_NAME = r"(?:^|/)(\d+)-\d+-\d+$"
_VOICEBANK_NAME = r"^(p\d+)_\d+$"
_VOICEBANK_PAIR = r"^(p\d+_\d+)$"
_MIT_NAME = r"(?:^|/)(h\d+)_[^/]+$"
_DNS_READER = r"(reader_\d+)"
_DNS_KIND = r"([^/]+?)_Freesound_validated_"
_DNS_PAIR = r"(?:^|_)fileid_(\d+)$"
_RIR_ROOM = (
    r"((?:small|medium|large)room/Room\d+)/"
    r"|(RVB2014)_type\d_rir_([a-z]+\d)"
    r"|(RWCP)_type[1-3]_rir_[a-z]+_([a-z0-9]+)_"
    r"|(RWCP_type4)_rir_"
    r"|(air)_type\d_air_(?:binaural|phone(?:_bt)?)_([a-z]+)"
)
_RIR_NOISE = r"_noise_|(?:^|/)pointsource_noises/"
_OPENAIR_EXAMPLE = r"(?:^|/)examples/"


@dataclass(frozen=True)
class Pair:
    """A noisy recording and its clean version.

    Attributes:
        name: Name of the noisy file, without suffix.
        noisy: The noisy recording.
        clean: The same speech without noise, aligned with it.
    """

    name: str
    noisy: Path
    clean: Path


@dataclass(frozen=True)
class Corpus:
    """A corpus that is found by name.

    Attributes:
        name: What stands before the colon of `NAME:FOLDER`.
        holds: What its recordings are; a group is then a speaker, a kind of noise or a room.
        address: Where to get it.
        licence: Its licence, as a sentence.
        read: Takes the folder, and a function that is called with (files done, files in all); gives the recordings.
        pair: Takes the folder; gives the pairs. None if the corpus has no noisy versions of its speech.
    """

    name: str
    holds: Kind
    address: str
    licence: str
    read: Callable[[Path, TaskProgress | None], Manifest]
    pair: Callable[[Path], list[Pair]] | None = None


@dataclass(frozen=True)
class Archive:
    """A file to download whose content is known.

    Attributes:
        corpus: The corpus, or one of the corpora, that are read from it.
        address: Where it is, a .zip or .tar.gz file.
        checksum: Algorithm and digest, `md5:...`.
    """

    corpus: str
    address: str
    checksum: str


def read_corpus(argument: str, holds: Kind, *, progress: TaskProgress | None = None) -> Manifest:
    """Read a corpus, or a plain folder.

    Args:
        argument: `NAME:FOLDER` for a corpus of `CORPORA`, or a folder with a sub-folder per speaker, kind or room.
        holds: What the recordings must be.
        progress: Called with (files done, files in all) after every file.

    Returns:
        Recordings grouped by speaker, kind of noise or room, and the files that cannot be used.

    Raises:
        DataError: The corpus is unknown, incomplete or of another kind, or nothing in the folder can be used.
    """
    corpus, folder = _parse(argument)
    if corpus is None:
        return scan(folder, min_seconds=_MIN_SECONDS[holds], progress=progress)
    if corpus.holds != holds:
        fitting = ", ".join(other.name for other in CORPORA.values() if other.holds == holds)
        raise DataError(f"found {argument}, which holds {corpus.holds}, expected {holds}: give one of {fitting}")
    return corpus.read(folder, progress)


def pairs(argument: str) -> list[Pair]:
    """List the noisy recordings of a corpus with their clean versions.

    Args:
        argument: `NAME:FOLDER`.

    Returns:
        Pairs in the order of the noisy files.

    Raises:
        DataError: The corpus is unknown, has no pairs, or a recording has no counterpart.
    """
    corpus, folder = _parse(argument)
    if corpus is None or corpus.pair is None:
        paired = ", ".join(f"{other.name}:FOLDER" for other in CORPORA.values() if other.pair)
        raise DataError(f"found {argument}, which is no corpus of pairs, expected one of {paired}")
    return corpus.pair(folder)


def fetch(name: str, folder: Path, *, progress: TaskProgress | None = None) -> None:
    """Download an archive of `ARCHIVES`, check it and unpack it; the folder appears as a whole or not at all.

    Args:
        name: Name of the archive.
        folder: A new folder; beside it there must be place for the archive and what is in it.
        progress: Called with (bytes done, bytes in all).

    Raises:
        DataError: The archive is unknown, the folder has files, or the download fails or is not what it should be.
        MissingExtraError: The package pooch is not installed.
    """
    if name not in ARCHIVES:
        raise DataError(f"found no archive {name!r} to fetch, expected one of {', '.join(ARCHIVES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"found something at {folder} already, expected a new folder: choose another")
    require("corpora", "Fetching a corpus", "pooch")
    import pooch

    pooch.get_logger().setLevel("WARNING")  # Otherwise it reports every download on the terminal.
    archive = ARCHIVES[name]
    with temporary_folder(folder) as work:
        content = work / "content"
        try:
            file = pooch.retrieve(
                archive.address,
                archive.checksum,
                fname=archive.address.rpartition("/")[2],
                path=str(work),
                downloader=pooch.HTTPDownloader(progressbar=progress and _Bar(progress), chunk_size=2**20),
            )
            _unpack(Path(file), content)
        except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise DataError(
                f"found no good copy of {name} at {archive.address} ({error}): try again, or download it by hand"
            ) from error
        if folder.exists():
            folder.rmdir()
        content.rename(folder)


class _Bar:
    """What pooch takes for a progress bar."""

    def __init__(self, progress: TaskProgress) -> None:
        self.total = 0
        self._progress = progress
        self._done = 0

    def update(self, size: int) -> None:
        # The last piece is counted as a full one, and a server need not give the total.
        self._done = min(self._done + size, self.total) if self.total else self._done + size
        self._progress(self._done, max(self._done, self.total))

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing is open."""


def _unpack(file: Path, folder: Path) -> None:
    """Unpack without leaving the folder: zipfile takes `..` out of names, tarfile's filter refuses them."""
    folder.mkdir()
    if tarfile.is_tarfile(file):
        with tarfile.open(file) as tar:
            tar.extractall(folder, filter="data")
    else:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)


def _parse(argument: str) -> tuple[Corpus | None, Path]:
    name, colon, rest = argument.partition(":")
    if colon and rest and name in CORPORA:
        # A shell expands ~ only at the beginning of a word.
        return CORPORA[name], Path(rest).expanduser()
    folder = Path(argument).expanduser()
    # One letter before the colon is a drive.
    if colon and re.fullmatch(r"[\w-]{2,}", name) and not folder.exists():
        raise DataError(f"found {argument!r}, expected FOLDER or NAME:FOLDER, with NAME one of {', '.join(CORPORA)}")
    return None, folder


def _read_daps(folder: Path, progress: TaskProgress | None) -> Manifest:
    clean = _part("daps", folder, "clean", "daps/clean")
    wanted = [f"{speaker}_script{number}_clean" for speaker in _DAPS_SPEAKERS for number in _DAPS_SCRIPTS]
    _require_names("daps", clean, wanted)
    return _group(scan(clean, progress=progress), clean, _DAPS_NAME)


def _read_noisex(folder: Path, progress: TaskProgress | None) -> Manifest:
    _require_names("noisex92", folder, _NOISEX_FILES)
    # Two factories, cockpits or destroyers are one kind: one must not be in training and the other in the test.
    return _group(scan(folder, progress=progress), folder, _NOISEX_TWIN)


def _read_librispeech(folder: Path, progress: TaskProgress | None) -> Manifest:
    speech = _part("librispeech", folder, "LibriSpeech", ".")
    _require_pattern("librispeech", speech, _LIBRISPEECH_NAME)
    return _group(scan(speech, progress=progress), speech, _LIBRISPEECH_NAME)


def _read_voicebank(part: str, folder: Path, progress: TaskProgress | None) -> Manifest:
    clean = _part("voicebank", folder, f"clean_{part}_wav")
    _require_pattern("voicebank", clean, _VOICEBANK_NAME)
    return _group(scan(clean, progress=progress), clean, _VOICEBANK_NAME)


def _pair_voicebank(part: str, folder: Path) -> list[Pair]:
    noisy, clean = (_part("voicebank", folder, f"{side}_{part}_wav") for side in ("noisy", "clean"))
    return _pair("voicebank", noisy, clean, _VOICEBANK_PAIR)


def _read_dns_speech(folder: Path, progress: TaskProgress | None) -> Manifest:
    speech = _part("dns-speech", folder, *_dns_places("clean"), *_dns_places("clean_fullband"))
    return _group(scan(speech, progress=progress), speech, _DNS_READER)


def _read_dns_noise(folder: Path, progress: TaskProgress | None) -> Manifest:
    noise = _part("dns-noise", folder, *_dns_places("noise"), *_dns_places("noise_fullband"))
    return _group(scan(noise, progress=progress), noise, _DNS_KIND)


def _read_dns_rooms(folder: Path, progress: TaskProgress | None) -> Manifest:
    return _read_rirs(_part("dns-rooms", folder, *_dns_places("impulse_responses")), progress)


def _read_dns_test(folder: Path, progress: TaskProgress | None) -> Manifest:
    return scan(_part("dns-test", folder, *_dns_places("test_set/synthetic/no_reverb/clean")), progress=progress)


def _pair_dns_test(folder: Path) -> list[Pair]:
    noisy, clean = (
        _part("dns-test", folder, *_dns_places(f"test_set/synthetic/no_reverb/{side}")) for side in ("noisy", "clean")
    )
    return _pair("dns-test", noisy, clean, _DNS_PAIR)


def _dns_places(place: str) -> list[str]:
    return [f"datasets/{place}", f"datasets_fullband/{place}", place]


def _read_slr28(folder: Path, progress: TaskProgress | None) -> Manifest:
    return _read_rirs(_part("slr28", folder, "RIRS_NOISES/simulated_rirs", "simulated_rirs").parent, progress)


def _read_slr28_noise(folder: Path, progress: TaskProgress | None) -> Manifest:
    noise = _part("slr28-noise", folder, "RIRS_NOISES/pointsource_noises", "pointsource_noises")
    return scan(noise, progress=progress)


def _read_rirs(folder: Path, progress: TaskProgress | None) -> Manifest:
    manifest = scan(folder, min_seconds=_MIN_SECONDS["rooms"], progress=progress)
    return _group(_without(manifest, folder, _RIR_NOISE), folder, _RIR_ROOM)


def _read_mit(folder: Path, progress: TaskProgress | None) -> Manifest:
    rooms = _part("mit-ir-survey", folder, "Audio", ".")
    _require_pattern("mit-ir-survey", rooms, _MIT_NAME)
    return _group(scan(rooms, min_seconds=_MIN_SECONDS["rooms"], progress=progress), rooms, _MIT_NAME)


def _read_openair(folder: Path, progress: TaskProgress | None) -> Manifest:
    manifest = scan(folder, min_seconds=_MIN_SECONDS["rooms"], progress=progress)
    return _without(manifest, folder, _OPENAIR_EXAMPLE)


def _part(name: str, folder: Path, *places: str) -> Path:
    """The first of some places in the folder of a corpus that exists."""
    for place in places:
        if (folder / place).is_dir():
            return folder / place
    raise DataError(f"found no {places[0]}/ in {folder}, expected the folders of {name} ({CORPORA[name].address})")


def _names(folder: Path) -> list[tuple[str, Path]]:
    """Audio files, each with its path below the folder, without suffix."""
    try:
        return [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in audio.find_audio(folder)]
    except AudioError as error:
        raise DataError(str(error)) from error


def _require_names(name: str, folder: Path, wanted: list[str]) -> None:
    found = [file for file, _ in _names(folder)]
    missing = [file for file in wanted if file not in found]
    foreign = [file for file in found if file not in wanted]
    if missing or foreign:
        problems = [
            f"{len(files)} {what} ({_listing(files)})"
            for what, files in ((f"of {len(wanted)} files missing", missing), ("files unknown", foreign))
            if files
        ]
        raise DataError(
            f"found {' and '.join(problems)} in {folder}, expected {name} as it was published: {_mend(name, folder)}"
        )


def _require_pattern(name: str, folder: Path, pattern: str) -> list[tuple[str, Path]]:
    """What the expression's group catches in the name of each file, and the file; a name without it is an error."""
    caught, foreign = [], []
    for file, path in _names(folder):
        if match := re.search(pattern, file):
            caught.append((match[1], path))
        else:
            foreign.append(file)
    if foreign:
        raise DataError(
            f"found {len(foreign)} of {len(caught) + len(foreign)} files in {folder} whose names are not of {name} "
            f"({_listing(foreign)}), expected it as it was published: {_mend(name, folder)}"
        )
    return caught


def _listing(files: list[str]) -> str:
    return ", ".join(files[:_NAMED]) + (", ..." if len(files) > _NAMED else "")


def _mend(name: str, folder: Path) -> str:
    return f"get it from {CORPORA[name].address}, or give {folder} without a name to take what is there as it lies"


def _group(manifest: Manifest, folder: Path, pattern: str) -> Manifest:
    """Take the group from the name; where the expression is not found, the group stays."""

    def grouped(recording: Recording) -> Recording:
        match = re.search(pattern, recording.path.relative_to(folder).with_suffix("").as_posix())
        return replace(recording, group="_".join(filter(None, match.groups()))) if match else recording

    return replace(manifest, recordings=tuple(map(grouped, manifest.recordings)))


def _without(manifest: Manifest, folder: Path, pattern: str) -> Manifest:
    """Leave out files by name."""

    def belongs(file: Recording | Unusable) -> bool:
        return not re.search(pattern, file.path.relative_to(folder).as_posix())

    kept = Manifest(tuple(filter(belongs, manifest.recordings)), tuple(filter(belongs, manifest.unusable)))
    if not kept.recordings:
        raise DataError(f"found only other sounds in {folder}, expected responses of rooms")
    return kept


def _pair(name: str, noisy: Path, clean: Path, pattern: str) -> list[Pair]:
    """Pair the files of two folders by the part of their names that the expression's group catches."""
    noisy_files, clean_files = (_by_key(name, folder, pattern) for folder in (noisy, clean))
    for files, others, folder in ((noisy_files, clean_files, clean), (clean_files, noisy_files, noisy)):
        alone = [path.name for key, path in files.items() if key not in others]
        if alone:
            raise DataError(
                f"found no counterpart in {folder} of {len(alone)} of {len(files)} files ({_listing(alone)}), "
                f"expected {name} as it was published: get it from {CORPORA[name].address}"
            )
    return [Pair(path.stem, path, clean_files[key]) for key, path in noisy_files.items()]


def _by_key(name: str, folder: Path, pattern: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for key, path in _require_pattern(name, folder, pattern):
        if key in files:
            raise DataError(f"found {files[key].name} and {path.name} in {folder}, expected one of them: remove one")
        files[key] = path
    return files


_DATASHARE = "https://datashare.ed.ac.uk/handle/10283/2791"
_DNS = "https://github.com/microsoft/DNS-Challenge"
_SLR28 = "https://www.openslr.org/28"

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus("daps", "speech", "https://zenodo.org/records/4660670", "CC BY-NC 4.0.", _read_daps),
        Corpus("librispeech", "speech", "https://www.openslr.org/12", "CC BY 4.0.", _read_librispeech),
        Corpus(
            "voicebank",
            "speech",
            _DATASHARE,
            "CC BY 4.0.",
            partial(_read_voicebank, "trainset_28spk"),
            partial(_pair_voicebank, "trainset_28spk"),
        ),
        Corpus(
            "voicebank-test",
            "speech",
            _DATASHARE,
            "CC BY 4.0.",
            partial(_read_voicebank, "testset"),
            partial(_pair_voicebank, "testset"),
        ),
        Corpus("dns-speech", "speech", _DNS, "Mixed, from public domain to ODbL: see its README.", _read_dns_speech),
        Corpus("dns-test", "speech", _DNS, "Mixed: see its README.", _read_dns_test, _pair_dns_test),
        Corpus("dns-noise", "noise", _DNS, "Mixed, CC0, CC BY 4.0 and CC BY-SA 3.0: see its README.", _read_dns_noise),
        Corpus("noisex92", "noise", "http://spib.linse.ufsc.br/noise.html", "None is stated.", _read_noisex),
        Corpus("slr28-noise", "noise", _SLR28, "Apache-2.0.", _read_slr28_noise),
        Corpus("slr28", "rooms", _SLR28, "Apache-2.0.", _read_slr28),
        Corpus("dns-rooms", "rooms", _DNS, "Apache-2.0 (SLR26 and SLR28).", _read_dns_rooms),
        Corpus(
            "mit-ir-survey",
            "rooms",
            "https://mcdermottlab.mit.edu/Reverb/IR_Survey.html",
            "None is stated there; copies elsewhere say CC BY 4.0.",
            _read_mit,
        ),
        Corpus(
            "openair",
            "rooms",
            "https://www.openair.hosted.york.ac.uk",
            "Creative Commons, another one for each room: see its page.",
            _read_openair,
        ),
    )
}
"""Corpora by the name that stands before the colon of `NAME:FOLDER`."""

_SLR12 = "https://www.openslr.org/resources/12"

ARCHIVES: dict[str, Archive] = {
    "daps": Archive(
        "daps", "https://zenodo.org/records/4660670/files/daps.tar.gz", "md5:303c130b7ce2e02b59c7ca5cd595a89c"
    ),
    "librispeech-dev-clean": Archive(
        "librispeech", f"{_SLR12}/dev-clean.tar.gz", "md5:42e2234ba48799c1f50f24a7926300a1"
    ),
    "librispeech-test-clean": Archive(
        "librispeech", f"{_SLR12}/test-clean.tar.gz", "md5:32fa31d27d2e1cad72775fee3f4849a9"
    ),
    "librispeech-train-clean-100": Archive(
        "librispeech", f"{_SLR12}/train-clean-100.tar.gz", "md5:2a93770f6d5c6c964bc36631d331a522"
    ),
    "slr28": Archive(
        "slr28", "https://www.openslr.org/resources/28/rirs_noises.zip", "md5:e6f48e257286e05de56413b4779d8ffb"
    ),
    "mit-ir-survey": Archive(
        "mit-ir-survey",
        "https://mcdermottlab.mit.edu/Reverb/IRMAudio/Audio.zip",
        "sha1:de04f5be419c12f4f847f65d7ef8e2356b73aa38",
    ),
}
"""What `fetch` can download: fixed addresses whose content has a published checksum."""
