"""Samples as bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sottovoce.signal.pcm import PcmFormat


@given(whole=arrays("<i2", st.tuples(st.integers(0, 9), st.integers(1, 3))))
def test_whole_numbers_come_back(whole):
    pcm = PcmFormat("s16le", whole.shape[1])
    samples = pcm.decode(whole.tobytes())
    assert samples.shape == whole.shape[::-1]
    assert np.all(np.abs(samples) <= 1)
    assert pcm.encode(samples) == whole.tobytes()


def test_channels_are_interleaved_and_little_endian():
    assert PcmFormat("s16le", 2).encode(np.array([[0.5], [-1.0]], np.float32)) == b"\x00\x40\x00\x80"
    np.testing.assert_array_equal(PcmFormat("f32le", 2).decode(b"\x00\x00\x80\x3f\x00\x00\x00\xc0"), [[1.0], [-2.0]])


def test_whole_numbers_are_limited_and_rounded_and_floats_are_not():
    samples = np.array([[2.0, -2.0, 0.6 / 2**15, 0.4 / 2**15]], np.float32)
    np.testing.assert_array_equal(np.frombuffer(PcmFormat("s16le", 1).encode(samples), "<i2"), [32767, -32768, 1, 0])
    np.testing.assert_array_equal(np.frombuffer(PcmFormat("f32le", 1).encode(samples), "<f4"), samples[0])


@pytest.mark.parametrize(("name", "channels", "size"), [("s16le", 1, 3), ("s16le", 2, 6), ("f32le", 1, 6)])
def test_bytes_that_end_within_a_sample(name, channels, size):
    with pytest.raises(ValueError, match=f"found {size} bytes, expected a multiple of"):
        PcmFormat(name, channels).decode(bytes(size))
