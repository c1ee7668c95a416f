"""What coverage need not measure: under its tracer all code runs slower, that of others as well."""

import sys
import sysconfig
from importlib.machinery import SourceFileLoader

import pytest

_OTHERS = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
_OWN = {"sottovoce", "sspd2023", "images"}  # wherever they are installed


def unmeasured(function, *arguments, **options):
    """Call a function, none of whose lines is to be measured, without the tracer."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return function(*arguments, **options)
    finally:
        sys.settrace(tracer)


def import_others_unmeasured():
    """Import installed packages without the tracer from now on: torch alone is two thousand modules.

    Returns:
        What ends it.
    """
    execute = SourceFileLoader.exec_module

    def exec_module(loader, module):
        is_own = module.__name__.partition(".")[0] in _OWN or not loader.path.startswith(_OTHERS)
        return execute(loader, module) if is_own else unmeasured(execute, loader, module)

    patch = pytest.MonkeyPatch()
    patch.setattr(SourceFileLoader, "exec_module", exec_module)
    return patch.undo
