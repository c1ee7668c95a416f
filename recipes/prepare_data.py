"""Builds the training folders of the bundled model and its development sets from the corpora of `SOTTOVOCE_DATA`.

    python recipes/prepare_data.py data

makes, with equal bytes for an equal seed:

    speech/<speaker>/*.flac     clean speech of some readers: all that training sees of clean speech
    mixtures/*.flac             480 "field recordings" of 15 s: other speakers, noise, some in measured rooms
    hidden/*.flac               clean versions of these, for supervised systems to compare with and for tests
    field.csv                   how each field recording was made
    development/dry/            90 mixtures at 0, 5 and 10 dB: other speakers and other kinds of noise
    development/rooms/          60 mixtures at 0, 5 and 10 dB in other rooms; clean is direct and early sound
    development/poster/         60 mixtures at -5, 0 and 5 dB in these rooms; clean is dry
    places/<noise>/noisy/       10 minutes of noisy recordings of one place, to adapt to: one kind of noise, one room
    places/<noise>/test/        30 mixtures of that place: other speakers and excerpts; clean is direct and early sound
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
from typing import NamedTuple

import numpy as np

from sottovoce.data.corpora.manifest import Manifest, Recording, scan
from sottovoce.data.simulation.mixtures import TABLE, Target, make_mixtures

DATA = Path(os.environ.get("SOTTOVOCE_DATA", Path(__file__).parents[2] / "shared" / "data"))
DEVELOPMENT_NOISE = ("babble", "birds", "insects_night", "person_sneeze", "sea_waves", "water_drops")
DEVELOPMENT_ROOMS = ("ArthurSykesRymerAuditorium", "SeminarRoomClap", "StMargaretsChurch")
UNUSED_ROOMS = ("PurnodesRailroadTunnel", "SpokaneWomansClub")  # Nobody records speech for its own sake in a tunnel.
DEVELOPMENT_VOICES = ("kathleen", "nathalie")
SPEECH_VOICES = ("kerstin", "LJ")
DEVELOPMENT_SETS: tuple[tuple[str, int, tuple[float, ...], float, Target], ...] = (
    ("dry", 90, (0, 5, 10), 0.0, "dry"),
    ("rooms", 60, (0, 5, 10), 1.0, "early"),
    ("poster", 60, (-5, 0, 5), 1.0, "dry"),
)
PLACES = {
    "sea_waves": "",
    "babble": "ArthurSykesRymerAuditorium",
    "insects_night": "SeminarRoomClap",
}
"""Kind of noise and room, if any, of each place."""
PLACE_RECORDINGS = 40
PLACE_SNR_DB = (0.0, 15.0)
PLACE_TEST = 30
PLACE_TEST_SNR_DB = (0, 5, 10)
SAME_KIND = {"fire_crackling": "fire", "babble_coffee_shop": "babble", "babble_playground": "babble"}
READERS_PER_SET = 25
FIELD_RECORDINGS = 480
FIELD_SECONDS = 15.0
FIELD_LEAD_IN_SECONDS = (1.0, 3.0)
FIELD_SNR_DB = (-5.0, 20.0)
FIELD_ROOM_SHARE = 0.4


def main() -> None:
    """Build everything below the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    if output.exists() and any(output.iterdir()):
        parser.error(f"found files in {output}, expected a new folder")
    output.mkdir(parents=True, exist_ok=True)
    # The tables then name files relative to the corpora, wherever these are.
    with contextlib.chdir(DATA):
        build(output, arguments.seed)


class Part(NamedTuple):
    """What one side of the split may use: no speaker, kind of noise or room is in two parts."""

    speech: Manifest
    noise: Manifest
    responses: list[Path]


def split_corpora(seed: int) -> dict[str, Part]:
    """Divide speakers, kinds of noise and rooms into the parts `speech`, `mixtures` and `development`.

    The paths are relative to the data folder, which must be the current one.
    """
    speech = shippable(Path("clean.csv"), "speaker")
    noise = regroup(shippable(Path("noise.csv"), "type"), SAME_KIND)
    rooms = shippable(Path("rir.csv"), "room")
    names = sorted({r.group for r in speech.recordings if r.path.parts[1] == "librispeech"})
    readers = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    # Picovoice has no speaker labels: all of it is on one side, in portions that stand for a speaker each.
    unlabelled = [r.path for r in speech.recordings if r.path.parts[1] == "picovoice_intent"]
    portions = {path: f"picovoice_{index % READERS_PER_SET:02d}" for index, path in enumerate(unlabelled)}
    speech = Manifest(tuple(dataclasses.replace(r, group=portions.get(r.path, r.group)) for r in speech.recordings))
    speakers = {
        "development": {*readers[:READERS_PER_SET], *DEVELOPMENT_VOICES},
        "mixtures": {*readers[READERS_PER_SET : 2 * READERS_PER_SET], *portions.values()},
        "speech": {*readers[2 * READERS_PER_SET :], *SPEECH_VOICES},
    }
    kinds = {
        "development": set(DEVELOPMENT_NOISE),
        "mixtures": set(noise.groups) - set(DEVELOPMENT_NOISE),
        "speech": set(),
    }
    places = {
        "development": set(DEVELOPMENT_ROOMS),
        "mixtures": set(rooms.groups) - set(DEVELOPMENT_ROOMS) - set(UNUSED_ROOMS),
        "speech": set(),
    }
    return {
        part: Part(
            only(speech, speakers[part]),
            only(noise, kinds[part]),
            [recording.path for recording in only(rooms, places[part]).recordings],
        )
        for part in speakers
    }


def build(output: Path, seed: int) -> None:
    """Write all sets below a folder."""
    parts = split_corpora(seed)
    for recording in parts["speech"].speech.recordings:
        copy = output / "speech" / recording.group / recording.path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recording.path, copy)

    field = output / "field"
    rng = np.random.default_rng([seed, 1])
    make_mixtures(
        parts["mixtures"].speech,
        parts["mixtures"].noise,
        field,
        count=FIELD_RECORDINGS,
        snr_db=rng.uniform(*FIELD_SNR_DB, FIELD_RECORDINGS).round(1).tolist(),
        seed=seed + 1,
        responses=parts["mixtures"].responses,
        room_share=FIELD_ROOM_SHARE,
        seconds=FIELD_SECONDS,
        lead_in_seconds=FIELD_LEAD_IN_SECONDS,
        target="early",
        progress=report("field recordings"),
    )
    for source, target in (("noisy", "mixtures"), ("clean", "hidden"), (TABLE, "field.csv")):
        (field / source).rename(output / target)
    field.rmdir()

    for number, (name, count, snr_db, room_share, target) in enumerate(DEVELOPMENT_SETS):
        make_mixtures(
            parts["development"].speech,
            parts["development"].noise,
            output / "development" / name,
            count=count,
            snr_db=snr_db,
            seed=seed + 2 + number,
            target=target,
            responses=parts["development"].responses if room_share else (),
            room_share=room_share,
            progress=report(f"development/{name}"),
        )

    for number, (kind, room) in enumerate(PLACES.items()):
        make_place(parts["development"], kind, room, output / "places" / kind, seed + 100 + number)

    with (output / "split.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("what", "part", "name"))
        for name, part in parts.items():
            table.writerows(("speaker", name, speaker) for speaker in part.speech.groups)
            table.writerows(("noise", name, kind) for kind in part.noise.groups)
            table.writerows(("room", name, str(path)) for path in part.responses)


def make_place(part: Part, kind: str, room: str, output: Path, seed: int) -> None:
    """Write what is recorded in one place, and what is tested there: halves of the speakers and of the noises."""
    speakers = part.speech.groups
    order = [speakers[index] for index in np.random.default_rng(seed).permutation(len(speakers))]
    responses = [path for path in part.responses if path.parent.name == room]
    if room and not responses:
        raise SystemExit(f"found no room {room} among those of the development sets")
    ratios = np.random.default_rng([seed, 1]).uniform(*PLACE_SNR_DB, PLACE_RECORDINGS).round(1).tolist()
    common = {"responses": responses, "room_share": 1.0 if responses else 0.0, "target": "early"}
    recorded = output / "recorded"
    make_mixtures(
        only(part.speech, set(order[::2])),
        only(part.noise, {kind}),
        recorded,
        count=PLACE_RECORDINGS,
        snr_db=ratios,
        seed=seed,
        seconds=FIELD_SECONDS,
        lead_in_seconds=FIELD_LEAD_IN_SECONDS,
        noise_part=(0.0, 0.5),
        **common,
    )
    # Clean versions of what is recorded are nobody's business.
    (recorded / "noisy").rename(output / "noisy")
    shutil.rmtree(recorded)
    make_mixtures(
        only(part.speech, set(order[1::2])),
        only(part.noise, {kind}),
        output / "test",
        count=PLACE_TEST,
        snr_db=PLACE_TEST_SNR_DB,
        seed=seed + 50,
        noise_part=(0.5, 1.0),
        **common,
    )


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
    """A progress callback that reports now and then."""

    def progress(done: int, total: int) -> None:
        if done % 30 == 0 or done == total:
            logging.info("%s: %d of %d", name, done, total)

    return progress


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
