"""Jobs: recordings that are enhanced while nobody waits, and that outlive a restart."""

import asyncio
import contextlib
import json
import logging
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sottovoce.errors import DataError
from sottovoce.service.errors import ServiceError
from sottovoce.service.pool import Pool
from sottovoce.service.work import Order, Result

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
# A recording during which the service itself was killed again and again is not tried for ever.
_MAX_ATTEMPTS = 3
_VERSION = 1
_FIND = "SELECT * FROM jobs WHERE id = ?"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    created REAL NOT NULL,
    recording TEXT NOT NULL,
    fields TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    ended REAL,
    result TEXT,
    seconds REAL,
    notes TEXT NOT NULL DEFAULT '[]',
    code TEXT,
    message TEXT
)
"""


State = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True)
class Job:
    """A recording, and what became of it.

    Attributes:
        id: Its name, which nobody guesses, and which is all that is asked of whoever wants to know of it.
        created: When it came, in seconds since 1970.
        recording: Name of its file.
        fields: What is to be done, as JSON.
        attempts: How often it was begun.
        ended: When it was finished; None before.
        result: Name of the file that came of it.
        seconds: Length of the recording.
        notes: What whoever sent it should know, as JSON.
        code: Why there is no result, for programs.
        message: The same for people.
    """

    id: str
    created: float
    recording: str
    fields: str
    attempts: int
    ended: float | None
    result: str | None
    seconds: float | None
    notes: str
    code: str | None
    message: str | None


class JobStore:
    """The jobs of a service, in a database and a folder each; one service at a time has them.

    Args:
        folder: Where they are.

    Raises:
        DataError: Another service has them, or they cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "jobs"
        self._lock = threading.Lock()
        path = folder / "jobs.sqlite"
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=0)
        try:
            self._folder.mkdir(exist_ok=True)
            # The lock is kept until the process ends, however it ends.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("BEGIN EXCLUSIVE")
            self._database.execute(_SCHEMA)
            ((version,),) = self._database.execute("PRAGMA user_version").fetchall()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"they are of version {version}, expected {_VERSION}")
            self._database.execute(f"PRAGMA user_version = {_VERSION}")
            self._database.execute("COMMIT")
            known = {job.id for job in self.all()}
        except (sqlite3.Error, OSError) as error:
            self._database.close()
            raise DataError(
                f"cannot use the jobs in {folder} ({error}): name another folder, or end the service that has them"
            ) from error
        for entry in self._folder.iterdir():
            if entry.name not in known:  # the service was killed before, or after, it was a job
                shutil.rmtree(entry, ignore_errors=True)

    def close(self) -> None:
        """Leave the jobs to another service."""
        with self._lock:
            self._database.close()

    def all(self) -> list[Job]:
        """All jobs in the order of their coming."""
        return [Job(*row) for row in self._run("SELECT * FROM jobs ORDER BY created")]

    def find(self, name: str) -> Job | None:
        """The job of this name, if there is one."""
        return next((Job(*row) for row in self._run(_FIND, name)), None)

    def count(self) -> int:
        """Number of jobs, finished ones included."""
        ((count,),) = self._run("SELECT count(*) FROM jobs")
        return int(count)

    def add(self, folder: Path, recording: str, fields: str) -> Job:
        """Make a job of what was received.

        Args:
            folder: Holds the recording alone; it becomes the job's.
            recording: Name of the file.
            fields: What is to be done, as JSON.
        """
        name = secrets.token_urlsafe(24)
        folder.rename(self._folder / name)
        insert = "INSERT INTO jobs (id, created, recording, fields) VALUES (?, ?, ?, ?)"
        self._run(insert, name, time.time(), recording, fields)
        (row,) = self._run(_FIND, name)
        return Job(*row)

    def begin(self, name: str) -> Job | None:
        """Count an attempt, and take away what an earlier one left."""
        self._run("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", name)
        job = self.find(name)
        if job is not None:
            for path in self.folder_of(job).iterdir():
                if path.name != job.recording:
                    path.unlink()
        return job

    def give_back(self, job: Job) -> None:
        """Take an attempt for none, as it was not the recording that ended it."""
        self._run("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", job.id)

    def finish(self, job: Job, result: Result) -> None:
        """Note the result; the recording is needed no more."""
        update = "UPDATE jobs SET ended = ?, result = ?, seconds = ?, notes = ? WHERE id = ?"
        self._run(update, time.time(), result.path.name, result.seconds, json.dumps(result.notes), job.id)
        (self.folder_of(job) / job.recording).unlink(missing_ok=True)

    def fail(self, job: Job, error: ServiceError) -> None:
        """Note why there is no result; the recording is needed no more."""
        update = "UPDATE jobs SET ended = ?, code = ?, message = ? WHERE id = ?"
        self._run(update, time.time(), error.code, error.message, job.id)
        (self.folder_of(job) / job.recording).unlink(missing_ok=True)

    def delete(self, job: Job) -> None:
        """Take a job away with all that belongs to it."""
        self._run("DELETE FROM jobs WHERE id = ?", job.id)
        shutil.rmtree(self.folder_of(job), ignore_errors=True)

    def folder_of(self, job: Job) -> Path:
        """Where the files of a job are."""
        return self._folder / job.id

    def _run(self, statement: str, *values: str | float | None) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


class Jobs:
    """Enhances the recordings of jobs, in the order of their coming.

    Args:
        store: The jobs; those that an earlier service has not finished are taken up again.
        pool: What enhances.
        order_of: Says what is to be done for the fields of a job and its recording.
        at_once: Number of jobs at once.
        limit: The most jobs, finished ones included.
        seconds: How long a finished job is kept.
        on_finish: Called with the fields of a job and its result.
    """

    def __init__(
        self,
        store: JobStore,
        pool: Pool,
        order_of: Callable[[str, Path], Order],
        *,
        at_once: int,
        limit: int,
        seconds: float,
        on_finish: Callable[[str, Result], None],
    ) -> None:
        self._store = store
        self._pool = pool
        self._order_of = order_of
        self._at_once = at_once
        self._limit = limit
        self._seconds = seconds
        self._on_finish = on_finish
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._running: dict[str, asyncio.Task[Result]] = {}
        self._progress: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return self._queue.qsize()

    async def start(self) -> None:
        """Take up what is not finished, and begin to work."""
        for job in await asyncio.to_thread(self._store.all):
            if job.ended is None:
                self._queue.put_nowait(job.id)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._at_once)]
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Leave what is not finished to the next service; the pool was stopped before."""
        self._sweeping.cancel()
        for _ in self._tasks:
            self._queue.put_nowait(None)
        await asyncio.gather(*self._tasks, self._sweeping, return_exceptions=True)
        self._store.close()

    async def require_room(self) -> None:
        """Refuse a job if there are too many.

        Raises:
            ServiceError: There are.
        """
        if await asyncio.to_thread(self._store.count) >= self._limit:
            raise ServiceError(
                429,
                "too_many_jobs",
                f"found {self._limit} jobs, expected fewer: delete those whose results you have, or try again later",
                {"Retry-After": "60"},
            )

    async def add(self, folder: Path, recording: str, fields: str) -> Job:
        """Make a job of what was received; see `JobStore.add`."""
        job = await asyncio.to_thread(self._store.add, folder, recording, fields)
        self._queue.put_nowait(job.id)
        return job

    async def find(self, name: str) -> Job:
        """Find a job.

        Raises:
            ServiceError: There is none of this name.
        """
        job = await asyncio.to_thread(self._store.find, name)
        if job is None:
            raise no_job()
        return job

    async def delete(self, job: Job) -> None:
        """Take a job away, and end what works on it."""
        await asyncio.to_thread(self._store.delete, job)
        task = self._running.get(job.id)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            # What was written after its folder had gone.
            await asyncio.to_thread(self._store.delete, job)

    def state(self, job: Job) -> State:
        """Say how far a job is: queued, running, done or failed."""
        if job.ended is None:
            return "running" if job.id in self._running else "queued"
        return "failed" if job.result is None else "done"

    def progress(self, job: Job) -> float:
        """Say which share of a job is done, 0 to 1."""
        return 1.0 if job.result is not None else self._progress.get(job.id, 0.0)

    def expires(self, job: Job) -> float | None:
        """Say when a job is deleted, in seconds since 1970; None before it has ended."""
        return None if job.ended is None else job.ended + self._seconds

    def result(self, job: Job) -> Path | None:
        """Where the result is, if there is one."""
        return None if job.result is None else self._store.folder_of(job) / job.result

    async def _work(self) -> None:
        while (name := await self._queue.get()) is not None and not self._pool.is_stopping.is_set():
            try:
                await self._attend(name)
            except Exception:  # one job that cannot be worked on stops no other
                log.exception("a job could not be worked on")

    async def _attend(self, name: str) -> None:
        job = await asyncio.to_thread(self._store.begin, name)
        if job is None:  # it was deleted
            return
        if job.attempts > _MAX_ATTEMPTS:
            error = ServiceError(422, "gave_up", f"the service ended {_MAX_ATTEMPTS} times while it worked on this")
            await asyncio.to_thread(self._store.fail, job, error)
            return
        try:
            order = self._order_of(job.fields, self._store.folder_of(job) / job.recording)
            task = asyncio.create_task(self._pool.enhance(order, partial(self._progress.__setitem__, name)))
            self._running[name] = task
            await asyncio.wait({task})
            if task.cancelled():  # it was deleted
                return
            result = task.result()
            await asyncio.to_thread(self._store.finish, job, result)
            self._on_finish(job.fields, result)
            # Without its name, which is the key to it.
            log.info("a job is done", extra={"fields": {"sound_seconds": round(result.seconds, 3)}})
        except ServiceError as error:
            if self._pool.is_stopping.is_set():
                await asyncio.to_thread(self._store.give_back, job)
            else:
                await asyncio.to_thread(self._store.fail, job, error)
                log.info("a job has failed", extra={"fields": {"code": error.code}})
        finally:
            self._running.pop(name, None)
            self._progress.pop(name, None)

    async def _sweep(self) -> None:
        while True:
            for job in await asyncio.to_thread(self._store.all):
                expires = self.expires(job)
                if expires is not None and expires < time.time():
                    with contextlib.suppress(OSError):
                        await self.delete(job)
            await asyncio.sleep(_SWEEP_SECONDS)


def no_job() -> ServiceError:
    """Make the error for a job that is not there.

    Returns:
        The error, to be raised.
    """
    return ServiceError(404, "no_job", "found no job of this name: it was deleted, has expired, or never was")
