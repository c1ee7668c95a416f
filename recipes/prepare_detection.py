r"""Prepares the recordings of `benchmarks/detection.py` from the corpora of `SOTTOVOCE_DATA` and packages of Debian.

    apt-get download hyperrogue-music singularity-music fretsonfire-songs-muldjord fretsonfire-songs-sectoid \
        sonic-pi-samples hedgewars-data
    for package in *.deb; do dpkg -x "$package" packages; done
    python recipes/prepare_detection.py data/detection --packages packages

makes

    speech/<speaker>/*            links to speech of speakers who are in no training of the bundled models
    noise/<part>/<kind>/*         links to kinds of noise that are in none: of the development sets, and NOISEX-92
    unknown/<part>/<kind>/*       what is no plain speech: music, singing, laughter, animals, acted speech

A part is `development` or `test`. Music is from other packages in either part, laughter and acted speech are of other
actors, and animals of other kinds, those of the test in no training. The corpora have no music, laughter or singing;
what the packages have is under licences such as GPL and CC BY-SA: for measurements, not for a training. The sung vowels
of the development part are made, those of the test one singer's. Acted speech, of the same game as laughter and
singing, shows how much of a result is due to where a sound comes from.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from prepare_benchmark import TEST_NOISE, table
from prepare_data import DATA, DEVELOPMENT_NOISE, only, shippable, split_corpora

from sottovoce.signal.resampling import resample

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from voices import SUNG_HZ, sung

SEED = 1  # of the bundled model's data
RATE = 16000
EXCERPT_SECONDS = 20.0
SHORTEST_SECONDS = 0.8
DEVELOPMENT_MUSIC = ("singularity-music", "fretsonfire-songs", "sonic-pi")
TEST_MUSIC = ("hyperrogue/music", "hedgewars/Data/Music")
VOICES = "hedgewars/Data/Sounds/voices"
SINGER = "Singer"
DEVELOPMENT_ACTORS = ("British", "Default_es", "Default_ru", "HillBilly", "Pirate", "Russian_pl", "Surfer")
# The training of the bundled models has the first as noise, and none of the others.
DEVELOPMENT_ANIMALS = (
    "cow_moo",
    "dog_bark",
    "elephant_trumpet",
    "frog",
    "horse_neigh",
    "rooster",
    "sheep_baa",
    "wolf_howl",
)
TEST_ANIMALS = (
    *("birds", "chicken", "chirp", "cicada", "cricket", "crow_caw"),
    *("duck_quack", "goose", "grasshopper", "owl_hoot", "turkey_gobble"),
)


def main() -> None:
    """Make the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to make")
    parser.add_argument("--packages", type=Path, required=True, help="folder of the unpacked packages")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    if output.exists() and any(output.iterdir()):
        parser.error(f"found files in {output}, expected a new folder")
    with contextlib.chdir(DATA):
        link_corpora(output)
    copy_packages(arguments.packages, output / "unknown")
    for hz in SUNG_HZ:
        for number, vowel in enumerate(sung(hz)):
            write(output / "unknown" / "development" / "singing" / f"sung_{hz:g}_{number}.flac", vowel[RATE:])


def link_corpora(output: Path) -> None:
    """Link speech, noise and animals; the data folder must be the current one."""
    more = shippable(Path("more.csv"), "group", role="speech")
    vctk = only(more, {group for group in more.groups if group.startswith("p")})
    for recording in (*split_corpora(SEED)["development"].speech.recordings, *vctk.recordings):
        link(recording.path, output / "speech" / recording.group)
    for row in table("noise"):
        path = Path(row["file"])
        if row["corpus"] == TEST_NOISE:
            link(path, output / "noise" / "test" / row["type"])
        elif row["type"] in DEVELOPMENT_NOISE and row["type"] != "birds":
            link(path, output / "noise" / "development" / row["type"])
        link_animal(path, row["type"], output / "unknown")
    for row in table("more"):
        link_animal(Path(row["file"]), row["group"], output / "unknown")


def link_animal(path: Path, kind: str, output: Path) -> None:
    """Link a recording if it is of an animal."""
    for part, kinds in (("development", DEVELOPMENT_ANIMALS), ("test", TEST_ANIMALS)):
        if kind in kinds and path.parts[0] == "noise":
            link(path, output / part / "animals", f"{kind}_{path.name}")


def link(path: Path, folder: Path, name: str = "") -> None:
    """Link one file of the corpora."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (name or f"{path.parts[1]}_{path.name}")).symlink_to(path.resolve())


def copy_packages(packages: Path, output: Path) -> None:
    """Write excerpts of what the packages hold."""
    files = [path for path in sorted(packages.rglob("*")) if path.suffix in (".ogg", ".flac")]
    for part, places in (("development", DEVELOPMENT_MUSIC), ("test", TEST_MUSIC)):
        tracks = (path for path in files if any(place in path.as_posix() for place in places))
        copy(tracks, output / part / "music")
    voices = [path for path in files if VOICES in path.as_posix()]
    for path in voices:
        actor, is_laughter = path.parent.name, path.stem == "Laugh"
        part = "development" if actor in DEVELOPMENT_ACTORS else "test"
        if is_laughter:
            copy([path], output / part / "laughter")
        elif actor == SINGER:
            copy([path], output / "test" / "singing")
        else:
            copy([path], output / part / "acted_speech")


def copy(paths: Iterable[Path], folder: Path) -> None:
    """Write an excerpt of each recording that is not too short, from its first third on."""
    for path in paths:
        with soundfile.SoundFile(path) as file:
            rate, frames = file.samplerate, file.frames
            if frames < SHORTEST_SECONDS * rate:
                continue
            wanted = min(frames, round(EXCERPT_SECONDS * rate))
            file.seek((frames - wanted) // 3)
            samples = file.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
        write(folder / f"{path.parent.name}_{path.stem}.flac", resample(samples, rate, RATE))


def write(path: Path, samples: NDArray[np.float32]) -> None:
    """Write a FLAC at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples / max(1.0, float(np.abs(samples).max())), RATE)


if __name__ == "__main__":
    main()
