"""The `sottovoce` command: one typed function per sub-command, in the order in which a newcomer meets them."""

import sys
from collections.abc import Callable

from sottovoce.errors import SottovoceError

COMMANDS: dict[str, Callable[..., int | None]] = {}

HELP = "sottovoce: speech enhancement that learns from the recordings people have.\n\nUsage: sottovoce COMMAND ...\n"


def main() -> int:
    """Run the command line of this process and return its exit code."""
    arguments = sys.argv[1:]
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(HELP + "\nCommands:")
        for command, function in COMMANDS.items():
            print(f"  {command:<10} {(function.__doc__ or '').splitlines()[0]}")
        print("\n`sottovoce COMMAND --help` explains one, with an example.")
        return 0
    if name not in COMMANDS:
        print(
            f"sottovoce: found the command {name!r}, expected one of {', '.join(COMMANDS)}; see `sottovoce --help`.",
            file=sys.stderr,
        )
        return 2
    # Only the chosen command's parser is built: start-up time is a feature.
    import tyro

    try:
        return tyro.cli(COMMANDS[name], args=arguments[1:], prog=f"sottovoce {name}") or 0
    except SottovoceError as error:
        print(f"sottovoce: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sottovoce: interrupted.", file=sys.stderr)
        return 130
