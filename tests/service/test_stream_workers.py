"""Processes for live streams: shared by streams, replaced when one ends, gone with the service."""

import asyncio
import contextlib
import os
import signal

import numpy as np
import pytest

from sottovoce.engine.enhancer import Enhancer, Stream
from sottovoce.engine.options import EnhanceOptions
from sottovoce.service import stream_workers
from sottovoce.service.errors import ServiceError
from sottovoce.service.stream_work import StreamOrder, _LocalStreams
from sottovoce.service.stream_workers import StreamWorkers, _Worker
from sottovoce.signal.pcm import PcmFormat

SOUND = np.full(1600, 0.5, "<f4").tobytes()


def order(channels=1, **options):
    return StreamOrder("identity", 16_000, channels, "f32le", EnhanceOptions(**options))


def run(scenario, count=2):
    async def whole():
        workers = StreamWorkers(count)
        try:
            await scenario(workers)
        finally:
            processes = [worker.process for worker in workers._workers]
            await workers.stop()
            assert all(process.get_returncode() is not None for process in processes)

    asyncio.run(whole())


def test_streams_are_independent(identity):
    async def scenario(workers):
        async with workers.open(identity, order()) as first, workers.open(identity, order(mix=0.5)) as second:
            assert first._worker is second._worker
            await first.push(SOUND)
            outputs = [await second.push(SOUND) + await second.flush()]
            assert len(outputs[0]) == len(SOUND)
            async with workers.open(identity, order(mix=0.5)) as third:
                assert await third.push(SOUND) + await third.flush() == outputs[0]
                assert await second.push(SOUND) + await second.flush() == outputs[0]
        assert [worker.load for worker in workers._workers] == [0]

    run(scenario)


def test_a_process_is_filled_before_the_next_one(identity, monkeypatch):
    """Channels and resampling count. When all are full, the one that has least to do gets the stream."""
    monkeypatch.setattr(stream_workers, "_FULL", 4.5)
    monkeypatch.setattr(stream_workers, "_RESAMPLED_COST", 2.0)
    prepare = _Worker.prepare

    async def measured_as_one(worker, enhancer, order):
        await prepare(worker, enhancer, order)
        worker._models[order.model] = enhancer, 1.0
        return worker.load_of(order)

    monkeypatch.setattr(_Worker, "prepare", measured_as_one)

    async def scenario(workers):
        async with contextlib.AsyncExitStack() as stack:
            placed = []
            for channels, rate in ((1, 16_000), (1, 16_000), (3, 16_000), (1, 48_000), (6, 16_000), (1, 16_000)):
                stream = workers.open(identity, order(channels)._replace(rate=rate))
                placed.append((await stack.enter_async_context(stream))._worker)
            first, second = workers._workers
            assert placed == [first, first, second, first, second, first]
            assert [worker.load for worker in workers._workers] == [5, 9]

    run(scenario)


def test_what_a_stream_takes_is_measured(identity):
    async def scenario(workers):
        async with workers.open(identity, order()) as first, workers.open(identity, order()) as second:
            assert 0 < first.load < 1
            assert second.load == first.load
            assert first._worker.load == 2 * first.load

    run(scenario)


def test_a_process_that_ends_takes_its_streams_and_is_replaced(identity):
    async def scenario(workers):
        async with workers.open(identity, order()) as first:
            os.kill(first._worker.process.get_pid(), signal.SIGKILL)
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


@pytest.fixture(scope="module")
def enhancers():
    return {name: Enhancer.from_pretrained(name) for name in ("live", "default")}


def test_streams_of_one_process_take_turns(enhancers):
    """Of several models, formats, rates and options at once, some of which end in the middle: each as if alone."""
    orders = [
        StreamOrder("live", 16_000, 1, "s16le", EnhanceOptions()),
        StreamOrder("live", 16_000, 1, "f32le", EnhanceOptions(limit_db=12.0)),
        StreamOrder("default", 16_000, 1, "s16le", EnhanceOptions(mix=0.5)),
        StreamOrder("live", 48_000, 2, "s16le", EnhanceOptions(linked=True, room="dry")),
        StreamOrder("default", 44_100, 1, "f32le", EnhanceOptions(removed=True)),
    ]

    async def talk(workers, number, order):
        """Give what came back, and what the engine gives alone, as samples of 16 bits."""
        pcm = PcmFormat(order.format, order.channels)
        rng = np.random.default_rng(number)
        alone = Stream(enhancers[order.model], order.rate, order.channels, order.options, live=True)
        found, expected = [], []
        async with workers.open(enhancers[order.model], order) as stream:
            for _ in range(5 + 3 * number):
                sound = pcm.encode(rng.normal(0, 0.1, (order.channels, order.rate // 50)).astype(np.float32))
                found.append(await stream.push(sound))
                expected.append(pcm.encode(alone.push(pcm.decode(sound))))
            if number % 2:  # the others leave without a farewell
                found.append(await stream.flush())
                expected.append(pcm.encode(alone.flush()))
        steps = [2**15 * pcm.decode(b"".join(parts)) for parts in (found, expected)]
        np.testing.assert_allclose(*steps, rtol=0, atol=1)

    async def scenario(workers):
        await asyncio.gather(*(talk(workers, number, order) for number, order in enumerate(orders)))

    run(scenario, count=1)


def test_a_turn_is_one_call_for_all_that_have_sound(enhancers, monkeypatch):
    """It waits for others while there is somebody to wait for, as long as a block allows."""
    model, sizes = enhancers["live"].model, []
    run = model.run
    monkeypatch.setattr(model, "run", lambda spectra, past: (sizes.append(len(spectra)), run(spectra, past))[1])
    streams = _LocalStreams()
    streams.take(0, "load", ("live", enhancers["live"]))
    for number in range(3):
        streams.take(number, "begin", StreamOrder("live", 16_000, 1, "f32le", EnhanceOptions()))
    assert [number for number, _ in streams.work()] == [0, 0, 1, 2]
    assert not streams.is_working
    sizes.clear()  # of what was measured when the model was loaded
    for number, milliseconds in enumerate((100, 10)):
        streams.take(number, "push", bytes(4 * 16 * milliseconds))
    assert streams.is_working
    assert not streams.are_all_at_work
    assert streams.patience_seconds == pytest.approx(0.004)
    streams.take(2, "flush", None)
    assert streams.are_all_at_work
    assert streams.patience_seconds == 0
    answered = []
    while streams.is_working:
        answered += [number for number, _ in streams.work()]
    assert answered == [1, 2, 0]
    assert sizes[0] == 3
    streams.take(1, "end", None)
    streams.take(1, "push", b"")
    assert isinstance(streams.work()[0][1], KeyError)


def test_a_model_that_fails_for_one_goes_on_for_others(exploding):
    silence = bytes(len(SOUND))

    async def scenario(workers):
        async with (
            workers.open(exploding, order()) as first,
            workers.open(exploding, order()) as second,
            workers.open(exploding, order()) as third,
        ):
            for turn in range(3):
                sounds = [silence, SOUND if turn == 1 else silence, silence]
                answers = await asyncio.gather(
                    *(stream.push(sound) for stream, sound in zip((first, second, third), sounds, strict=True)),
                    return_exceptions=True,
                )
                assert [isinstance(answer, ServiceError) for answer in answers] == [False, turn > 0, False]
                assert not any(answers[0])
                assert not any(answers[2])
            assert answers[1].code == "model_failed"

    run(scenario, count=1)


def test_a_long_block_lets_others_pass(enhancers):
    """Its frames go through the network in many turns, in which others have theirs."""
    long, short = (StreamOrder("live", 16_000, channels, "f32le", EnhanceOptions()) for channels in (16, 1))

    async def scenario(workers):
        async with workers.open(enhancers["live"], long) as first, workers.open(enhancers["live"], short) as second:
            ended = []

            async def push(stream, sound):
                await stream.push(sound)
                ended.append(stream)

            await asyncio.gather(push(first, 16 * 4 * SOUND), push(second, SOUND[:2048]))
            assert ended == [second, first]

    run(scenario, count=1)
