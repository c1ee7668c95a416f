"""What a training could not use, named in a file that several processes add lines to."""

import contextlib
import json
import os
from pathlib import Path


class Skipped:
    """A table of recordings that could not be used, of which each line is a JSON object with `id`, `uri` and `reason`.

    Args:
        path: The file; it appears with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._noted: set[tuple[str, str]] = set()

    def note(self, name: str, uri: str, reason: str) -> None:
        """Add a line, once for each recording and process.

        Args:
            name: What its owner calls the recording, or the part of a manifest.
            uri: Where it is.
            reason: Why it cannot be used, as a sentence.
        """
        if (name, uri) in self._noted:
            return
        self._noted.add((name, uri))
        line = f"{json.dumps({'id': name, 'uri': uri, 'reason': reason})}\n".encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write to the end of a file is not mixed with those of other processes.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def read(self) -> dict[tuple[str, str], str]:
        """Read the table.

        Returns:
            Reasons by `id` and `uri`: a recording is there once, however often it was met. A line that was cut when its
            process was killed is left out, and comes again when the recording does.
        """
        found: dict[tuple[str, str], str] = {}
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    found[entry["id"], entry["uri"]] = entry["reason"]
        return found
