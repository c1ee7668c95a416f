"""Processes for live streams: shared by streams, replaced when one ends, gone with the service."""

import asyncio
import os
import signal

import numpy as np
import pytest

from sottovoce.engine.options import EnhanceOptions
from sottovoce.service.errors import ServiceError
from sottovoce.service.stream_work import StreamOrder
from sottovoce.service.stream_workers import StreamWorkers

SOUND = np.full(1600, 0.5, "<f4").tobytes()


def order(channels=1, **options):
    return StreamOrder("identity", 16_000, channels, "f32le", EnhanceOptions(**options))


def run(scenario, count=2):
    async def whole():
        workers = StreamWorkers(count)
        try:
            await scenario(workers)
        finally:
            processes = [worker._process for worker in workers._workers]
            await workers.stop()
            assert all(process.returncode is not None for process in processes)

    asyncio.run(whole())


def test_streams_are_spread_and_independent(identity):
    async def scenario(workers):
        async with workers.open(identity, order()) as first, workers.open(identity, order()) as second:
            assert first._worker is not second._worker
            async with workers.open(identity, order(mix=0.5)) as third:
                assert third._worker in (first._worker, second._worker)
                await first.push(SOUND)
                outputs = [await stream.push(SOUND) + await stream.flush() for stream in (second, third)]
                assert [len(output) for output in outputs] == [len(SOUND)] * 2
                again = await second.push(SOUND) + await second.flush()
                assert again == outputs[0]
        async with workers.open(identity, order(channels=3)) as wide, workers.open(identity, order()) as narrow:
            assert wide._worker is not narrow._worker
        assert [worker.channels for worker in workers._workers] == [0, 0]

    run(scenario)


def test_a_process_that_ends_takes_its_streams_and_is_replaced(identity):
    async def scenario(workers):
        async with workers.open(identity, order()) as first:
            os.kill(first._worker._process.pid, signal.SIGKILL)
            for _ in range(2):
                with pytest.raises(ServiceError, match="the process of the stream has ended: connect again") as error:
                    await first.push(SOUND)
                assert (error.value.status, error.value.code) == (500, "internal")
        async with workers.open(identity, order()) as second:
            assert len(await second.push(SOUND) + await second.flush()) == len(SOUND)

    run(scenario, count=1)


def test_a_stream_that_is_left_in_the_middle_disturbs_no_other(identity):
    async def scenario(workers):
        async with workers.open(identity, order()) as first, workers.open(identity, order()) as second:
            pushing = asyncio.ensure_future(first.push(100 * SOUND))
            await asyncio.sleep(0)
            pushing.cancel()
            assert len(await second.push(SOUND) + await second.flush()) == len(SOUND)

    run(scenario, count=1)
