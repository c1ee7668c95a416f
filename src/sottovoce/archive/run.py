"""An archive through an enhancer: parts in any order, by any number of machines, stopped and repeated at any time."""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from sottovoce.archive.cluster import RayProcesses
from sottovoce.archive.manifest import Item, Manifest, Part
from sottovoce.archive.packing import STAGING_NAME, Packing, outputs_outside, pack_rows, require_packing
from sottovoce.archive.pool import Pool, Processes, ThisProcess
from sottovoce.archive.results import AUDIO_NAME, Row, Run
from sottovoce.archive.stores import open_store
from sottovoce.archive.work import Task, enhance_items, failed
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.options import EnhanceOptions
from sottovoce.engine.workers import WorkerDiedError, Workers
from sottovoce.errors import ConfigError, DataError, StorageError
from sottovoce.extras import require
from sottovoce.progress import Progress
from sottovoce.signal.output import OutputOptions

log = logging.getLogger(__name__)

BATCH_SECONDS = 600.0
"""How much sound a process is given at once, about and at most: at 100 times real time, it takes six seconds."""

# A process has so many batches at least, of several recordings if these are short enough.
_LEAST_BATCHES = 4
# Recordings of unknown length may be as long as this.
_UNKNOWN_SECONDS = 60.0


@dataclass(frozen=True)
class Summary:
    """What a run has done.

    Attributes:
        place: The folder of the run, with its tables and its enhanced recordings, or its address.
        enhanced: Number of recordings that have an enhanced version now, of the parts that were gone through.
        failed: Number of those that have none; the tables say why.
        seconds: Length of the enhanced ones.
        finished_parts: Number of parts that were gone through.
        kept_parts: Number of parts that earlier runs had finished.
        unfinished: Why other parts were not gone through, a sentence each.
    """

    place: str
    enhanced: int
    failed: int
    seconds: float
    finished_parts: int
    kept_parts: int
    unfinished: tuple[str, ...]


def enhance_archive(
    manifest: Manifest,
    output: Path | str,
    enhancer: Enhancer,
    options: EnhanceOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    packing: Packing | None = None,
    shard: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
    jobs: int = 1,
    attempts: int = 3,
    pause_seconds: float = 1.0,
    dnsmos: bool = False,
    address: str | None = None,
    on_progress: Progress | None = None,
) -> Summary:
    """Enhance the recordings of a manifest, but for what earlier runs have finished.

    A recording that cannot be enhanced is a row of its part's table, and the others go on. A run may be killed at any
    time: no file is half-written, and the next one goes on with the parts that have no table; of these, it keeps the
    enhanced recordings that are there. So several runs may go through one manifest at once, each its own shard.

    Args:
        manifest: The list of recordings.
        output: Folder to write to, or an address such as `s3://bucket/enhanced`; the run has a folder in it, which is
            named by the model and the options.
        enhancer: The engine.
        options: How to enhance.
        output_options: What is kept beside the sound, and how small lossy files become.
        packing: Put the enhanced recordings of a part together, when all are done: `webdataset` for a tar shard,
            `parquet` for a file as of Hugging Face's datasets. Otherwise each is a file of its own.
        shard: Number of this run, from 1, and number of all runs: each goes through other parts.
        retry_failed: Go through the finished parts, too, and try what failed in them again.
        jobs: Number of recordings at once, each in a process of its own.
        address: Have actors of a Ray cluster do the work in place of processes of this machine: `local`, `auto` or
            `ray://HOST:PORT`. The cluster's machines reach recordings and output under the same paths.
        attempts: How often a recording is tried whose failure may pass, or that made its process crash.
        pause_seconds: Wait before the second attempt; it doubles with each.
        dnsmos: Have the tables say how DNSMOS P.835 rates the enhanced versions, which takes several times as long.
        on_progress: Called with the seconds of sound after every block, by one thread at a time.

    Returns:
        What was done.

    Raises:
        ConfigError: A number is out of its range, or there is no such cluster.
        DataError: The folder of the run was begun with other versions of what makes the samples.
        MissingExtraError: What reaches the output, a cluster, or DNSMOS is not installed.
        StorageError: The output takes nothing more.
    """
    options = options or EnhanceOptions()
    if jobs < 1 or attempts < 1:
        raise ConfigError(f"found {jobs} jobs and {attempts} attempts, expected 1 or more of each")
    if not 1 <= shard[0] <= shard[1]:
        raise ConfigError(f"found the shard {shard[0]}/{shard[1]}, expected 1/{shard[1]} to {shard[1]}/{shard[1]}")
    if address is not None and open_store(output).in_this_process:
        raise ConfigError(
            f"{output} is seen by this process alone: a cluster needs another output, such as s3://BUCKET"
        )
    enhancer.model.initial_past(1, options.room)  # refuses a choice that the model does not have, once for all
    require_packing(packing)
    if dnsmos:
        require("metrics", "DNSMOS", "speechmos")
    run = Run.begin(output, enhancer.model, options, output_options or OutputOptions(), packing)
    task = Task(run, attempts, pause_seconds, dnsmos)
    passage = _Passage(manifest, task, shard, retry_failed=retry_failed, on_progress=on_progress)
    if address is not None:
        processes: Processes = RayProcesses(enhancer, jobs, address)
    else:
        processes = ThisProcess(enhancer) if run.store.in_this_process else Workers(enhancer)
    with Pool(processes, jobs, passage.advance) as pool:
        return passage.go(pool)


@dataclass
class _Open:
    """A part of which some recordings are not done yet.

    Attributes:
        part: The part.
        rows: What became of its recordings, as far as it is known.
        missing: How many rows are not known yet.
    """

    part: Part
    rows: list[Row]
    missing: int


@dataclass(frozen=True)
class _Batch:
    """Some recordings of a part, which go to a process together, and their places in the part."""

    of: _Open
    items: list[tuple[int, Item]]


class _Passage:
    """One way through the parts of a shard."""

    def __init__(
        self,
        manifest: Manifest,
        task: Task,
        shard: tuple[int, int],
        *,
        retry_failed: bool,
        on_progress: Progress | None,
    ) -> None:
        self._manifest = manifest
        self._task = task
        self._on_progress = on_progress
        finished = task.run.finished_tables()
        parts = manifest.parts[shard[0] - 1 :: shard[1]]
        self._parts = [part for part in parts if retry_failed or task.run.table_of(part) not in finished]
        self._finished = finished
        self._total_seconds = sum(part.seconds for part in self._parts)
        self._done_seconds = 0.0
        self._kept_parts = len(parts) - len(self._parts)
        self._finished_parts = 0
        self._unfinished: list[str] = []
        self._enhanced = self._failed = 0
        self._seconds = 0.0

    def advance(self, seconds: float) -> None:
        self._done_seconds += seconds
        if self._on_progress is not None:
            done = min(max(0.0, self._done_seconds), self._total_seconds)
            self._on_progress("enhancing", done, self._total_seconds)

    def go(self, pool: Pool) -> Summary:
        self._clear_staging()
        # The last batches of a small archive are small, so that all processes are busy to the end.
        known = sum(part.seconds or part.items * _UNKNOWN_SECONDS for part in self._parts)
        self._batch_seconds = min(BATCH_SECONDS, known / (_LEAST_BATCHES * pool.jobs))
        working: dict[Future[list[Row]], _Batch | _Open] = {}
        for batch in self._batches():
            # Two for each process: the next one is there when it has finished one. A part that is packed comes back as
            # one more call, so that one taken is not always one less.
            while len(working) >= 2 * pool.jobs:
                self._collect(working, pool)
            items = [item for _, item in batch.items]
            working[pool.submit(_rows_of, pool, items, self._task_of(batch.of.part))] = batch
        while working:
            self._collect(working, pool)
        return Summary(
            place=self._task.run.store.address(),
            enhanced=self._enhanced,
            failed=self._failed,
            seconds=self._seconds,
            finished_parts=self._finished_parts,
            kept_parts=self._kept_parts,
            unfinished=tuple(self._unfinished),
        )

    def _batches(self) -> Iterator[_Batch]:
        for part in self._parts:
            try:
                open_part, items = self._open(part)
            except DataError as error:
                log.warning("%s", error)
                self._unfinished.append(str(error))
                self.advance(part.seconds)
                continue
            if not open_part.missing:
                self._kept_parts += 1
                self.advance(part.seconds)
                continue
            self.advance(part.seconds - sum(item.seconds or 0.0 for _, item in items))
            batch = _Batch(open_part, [])
            seconds = 0.0
            for place, item in items:
                batch.items.append((place, item))
                seconds += _UNKNOWN_SECONDS if item.seconds is None else item.seconds
                if seconds >= self._batch_seconds:
                    yield batch
                    batch, seconds = _Batch(open_part, []), 0.0
            if batch.items:
                yield batch

    def _open(self, part: Part) -> tuple[_Open, list[tuple[int, Item]]]:
        """Read what is to be done of a part: all of it, or what failed in it."""
        items = self._manifest.read(part)
        names = Counter(item.id for item in items)
        if len(names) < len(items):
            name, count = names.most_common(1)[0]
            log.warning("%s has %d recordings named %r: each has an output of its own", part.name, count, name)
        # A row of a recording that nobody has looked at yet.
        rows = [Row(id=item.id, uri=item.uri, status="failed", seconds=item.seconds) for item in items]
        if self._task.run.table_of(part) in self._finished:
            rows = self._task.run.read(part)
        to_do = [place for place, row in enumerate(rows) if row.status == "failed"]
        return _Open(part, rows, len(to_do)), [(place, items[place]) for place in to_do]

    def _task_of(self, part: Part) -> Task:
        if self._task.run.packing is None:
            return self._task
        return replace(self._task, folder=f"{STAGING_NAME}/{self._stem_of(part)}")

    def _stem_of(self, part: Part) -> str:
        return self._task.run.table_of(part).removesuffix(".jsonl")

    def _clear_staging(self) -> None:
        """Delete what a run that was killed after the table of a part would have deleted next."""
        if self._task.run.packing is not None:
            store = self._task.run.store
            try:
                names = store.names(STAGING_NAME)
            except OSError as error:
                raise StorageError(f"cannot read {store.address(STAGING_NAME)} ({error.strerror or error})") from error
            store.delete(f"{STAGING_NAME}/{name}" for name in names if f"{name}.jsonl" in self._finished)

    def _collect(self, working: "dict[Future[list[Row]], _Batch | _Open]", pool: Pool) -> None:
        """Take what is done; parts of which nothing is missing then are packed, or have their tables written."""
        for future in wait(working, return_when=FIRST_COMPLETED).done:
            batch = working.pop(future)
            if isinstance(batch, _Open):
                self._finish(batch, future.result())
                continue
            for (place, _), row in zip(batch.items, future.result(), strict=True):
                batch.of.rows[place] = row
            batch.of.missing -= len(batch.items)
            if not batch.of.missing and self._task.run.packing is None:
                self._finish(batch.of, batch.of.rows)
            elif not batch.of.missing:
                of = batch.of
                working[pool.submit(_packed, pool, of.rows, self._task, self._stem_of(of.part))] = of

    def _finish(self, done: _Open, rows: list[Row]) -> None:
        run = self._task.run
        run.write(done.part, rows)
        if run.packing is not None:
            run.store.delete([*outputs_outside(done.rows, rows), f"{STAGING_NAME}/{self._stem_of(done.part)}"])
        enhanced = [row.seconds or 0.0 for row in rows if row.status == "enhanced"]
        self._finished_parts += 1
        self._enhanced += len(enhanced)
        self._failed += len(rows) - len(enhanced)
        self._seconds += sum(enhanced)


def _rows_of(pool: Pool, items: Sequence[Item], task: Task) -> list[Row]:
    """Have some recordings enhanced by another process; if that dies, each of them by one of its own."""
    if len(items) > 1:
        with contextlib.suppress(WorkerDiedError):
            return pool.call(enhance_items, items, task)
        _clear_after(items, task)
        return [row for item in items for row in _rows_of(pool, [item], task)]
    (item,) = items
    for attempt in range(1, task.attempts + 1):
        try:
            (row,) = pool.call(enhance_items, items, task)
        except WorkerDiedError as error:
            _clear_after(items, task)
            death = error
        else:
            return [replace(row, attempts=row.attempts + attempt - 1)]
    advice = "it may be damaged: copy it again, or convert it with ffmpeg"
    return [failed(item, WorkerDiedError(f"the process that worked on it crashed ({death}); {advice}"), task.attempts)]


def _packed(pool: Pool, rows: Sequence[Row], task: Task, stem: str) -> list[Row]:
    """Have the recordings of a part packed by another process."""
    for _ in range(task.attempts):
        try:
            return pool.call(pack_rows, rows, task.run, stem)
        except WorkerDiedError as error:
            task.run.store.clear_leftovers(AUDIO_NAME)
            death = error
    raise DataError(f"the process that packs {stem} crashed {task.attempts} times ({death}): run the command again")


def _clear_after(items: Sequence[Item], task: Task) -> None:
    """Delete what a process that has died left unfinished."""
    for folder in {task.output_of(item).rpartition("/")[0] for item in items}:
        task.run.store.clear_leftovers(folder)
