"""The command `fetch`."""

from typing import Annotated

import tyro

from sottovoce import terminal
from sottovoce.cli.arguments import Output
from sottovoce.extras import require
from sottovoce.paths import require_writable


def fetch(corpus: Annotated[str, tyro.conf.arg(metavar="CORPUS")], /, *, output: Output) -> None:
    """Download a public corpus, and check that it is whole.

    Nothing else of sottovoce uses the network, and nothing needs this command: docs/corpora.md says where to
    get every corpus.

    Example:
        sottovoce fetch librispeech-test-clean -o corpora/librispeech
        sottovoce benchmark --speech librispeech:corpora/librispeech --noise noise/ --rooms rooms/ -o results

    Args:
        corpus: Name of an archive; an unknown one lists them all.
        output: Folder to make.
    """
    require("corpora", "Fetching a corpus")
    require_writable(output)
    from sottovoce.data.corpora.catalogue import fetch as download

    with terminal.progress() as show:
        download(
            corpus,
            output,
            progress=lambda done, total: show("downloading", done, total, f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"),
        )
    terminal.say(f"Wrote {output}.")
