"""The audio filter in an input transport of a real Pipecat pipeline."""

import asyncio

import numpy as np
import pytest

from .signals import blocks, example, expected, recording

pytest.importorskip("pipecat", reason="needs the extra pipecat")
pytestmark = pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning")  # Pipecat's own import


def pipeline_output(params, sequence, rate):
    """What comes out of a pipeline whose transport receives these blocks, with control frames between them."""
    from pipecat.frames.frames import EndFrame, InputAudioRawFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.transports.base_input import BaseInputTransport
    from pipecat.workers.runner import WorkerRunner

    output = []

    class Line(BaseInputTransport):
        async def start(self, frame):
            await super().start(frame)
            await self.set_transport_ready(frame)

    class Sink(FrameProcessor):
        async def process_frame(self, frame, direction):
            await super().process_frame(frame, direction)
            if isinstance(frame, InputAudioRawFrame):
                output.append(frame.audio)
            await self.push_frame(frame, direction)

    async def call():
        line = Line(params)
        worker = PipelineWorker(
            Pipeline([line, Sink()]),
            params=PipelineParams(audio_in_sample_rate=rate),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
        )
        started = asyncio.Event()

        @worker.event_handler("on_pipeline_started")
        async def _(worker, frame):
            started.set()

        async def speak():
            await asyncio.wait_for(started.wait(), 10)
            for block in sequence:
                if isinstance(block, bytes):
                    await line.push_audio_frame(InputAudioRawFrame(block, rate, params.audio_in_channels))
                else:
                    await worker.queue_frame(block)
                    await asyncio.sleep(0.1)
                await line._audio_in_queue.join()
            await worker.queue_frame(EndFrame())

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await asyncio.gather(runner.run(), speak())

    asyncio.run(call())
    return output


def blocks_of(samples, size):
    return [block.tobytes() for block in blocks(samples, size)]


def test_example_of_the_documentation_in_a_pipeline():
    namespace = example("pipecat")
    samples = recording(16000)
    output = pipeline_output(namespace["transport_params"](), blocks_of(samples, 320), 16000)
    assert {len(block) for block in output} == {640}
    output = np.frombuffer(b"".join(output), np.int16)[:, np.newaxis]
    np.testing.assert_array_equal(output, expected(namespace["enhancer"], samples, 16000, 320))
    assert np.abs(output).max() > 1000


def test_disabled_while_running(enhancer):
    from pipecat.frames.frames import FilterEnableFrame
    from pipecat.transports.base_transport import TransportParams

    from sottovoce.integrations.pipecat import SottovoceFilter

    samples = recording(48000, 2, seconds=0.3)
    sound = blocks_of(samples, 480)
    filter_ = SottovoceFilter(enhancer, channels=2)
    params = TransportParams(audio_in_enabled=True, audio_in_channels=2, audio_in_filter=filter_)
    sequence = [*sound[:10], FilterEnableFrame(False), *sound[10:20], FilterEnableFrame(True), *sound[20:]]
    output = np.frombuffer(b"".join(pipeline_output(params, sequence, 48000)), np.int16).reshape(-1, 2)
    enhanced, dry = expected(enhancer, samples, 48000, 480), np.roll(samples, 948, axis=0)
    np.testing.assert_array_equal(output[:4800], enhanced[:4800])
    np.testing.assert_array_equal(output[5280:9600], dry[5280:9600])
    np.testing.assert_array_equal(output[10080:], enhanced[10080:])
    assert not np.array_equal(dry[5280:9600], enhanced[5280:9600])


def test_life_of_a_filter(enhancer):
    from pipecat.frames.frames import FilterEnableFrame

    from sottovoce.integrations.pipecat import SottovoceFilter

    samples = recording(16000)

    async def calls():
        filter_ = SottovoceFilter(enhancer)
        assert await filter_.filter(b"ab") == b"ab"
        for _ in range(2):
            assert filter_.latency_seconds == 0
            await filter_.start(16000)
            assert filter_.latency_seconds == 0.016
            output = b"".join([await filter_.filter(block) for block in blocks_of(samples, 160)])
            np.testing.assert_array_equal(
                np.frombuffer(output, np.int16)[:, None], expected(enhancer, samples, 16000, 160)
            )
            await filter_.stop()
        await filter_.process_frame(FilterEnableFrame(False))  # before the start
        await filter_.start(16000)
        output = np.frombuffer(b"".join([await filter_.filter(block) for block in blocks_of(samples, 160)]), np.int16)
        np.testing.assert_array_equal(output[256:], samples[:-256, 0])

    asyncio.run(calls())
