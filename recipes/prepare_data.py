"""Builds the training folders of the bundled model and its development sets from the corpora of `SOTTOVOCE_DATA`.

    python recipes/prepare_data.py data

makes, with equal bytes for an equal seed:

    speech/<speaker>/*          clean speech of some readers: all that training sees of clean speech
    mixtures/*.flac             720 "field recordings" of 15 s: other speakers, noise, some in measured rooms; those
                                whose name begins with `more_` have the many short sounds of `more.csv`
    hidden/*.flac               clean versions of these, for supervised systems to compare with and for tests
    field.csv                   how each field recording was made
    development/dry/            90 mixtures at 0, 5 and 10 dB: other speakers and other kinds of noise
    development/rooms/          60 mixtures at 0, 5 and 10 dB in other rooms; clean is direct and early sound
    development/poster/         60 mixtures at -5, 0 and 5 dB in these rooms; clean is dry
    places/<noise>/noisy/       10 minutes of noisy recordings of one place, to adapt to: one kind of noise, one room
    places/<noise>/test/        30 mixtures of that place: other speakers and excerpts; clean is direct and early sound
    split.csv                   which speaker, kind of noise and room went where
    ATTRIBUTION.md, licences/   whose recordings `speech` and `mixtures` are made of

Every file used has `may_ship` = 1 in the corpus tables, so a model trained on the result may be shipped. A kind of
noise is one kind whichever corpus it is from: rain is rain. Of `more.csv` nothing is in the development sets, and what
these or the benchmarks test with is not used: its VCTK speakers, its further recordings of kathleen and nathalie, and
some kinds of noise. The noises at 48 kHz are those at 16 kHz once more, so they add nothing to a training at 16 kHz.
"""

import argparse
import contextlib
import csv
import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.corpora.folders import read_table, write_table
from sottovoce.data.corpora.manifest import Manifest, Recording, scan
from sottovoce.data.simulation.mixtures import (
    TABLE,
    Mixture,
    Target,
    excerpt,
    make_mixtures,
    members,
    read_mono,
)
from sottovoce.signal import audio, levels

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
MORE_SAME_KIND = {
    "thunder": "thunderstorm",
    "fuse_short": "fuse",
    "fuse_loop": "fuse",
    "bees": "bee",
    "bumble_bee": "bee",
}
UNUSED_KINDS = (
    *("rain_heavy", "rain_light", "rain_medium", "compressor_motor", "fire_crackle", "keyboard"),  # of full_band.py
    *("cricket", "cicada", "grasshopper"),  # what `insects_night` is made of
    *("chirp", "crow_caw", "owl_hoot", "chicken", "duck_quack", "goose", "turkey_gobble"),  # birds, as `birds` is
    *("die", "die_fat"),  # people
)
"""Kinds of `more.csv` that no training is given."""
READERS_PER_SET = 25
FIELD_RECORDINGS = 480
FIELD_SECONDS = 15.0
FIELD_LEAD_IN_SECONDS = (1.0, 3.0)
FIELD_SNR_DB = (-5.0, 20.0)
FIELD_ROOM_SHARE = 0.4
MORE_RECORDINGS = 240
MORE_LEAD_IN_SECONDS = (2.0, 5.0)
"""Longer than that of the others: training finds a noise where it is alone, and each of these is in one or two."""
TRACK_SECONDS = 30.0
LONG_SECONDS = 4.0
"""A recording of noise that lasts so long is used as it is; shorter ones follow one another on a track."""
TRACK_PAUSE_SECONDS = (0.05, 1.5)
TRACK_LEVELS_DB = (-10.0, 0.0)
BACKGROUND_DB = (-30.0, -15.0)
BACKGROUNDS = {"rain", "wind", "stream", "thunderstorm", "kitchen", "leaves", "underwater", "helicopter", "fire"}
RATE = 16000


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


def more_speech() -> Manifest:
    """Further recordings of the voices whose clean speech is trained on."""
    return only(shippable(Path("more.csv"), "group", role="speech"), set(SPEECH_VOICES))


def more_noise() -> Manifest:
    """Further kinds of noise for field recordings."""
    noise = regroup(shippable(Path("more.csv"), "group", role="noise"), MORE_SAME_KIND)
    return only(noise, set(noise.groups) - set(UNUSED_KINDS) - set(DEVELOPMENT_NOISE))


def build(output: Path, seed: int) -> None:
    """Write all sets below a folder."""
    parts, new_speech, new_noise = split_corpora(seed), more_speech(), more_noise()
    for recording in (*parts["speech"].speech.recordings, *new_speech.recordings):
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
    add_field_recordings(parts["mixtures"], new_noise, output, seed + 200)

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

    mixed = parts["mixtures"]
    with (output / "split.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("what", "part", "name"))
        for name, part in parts.items():
            table.writerows(("speaker", name, speaker) for speaker in part.speech.groups)
            table.writerows(("noise", name, kind) for kind in part.noise.groups)
            table.writerows(("room", name, str(path)) for path in part.responses)
        table.writerows(("noise", "mixtures", kind) for kind in sorted({*new_noise.groups} - {*mixed.noise.groups}))
    used = [*parts["speech"].speech.recordings, *new_speech.recordings, *mixed.speech.recordings]
    used += [*mixed.noise.recordings, *new_noise.recordings]
    (output / "ATTRIBUTION.md").write_text(attribution({*(r.path for r in used), *mixed.responses}), encoding="utf-8")
    (output / "licences").mkdir()
    for text in sorted(Path("licences").iterdir()):
        shutil.copyfile(text, output / "licences" / text.name)


def add_field_recordings(part: Part, noise: Manifest, output: Path, seed: int) -> None:
    """Write field recordings with other noise beside those that are there, and their rows into the table."""
    with tempfile.TemporaryDirectory() as folder:
        tracks = write_tracks(noise, part.noise, Path(folder), seed)
        rng = np.random.default_rng([seed, 1])
        field = output / "field"
        rows = make_mixtures(
            part.speech,
            tracks,
            field,
            count=MORE_RECORDINGS,
            snr_db=rng.uniform(*FIELD_SNR_DB, MORE_RECORDINGS).round(1).tolist(),
            seed=seed + 1,
            responses=part.responses,
            room_share=FIELD_ROOM_SHARE,
            seconds=FIELD_SECONDS,
            lead_in_seconds=MORE_LEAD_IN_SECONDS,
            target="early",
            progress=report("more field recordings"),
        )
    named = []
    for row in rows:
        name = f"more_{row.file}"
        (field / "noisy" / row.file).rename(output / "mixtures" / name)
        (field / "clean" / row.file).rename(output / "hidden" / name)
        named.append(dataclasses.replace(row, file=name, noise=Path(row.noise).stem))
    shutil.rmtree(field)
    write_table(output / "field.csv", [*read_table(output / "field.csv", Mixture), *named])


def write_tracks(noise: Manifest, backgrounds: Manifest, folder: Path, seed: int) -> Manifest:
    """One track per kind of noise: its long recordings one after another, or its short sounds, in front of something.

    A sound of half a second that is repeated without a pause would be a tone, and nothing is ever heard in silence.
    """
    behind = [r for r in backgrounds.recordings if r.group in BACKGROUNDS]
    recordings = []
    for number, kind in enumerate(noise.groups):
        rng = np.random.default_rng([seed, 2, number])
        sounds = [read_mono(recording, RATE) for recording in members(noise, kind)]
        long = [sound for sound in sounds if sound.size >= LONG_SECONDS * RATE]
        samples = round(TRACK_SECONDS * RATE)
        if long:
            track = excerpt(long[int(rng.integers(len(long)))], samples, RATE, rng)[0]
        else:
            track = scattered(sounds, samples, rng)
        background = excerpt(read_mono(behind[int(rng.integers(len(behind)))], RATE), samples, RATE, rng)[0]
        below_db = rng.uniform(*BACKGROUND_DB) + levels.rms_db(track) - levels.rms_db(background)
        track = track + background * np.float32(levels.from_db(below_db))
        path = folder / f"{kind}.flac"
        with audio.Writer(path, RATE, 1) as writer:
            writer.write((track * np.float32(levels.peak_gain((track,))))[np.newaxis])
        recordings.append(Recording(path, kind, RATE, 1, samples, levels.rms_db(track)))
    return Manifest(tuple(recordings))


def scattered(sounds: list[NDArray[np.float32]], samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Short sounds at any times and at levels of their own, with pauses of which every octave is equally likely."""
    track = np.zeros(samples, np.float32)
    start = 0
    while start < samples:
        sound = sounds[int(rng.integers(len(sounds)))][: samples - start]
        track[start : start + sound.size] += sound * np.float32(levels.from_db(rng.uniform(*TRACK_LEVELS_DB)))
        start += sound.size + round(RATE * float(np.exp(rng.uniform(*np.log(TRACK_PAUSE_SECONDS)))))
    return track


def attribution(used: set[Path]) -> str:
    """Markdown that names corpus, author where a table has one, and licence of the files."""
    lines: dict[tuple[str, str, str, str], int] = {}
    for table in ("clean.csv", "noise.csv", "rir.csv", "more.csv"):
        with Path(table).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if Path(row["file"]) in used:
                    key = (row["corpus"], row["repo"], row["licence"], row.get("author", ""))
                    lines[key] = lines.get(key, 0) + 1
    rows = [f"| {' | '.join(key)} | {count} |" for key, count in sorted(lines.items())]
    return "\n".join(
        (
            "# What this training material is made of",
            "",
            "Recordings were mixed, filtered and cut. Authors that the table does not name are in the texts of "
            "`licences`.",
            "",
            "| corpus | repository | licence | author | files |",
            "|---|---|---|---|---|",
            *rows,
            "",
        )
    )


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


def shippable(table: Path, column: str, *, role: str | None = None) -> Manifest:
    """Recordings of a corpus table, or those of one role there, that a shipped model may be trained on, by a column."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["may_ship"] == "1" and role in (None, row.get("role"))]
    groups = {Path(row["file"]): row[column] for row in rows}
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
