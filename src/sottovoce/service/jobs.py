"""Jobs: what is worked on while nobody waits."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from sottovoce.service.errors import ServiceError
from sottovoce.service.job_store import Job, JobStore, Kind
from sottovoce.service.work import AdaptationState, CurvePoint, Progress, Result

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
# A recording during which the service itself was killed again and again is not tried for ever.
_MAX_ATTEMPTS = 3

State = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True)
class Work:
    """How jobs of one kind are worked on.

    Attributes:
        run: Takes the fields of a job, its recording, and what another thread calls with its progress.
        at_once: Number of jobs at once.
    """

    run: Callable[[str, Path, Callable[[Progress], None]], Awaitable[Result]]
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
        self._progress: dict[str, Progress] = {}
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
        return self._progress.get(job.id, Progress()).share

    def adaptation(self, job: Job) -> AdaptationState | None:
        """Say how far the training of a model is; None before it has begun, and of other jobs."""
        if job.adaptation is not None:
            content = json.loads(job.adaptation)
            return AdaptationState(**{**content, "curve": tuple(CurvePoint(**point) for point in content["curve"])})
        return self._progress.get(job.id, Progress()).adaptation

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
