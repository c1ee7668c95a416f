"""The file of a recording, wherever it lies: in a folder, in a store, in a tar shard, in a row of a Parquet file.

Where a recording lies in another file is said behind the `#` of its address: `shard.tar#offset=1024&name=talk.wav`, or
`train.parquet#row=17&column=audio&name=talk.flac`.
"""

import contextlib
import io
import logging
import tarfile
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote

from sottovoce.archive.manifest import Item
from sottovoce.archive.scratch import scratch_copy
from sottovoce.archive.stores import is_address, open_uri
from sottovoce.errors import AudioError, ChangedError
from sottovoce.extras import require
from sottovoce.signal.audio import is_recording

log = logging.getLogger(__name__)

TAR_SUFFIX, PARQUET_SUFFIX = ".tar", ".parquet"
SHARD_SUFFIXES = (TAR_SUFFIX, PARQUET_SUFFIX)
"""Endings of the names of files that hold recordings."""

# Marks the item that stands for the recordings that could not be found in a damaged shard.
_UNREAD = "unread"
# Rows of a Parquet file that are decoded at once.
_ROWS_AT_ONCE = 4
_BUFFER_BYTES = 2**20
_BLOCK_BYTES = 512


def lies_alone(uri: str) -> bool:
    """Say whether an address is that of a file on a drive of this machine, which is read where it is."""
    return not is_address(uri) or (uri.lower().startswith("file://") and "#" not in uri)


class Sources(contextlib.AbstractContextManager["Sources"]):
    """Gives the files of recordings, as a context manager; a Parquet file stays open for its next row."""

    def __init__(self) -> None:
        self._rows: _Rows | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    @contextlib.contextmanager
    def local_file(self, item: Item) -> Iterator[Path]:
        """Give the file of a recording: where it is, or a copy on this machine for as long as a block runs.

        Args:
            item: The recording.

        Yields:
            The path of the file, which may be missing where no copy is needed. An `AudioError` that leaves the block
            names the recording, and not the copy.

        Raises:
            AudioError: There is no such recording, or it cannot be read.
            StorageError: This machine has no room for a copy.
            MissingExtraError: What reaches it is not installed.
        """
        if lies_alone(item.uri):
            yield item.path
            return
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(self._stream(item.uri))
                name = f"recording{PurePosixPath(item.uri).suffix[:20]}"  # of the same kind
                path = stack.enter_context(scratch_copy(stream, name, item.uri))
            except FileNotFoundError:
                raise AudioError(
                    f"found nothing at {item.uri}, expected a recording: list the recordings again"
                ) from None
            except OSError as error:
                raise AudioError(
                    f"cannot read {item.uri} ({error.strerror or error}): check that you may read it, and try again"
                ) from error
            try:
                yield path
            except AudioError as error:
                error.args = (str(error).replace(str(path), item.uri),)
                raise

    def _stream(self, uri: str) -> contextlib.AbstractContextManager[BinaryIO]:
        place, _, fragment = uri.partition("#")
        if not fragment:
            return open_uri(place)
        where = {name: values[0] for name, values in parse_qs(fragment, errors="surrogateescape").items()}
        try:
            if _UNREAD in where:
                raise AudioError(
                    f"{place} could not be read to its end when it was listed: copy it again, and list it again"
                )
            if "offset" in where:
                return _member(place, int(where["offset"]), where.get("name", ""))
            row, column = int(where["row"]), where["column"]
        except (ValueError, KeyError):
            raise AudioError(
                f"found the address {uri}, expected #offset= or #row= and #column= of a shard: list it again"
            ) from None
        if self._rows is None or self._rows.place != place:
            self._close()
            self._rows = _Rows(place)
        return contextlib.closing(io.BytesIO(self._rows.read(row, column, where.get("name"))))


@contextlib.contextmanager
def _member(place: str, offset: int, name: str) -> Iterator[BinaryIO]:
    """Open the member of a tar file whose header is at an offset."""
    with open_uri(place) as file:
        try:
            file.seek(offset)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                member = tar.next()
                if member is None or not member.isreg() or member.name != name:
                    raise ChangedError(
                        f"found {'nothing' if member is None else repr(member.name)} at byte {offset} of {place}, "
                        f"expected {name!r}: it changed since it was listed; list it again"
                    )
                content = tar.extractfile(member)
                assert content is not None  # as for every regular file
                yield content  # type: ignore[misc]  # it reads as any other
        except tarfile.TarError as error:
            raise AudioError(
                f"{place} is cut or damaged from byte {offset} on ({error}): copy it again, and list it again"
            ) from error


class _Rows:
    """A Parquet file that is read row by row, mostly forward, as tasks have neighbouring rows.

    Args:
        place: Its address.
    """

    def __init__(self, place: str) -> None:
        require("stores", "A Parquet file", "pyarrow")
        import pyarrow.parquet

        self.place = place
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_uri(place))
            try:
                # Pages one after the other, and not a column of a group of rows at once.
                self.file = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            except (pyarrow.ArrowException, OSError) as error:
                raise _unreadable_rows(place, error) from error
            self._opened = stack.pop_all()
        metadata = self.file.metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        # The first row of each group, and how many rows there are.
        self._begins = [0, *accumulate(counts)]
        self._batches: Iterator[Any] = iter(())
        self._column = ""
        self._at = 0
        self._batch: list[Any] = []

    def close(self) -> None:
        self._opened.close()

    def read(self, row: int, column: str, name: str | None) -> bytes:
        import pyarrow

        if not 0 <= row < self._begins[-1]:
            raise ChangedError(
                f"found {self._begins[-1]} rows in {self.place}, expected one of number {row}: it changed since it was "
                "listed; list it again"
            )
        try:
            group = bisect_right(self._begins, row) - 1
            if not (column == self._column and self._begins[group] <= self._at <= row):
                self._column, self._at, self._batch = column, self._begins[group], []
                self._batches = self.file.iter_batches(
                    batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=[f"{column}.bytes", f"{column}.path"]
                )
            while row >= self._at + len(self._batch):
                self._at += len(self._batch)
                self._batch = next(self._batches).column(0)
            found = self._batch[row - self._at].as_py() or {"bytes": None, "path": None}
        except (pyarrow.ArrowException, OSError, LookupError, StopIteration) as error:
            self._column = ""
            raise _unreadable_rows(self.place, error) from error
        if name is not None and _row_name(found["path"]) != PurePosixPath(name).name:
            raise ChangedError(
                f"found {found['path']!r} in row {row} of {self.place}, expected {name!r}: it changed since it was "
                "listed; list it again"
            )
        if found["bytes"] is None:
            raise AudioError(f"row {row} of {self.place} has no bytes of sound in {column}: expected the file itself")
        return bytes(found["bytes"])


def _row_name(path: str | None) -> str:
    return PurePosixPath(path or "").name or "sound.wav"


def _unreadable_rows(place: str, error: Exception) -> AudioError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return AudioError(f"{place} is cut or damaged, or no Parquet file with sound ({reason}): copy it again")


def recordings_in(uri: str, name: str) -> Iterator[Item]:
    """Find the recordings in a tar shard or a Parquet file, without reading their sound.

    Where the file is cut or damaged, the last item stands for what cannot be seen: to read it is an error, so that no
    run over the archive passes for a complete one.

    Args:
        uri: Address of the file.
        name: What its owner calls it; the ids of its recordings begin with it.

    Yields:
        Recordings in the order of the file.

    Raises:
        MissingExtraError: What reads the file is not installed.
    """
    return (_rows_in if uri.lower().endswith(PARQUET_SUFFIX) else _members_in)(uri, name)


def _members_in(uri: str, shard: str) -> Iterator[Item]:
    seen: set[str] = set()
    repeated: set[str] = set()
    offset = 0
    try:
        with open_uri(uri) as file:
            end = file.seek(0, io.SEEK_END)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    offset = member.offset
                    if member.isreg() and is_recording(PurePosixPath(member.name).name):
                        (repeated if member.name in seen else seen).add(member.name)
                        where = f"offset={offset}&name={quote(member.name, errors='surrogateescape')}"
                        yield Item(f"{shard}/{member.name}", f"{uri}#{where}", member.size)
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError("unexpected end of data")
                    offset = tar.offset
                # What is no header at all ends a tar file as well, without a word.
                file.seek(offset)
                mark = file.read(_BLOCK_BYTES)
                if len(mark) < _BLOCK_BYTES or mark.strip(b"\0"):
                    raise tarfile.ReadError("the mark of its end is missing")
    except (tarfile.TarError, OSError) as error:
        log.warning(
            "%s cannot be read from byte %d on (%s): copy it again, and list it again; what is before is listed",
            uri,
            offset,
            getattr(error, "strerror", None) or error,
        )
        yield _unread(uri, shard)
    if repeated:
        log.warning(
            "%s has several members named %r (%d such names): each has an output of its own",
            uri,
            min(repeated),
            len(repeated),
        )


def _rows_in(uri: str, shard: str) -> Iterator[Item]:
    try:
        rows = _Rows(uri)
    except (AudioError, OSError) as error:
        log.warning("%s", error if isinstance(error, AudioError) else _unreadable_rows(uri, error))
        yield _unread(uri, shard)
        return
    with contextlib.closing(rows):
        import pyarrow

        kinds = {field.name: field.type for field in rows.file.schema_arrow}
        column = next((name for name, kind in kinds.items() if _holds_files(kind)), "")
        if not column:
            log.warning(
                "%s has the columns %s, expected one with the fields bytes and path, as Hugging Face's audio: convert "
                "it, or leave it out",
                uri,
                ", ".join(kinds),
            )
            yield _unread(uri, shard)
            return
        number = 0
        try:
            for batch in rows.file.iter_batches(columns=[f"{column}.path"]):
                for path in batch.column(0).field("path").to_pylist():
                    name = _row_name(path)
                    where = f"row={number}&column={quote(column)}&name={quote(name, errors='surrogateescape')}"
                    yield Item(f"{shard}/{number:06}-{name}", f"{uri}#{where}")
                    number += 1
        except (pyarrow.ArrowException, OSError) as error:
            log.warning("%s", _unreadable_rows(uri, error))
            yield _unread(uri, shard)


def _unread(uri: str, shard: str) -> Item:
    return Item(f"{shard}/?", f"{uri}#{_UNREAD}=1")


def _holds_files(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    if not types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    return (
        "path" in fields
        and "bytes" in fields
        and (types.is_binary(fields["bytes"]) or types.is_large_binary(fields["bytes"]))
    )
