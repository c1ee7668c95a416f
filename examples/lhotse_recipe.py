"""A corpus of Lhotse through `sottovoce archive`: the same recordings enhanced, under the same ids.

    python examples/lhotse_recipe.py list recordings.jsonl.gz manifest
    sottovoce archive enhance manifest -o enhanced/
    python examples/lhotse_recipe.py collect enhanced/default-3f9a1c2b4d5e enhanced.jsonl.gz

Supervisions and cuts name recordings by their ids, so that those of the corpus fit the enhanced recordings as well.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from lhotse import Recording, RecordingSet

from sottovoce.archive.manifest import Item, Manifest, write_manifest


def list_recordings(recordings: RecordingSet, manifest: Path | str) -> Manifest:
    """Write the manifest of an archive that has the recordings of a corpus, which are not looked at."""
    return write_manifest(map(item_of, recordings), manifest)


def item_of(recording: Recording) -> Item:
    """Say where a recording is, which has one source: a file, or an address such as s3://bucket/talk.flac."""
    (source,) = recording.sources
    if source.type not in ("file", "url"):
        sys.exit(f"{recording.id} has a source of the type {source.type}, expected a file or an address")
    # Lhotse writes addresses as they are; in a manifest, as in file:// addresses, what is special in one is quoted.
    uri = quote(source.source, safe=":/") if source.type == "url" else Path(source.source).absolute().as_uri()
    return Item(recording.id, uri, seconds=recording.duration)


def collect_recordings(run: Path) -> RecordingSet:
    """Describe the enhanced recordings of a run, which has a file for each; of those that failed there are none."""
    return RecordingSet.from_recordings(
        Recording.from_file(run / row["output"], recording_id=row["id"])
        for row in rows_of(run)
        if row["status"] == "enhanced"
    )


def rows_of(run: Path) -> Iterator[dict]:
    """Read the tables of a run, one after the other."""
    for table in sorted((run / "results").glob("part-*.jsonl")):
        yield from map(json.loads, table.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["list", recordings, manifest]:
            list_recordings(RecordingSet.from_file(recordings), manifest)
        case ["collect", run, output]:
            collect_recordings(Path(run)).to_file(output)
        case _:
            sys.exit(__doc__)
