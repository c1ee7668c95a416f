"""Jobs: what is worked on while nobody waits, and outlives a restart."""

import asyncio
import contextlib
import json
import logging
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sottovoce.errors import DataError
from sottovoce.service.errors import ServiceError
from sottovoce.service.work import AdaptationState, CurvePoint, Result

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
# A recording during which the service itself was killed again and again is not tried for ever.
_MAX_ATTEMPTS = 3
_VERSION = 2
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
    message TEXT,
    kind TEXT NOT NULL DEFAULT 'enhancement',
    adaptation TEXT
)
"""
_FROM_VERSION_1 = (
    "ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'enhancement'",
    "ALTER TABLE jobs ADD COLUMN adaptation TEXT",
)


State = Literal["queued", "running", "done", "failed"]
Kind = Literal["enhancement", "adaptation"]


@dataclass(frozen=True)
class Job:
    """What was sent, and what became of it.

    Attributes:
        id: Its name, which nobody guesses, and which is all that is asked of whoever wants to know of it.
        created: When it came, in seconds since 1970.
        recording: Name of the recording's file, or of a folder of several.
        fields: What is to be done, as JSON.
        attempts: How often it was begun.
        ended: When it was finished; None before.
        result: Name of the file that came of it.
        seconds: Length of the recording, or of what was listened to.
        notes: What whoever sent it should know, as JSON.
        code: Why there is no result, for programs.
        message: The same for people.
        kind: What is done with it.
        adaptation: The training of an adapted model that is done, as JSON.
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
    kind: Kind
    adaptation: str | None


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
            if version == 1:
                for statement in _FROM_VERSION_1:
                    self._database.execute(statement)
            elif version not in (0, _VERSION):
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

    def count_unfinished(self, kind: Kind) -> int:
        """Number of jobs of a kind that wait or are worked on."""
        ((count,),) = self._run("SELECT count(*) FROM jobs WHERE kind = ? AND ended IS NULL", kind)
        return int(count)

    def add(self, folder: Path, recording: str, fields: str, kind: Kind = "enhancement") -> Job:
        """Make a job of what was received.

        Args:
            folder: Holds the recording alone, or a folder of several; it becomes the job's.
            recording: Name of the file or folder.
            fields: What is to be done, as JSON.
            kind: What is to be done with it.
        """
        name = secrets.token_urlsafe(24)
        folder.rename(self._folder / name)
        insert = "INSERT INTO jobs (id, created, recording, fields, kind) VALUES (?, ?, ?, ?, ?)"
        self._run(insert, name, time.time(), recording, fields, kind)
        (row,) = self._run(_FIND, name)
        return Job(*row)

    def begin(self, name: str) -> Job | None:
        """Count an attempt, and take away what an earlier one left; an adaptation goes on with it."""
        self._run("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", name)
        job = self.find(name)
        if job is not None and job.kind == "enhancement":
            self._keep(job, job.recording)
        return job

    def give_back(self, job: Job) -> None:
        """Take an attempt for none, as it was not the recording that ended it."""
        self._run("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", job.id)

    def finish(self, job: Job, result: Result) -> None:
        """Note the result; the recording is needed no more."""
        update = "UPDATE jobs SET ended = ?, result = ?, seconds = ?, notes = ?, adaptation = ? WHERE id = ?"
        adaptation = None if result.adaptation is None else json.dumps(asdict(result.adaptation))
        self._run(update, time.time(), result.path.name, result.seconds, json.dumps(result.notes), adaptation, job.id)
        self._keep(job, result.path.name)

    def fail(self, job: Job, error: ServiceError) -> None:
        """Note why there is no result; the recording is needed no more."""
        update = "UPDATE jobs SET ended = ?, code = ?, message = ? WHERE id = ?"
        self._run(update, time.time(), error.code, error.message, job.id)
        self._keep(job)

    def delete(self, job: Job) -> None:
        """Take a job away with all that belongs to it."""
        self._run("DELETE FROM jobs WHERE id = ?", job.id)
        shutil.rmtree(self.folder_of(job), ignore_errors=True)

    def folder_of(self, job: Job) -> Path:
        """Where the files of a job are."""
        return self._folder / job.id

    def _keep(self, job: Job, name: str | None = None) -> None:
        """Take away all files of a job but one."""
        with contextlib.suppress(FileNotFoundError):  # the job was deleted
            for path in self.folder_of(job).iterdir():
                if path.name == name:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _run(self, statement: str, *values: str | float | None) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


Progress = Callable[[float | AdaptationState], None]
"""Takes the share that is done, 0 to 1, or how far an adaptation is; called by another thread."""


@dataclass(frozen=True)
class Work:
    """How jobs of one kind are worked on.

    Attributes:
        run: Takes the fields of a job, its recording, and what is called with its progress.
        at_once: Number of jobs at once.
    """

    run: Callable[[str, Path, Progress], Awaitable[Result]]
    at_once: int


class Jobs:
    """Works on jobs, those of a kind in the order of their coming.

    Args:
        store: The jobs; those that an earlier service has not finished are taken up again.
        works: How they are worked on, for each kind.
        is_stopping: Set when the service is about to stop.
        limit: The most jobs, finished ones included.
        seconds: How long a finished job is kept.
    """

    def __init__(
        self,
        store: JobStore,
        works: Mapping[Kind, Work],
        *,
        is_stopping: asyncio.Event,
        limit: int,
        seconds: float,
    ) -> None:
        self._store = store
        self._works = works
        self._is_stopping = is_stopping
        self._limit = limit
        self._seconds = seconds
        self._queues: dict[Kind, asyncio.Queue[str | None]] = {kind: asyncio.Queue() for kind in works}
        self._running: dict[str, asyncio.Task[Result]] = {}
        self._progress: dict[str, float | AdaptationState] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return sum(queue.qsize() for queue in self._queues.values())

    async def start(self) -> None:
        """Take up what is not finished, and begin to work."""
        for job in await asyncio.to_thread(self._store.all):
            if job.ended is None:
                self._queues[job.kind].put_nowait(job.id)
        self._tasks = [
            asyncio.create_task(self._attend_all(kind))
            for kind, work in self._works.items()
            for _ in range(work.at_once)
        ]
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Leave what is not finished to the next service; what works on it was stopped before."""
        self._sweeping.cancel()
        for kind, work in self._works.items():
            for _ in range(work.at_once):
                self._queues[kind].put_nowait(None)
        await asyncio.gather(*self._tasks, self._sweeping, return_exceptions=True)
        self._store.close()

    async def require_room(self, adaptations: int | None = None) -> None:
        """Refuse a job if there are too many.

        Args:
            adaptations: The most unfinished adaptations, if it is one.

        Raises:
            ServiceError: There are.
        """
        if adaptations is not None:
            unfinished = await asyncio.to_thread(self._store.count_unfinished, "adaptation")
            if unfinished >= adaptations:
                raise ServiceError(
                    429,
                    "too_many_jobs",
                    f"found {unfinished} adaptations that wait or run, expected fewer: try again later",
                    {"Retry-After": "120"},
                )
        if await asyncio.to_thread(self._store.count) >= self._limit:
            raise ServiceError(
                429,
                "too_many_jobs",
                f"found {self._limit} jobs, expected fewer: delete those whose results you have, or try again later",
                {"Retry-After": "60"},
            )

    async def add(self, folder: Path, recording: str, fields: str, kind: Kind = "enhancement") -> Job:
        """Make a job of what was received; see `JobStore.add`."""
        job = await asyncio.to_thread(self._store.add, folder, recording, fields, kind)
        self._queues[kind].put_nowait(job.id)
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

    async def adapted(self, name: str) -> Path | None:
        """Where the model of an adaptation is that is done; None if there is no such job."""
        job = await asyncio.to_thread(self._store.find, name)
        return None if job is None or job.kind != "adaptation" else self.result(job)

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
        if job.result is not None:
            return 1.0
        progress = self._progress.get(job.id, 0.0)
        return progress.share if isinstance(progress, AdaptationState) else progress

    def adaptation(self, job: Job) -> AdaptationState | None:
        """Say how far the training of a model is; None before it has begun, and of other jobs."""
        if job.adaptation is not None:
            content = json.loads(job.adaptation)
            return AdaptationState(**{**content, "curve": tuple(CurvePoint(**point) for point in content["curve"])})
        progress = self._progress.get(job.id)
        return progress if isinstance(progress, AdaptationState) else None

    def expires(self, job: Job) -> float | None:
        """Say when a job is deleted, in seconds since 1970; None before it has ended."""
        return None if job.ended is None else job.ended + self._seconds

    def result(self, job: Job) -> Path | None:
        """Where the result is, if there is one."""
        return None if job.result is None else self._store.folder_of(job) / job.result

    async def _attend_all(self, kind: Kind) -> None:
        queue, work = self._queues[kind], self._works[kind]
        while (name := await queue.get()) is not None and not self._is_stopping.is_set():
            try:
                await self._attend(name, work)
            except Exception:  # one job that cannot be worked on stops no other
                log.exception("a job could not be worked on")

    async def _attend(self, name: str, work: Work) -> None:
        job = await asyncio.to_thread(self._store.begin, name)
        if job is None:  # it was deleted
            return
        if job.attempts > _MAX_ATTEMPTS:
            error = ServiceError(422, "gave_up", f"the service ended {_MAX_ATTEMPTS} times while it worked on this")
            await asyncio.to_thread(self._store.fail, job, error)
            return
        try:
            recording = self._store.folder_of(job) / job.recording
            task = asyncio.ensure_future(work.run(job.fields, recording, partial(self._progress.__setitem__, name)))
            self._running[name] = task
            await asyncio.wait({task})
            if task.cancelled():  # it was deleted
                return
            result = task.result()
            await asyncio.to_thread(self._store.finish, job, result)
            # Without its name, which is the key to it.
            log.info("a job is done", extra={"fields": {"sound_seconds": round(result.seconds, 3)}})
        except ServiceError as error:
            if self._is_stopping.is_set():
                await asyncio.to_thread(self._store.give_back, job)
            else:
                await asyncio.to_thread(self._store.fail, job, error)
                log.info("a job has failed", extra={"fields": {"code": error.code}})
        except Exception:
            sentence = "the service failed, and its log says why: try again, or ask who runs it"
            await asyncio.to_thread(self._store.fail, job, ServiceError(500, "internal", sentence))
            raise
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
