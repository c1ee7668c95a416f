"""The frame processor with LiveKit's own frames."""

import asyncio

import numpy as np
import pytest

from .signals import example, expected, recording

rtc = pytest.importorskip("livekit.rtc", reason="needs the extra livekit")


def frames(samples, rate, size, **options):
    channels = samples.shape[1]
    for start in range(0, len(samples) - size + 1, size):
        yield rtc.AudioFrame(samples[start : start + size].tobytes(), rate, channels, size, **options)


def joined(processed):
    return np.concatenate([np.array(frame.data).reshape(-1, frame.num_channels) for frame in processed])


@pytest.fixture
def processor(enhancer):
    from sottovoce.integrations.livekit import SottovoceProcessor

    return SottovoceProcessor(enhancer)


@pytest.mark.parametrize(("rate", "channels", "size"), [(16000, 1, 160), (48000, 1, 480), (48000, 2, 960)])
def test_frames(processor, enhancer, rate, channels, size):
    samples = recording(rate, channels)
    processed = [processor._process(frame) for frame in frames(samples, rate, size, userdata={"call": 7})]
    assert {(f.sample_rate, f.num_channels, f.samples_per_channel) for f in processed} == {(rate, channels, size)}
    assert all(frame.userdata == {"call": 7} for frame in processed)
    output = joined(processed)
    np.testing.assert_array_equal(output, expected(enhancer, samples, rate, size)[: len(output)])


def test_another_format_begins_a_new_signal(processor, enhancer):
    assert processor.latency_seconds == 0
    for rate, latency_ms in ((16000, 16), (48000, 19.75), (16000, 16)):
        samples = recording(rate)
        output = joined(processor._process(frame) for frame in frames(samples, rate, rate // 50))
        np.testing.assert_array_equal(output, expected(enhancer, samples, rate, rate // 50)[: len(output)])
        assert processor.latency_seconds * 1000 == pytest.approx(latency_ms)


def test_a_real_stream_gives_what_the_processor_makes(processor, enhancer):
    """Sound of a local track, as LiveKit's own code brings it."""
    samples = recording(16000)[:16000]
    received = []
    process = processor._process

    def noted(frame):
        received.append(np.array(frame.data).reshape(-1, 1))
        return process(frame)

    processor._process = noted

    async def listen():
        source = rtc.AudioSource(16000, 1)
        track = rtc.LocalAudioTrack.create_audio_track("voice", source)
        stream = rtc.AudioStream(track, sample_rate=16000, num_channels=1, noise_cancellation=processor)

        async def speak():
            for frame in frames(samples, 16000, 160):
                await source.capture_frame(frame)

        speaking = asyncio.create_task(speak())
        given = []
        async for event in stream:
            given.append(event.frame)
            if len(given) == 90:
                break
        speaking.cancel()
        await stream.aclose()
        return joined(given)

    output = asyncio.run(asyncio.wait_for(listen(), 30))
    sound = np.concatenate(received)
    assert np.abs(sound).max() > 1000
    size = len(received[0])
    np.testing.assert_array_equal(output, expected(enhancer, sound, 16000, size)[: len(output)])


@pytest.mark.parametrize("end", ["enabled", "_on_stream_info_cleared", "_close"])
def test_a_new_signal_knows_nothing_of_the_old_one(processor, enhancer, end):
    samples = recording(16000)
    for _ in range(2):
        output = joined(processor._process(frame) for frame in frames(samples, 16000, 160))
        np.testing.assert_array_equal(output, expected(enhancer, samples, 16000, 160))
        if end == "enabled":
            processor.enabled = False
            assert not processor.enabled
            processor.enabled = True
        else:
            getattr(processor, end)()


def test_memory_beyond_the_sound_is_left_out(processor):
    frame = rtc.AudioFrame(bytes(2 * 500), 16000, 1, 160)
    assert len(processor._process(frame).data) == 160


def test_example_of_the_documentation(monkeypatch):
    """The example makes an audio stream, whose place is taken: the processor gets frames as that passes them on."""
    names = example("livekit")
    asked = {}
    monkeypatch.setattr(rtc, "AudioStream", lambda track, **arguments: asked.update(arguments, track=track))
    names["listen"]("a track")
    processor = asked["noise_cancellation"]
    assert isinstance(processor, rtc.FrameProcessor)
    assert processor.enabled
    samples = recording(asked["sample_rate"], asked["num_channels"])
    output = joined(processor._process(frame) for frame in frames(samples, asked["sample_rate"], 480))
    np.testing.assert_array_equal(output, expected(names["enhancer"], samples, 48000, 480))
    assert np.abs(output).max() > 1000
