"""Where the files of an archive lie: a folder, or a store that fsspec reaches, such as S3; each is whole or absent."""

import contextlib
import errno
import functools
import io
import os
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from sottovoce.archive.scratch import folder_takes, scratch_folder
from sottovoce.atomic import clear_leftovers, replacing, temporary_folder
from sottovoce.engine.files import make_folder
from sottovoce.errors import AudioError, ConfigError, DataError, MissingExtraError, StorageError
from sottovoce.extras import require
from sottovoce.paths import require_writable

T = TypeVar("T")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Here a file appears when its upload is complete. Elsewhere it is written under another name, and renamed.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
# Errors that another attempt would meet as well.
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Entry:
    """A file in a store.

    Attributes:
        name: Its path below the place.
        bytes: Its size; None if it is not known.
    """

    name: str
    bytes: int | None


class Store(ABC):
    """A place with files; names are paths below it, with slashes."""

    @property
    @abstractmethod
    def in_this_process(self) -> bool:
        """Whether the place is in the memory of this process, so that others see something else there."""

    @abstractmethod
    def address(self, name: str = "") -> str:
        """Give the place of a file as people write it, for messages."""

    @abstractmethod
    def uri(self, name: str) -> str:
        """Give the address of a file for `open_uri` and for manifests, with what is special in an address quoted."""

    @abstractmethod
    def within(self, name: str) -> "Store":
        """Go to a folder of this place."""

    @abstractmethod
    def prepare(self, *folders: str) -> None:
        """Make folders to write to, where there are such things.

        Raises:
            StorageError: They cannot be made, or you may not write in them.
        """

    @abstractmethod
    def require_new(self, mark: str) -> None:
        """Refuse a place that is taken, or where nothing can be made, before any work.

        Args:
            mark: The file that is written last.

        Raises:
            DataError: Something is there, or nothing can be made there.
        """

    @abstractmethod
    def renewed(self) -> "contextlib.AbstractContextManager[Store]":
        """Give a place that becomes this one when the block ends well; in a store of objects it is this one."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Size of a file in bytes; None if there is none.

        Raises:
            OSError: The system does not say.
        """

    @abstractmethod
    def names(self, folder: str) -> set[str]:
        """Names of what is in a folder, without what is hidden; none if there is no folder.

        Raises:
            OSError: It cannot be read.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a small file.

        Raises:
            OSError: There is none, or it cannot be read.
        """

    @abstractmethod
    def write(self, name: str, content: bytes, *, overwrite: bool = True) -> None:
        """Write a small file.

        Raises:
            DataError: There is one, and it is not to be replaced.
            OSError: It cannot be written.
        """

    @abstractmethod
    def target(self, name: str) -> "contextlib.AbstractContextManager[Path]":
        """Give a path on this machine to write a large file to; the file is in the store when the block ends well.

        A file of that name that is there by then stays.

        Raises:
            StorageError: There is no room for it, here or in the store.
        """

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Delete files and folders, if they exist."""

    @abstractmethod
    def clear_leftovers(self, folder: str) -> None:
        """Delete what dead processes of this machine left unfinished."""

    @abstractmethod
    def takes(self, size: int) -> bool:
        """Say whether there is room for a file of so many bytes, and permission to write it."""


def open_store(place: Path | str) -> Store:
    """Open the place of some files.

    Args:
        place: A folder, or an address such as `s3://bucket/folder`.

    Returns:
        The place; nothing is made there, and nothing is asked of it yet.

    Raises:
        ConfigError: It is no address of a kind that is known.
        MissingExtraError: What reaches it is not installed.
    """
    if not is_address(place):
        return Folder(Path(place))
    scheme, mark, rest = str(place).partition("://")
    if scheme.lower() == "file":
        return Folder(Path(os.fsdecode(unquote_to_bytes(urlsplit(str(place)).path))))
    store = FsspecStore(f"{scheme.lower()}{mark}{rest.rstrip('/')}")
    _filesystem(store.url)
    return store


def is_address(place: Path | str) -> bool:
    """Say whether a place is an address, and not a path."""
    return isinstance(place, str) and _ADDRESS.match(place) is not None


@dataclass(frozen=True)
class Folder(Store):
    """A folder of this machine, or of a drive that it sees.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def in_this_process(self) -> bool:
        return False

    def address(self, name: str = "") -> str:
        return str(self.path / name)

    def uri(self, name: str) -> str:
        return (self.path.absolute() / name).as_uri()

    def within(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def prepare(self, *folders: str) -> None:
        for folder in folders:
            make_folder(self.path / folder)

    def require_new(self, mark: str) -> None:
        require_writable(self.path)
        if self.path.exists() or self.path.is_symlink():
            raise DataError(f"found {self.path}, which is kept: name another output, or delete it")

    @contextlib.contextmanager
    def renewed(self) -> "Iterator[Folder]":
        with temporary_folder(self.path) as temporary:
            yield Folder(temporary)
            temporary.rename(self.path)

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(self.path / folder) if not entry.name.startswith(".")}
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes, *, overwrite: bool = True) -> None:
        with replacing(self.path / name, overwrite=overwrite) as temporary:
            temporary.write_bytes(content)

    @contextlib.contextmanager
    def target(self, name: str) -> Iterator[Path]:
        # Whoever writes sound files writes them beside this path, and renames them.
        yield self.path / name

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def clear_leftovers(self, folder: str) -> None:
        clear_leftovers(self.path / folder)

    def takes(self, size: int) -> bool:
        return folder_takes(self.path, size)


@dataclass(frozen=True)
class FsspecStore(Store):
    """A store that fsspec reaches; what fails and may pass is tried four times.

    Attributes:
        url: Its address, such as `s3://bucket/folder`.
    """

    url: str

    @property
    def in_this_process(self) -> bool:
        return urlsplit(self.url).scheme == "memory"

    def address(self, name: str = "") -> str:
        return f"{self.url}/{name}" if name else self.url

    def uri(self, name: str) -> str:
        scheme, _, rest = self.address(name).partition("://")
        return f"{scheme}://{quote(rest)}"

    def within(self, name: str) -> "FsspecStore":
        return FsspecStore(self.address(name))

    def prepare(self, *folders: str) -> None:
        if urlsplit(self.url).scheme not in _OBJECT_STORES:
            for folder in folders:
                try:
                    _tried(_filesystem(self.url).makedirs, self._path(folder), exist_ok=True)
                except OSError as error:
                    raise StorageError(
                        f"cannot make the folder {self.address(folder)} ({error.strerror or error}): name one that you "
                        "may write to"
                    ) from error

    def require_new(self, mark: str) -> None:
        try:
            is_there = self.size(mark) is not None
        except OSError as error:
            raise DataError(f"cannot write {self.url} ({error.strerror or error}): name another output") from error
        if is_there:
            raise DataError(f"found {self.address(mark)}, which is kept: name another output, or delete it")

    @contextlib.contextmanager
    def renewed(self) -> "Iterator[FsspecStore]":
        yield self

    def size(self, name: str) -> int | None:
        try:
            found = _tried(_filesystem(self.url).info, self._path(name))
        except FileNotFoundError:
            return None
        size: int | None = found.get("size")
        return size or 0

    def names(self, folder: str) -> set[str]:
        return {PurePosixPath(entry["name"]).name for entry in self._listed(folder)}

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """Find all files below a folder, in sorted order; the names of one folder at a time are in memory.

        Args:
            folder: Where to look; all of the place if it is empty.

        Yields:
            Files; hidden ones are left out.

        Raises:
            OSError: A folder cannot be listed.
        """
        for entry in sorted(self._listed(folder), key=lambda entry: str(entry["name"]).rstrip("/")):
            name = f"{folder}/{PurePosixPath(entry['name']).name}".lstrip("/")
            if entry["type"] == "directory":
                yield from self.walk(name)
            else:
                yield Entry(name, entry.get("size"))

    def read(self, name: str) -> bytes:
        content: bytes = _tried(_filesystem(self.url).cat_file, self._path(name))
        return content

    def write(self, name: str, content: bytes, *, overwrite: bool = True) -> None:
        files, path = _filesystem(self.url), self._path(name)
        if urlsplit(self.url).scheme not in _OBJECT_STORES:
            with scratch_folder(self.address(name)) as folder:
                (folder / "content").write_bytes(content)
                self._put(folder / "content", name, overwrite=overwrite)
            return
        try:
            _tried(files.pipe_file, path, content, mode="overwrite" if overwrite else "create")
        except FileExistsError:
            raise DataError(f"found {self.address(name)}, which is kept: name another output") from None

    @contextlib.contextmanager
    def target(self, name: str) -> Iterator[Path]:
        with scratch_folder(self.address(name)) as folder:
            path = folder / PurePosixPath(name).name
            try:
                yield path
            except AudioError as error:
                error.args = (str(error).replace(str(path), self.address(name)),)
                raise
            try:
                with contextlib.suppress(DataError):  # another process has written the same
                    self._put(path, name, overwrite=False)
            except OSError as error:
                raise StorageError(
                    f"cannot write {self.address(name)} ({error.strerror or error}): see whether you may write there, "
                    "or name another output"
                ) from error

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading, from anywhere in it.

        Raises:
            OSError: There is none, or it cannot be read.
        """
        return cast(BinaryIO, _Reading(_tried(_filesystem(self.url).open, self._path(name), "rb")))

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                _tried(_filesystem(self.url).rm, self._path(name), recursive=True)

    def clear_leftovers(self, folder: str) -> None:
        clear_leftovers(Path(tempfile.gettempdir()))

    def takes(self, size: int) -> bool:
        name = f"trial-{os.urandom(8).hex()}"
        try:
            self.write(name, b"")
        except OSError:
            return False
        self.delete([name])
        return True

    def _path(self, name: str) -> str:
        return str(_filesystem(self.url)._strip_protocol(self.address(name)))

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        path = self._path(folder)
        try:
            entries = _tried(_filesystem(self.url).ls, path, detail=True)
        except FileNotFoundError:
            return []
        # A folder of a store may be a file as well, of no bytes.
        own = path.strip("/")
        found = ({**entry, "name": str(entry["name"]).strip("/")} for entry in entries)
        shown = (entry for entry in found if not PurePosixPath(entry["name"]).name.startswith("."))
        return [entry for entry in shown if entry["name"] != own]

    def _put(self, path: Path, name: str, *, overwrite: bool) -> None:
        files, target = _filesystem(self.url), self._path(name)
        try:
            if urlsplit(self.url).scheme in _OBJECT_STORES:
                _tried(files.put_file, str(path), target, mode="overwrite" if overwrite else "create")
                return
            if not overwrite and _tried(files.exists, target):
                raise FileExistsError
            folder, _, last = target.rpartition("/")
            temporary = f"{folder}/.sottovoce-{os.urandom(8).hex()}-{last}"
            _tried(files.makedirs, folder, exist_ok=True)
            try:
                _tried(files.put_file, str(path), temporary)
                _tried(files.mv, temporary, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    files.rm_file(temporary)
                raise
        except FileExistsError:
            raise DataError(f"found {self.address(name)}, which is kept: name another output") from None


class _Reading(io.RawIOBase):
    """A file in a store, each read of which is tried as often as any other call.

    Args:
        file: What fsspec has opened.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # A read that fails leaves fsspec's position where it was.
        content = _tried(self._file.read, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _tried(function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Call a function of a store, several times if it fails with what may pass."""
    for attempt in range(_ATTEMPTS):
        try:
            return function(*arguments, **keywords)
        except _LASTING:
            raise
        except Exception as error:  # each store has errors of its own
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            failure = OSError(errno.EIO, reason)
            failure.__cause__ = error
        if attempt + 1 < _ATTEMPTS:
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    raise failure


def _filesystem(url: str) -> Any:
    """What reaches a store."""
    if "::" in url:
        raise ConfigError(
            f"found the address {url}, an address in another one: expected one such as s3://BUCKET/FOLDER"
        )
    scheme, _, rest = url.partition("://")
    return _filesystem_at(f"{scheme}://{rest.partition('/')[0]}")


@functools.cache
def _filesystem_at(url: str) -> Any:
    require("stores", url, "fsspec")
    from fsspec.core import url_to_fs

    scheme = urlsplit(url).scheme
    # Others write to the same place, so that what was listed before says nothing.
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in ("s3", "s3a"):
        options["max_concurrency"] = 1  # of ten pieces of 50 MiB, nine would wait in memory
    try:
        files, _ = url_to_fs(url, **options)
    except ImportError as error:
        raise MissingExtraError(
            f"{url} needs a package that is not installed ({error}): `pip install 'sottovoce[stores]'` has S3's"
        ) from error
    except ValueError as error:
        raise ConfigError(f"found the address {url} ({error}), expected one such as s3://BUCKET/FOLDER") from error
    return files


@contextlib.contextmanager
def open_uri(uri: str) -> Iterator[BinaryIO]:
    """Open the file at an address for reading, from anywhere in it.

    Args:
        uri: An address as `Store.uri` gives it.

    Yields:
        The file.

    Raises:
        OSError: There is none, or it cannot be read.
        ConfigError: It is no address of a kind that is known.
        MissingExtraError: What reaches it is not installed.
    """
    scheme, _, rest = uri.partition("://")
    if scheme.lower() == "file":
        with Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path))).open("rb") as file:
            yield file
        return
    place, _, name = unquote(rest).rpartition("/")
    with FsspecStore(f"{scheme.lower()}://{place}").open(name) as file:
        yield file
