"""The `sottovoce` command: a module per sub-command, loaded when it is called."""

import errno
import importlib
import inspect
import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sottovoce import interruption, terminal
from sottovoce.errors import MissingExtraError, SottovoceError


class Command(NamedTuple):
    """Where a sub-command is, and what it is for.

    Attributes:
        module: Module that holds a typed function of the command's name, whose documentation is the command's help.
        summary: First line of that documentation, so that the list of commands needs no module.
    """

    module: str
    summary: str

    def load(self, name: str) -> Callable[..., int | None]:
        """Import the module and return the function; its result is the exit code, None for 0.

        Raises:
            MissingExtraError: The module belongs to a package of its own, which is not installed.
        """
        package = self.module.partition(".")[0]
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise MissingExtraError(
                f"`sottovoce {name}` needs the package {package!r}, which is not installed: run `pip install "
                f"./experiments/{package}` in a copy of the repository"
            ) from error
        function: Callable[..., int | None] = getattr(module, name)
        return function


# In the order in which a newcomer meets them.
COMMANDS = {
    "enhance": Command("sottovoce.cli.enhance", "Take noise and reverberation out of recordings."),
    "live": Command(
        "sottovoce.cli.live", "Enhance a microphone while you speak, for headphones, a recording program or a call."
    ),
    "serve": Command("sottovoce.cli.serve", "Enhance recordings for other programs, over HTTP."),
    "train": Command(
        "sottovoce.cli.train",
        "Train on clean speech of anyone and noisy recordings of the place; no pairs are needed.",
    ),
    "mix": Command("sottovoce.cli.mix", "Make noisy mixtures with known clean speech, to test with."),
    "evaluate": Command(
        "sottovoce.cli.evaluate",
        "Score recordings against their clean references: PESQ, STOI, SI-SDR, CSIG, CBAK, COVL, DNSMOS.",
    ),
    "plot": Command(
        "sottovoce.cli.plot", "Draw waveforms and spectrograms of recordings side by side, on shared scales."
    ),
    "compare": Command(
        "sottovoce.cli.compare",
        "Write a page on which recordings are compared by ear: one file, for any browser, which needs no network.",
    ),
    "info": Command("sottovoce.cli.info", "Show what is in a recording or in a model."),
    "adapt": Command(
        "sottovoce.cli.adapt",
        "Make a model better for one place, from noisy recordings of it; no clean version of anything is needed.",
    ),
    "search": Command("sottovoce.cli.search", "Search loss weights and widths by short trainings."),
    "export": Command(
        "sottovoce.cli.export", "Write a trained network as an ONNX file, for --model and for other programs."
    ),
    "archive": Command(
        "sottovoce.cli.archive",
        "Enhance so many recordings that a run is stopped, moved to other machines and repeated at any time.",
    ),
    "benchmark": Command(
        "sspd2023.command",
        "Repeat the published experiment: train all compared systems, score them, write tables and figures.",
    ),
    "fetch": Command("sottovoce.cli.fetch", "Download a public corpus, and check that it is whole."),
}

HELP = """sottovoce: speech enhancement that learns from the recordings people have.

Usage: sottovoce COMMAND ...

Commands:
{commands}

`sottovoce COMMAND --help` explains one, with an example.

For every command:
  --quiet, -q    Print results and errors alone: no progress, no warnings, no closing sentence.
  --verbose, -v  Print every step.
  --version      Print the versions of sottovoce, its models, onnxruntime and Python.

Exit codes:
  0    All was done.
  1    Something was not: a sentence on standard error says what and why. The rest was done.
  2    The command line cannot be understood.
  130  Interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP.
  141  Nobody reads standard output any more, as behind `| head`.
"""

# What a shell gives of a program that SIGPIPE has ended: 128 and the signal's number.
_NOBODY_READS = 141


def main() -> int:
    """Run the command line of this process and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text, and is shown all the same
    # Its remarks, such as on fonts, would be written by whoever has no other place for them.
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())
    try:
        with interruption.raised(), terminal.own_words_only(), terminal.sentences():
            try:
                code = _run(sys.argv[1:])
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        terminal.warn(": ".join(["interrupted", *getattr(interrupt, "__notes__", [])]))
        return interruption.exit_code(interrupt)
    except BrokenPipeError:
        # Its reader has seen enough, as `head` does: no fault, and nothing to say.
        _write_nothing_more()
        return _NOBODY_READS
    except OSError as error:
        if error.filename is not None:
            terminal.warn(
                f"cannot use {error.filename} ({error.strerror}): check that it exists, and that you may "
                "read or write it"
            )
            return 1
        if error.errno != errno.ENOSPC:
            raise
        _write_nothing_more()
        terminal.warn(
            f"standard output or a file cannot be written ({error.strerror}); what was finished before is kept"
        )
        return 1
    return code


def _write_nothing_more() -> None:
    """The interpreter would write the rest at its end, and fail again."""
    if sys.stdout is not None:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    verbosity = {"--quiet": terminal.QUIET, "-q": terminal.QUIET, "--verbose": terminal.VERBOSE, "-v": terminal.VERBOSE}
    terminal.set_verbosity(
        next((verbosity[argument] for argument in arguments if argument in verbosity), terminal.NORMAL)
    )
    arguments = [argument for argument in arguments if argument not in verbosity]
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        commands = "\n".join(f"  {command:<10} {summary}" for command, (_, summary) in COMMANDS.items())
        for line in HELP.format(commands=commands).splitlines():
            terminal.print_line(line)
        return 0
    if name not in (*COMMANDS, "--version"):
        terminal.warn(f"found the command {name!r}, expected one of {', '.join(COMMANDS)}; see `sottovoce --help`")
        return 2
    if "--version" in arguments:
        _print_versions()
        return 0
    # The chosen command's module and parser alone are loaded: start-up time is a feature.
    try:
        with interruption.ending_at_once():
            import tyro

            function = COMMANDS[name].load(name)
        # tyro would leave out the example of the docstring.
        description = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
        description += "\n\n--quiet, --verbose and --version are for every command: see `sottovoce --help`."
        config = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)
        prog = f"sottovoce {name}"
        return tyro.cli(function, args=arguments[1:], prog=prog, description=description, config=config) or 0
    except SottovoceError as error:
        terminal.warn(str(error))
        return 1


def _print_versions() -> None:
    import hashlib
    import importlib.metadata
    import platform

    import sottovoce
    from sottovoce.weights import MODELS

    terminal.print_line(f"sottovoce {sottovoce.__version__}")
    for name, path in MODELS.items():
        terminal.print_line(f"model {name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")
    terminal.print_line(f"onnxruntime {importlib.metadata.version('onnxruntime')}")
    terminal.print_line(f"Python {platform.python_version()}")
