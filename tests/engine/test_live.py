"""The relay between two sound devices; the devices themselves are in tests/test_cli_live.py."""

import itertools
import queue
import time

import numpy as np
import pytest

from sottovoce.engine.live import Relay

BLOCK = 160
RATE = 16000
# The relay begins to give when two blocks are ready.
CUSHION = 2 * BLOCK


class Muted:
    """A stream that gives silence, some samples late."""

    sample_rate, channels, delay = RATE, 1, 100

    def __init__(self):
        self.missing = self.delay

    def push(self, block):
        count = max(0, block.shape[1] - self.missing)
        self.missing -= block.shape[1] - count
        return np.zeros((1, count), np.float32)


class Lumpy(Muted):
    """A stream that gives what it took, two and ten blocks at once in turn."""

    def __init__(self):
        self.waiting = np.zeros((1, 0), np.float32)
        self.lumps = itertools.cycle((2 * BLOCK, 10 * BLOCK))
        self.next = next(self.lumps)

    def push(self, block):
        self.waiting = np.concatenate([self.waiting, block], axis=1)
        if self.waiting.shape[1] < self.next:
            return self.waiting[:, :0]
        given, self.waiting = self.waiting, self.waiting[:, :0]
        self.next = next(self.lumps)
        return given


class Broken(Muted):
    """A stream that fails."""

    def push(self, block):
        raise RuntimeError("no more")


def noise(blocks, channels=1):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, blocks * BLOCK)).astype(np.float32)


def carried(relay, sound):
    """Let all of a sound through, at most as long as what may wait, and return what was ready at the end."""
    relay.start()
    for start in range(0, sound.shape[1], BLOCK):
        relay.take(sound[:, start : start + BLOCK])
    relay.stop()
    pieces = []
    while not relay.underruns:
        pieces.append(relay.give(BLOCK))
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("channels", [1, 2])
def test_gives_what_it_took(identity, channels):
    relay = Relay(identity.stream(RATE, channels), BLOCK)
    sound = noise(20, channels)
    given = carried(relay, sound)
    ready = 20 * BLOCK - 512  # window and delay of the identity model are still on their way
    assert given.shape[1] >= ready
    np.testing.assert_allclose(given[:, : ready - 128], sound[:, : ready - 128], atol=1e-6)
    assert relay.overruns == 0
    assert relay.before_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(3)), abs=1)
    assert relay.after_db == pytest.approx(relay.before_db, abs=1)


def test_waits_for_a_cushion_and_counts_every_gap_once(identity):
    relay = Relay(identity.stream(RATE, mix=0.0), BLOCK)
    assert not relay.give(BLOCK).any()
    assert relay.underruns == 0  # it has not begun
    given = carried(relay, noise(10))
    assert given[:, :BLOCK].any()
    assert relay.underruns == 1
    for _ in range(5):
        assert not relay.give(BLOCK).any()
    assert relay.underruns == 1


def test_a_model_that_is_late_is_an_overrun(identity):
    relay = Relay(identity.stream(RATE), BLOCK)  # not started: nothing is enhanced
    for _ in range(200):
        relay.take(noise(1))
    assert 100 < relay.overruns < 200


def test_an_output_that_is_slow_does_not_delay_for_ever(identity):
    relay = Relay(identity.stream(RATE), BLOCK)
    relay.start()
    for _ in range(300):
        relay.take(noise(1))
        time.sleep(0.001)
    relay.stop()
    assert relay.overruns >= 1
    waiting = 0
    while not relay.underruns:
        relay.give(BLOCK)
        waiting += BLOCK
    assert waiting <= CUSHION + 0.25 * RATE + 2 * BLOCK


def test_bypass_gives_the_recording_with_the_same_delay():
    relay = Relay(Muted(), BLOCK)
    relay.bypass = True
    sound = noise(20)
    given = carried(relay, sound)
    # The first block fades over; from then on it is the recording, sample by sample.
    ready = 20 * BLOCK - Muted.delay
    assert np.abs(given[:, :10]).max() < 0.2
    np.testing.assert_allclose(given[:, BLOCK:ready], sound[:, BLOCK:ready], atol=1e-6)


def test_without_bypass_it_is_the_enhanced():
    assert not carried(Relay(Muted(), BLOCK), noise(20)).any()


def test_a_stream_that_gives_unevenly_leaves_no_gap():
    relay = Relay(Lumpy(), BLOCK, uneven_frames=10 * BLOCK)
    sound = noise(120)
    pieces = []
    for start in range(0, sound.shape[1], BLOCK):
        relay.take(sound[:, start : start + BLOCK])
        # What its thread does, here and now, until there is no more.
        relay._taken.put(None)
        relay._work()
        pieces.append(relay.give(BLOCK))
    given = np.concatenate(pieces, axis=1)
    begin = int(np.argmax(given[0] != 0))
    assert relay.underruns == relay.overruns == 0
    assert begin < 20 * BLOCK
    np.testing.assert_array_equal(given[:, begin:], sound[:, : given.shape[1] - begin])


def test_a_failure_of_the_model_is_known():
    relay = Relay(Broken(), BLOCK)
    relay.start()
    relay.take(noise(1))
    relay.stop()
    assert isinstance(relay.error, RuntimeError)


def test_a_worker_that_empties_the_queue_does_not_disturb_the_end():
    class EmptiedMeanwhile(queue.Queue):
        full_once = True

        def put_nowait(self, item):
            if self.full_once:
                self.full_once = False
                raise queue.Full
            super().put_nowait(item)

    relay = Relay(Muted(), BLOCK)
    relay._taken = EmptiedMeanwhile()
    relay.start()
    relay.stop()
    assert relay.error is None
