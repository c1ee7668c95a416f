"""A block gives as many samples, which are those of `Enhancer.stream` behind a constant silence."""

import numpy as np
import pytest

from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import ModelError
from sottovoce.integrations.pcm import PcmStream

from .signals import blocks, expected, recording


def through(stream, samples, *sizes):
    """Send blocks of these sizes, over and over, and check the length of each that comes back."""
    outputs = []
    for block in blocks(samples, *sizes):
        output = stream.process(block.tobytes())
        assert len(output) == block.nbytes
        outputs.append(np.frombuffer(output, np.int16).reshape(-1, samples.shape[1]))
    return np.concatenate(outputs)


@pytest.mark.parametrize(
    ("rate", "channels", "sizes"),
    [
        (16000, 1, (160,)),
        (16000, 2, (320,)),
        (48000, 1, (480,)),
        (48000, 2, (960,)),
        (44100, 1, (441,)),
        (24000, 1, (1, 7, 0, 500)),
        (8000, 1, (1,)),
        (11025, 1, (1, 3)),
        (16000, 1, (5000,)),
    ],
)
def test_gives_the_samples_of_the_stream(enhancer, rate, channels, sizes):
    samples = recording(rate, channels, seconds=0.3)
    output = through(PcmStream(enhancer, rate, channels, EnhanceOptions()), samples, *sizes)
    np.testing.assert_array_equal(output, expected(enhancer, samples, rate, *sizes))
    assert np.abs(output).max() > 1000


def test_heeds_the_options(enhancer):
    samples = recording(16000)
    output = through(PcmStream(enhancer, 16000, 1, EnhanceOptions(limit_db=6)), samples, 160)
    np.testing.assert_array_equal(output, expected(enhancer, samples, 16000, 160, limit_db=6))
    assert not np.array_equal(output, expected(enhancer, samples, 16000, 160))


@pytest.mark.parametrize(("rate", "milliseconds"), [(16000, 16), (44100, 20), (48000, 20), (8000, 24)])
def test_latency(enhancer, rate, milliseconds):
    latency = PcmStream(enhancer, rate, 1, EnhanceOptions()).latency
    assert milliseconds - 1 < 1000 * latency / rate <= milliseconds  # as docs/voice_agents.md has it


def test_bypass_gives_the_recording_with_the_same_latency_and_fades(enhancer):
    samples = recording(16000)
    stream = PcmStream(enhancer, 16000, 1, EnhanceOptions())
    first = through(stream, samples[:3200], 160)
    stream.bypass = True
    second = through(stream, samples[3200:6400], 160)
    stream.bypass = False
    third = through(stream, samples[6400:], 160)
    enhanced, dry = expected(enhancer, samples, 16000, 160), np.roll(samples, stream.latency, axis=0)
    np.testing.assert_array_equal(first, enhanced[:3200])
    np.testing.assert_array_equal(second[160:], dry[3360:6400])
    np.testing.assert_array_equal(third[160:], enhanced[6560:])
    share = np.linspace(0, 1, 160)[:, np.newaxis]
    np.testing.assert_allclose(second[:160], (1 - share) * enhanced[3200:3360] + share * dry[3200:3360], atol=1)
    assert np.abs(enhanced[3200:3360].astype(int) - dry[3200:3360]).max() > 20  # there is something to fade


def test_full_scale_stays(enhancer):
    samples = np.full((1600, 1), -32768, np.int16)
    stream = PcmStream(enhancer, 16000, 1, EnhanceOptions())
    stream.bypass = True
    assert (through(stream, samples, 160)[stream.latency :] == -32768).all()
    samples = 32767 * np.sign(np.sin(0.3 * np.arange(8000)))[:, np.newaxis].astype(np.int16)
    output = through(PcmStream(enhancer, 16000, 1, EnhanceOptions()), samples, 160)
    np.testing.assert_array_equal(output, expected(enhancer, samples, 16000, 160))


def test_a_model_that_fails_leaves_the_recording(enhancer, monkeypatch, caplog):
    samples = recording(16000)
    stream = PcmStream(enhancer, 16000, 1, EnhanceOptions())
    first = through(stream, samples[:1600], 160)
    np.testing.assert_array_equal(first, expected(enhancer, samples, 16000, 160)[:1600])

    def fail(block):
        raise ModelError("the network gave no sound")

    monkeypatch.setattr(stream._stream, "push", fail)
    rest = through(stream, samples[1600:], 160)
    np.testing.assert_array_equal(rest, samples[1600 - stream.latency : -stream.latency])
    (record,) = caplog.records
    assert "without enhancement" in record.message
    assert "the network gave no sound" in caplog.text


def test_bad_blocks_and_formats(enhancer):
    stream = PcmStream(enhancer, 16000, 2, EnhanceOptions())
    with pytest.raises(ValueError, match="found 6 bytes, expected a multiple of 4"):
        stream.process(b"\0" * 6)
    assert stream.process(b"") == b""
    with pytest.raises(ValueError, match="found"):
        PcmStream(enhancer, 100, 1, EnhanceOptions())
