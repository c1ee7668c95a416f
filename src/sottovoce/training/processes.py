"""Several processes that train together: who is who, and what becomes of all when one of them ends."""

import contextlib
import os
from collections.abc import Iterator

from sottovoce.errors import ProcessError
from sottovoce.interruption import end_with_parent, leave_to_parent


def rank(processes: int) -> int:
    """Number of this process among those that train together; the first one, which starts the others, is 0.

    Args:
        processes: How many they are.
    """
    # By this variable Lightning tells the processes that it starts who they are.
    return int(os.environ.get("LOCAL_RANK", "0")) if processes > 1 else 0


@contextlib.contextmanager
def helping() -> Iterator[None]:
    """Inside, this process helps the one that has started it: that alone takes signals, and says what there is to say.

    When that one is gone, whatever has ended it, this process ends as well: no library call can hold it up.
    """
    leave_to_parent()
    end_with_parent(os.getppid())
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    except ProcessError:
        raise SystemExit(1) from None


@contextlib.contextmanager
def together(processes: int) -> Iterator[None]:
    """Inside, the end of another process is an error that says so.

    Args:
        processes: How many there are.

    Raises:
        ProcessError: One of the others has ended.
    """
    import torch

    try:
        yield
    except RuntimeError as error:
        is_of_others = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if processes == 1 or not is_of_others:
            raise
        raise ProcessError(
            "another process of the training has ended, and may have said why: the same command goes on from "
            "the last checkpoint"
        ) from error
