"""What ends a command from outside."""

import signal


def end_by_sigterm_as_by_ctrl_c() -> None:
    """Leave nothing half-written where a service manager, `timeout` or a closed terminal ends the program, either."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # What nohup has told us to ignore is ignored.
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
