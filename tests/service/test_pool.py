"""Worker processes for the event loop: a crash, a recording without an end, and an end of the service."""

import asyncio
import threading
import time

import pytest

from sottovoce.engine.options import EnhanceOptions
from sottovoce.service import pool as pools
from sottovoce.service.errors import ServiceError
from sottovoce.service.pool import Pool
from sottovoce.service.work import Order
from sottovoce.signal.output import OutputOptions

# In the place of what enhances.
FUNCTIONS = """
import os, time
from pathlib import Path
from sottovoce.service.work import Result

def die(enhancers, order, *, advance):
    os.abort()

def hang(enhancers, order, *, advance):
    Path(order.recording).write_text(str(os.getpid()))
    time.sleep(600)

def drip(enhancers, order, *, advance):
    for _ in range(8):
        time.sleep(0.1)
        advance(0.5)
    return Result(order.recording, float(os.getpid()))
"""


@pytest.fixture
def order(tmp_path):
    return Order(
        recording=tmp_path / "a.wav",
        model="identity",
        options=EnhanceOptions(),
        output_options=OutputOptions(),
        max_seconds=1,
    )


def run(scenario, identity, **options):
    """Run a scenario with a pool of one worker, which ends well."""

    async def whole():
        pool = Pool({"identity": identity}, **{"workers": 1, "queue": 8, **options})
        try:
            await scenario(pool)
        finally:
            await pool.stop(0)
        assert pool.running == 0

    asyncio.run(whole())


def test_a_crash_is_an_error_and_the_process_is_replaced(monkeypatch, identity, functions, order):
    async def scenario(pool):
        monkeypatch.setattr(pools, "enhance_upload", functions.die)
        with pytest.raises(ServiceError) as error:
            await pool.enhance(order)
        assert (error.value.status, error.value.code) == (422, "recording_crashed")
        monkeypatch.setattr(pools, "enhance_upload", functions.drip)
        advanced = []
        assert (await pool.enhance(order, advanced.append)).path == order.recording
        assert advanced == [0.5] * 8

    run(scenario, identity)


def test_what_gets_stuck_is_ended(monkeypatch, identity, functions, order):
    async def scenario(pool):
        await pool.start()
        monkeypatch.setattr(pools, "PATIENCE_SECONDS", 0.5)
        monkeypatch.setattr(pools, "enhance_upload", functions.hang)
        with pytest.raises(ServiceError) as error:
            await pool.enhance(order)
        assert (error.value.status, error.value.code) == (422, "recording_stuck")
        # What says something in time may take as long as it likes.
        monkeypatch.setattr(pools, "PATIENCE_SECONDS", 30)
        monkeypatch.setattr(pools, "enhance_upload", functions.drip)
        await pool.enhance(order)

    run(scenario, identity)


def test_who_cancels_ends_the_process_and_the_next_has_its_turn(monkeypatch, identity, functions, order):
    async def scenario(pool):
        monkeypatch.setattr(pools, "enhance_upload", functions.hang)
        first, second = (asyncio.create_task(pool.enhance(order)) for _ in range(2))
        while not order.recording.exists():
            await asyncio.sleep(0.01)
        assert pool.running == 1
        second.cancel()  # while it waits
        monkeypatch.setattr(pools, "enhance_upload", functions.drip)
        third = asyncio.create_task(pool.enhance(order))
        await asyncio.sleep(0)  # it waits
        first.cancel()  # while it runs
        assert await third == await pool.enhance(order)
        for task in (first, second):
            with pytest.raises(asyncio.CancelledError):
                await task

    run(scenario, identity)


def test_the_event_loop_goes_on_while_processes_work(monkeypatch, identity, functions, order):
    async def scenario(pool):
        monkeypatch.setattr(pools, "enhance_upload", functions.drip)
        working = asyncio.create_task(pool.enhance(order))
        longest = 0.0
        while not working.done():
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)
        assert threading.active_count() >= 2
        assert longest < 0.6

    run(scenario, identity)


def test_a_stop_refuses_what_waits_and_lets_what_runs_finish(monkeypatch, identity, functions, order):
    async def scenario(pool):
        await pool.start()
        monkeypatch.setattr(pools, "enhance_upload", functions.drip)
        running, waiting = (asyncio.create_task(pool.enhance(order)) for _ in range(2))
        while not pool.running:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(pool.stop(30))
        with pytest.raises(ServiceError) as error:
            await waiting
        assert (error.value.status, error.value.code) == (503, "stopping")
        assert not running.done()
        assert (await running).path == order.recording
        await stopping
        with pytest.raises(ServiceError), pool.admit():
            pass

    run(scenario, identity)


def test_a_stop_gives_up_after_its_time(monkeypatch, identity, functions, order):
    async def scenario(pool):
        await pool.start()
        monkeypatch.setattr(pools, "enhance_upload", functions.hang)
        running = asyncio.create_task(pool.enhance(order))
        while not order.recording.exists():
            await asyncio.sleep(0.01)
        await pool.stop(0.1)
        with pytest.raises(ServiceError) as error:
            await running
        assert (error.value.status, error.value.code) == (503, "stopping")

    run(scenario, identity)


def test_places_are_counted(identity):
    async def scenario(pool):
        with pool.admit(), pool.admit(), pytest.raises(ServiceError) as error, pool.admit():
            pass
        assert (error.value.status, error.value.code) == (429, "busy")
        with pool.admit():
            assert pool.admitted == 1
        assert pool.admitted == 0

    run(scenario, identity, queue=1)
