"""Prepares the experiment of the published system from the corpora of `SOTTOVOCE_DATA`.

    python recipes/prepare_benchmark.py data/benchmark

makes folders of links, one per speaker, kind of noise and room, in which a kind of noise has one name whichever corpus
it is from, and prints the command of the experiment. Training has rooms with a reverberation time up to a second.
Noises of NOISEX-92, the rooms of the REVERB challenge and the speakers that are new to the bundled model are for the
test alone.

    python recipes/prepare_benchmark.py --examples

makes `examples/benchmark` instead: a few openly licensed noises and rooms, with their authors, for a quick look.
"""

import argparse
import contextlib
import csv
import shutil
from pathlib import Path

from prepare_data import DATA, SAME_KIND, regroup, shippable, split_corpora
from prepare_examples import EXAMPLES, copy, credit_key, credited, noise_credits

from sottovoce.data.corpora.manifest import Manifest

SPEECH = ("librispeech", "kathleen", "kerstin", "ljspeech", "nathalie")
TEST_NOISE = "noisex92__unclear"
TEST_ROOMS = "reverb_challenge__unclear"
# Remains of other mixtures, and voices: not noises for a training.
NOT_FOR_TRAINING = {"dns_train_residual"}
VOICE_LIKE = {"baby_cry", "rooster", "person_sneeze", "dog_bark"}
LONGEST_T60_SECONDS = 1.0
SEED = 1  # of the bundled model's data

EXAMPLE_KINDS = ("chainsaw", "clock_tick", "fire", "helicopter", "rain", "sea_waves")
EXAMPLE_CLIPS = 2
EXAMPLE_ROOMS = {
    "Basement": "Reverb.js, public domain",
    "ArthurSykesRymerAuditorium": "OpenAIR (University of York), CC BY 4.0",
    "Genesis6StudioLiveRoom": "OpenAIR (University of York), CC BY 4.0",
    "unknown_room1": "audiomentations (Iver Jordal), MIT",
}


def main() -> None:
    """Make the folders of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, nargs="?", help="folder to make")
    parser.add_argument("--examples", action="store_true", help="make examples/benchmark")
    arguments = parser.parse_args()
    if arguments.examples:
        with contextlib.chdir(DATA):
            make_examples(EXAMPLES / "benchmark")
        return
    if arguments.output is None or (arguments.output.exists() and any(arguments.output.iterdir())):
        parser.error("expected a new folder to make, or --examples")
    link_corpora(arguments.output)
    print(
        "sottovoce benchmark -o results/poster --protocol poster matched "
        + " ".join(
            f"--{name.replace('_', '-')} {arguments.output / name}"
            for name in ("speech", "noise", "rooms", "test_speech", "test_noise", "test_rooms")
        )
    )


def link_corpora(output: Path) -> None:
    """Link the files of all corpora by role and group."""
    with contextlib.chdir(DATA):
        # The bundled model was trained on the others, and stands in the tables.
        unheard = set(split_corpora(SEED)["development"].speech.groups)
    for row in table("clean"):
        if row["corpus"] in SPEECH:
            link(row, output / ("test_speech" if row["speaker"] in unheard else "speech") / row["speaker"])
    for row in table("noise"):
        kind = SAME_KIND.get(row["type"], row["type"])
        if row["corpus"] == TEST_NOISE:
            link(row, output / "test_noise" / kind)
        elif row["corpus"] not in NOT_FOR_TRAINING and kind not in VOICE_LIKE:
            link(row, output / "noise" / kind)
    for row in table("rir"):
        if float(row["t60_t20_s"]) <= LONGEST_T60_SECONDS:
            link(row, output / ("test_rooms" if row["corpus"] == TEST_ROOMS else "rooms") / row["room"])


def table(name: str) -> list[dict[str, str]]:
    """Rows of one of the tables of the corpora."""
    with (DATA / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def link(row: dict[str, str], folder: Path) -> None:
    """Link one file, under a name that gives its corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    source = DATA / row["file"]
    (folder / f"{row['corpus']}_{source.name}").symlink_to(source.resolve())


def make_examples(output: Path) -> None:
    """Copy a few noises and rooms, and write who made them; the data folder must be the current one."""
    shutil.rmtree(output, ignore_errors=True)
    credits = noise_credits()
    noise = credited(regroup(shippable(Path("noise.csv"), "type"), SAME_KIND), credits)
    lines = [ATTRIBUTION, "## noise\n", "| File | Sound |", "|---|---|"]
    for kind in EXAMPLE_KINDS:
        # Short clips: the long ones are loops of minutes.
        clips = [r for r in noise.recordings if r.group == kind and r.path.parts[1] == "esc10"][:EXAMPLE_CLIPS]
        for clip in clips:
            target = output / "noise" / kind / f"{clip.path.stem}.ogg"
            copy(clip.path, target)
            credit = credits[credit_key(clip.path)]
            sound = f"[{credit.title}]({credit.page}) by {credit.author} ({credit.licence})"
            lines.append(f"| `{target.relative_to(output)}` | {sound} |")
    lines += ["\n## rooms\n", "| Room | Origin |", "|---|---|"]
    rooms: Manifest = shippable(Path("rir.csv"), "room")
    for room, origin in EXAMPLE_ROOMS.items():
        for response in (r for r in rooms.recordings if r.group == room):
            copy(response.path, output / "rooms" / room / f"{response.path.stem}.flac")
        lines.append(f"| `rooms/{room}` | {origin} |")
    (output / "ATTRIBUTION.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


ATTRIBUTION = """\
# Noises and rooms for a quick look at the benchmark

16 kHz mono, made by `recipes/prepare_benchmark.py`; the speech is that of `examples/unpaired/speech`. Noises are clips
of [ESC-10](https://github.com/karolpiczak/ESC-10), derived from Freesound, under CC0 or
[CC BY 3.0](https://creativecommons.org/licenses/by/3.0/) (CC-BY below); rooms are measured impulse responses, cut at
their noise floor. Changes: resampled, cut, encoded again.
"""

if __name__ == "__main__":
    main()
