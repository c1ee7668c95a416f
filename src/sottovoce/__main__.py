"""`python -m sottovoce` is the `sottovoce` command."""

import sys

from sottovoce.interruption import ending_at_once


def main() -> int:
    """Run the command line of this process and return its exit code."""
    with ending_at_once():
        from sottovoce.cli import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())
