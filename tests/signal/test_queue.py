"""A queue gives back what it was given, in order, in memory that does not grow with what went through."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.signal.queue import SampleQueue


@settings(max_examples=80, deadline=None, derandomize=True)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=30))
def test_first_in_first_out(steps):
    queue, expected, count = SampleQueue(2), np.zeros((2, 0), np.float32), 0
    for is_append, size in steps:
        if is_append:
            block = np.arange(count, count + 2 * size, dtype=np.float32).reshape(2, size)
            count += 2 * size
            queue.append(block)
            expected = np.concatenate([expected, block], axis=1)
        else:
            taken = min(size, len(queue))
            np.testing.assert_array_equal(queue.take(taken), expected[:, :taken])
            expected = expected[:, taken:]
        assert len(queue) == expected.shape[1]
        np.testing.assert_array_equal(queue.waiting(), expected)


def test_what_is_written_to_the_waiting_samples_is_kept():
    queue = SampleQueue(1)
    queue.append(np.ones((1, 5), np.float32))
    queue.waiting()[:, 3] = 7
    queue.append(np.ones((1, 5000), np.float32))
    np.testing.assert_array_equal(queue.take(5), [[1, 1, 1, 7, 1]])


def test_memory_does_not_grow_and_samples_are_seldom_moved():
    queue = SampleQueue(1)
    memories, moves, last = set(), 0, 0
    for _ in range(20_000):
        queue.append(np.zeros((1, 7), np.float32))
        if len(queue) > 700:
            start = queue.take(7).__array_interface__["data"][0]
            moves += start < last
            last = start
        memories.add(queue.waiting().base.nbytes)
    assert max(memories) < 4 * 4 * 707
    # 140,000 samples went through: each move of 700 waiting ones is paid for by as many new ones.
    assert 0 < moves <= 20_000 * 7 / 700
