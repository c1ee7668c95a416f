"""Jobs as they are kept: a row in SQLite and a folder each, which outlive a restart."""

import contextlib
import json
import secrets
import shutil
import sqlite3
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sottovoce.errors import DataError
from sottovoce.service.errors import ServiceError
from sottovoce.service.work import Result

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
