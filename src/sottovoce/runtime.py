"""ONNX Runtime, imported without what it writes past Python about the machine."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_STDERR = 2
# How every warning of the runtime begins, whatever its subject; errors have an E there.
_WARNING = b"[W:onnxruntime:"
_lock = threading.Lock()


def load_onnxruntime() -> ModuleType:
    """Import onnxruntime; its warnings about devices that it cannot look at are not written to standard error.

    Its native code searches /sys for GPUs and NPUs as soon as it is loaded, and warns of those that it must not read,
    as in a container. It is compiled to warn by then: no variable, option or log level can say otherwise in time.

    Returns:
        The module.
    """
    with _lock:
        if "onnxruntime" in sys.modules or not hasattr(os, "memfd_create"):  # it searches /sys on Linux alone
            import onnxruntime
        else:
            with _without_warnings():
                import onnxruntime
    module: ModuleType = onnxruntime
    return module


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hold back standard error, and write it afterwards without the warnings; other threads may write, too."""
    try:
        stderr = os.dup(_STDERR)
    except OSError:  # it is closed
        yield
        return
    with os.fdopen(os.memfd_create("stderr"), "w+b") as written:
        os.dup2(written.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, _STDERR)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if _WARNING not in line:
                    os.write(_STDERR, line)
