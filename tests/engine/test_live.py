"""The relay between two sound devices; the devices themselves are in tests/cli/test_live.py."""

import itertools
import queue
import time
from types import SimpleNamespace

import numpy as np
import pytest

import sottovoce
from sottovoce.engine import live
from sottovoce.engine.live import Live, Relay
from sottovoce.engine.model import Model
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import ModelError

from ..conftest import build_identity_model

BLOCK = 160
RATE = 16000
# The relay begins to give when two blocks wait beside what the stream buffers.
CUSHION = 2 * BLOCK
# What the stream of the identity model buffers at most.
IDENTITY = 608


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


class Hopping(Muted):
    """A stream that gives what it took in hops of 16 ms, as models do."""

    hop = 256
    # What is left at most: a multiple of the divisor 32 that hop and block have in common.
    buffered = 224

    def __init__(self):
        self.waiting = np.zeros((1, 0), np.float32)

    def push(self, block):
        self.waiting = np.concatenate([self.waiting, block], axis=1)
        count = self.waiting.shape[1] // self.hop * self.hop
        given, self.waiting = self.waiting[:, :count], self.waiting[:, count:]
        return given


class Broken(Muted):
    """A stream that fails."""

    def push(self, block):
        raise RuntimeError("no more")


def noise(blocks, channels=1):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, blocks * BLOCK)).astype(np.float32)


class Devices:
    """Two devices with one clock, and a relay whose thread is this one: nothing depends on the machine's speed.

    The sound counts its samples, so every sample that comes out shows its latency.
    """

    def __init__(self, take, give, relay, block):
        self._take, self._give, self._relay, self._block = take, give, relay, block
        self._recorded = self._now = 0
        self._next = None
        self.lost = 0  # times
        self.delays = []  # of the last sample of every block

    def tick(self, *steps):
        """Let the time of a block pass, and then do some steps."""
        self._now += self._block
        for step in steps:
            getattr(self, step)()

    def take(self):
        self._recorded += self._block
        count = np.arange(self._recorded - self._block, self._recorded) + 1
        self._take((count / 2**22).astype(np.float32)[np.newaxis])

    def work(self):
        self._relay._taken.put(None)
        self._relay._work()

    def give(self):
        numbers = np.round(self._give(self._block)[0] * 2.0**22).astype(int) - 1
        if (numbers < 0).all():
            return
        first = numbers[0] if self._next is None else self._next
        self.lost += np.count_nonzero(np.diff(numbers, prepend=first - 1) != 1)
        self._next = numbers[-1] + 1
        self.delays.append(self._now + self._block - self._next)


def devices(relay):
    return Devices(relay.take, relay.give, relay, BLOCK)


def relay_for(stream, sound):
    """A relay that begins when all of a sound is there."""
    return Relay(stream, BLOCK, sound.shape[1] - CUSHION)


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
    sound = noise(20, channels)
    relay = relay_for(identity.stream(RATE, channels), sound)
    given = carried(relay, sound)
    ready = 20 * BLOCK - 512  # window and delay of the identity model are still on their way
    assert given.shape[1] >= ready
    np.testing.assert_allclose(given[:, : ready - 128], sound[:, : ready - 128], atol=1e-6)
    assert relay.overruns == 0
    assert relay.before_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(3)), abs=1)
    assert relay.after_db == pytest.approx(relay.before_db, abs=1)


def test_waits_for_a_cushion_and_counts_every_gap_once(identity):
    sound = noise(10)
    relay = relay_for(identity.stream(RATE, mix=0.0), sound)
    assert not relay.give(BLOCK).any()
    assert relay.underruns == 0  # it has not begun
    given = carried(relay, sound)
    assert given[:, :BLOCK].any()
    assert relay.underruns == 1
    for _ in range(5):
        assert not relay.give(BLOCK).any()
    assert relay.underruns == 1


def test_a_model_that_is_late_is_an_overrun(identity):
    relay = Relay(identity.stream(RATE), BLOCK, IDENTITY)  # not started: nothing is enhanced
    for _ in range(200):
        relay.take(noise(1))
    assert 100 < relay.overruns < 200


def test_an_output_that_is_slow_does_not_delay_for_ever(identity):
    relay = Relay(identity.stream(RATE), BLOCK, IDENTITY)
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
    assert waiting <= IDENTITY + CUSHION + 0.25 * RATE + 2 * BLOCK


def test_bypass_gives_the_recording_with_the_same_delay():
    sound = noise(20)
    relay = relay_for(Muted(), sound)
    relay.bypass = True
    given = carried(relay, sound)
    # The first block fades over; from then on it is the recording, sample by sample.
    ready = (20 * BLOCK - Muted.delay) // BLOCK * BLOCK
    assert np.abs(given[:, :10]).max() < 0.2
    np.testing.assert_allclose(given[:, BLOCK:ready], sound[:, BLOCK:ready], atol=1e-6)


def test_without_bypass_it_is_the_enhanced():
    sound = noise(20)
    assert not carried(relay_for(Muted(), sound), sound).any()


def test_a_stream_that_gives_unevenly_leaves_no_gap():
    relay = Relay(Lumpy(), BLOCK, 10 * BLOCK)
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
    relay = Relay(Broken(), BLOCK, 0)
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

    relay = Relay(Muted(), BLOCK, Muted.delay)
    relay._taken = EmptiedMeanwhile()
    relay.start()
    relay.stop()
    assert relay.error is None


@pytest.mark.parametrize("blocks", [3, 8, 20])
def test_a_stall_makes_the_delay_no_longer_than_it_was(blocks):
    relay = Relay(Hopping(), BLOCK, Hopping.buffered)
    sound = devices(relay)
    for _ in range(100):
        sound.tick("take", "work", "give")
    assert set(sound.delays) == {Hopping.buffered + CUSHION}
    for _ in range(blocks):
        sound.tick("take", "give")
    for _ in range(1000):
        sound.tick("take", "work", "give")
    # After a short stall it stays longer for some seconds, in which another one would make no gap.
    after = sound.delays[100:]
    assert max(after) <= Hopping.buffered + CUSHION + 10 * BLOCK
    assert set(after[500:]) == {Hopping.buffered + CUSHION}
    assert relay.underruns == 1
    assert relay.overruns >= sound.lost == 1


def test_a_faster_input_does_not_delay_for_ever():
    relay = Relay(Hopping(), BLOCK, Hopping.buffered)
    sound = devices(relay)
    for _ in range(50):
        for _ in range(250):
            sound.tick("take", "work", "give")
        # As many samples too many in two and a half seconds as bad clocks make in a minute.
        sound.tick("take", "work")
    assert max(sound.delays) <= Hopping.buffered + CUSHION + 5 * BLOCK
    assert relay.underruns == 0
    assert 10 < relay.overruns == sound.lost


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_devices_that_come_with_several_blocks_at_once_soon_make_no_gaps(blocks):
    relay = Relay(Hopping(), BLOCK, Hopping.buffered)
    sound = devices(relay)
    underruns = []
    for _ in range(3000 // blocks):
        for _ in range(blocks):
            sound.tick("take")
        sound.work()
        for _ in range(blocks):
            sound.give()
        underruns.append(relay.underruns)
    assert underruns[100 // blocks] == underruns[-1]
    assert relay.overruns == sound.lost == 0


def test_another_model_takes_over_without_a_gap_and_with_the_same_delay(identity, tmp_path):
    half = Model.load(build_identity_model(tmp_path / "half.onnx", gain=0.5))
    relay = Relay(identity.stream(RATE), BLOCK, IDENTITY)
    received = []
    relay.listener = received.append
    sound = noise(200)
    given = []
    for index, start in enumerate(range(0, sound.shape[1], BLOCK)):
        relay.take(sound[:, start : start + BLOCK])
        if index == 100:
            relay.exchange(half)
        relay._taken.put(None)
        relay._work()
        given.append(relay.give(BLOCK))
    assert relay.error is None
    assert relay.underruns == relay.overruns == 0
    np.testing.assert_array_equal(np.concatenate(received, axis=1), sound)
    given = np.concatenate(given, axis=1)
    given = given[0, int(np.argmax(given[0] != 0)) :]
    first = int(np.argmax(np.correlate(sound[0], given[:400], "valid")))
    came = sound[0, first : first + given.size]
    # The frames that overlap fade from one to the other: what changes is as long as one of them.
    changing = np.flatnonzero((np.abs(given - came) > 1e-4) & (np.abs(given - 0.5 * came) > 1e-4))
    assert 0 < np.ptp(changing) < 512
    np.testing.assert_allclose(given[: changing[0] - 8], came[: changing[0] - 8], atol=1e-4)
    np.testing.assert_allclose(given[changing[-1] + 8 :], 0.5 * came[changing[-1] + 8 :], atol=1e-4)


class SilentStream:
    """A device that has no delay of its own, and asks when the test does."""

    latency = 0.0

    def __init__(self, callback, **options):
        self.callback = callback

    def start(self):
        pass

    def abort(self, ignore_errors):
        pass

    close = abort


class SilentPort:
    """What `Live` needs of sounddevice."""

    class PortAudioError(Exception):
        pass

    def query_devices(self, device, kind):
        return {"name": kind, "index": 0, "max_input_channels": 1, "max_output_channels": 1}

    def check_input_settings(self, *settings):
        pass

    check_output_settings = check_input_settings

    def InputStream(self, **options):  # noqa: N802
        self.input = SilentStream(**options)
        return self.input

    def OutputStream(self, **options):  # noqa: N802
        self.output = SilentStream(**options)
        return self.output


@pytest.fixture
def port(monkeypatch):
    port = SilentPort()
    monkeypatch.setattr(live, "_sounddevice", lambda: port)
    # Its work is done where the test wants it.
    monkeypatch.setattr(Relay, "start", lambda relay: None)
    monkeypatch.setattr(Relay, "stop", lambda relay: None)
    return port


@pytest.mark.parametrize(
    ("hop_ms", "rate", "block_ms"),
    [
        (8, 16000, 10),
        (8, 44100, 20),
        (8, 48000, 5),
        (16, 16000, 5),
        (16, 16000, 8),
        (16, 16000, 10),
        (16, 44100, 10),
        (16, 48000, 10),
        (16, 48000, 20),
    ],
)
def test_is_as_late_as_it_tells_and_steady(identity, port, hop_ms, rate, block_ms):
    enhancer = {8: identity, 16: sottovoce.load()}[hop_ms]
    assert enhancer.model.metadata.hop * 1000 == hop_ms * enhancer.model.metadata.sample_rate
    status = SimpleNamespace(input_overflow=False, output_underflow=False)

    def take(samples):
        port.input.callback(samples.T, samples.shape[1], None, status)

    def give(frames):
        samples = np.zeros((frames, 1), np.float32)
        port.output.callback(samples, frames, None, status)
        return samples.T

    measured = []
    # The output asks right after the input has given, which is the soonest, or right before that, which is the latest.
    for steps in (("take", "work", "give"), ("give", "take", "work")):
        with Live(enhancer, EnhanceOptions(mix=0.0), sample_rate=rate, block_seconds=block_ms / 1000) as session:
            block = round(rate * block_ms / 1000)
            sound = Devices(take, give, session.relay, block)
            for _ in range(6 * rate // block):
                sound.tick(*steps)
            reported = round(session.latency.total_seconds * rate)
        assert session.overruns == session.underruns == sound.lost == 0
        (delay,) = set(sound.delays)
        measured.append(delay)
    assert measured == [reported - block, reported]


def test_a_network_that_gives_no_numbers_is_an_error(exploding):
    relay = Relay(exploding.stream(RATE, live=True), RATE, 0)
    relay.start()
    relay.take(noise(RATE // BLOCK))
    relay.stop()
    assert isinstance(relay.error, ModelError)
