"""Makes `examples/unpaired` and `examples/real` from the corpora of `SOTTOVOCE_DATA`.

    python recipes/prepare_examples.py

Speakers and kinds of noise are on the same side of the split as in `prepare_data.py`: the bundled model has seen
neither the speakers nor the noises of `held_out`. Only CC0, CC BY and public-domain audio whose authors are named in a
licence text of the corpora is used. Equal input gives equal sound, but Ogg puts a random serial number into its files.
"""

import contextlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from prepare_data import DATA, only, split_corpora

from sottovoce.data.corpora.manifest import Manifest
from sottovoce.data.simulation.mixtures import Mixture, make_mixtures
from sottovoce.signal import audio

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SEED = 1
READERS = 14
VOICES = {"LJ": 6, "kerstin": 8}
VOICE_LIKE_NOISE = {"baby_cry", "rooster"}
REAL = (
    "real/jfk/jfk_inaugural_1961.flac",
    "real/librispeech_test_other/1998/1998-15444-0000.flac",
    "real/librispeech_test_other/2609/2609-156975-0004.flac",
)
REAL_SECONDS = 15.0


class Credit(NamedTuple):
    """Who made a sound."""

    title: str
    author: str
    page: str
    licence: str


# After the licence texts `ambientsounds_readme.md` and `blanket_SOUNDS_LICENSING.md` of the data folder.
FREESOUND = "https://freesound.org/people"
LOOPS = {
    "ambientsounds/fireplace": Credit("Fireplace", "inchadney", f"{FREESOUND}/inchadney/sounds/132534/", "CC0"),
    "ambientsounds/heavy-rain": Credit("Heavy Rain", "D W", f"{FREESOUND}/D%20W/sounds/136971/", "CC BY"),
    "ambientsounds/forest-rain": Credit("Forest Rain", "Corsica_S", f"{FREESOUND}/Corsica_S/sounds/169031/", "CC BY"),
    "ambientsounds/stream": Credit("Stream", "mystiscool", f"{FREESOUND}/mystiscool/sounds/7138/", "CC BY"),
    "ambientsounds/thunderstorm": Credit("Thunderstorm", "RHumphries", f"{FREESOUND}/RHumphries/sounds/2523/", "CC BY"),
    "ambientsounds/wind": Credit("Wind", "felix.blume", f"{FREESOUND}/felix.blume/sounds/139337/", "CC0"),
    "blanket/birds": Credit("Birds", "kvgarlic", f"{FREESOUND}/kvgarlic/sounds/156826/", "CC0"),
    "blanket/coffee-shop": Credit(
        "Restaurant Ambiance", "stephan", "https://soundbible.com/1664-Restaurant-Ambiance.html", "public domain"
    ),
    "blanket/fireplace": Credit("Fireplace", "ezwa", "https://soundbible.com/1543-Fireplace.html", "public domain"),
    "blanket/rain": Credit("Rain", "alex36917", f"{FREESOUND}/alex36917/sounds/524605/", "CC BY"),
    "blanket/summer-night": Credit(
        "Crickets Chirping At Night",
        "Lisa Redfern",
        "https://soundbible.com/2083-Crickets-Chirping-At-Night.html",
        "public domain",
    ),
    "blanket/storm": Credit("Storm", "Digifish music", f"{FREESOUND}/digifishmusic/sounds/41739/", "CC BY"),
    "blanket/waves": Credit("Waves", "Luftrum", f"{FREESOUND}/Luftrum/sounds/48412/", "CC BY"),
    "blanket/wind": Credit("Wind", "felix.blume", f"{FREESOUND}/felix.blume/sounds/217506/", "CC0"),
}
ESC10 = re.compile(
    r"\*\*(?P<clip>\S+)\.mp3\*\*:\s+clip derived from \[(?P<title>.*)\]\((?P<page>\S+)\) by \*(?P<author>.*)\* "
    r"\(\[(?P<licence>[^]]+)\]"
)


def main() -> None:
    """Make both folders again."""
    unpaired, real = EXAMPLES / "unpaired", EXAMPLES / "real"
    for folder in (unpaired, real):
        shutil.rmtree(folder, ignore_errors=True)
    # The table of mixtures then names files relative to the corpora, wherever these are.
    with contextlib.chdir(DATA):
        parts, credits = split_corpora(SEED), noise_credits()
        speech = some_speech(parts["speech"].speech)
        for recording in speech.recordings:
            copy(recording.path, unpaired / "speech" / recording.group / f"{recording.path.stem}.ogg")
        field = make_mixtures(
            only(parts["mixtures"].speech, readers(parts["mixtures"].speech)),
            credited(parts["mixtures"].noise, credits),
            unpaired / "field",
            count=20,
            snr_db=(0, 5, 10, 15),
            seed=SEED,
            seconds=20.0,
        )
        for row in field:
            copy(unpaired / "field" / "noisy" / row.file, (unpaired / "mixtures" / row.file).with_suffix(".ogg"))
        # Nobody has the clean version of a recording from the field.
        shutil.rmtree(unpaired / "field")
        held_out = make_mixtures(
            only(parts["development"].speech, readers(parts["development"].speech)),
            credited(parts["development"].noise, credits),
            unpaired / "held_out",
            count=12,
            snr_db=(0, 5, 10),
            seed=SEED + 4,
            seconds=4.0,
        )
        for name in REAL:
            copy(Path(name), real / Path(name).name, REAL_SECONDS)
    (unpaired / "ATTRIBUTION.md").write_text(unpaired_attribution(speech, field, held_out, credits), encoding="utf-8")
    (real / "ATTRIBUTION.md").write_text(REAL_ATTRIBUTION, encoding="utf-8")


def noise_credits() -> dict[str, Credit]:
    """Who made which sound, by `corpus/file stem`."""
    text = Path("licences/esc10_README_per_clip_licences.md").read_text(encoding="utf-8")
    clips = {
        f"esc10/{line['clip'].lower()}": Credit(line["title"], line["author"], line["page"], line["licence"])
        for line in ESC10.finditer(text)
    }
    return clips | LOOPS


def credit_key(path: Path) -> str:
    """Corpus and stem of a noise file."""
    return f"{path.parts[1]}/{path.stem.lower()}"


def credited(noise: Manifest, credits: dict[str, Credit]) -> Manifest:
    """Noise with a known author that is not mistaken for a voice."""
    return Manifest(
        tuple(r for r in noise.recordings if credit_key(r.path) in credits and r.group not in VOICE_LIKE_NOISE)
    )


def readers(speech: Manifest) -> set[str]:
    """LibriSpeech's readers, whose groups are numbers."""
    return {group for group in speech.groups if group.isdigit()}


def some_speech(speech: Manifest) -> Manifest:
    """Some readers, and a little of the voices with many utterances."""
    chosen = np.random.default_rng(SEED).permutation(sorted(readers(speech)))[:READERS]
    recordings = list(only(speech, {str(reader) for reader in chosen}).recordings)
    for voice, count in VOICES.items():
        recordings += only(speech, {voice}).recordings[:count]
    return Manifest(tuple(recordings))


def copy(source: Path, target: Path, seconds: float | None = None) -> None:
    """Write the first channel of a recording, or its beginning, as another kind of file."""
    info = audio.probe(source)
    waveform, sample_rate = audio.read(source, frames=round(seconds * info.sample_rate) if seconds else None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with audio.Writer(target, sample_rate, 1) as writer:
        writer.write(waveform[:1])


def unpaired_attribution(
    speech: Manifest, field: Iterable[Mixture], held_out: Iterable[Mixture], credits: dict[str, Credit]
) -> str:
    """Text that names the origin of every recording of `unpaired`."""
    lines = [UNPAIRED_ATTRIBUTION.format(speakers=", ".join(g for g in speech.groups if g.isdigit()))]
    for folder, suffix, rows in (("mixtures", ".ogg", field), ("held_out", ".flac", held_out)):
        lines += [f"\n## {folder}\n", "| File | LibriSpeech reader | SNR | Noise |", "|---|---|---:|---|"]
        for row in rows:
            credit = credits[credit_key(Path(row.noise))]
            name, sound = Path(row.file).with_suffix(suffix), f"[{credit.title}]({credit.page}) by {credit.author}"
            lines.append(f"| `{name}` | {row.speaker} | {row.snr_db:g} dB | {sound} ({credit.licence}) |")
    return "\n".join(lines) + "\n"


UNPAIRED_ATTRIBUTION = """\
# A small unpaired training set

`speech/` holds clean speech, `mixtures/` noisy recordings of other speakers, and `held_out/` noisy and clean versions
of still other speakers and other kinds of noise, to score with. All are 16 kHz mono, made by
`recipes/prepare_examples.py`; `speech/` and `mixtures/` are Ogg Vorbis, `held_out/` is FLAC.

Speech, everywhere: LibriSpeech (c) 2014 by Vassil Panayotov, licensed under
[Creative Commons Attribution 4.0 International](https://creativecommons.org/licenses/by/4.0/) (CC BY 4.0), read by
volunteers of [LibriVox](https://librivox.org); a folder's name is LibriSpeech's number of the reader. In `speech/`
these are {speakers}. Besides:

- `speech/LJ`: [The LJ Speech Dataset](https://keithito.com/LJ-Speech-Dataset), public domain, recorded by LibriVox;
- `speech/kerstin`: [dataset-voice-kerstin](https://github.com/rhasspy/dataset-voice-kerstin), CC0 1.0.

Noise: clips of [ESC-10](https://github.com/karolpiczak/ESC-10), derived from Freesound, under CC0 or
[CC BY 3.0](https://creativecommons.org/licenses/by/3.0/) (CC-BY below), and sounds of
[AmbientSounds](https://github.com/Muges/ambientsounds) and [Blanket](https://github.com/rafaelmardojai/blanket) under
CC0, CC BY or in the public domain, as named below.

Changes: utterances were resampled to 16 kHz, levelled and joined with pauses; noises were resampled, looped where they
were too short, and added; everything was encoded again.\
"""

REAL_ATTRIBUTION = """\
# Recordings that are really noisy

Nobody has a clean version of these. At most their first 15 s, first channel, 16-bit FLAC; otherwise unaltered.

| File | Quiet to loud | Origin | Licence |
|---|---:|---|---|
| `jfk_inaugural_1961.flac` | 31 dB | inaugural address of John F. Kennedy, 20 January 1961 | \
public domain (work of the US government) |
| `1998-15444-0000.flac` | 26 dB | LibriSpeech test-other, reader 1998 of LibriVox | CC BY 4.0 |
| `2609-156975-0004.flac` | 18 dB | LibriSpeech test-other, reader 2609 of LibriVox | CC BY 4.0 |

Quiet to loud is the distance of the 10th to the 95th percentile of the level in 20 ms; clean speech has 40 dB and more.

LibriSpeech (c) 2014 by Vassil Panayotov, licensed under
[Creative Commons Attribution 4.0 International](https://creativecommons.org/licenses/by/4.0/).
"""


if __name__ == "__main__":
    main()
