"""What all tests share, those of the experiment as well."""

import signal

import pytest
from tests.measuring import import_others_unmeasured


def pytest_configure(config):
    """Save what coverage would cost in the code of others."""
    config.add_cleanup(import_others_unmeasured())


@pytest.fixture(scope="session", autouse=True)
def heed_interruptions():
    """Programs that a background job or nohup starts ignore what it does; the tests of signals need them to arrive."""
    handlers = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
