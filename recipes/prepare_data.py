"""Builds the training folders of the bundled model and its development sets from the corpora of `SOTTOVOCE_DATA`.

    python recipes/prepare_data.py /tmp/sv_data

makes, with equal bytes for an equal seed:

    speech/<speaker>/*.flac     clean speech of some readers: all that training sees of clean speech
    mixtures/*.flac             240 "field recordings" of 30 s: other talkers, noise, some in measured rooms
    hidden/*.flac               clean versions of these, for tests of the harvest only: never for training
    field.csv                   how each field recording was made
    development/dry/            90 mixtures at 0, 5 and 10 dB: other talkers and other kinds of noise
    development/rooms/          60 mixtures at -5, 0 and 5 dB in other rooms, target dry
    split.csv                   which speaker, kind of noise and room went where

Every file used has `may_ship` = 1 in the corpus tables, so a model trained on the result may be shipped. A kind of
noise is one kind whichever corpus it is from: rain is rain.
"""

import argparse
import contextlib
import csv
import dataclasses
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sottovoce.data.manifest import Manifest, Recording, scan
from sottovoce.data.mixtures import TABLE, make_mixtures

DEVELOPMENT_NOISE = ("babble", "birds", "insects_night", "person_sneeze", "sea_waves", "water_drops")
DEVELOPMENT_ROOMS = ("ArthurSykesRymerAuditorium", "SeminarRoomClap", "StMargaretsChurch")
UNUSED_ROOMS = ("PurnodesRailroadTunnel", "SpokaneWomansClub")  # Nobody records speech for its own sake in a tunnel.
DEVELOPMENT_VOICES = ("kathleen", "nathalie")
SPEECH_VOICES = ("kerstin", "LJ")
SAME_KIND = {"fire_crackling": "fire", "babble_coffee_shop": "babble", "babble_playground": "babble"}
READERS_PER_SET = 25
FIELD_RECORDINGS = 240
FIELD_SECONDS = 30.0
FIELD_SNR_DB = (-5.0, 20.0)
FIELD_ROOM_SHARE = 0.4


def main() -> None:
    """Build everything below the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("SOTTOVOCE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    # The tables then name files relative to the corpora, wherever these are.
    with contextlib.chdir(data):
        build(output, arguments.seed)


def build(output: Path, seed: int) -> None:
    """Split speakers, kinds of noise and rooms, then write all sets."""
    speech = shippable(Path("clean.csv"), "speaker")
    noise = regroup(shippable(Path("noise.csv"), "type"), SAME_KIND)
    readers = sorted({r.group for r in speech.recordings if r.path.parts[1] == "librispeech"})
    readers = [str(reader) for reader in np.random.default_rng(seed).permutation(readers)]
    development_readers, field_readers = readers[:READERS_PER_SET], readers[READERS_PER_SET : 2 * READERS_PER_SET]
    clean_readers = readers[2 * READERS_PER_SET :]

    # Picovoice has no speaker labels: all of it is on one side, in portions that stand for a talker each.
    portions = {}
    unlabelled = [r for r in speech.recordings if r.path.parts[1] == "picovoice_intent"]
    for index, recording in enumerate(unlabelled):
        portions[recording.path] = f"picovoice_{index % READERS_PER_SET:02d}"
    speech = Manifest(tuple(dataclasses.replace(r, group=portions.get(r.path, r.group)) for r in speech.recordings))
    speakers = {
        "speech": {*clean_readers, *SPEECH_VOICES},
        "mixtures": {*field_readers, *portions.values()},
        "development": {*development_readers, *DEVELOPMENT_VOICES},
    }
    kinds = {
        "mixtures": {group for group in noise.groups if group not in DEVELOPMENT_NOISE},
        "development": set(DEVELOPMENT_NOISE),
    }
    responses: dict[str, list[Path]] = {"mixtures": [], "development": []}
    for recording in shippable(Path("rir.csv"), "room").recordings:
        if recording.group not in UNUSED_ROOMS:
            part = "development" if recording.group in DEVELOPMENT_ROOMS else "mixtures"
            responses[part].append(recording.path)

    for recording in only(speech, speakers["speech"]).recordings:
        target = output / "speech" / recording.group / recording.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recording.path, target)

    field = output / "field"
    rng = np.random.default_rng([seed, 1])
    make_mixtures(
        only(speech, speakers["mixtures"]),
        only(noise, kinds["mixtures"]),
        field,
        count=FIELD_RECORDINGS,
        snr_db=rng.uniform(*FIELD_SNR_DB, FIELD_RECORDINGS).round(1).tolist(),
        seed=seed + 1,
        responses=responses["mixtures"],
        room_share=FIELD_ROOM_SHARE,
        seconds=FIELD_SECONDS,
        progress=report("field recordings"),
    )
    for source, target in (("noisy", "mixtures"), ("clean", "hidden"), (TABLE, "field.csv")):
        (field / source).rename(output / target)
    field.rmdir()

    for name, count, snr_db, room_share in (("dry", 90, (0, 5, 10), 0.0), ("rooms", 60, (-5, 0, 5), 1.0)):
        make_mixtures(
            only(speech, speakers["development"]),
            only(noise, kinds["development"]),
            output / "development" / name,
            count=count,
            snr_db=snr_db,
            seed=seed + 2 + count,
            responses=responses["development"] if room_share else (),
            room_share=room_share,
            progress=report(f"development/{name}"),
        )

    with (output / "split.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("what", "part", "name"))
        for what, parts in (("speaker", speakers), ("noise", kinds), ("room", responses)):
            table.writerows((what, part, name) for part, names in parts.items() for name in sorted(map(str, names)))


def shippable(table: Path, column: str) -> Manifest:
    """Recordings of a corpus table that a shipped model may be trained on, grouped by a column of the table."""
    with table.open(newline="", encoding="utf-8") as file:
        groups = {Path(row["file"]): row[column] for row in csv.DictReader(file) if row["may_ship"] == "1"}
    found: list[Recording] = []
    for folder in sorted({path.parents[len(path.parts) - 3] for path in groups}):
        found += scan(folder, min_seconds=0.0).recordings

    return Manifest(
        tuple(
            dataclasses.replace(recording, group=groups[recording.path])
            for recording in found
            if recording.path in groups
        )
    )


def regroup(manifest: Manifest, names: dict[str, str]) -> Manifest:
    """The manifest with some groups renamed."""
    return Manifest(tuple(dataclasses.replace(r, group=names.get(r.group, r.group)) for r in manifest.recordings))


def only(manifest: Manifest, groups: set[str]) -> Manifest:
    """The recordings of some groups."""
    return Manifest(tuple(recording for recording in manifest.recordings if recording.group in groups))


def report(name: str) -> Callable[[int, int], None]:
    """A progress callback that tells now and then."""

    def progress(done: int, total: int) -> None:
        if done % 30 == 0 or done == total:
            logging.info("%s: %d of %d", name, done, total)

    return progress


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
