"""What the latent space of the bundled model says of attacks, and of sound that the model does not know.

    python recipes/prepare_detection.py data/detection --packages packages
    python benchmarks/detection.py data/detection

Trains a network that tells the held-out speakers apart, attacks it, and scores attacked clips, controls and unknown
sound by `sspd2023.detection`. Thresholds are those that a twentieth of the development speech exceeds, clean and noisy;
speakers, kinds of noise and sources of the test are others. Writes `docs/results/detection.md`, its scores and figures.
"""

import argparse
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from _scoring import find_sets
from numpy.typing import NDArray

import sottovoce
from sottovoce.atomic import replacing
from sottovoce.engine.confidence import TRUSTED, Caution, ConfidenceMeter, trust
from sottovoce.engine.enhancer import Enhancer
from sottovoce.metrics import plots
from sottovoce.metrics.intrusive import pesq
from sottovoce.metrics.report import markdown_table, mean
from sottovoce.models.blocks import Past
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.models.joint import JointSystem
from sottovoce.signal.audio import find_audio, read
from sottovoce.signal.resampling import resample
from sottovoce.weights import CHECKPOINTS, MODELS
from sspd2023.detection import attacks, figures
from sspd2023.detection.measures import Estimate, Scored, auroc, share_above, threshold
from sspd2023.detection.scores import (
    FLATNESS,
    LABEL,
    LATENT_SCORES,
    RECONSTRUCTION,
    UNEXPLAINED,
    LatentScores,
    label_change,
)
from sspd2023.detection.speakers import SpeakerNetwork, train_speakers

RATE = 16000
SECONDS = 2
SAMPLES = SECONDS * RATE
LEVEL = 0.05
SEED = 1
RESULTS = Path(__file__).parents[1] / "docs" / "results"
BATCH = 16

MIN_SPEAKER_SECONDS = 5.0
MAX_SPEAKER_SECONDS = 40.0
TRAINED_SHARE = 0.6
STEPS = 300
CLIPS_PER_SPEAKER = 3
QUIETEST_DB = -12.0
NOISY_DB = (-5.0, 20.0)

ATTACKS = ("FGSM", "PGD")
ATTACK_DB = (20, 30, 40)
PGD_STEPS = 30
ADAPTIVE = (FLATNESS, RECONSTRUCTION)
ADAPTIVE_STEPS = 20
ADAPTIVE_DB = 20
CODECS = {"Opus": ("OGG", "OPUS"), "MP3": ("MP3", "MPEG_LAYER_III")}

CLIPS_PER_KIND = 60
CLIPS_PER_RECORDING = 2
QUIETEST_UNKNOWN_DB = -20.0
VIBRATIONS = 30
DEVELOPMENT, TEST = "development", "test"
FALSE_POSITIVES = 0.05

RECORDINGS_PER_KIND = 25
RECORDING_SAMPLES = 10 * RATE
EVERY = 2

Float32Array = NDArray[np.float32]
Row = dict[str, str]


@dataclass(frozen=True)
class Clips:
    """Clips of one kind.

    Attributes:
        waveforms: `(n, SAMPLES)`.
        groups: Speaker or recording of each.
        labels: Number of the speaker; -1 where nobody speaks whom the network knows.
    """

    waveforms: torch.Tensor
    groups: tuple[str, ...]
    labels: torch.Tensor

    def changed(self, change: Callable[..., torch.Tensor], *, with_labels: bool = False) -> "Clips":
        """The same clips, batch by batch, after a change."""
        parts = []
        for waveforms, labels in zip(self.waveforms.split(BATCH), self.labels.split(BATCH), strict=True):
            parts.append((change(waveforms, labels) if with_labels else change(waveforms)).detach())
        return Clips(torch.cat(parts), self.groups, self.labels)


ABOUT = f"""\
What the latent space of the bundled model `default` says of adversarial attacks, and of sound that it does not know
(`benchmarks/detection.py`). Nothing was trained for detection. Scores of every [clip](detection_clips.csv) and
[recording](detection_recordings.csv), and of every recording that [`--safe`](detection_safe.csv) was tried on.

**Scores**, higher for what is stranger. E_S and E_M are the encoders of speech and of mixtures with the shared layer,
D_A and D_P the decoders; distances are squared and relative to their target.

{chr(10).join(f"- *{name}*: {meaning};" for name, meaning in LATENT_SCORES.items())}
- *{LABEL}*: total variation between what the attacked network says of x and of the enhanced clip.

**Data.** Speakers of LibriSpeech, VCTK, kathleen and nathalie who are in no training of the model, half of them in the
development part, half in the test. Noise at {NOISY_DB[0]:g} to {NOISY_DB[1]:g} dB is of kinds that no training had:
sea waves, insects, sneezes and water drops in the development part, NOISEX-92 in the test. Unknown sound is that of
`recipes/prepare_detection.py`: music, laughter and acted speech of the test are of other packages and actors than
those of the development part, and its animals of kinds that no training had as noise. Vibration is made.

**Measures.** AUROC against clean and noisy speech of the test; 0.5 is chance. The threshold of a score is what 5 % of
the clean and noisy development speech exceeds; the rows *clean* and *noisy* say what it does on other speakers and
noises. In brackets: 95 % bootstrap intervals over speakers, or recordings, for this one network and these attacks."""

ABOUT_ATTACKS = f"""\
A speaker network (log mel spectra, three convolutions, mean and deviation over time) learned from the first 60 % of
what each speaker says; clips of {SECONDS} s are from the rest. FGSM has the ratio of its name in dB, PGD at least that,
in {PGD_STEPS} steps. White noise of the same ratio and two codecs are the controls: they should alarm nobody. Those
called *adaptive* are PGD at {ADAPTIVE_DB} dB, {ADAPTIVE_STEPS} steps, which lower the named score as well, as soon as
a wrong speaker is ahead."""

ABOUT_NOISE = """\
Does a score see the attack, or only that there is something of that level? The same attacks against white noise of the
same ratio:"""

ABOUT_RECORDINGS = f"""\
By `Enhancer.confidence`, 1 less the *{UNEXPLAINED}*, of up to {RECORDING_SAMPLES // RATE} s of each recording. *Found*
is the share beyond the threshold of 5 % of the development speech of that model; *left alone* is the share of the sound
that `--safe` leaves as it is, blended seconds counted in part. The line in the figure is where `--safe` begins to act.
Pure noise is no speech either. Acted speech is what actors of a game shout and squeak: mostly false alarms."""

ABOUT_SAFE = f"""\
PESQ wb on every second recording of the development sets `dry` and `rooms` and of the pairs, which the
[model card](../../src/sottovoce/weights/README.md#scores) describes. *Changed* is the share of recordings of which
something was left alone. The confidence from which on a recording is enhanced, {TRUSTED["default"]:g}, was chosen on
`dry` and `rooms`; the pairs had no part in it."""


def main() -> int:
    """Measure what was not measured before, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of recipes/prepare_detection.py")
    parser.add_argument("--quality", type=Path, default=Path("data"), help="folder of recipes/prepare_data.py")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="folder of the page and its tables")
    arguments = parser.parse_args()
    if not (arguments.data / "speech").is_dir():
        print(f"Skipped: found no speech in {arguments.data}; make it with recipes/prepare_detection.py.")
        return 0
    tables = {
        "detection_clips": lambda: measure(arguments.data),
        "detection_recordings": lambda: measure_recordings(arguments.data),
        "detection_safe": lambda: measure_safe(arguments.quality),
    }
    rows = {}
    for name, make in tables.items():
        path = arguments.output / f"{name}.csv"
        if not path.exists():
            write_rows(path, list(make()))
        rows[name] = read_rows(path)
    write_page(arguments.output, rows["detection_clips"], rows["detection_recordings"], rows["detection_safe"])
    return 0


def measure(data: Path) -> Iterator[Row]:
    """All scores: a row per clip."""
    torch.set_num_threads(1)
    system = load_checkpoint(CHECKPOINTS["default"])[0].requires_grad_(False)
    tracks = read_tracks(data / "speech")
    names = list(tracks)
    shares = {name: round(TRAINED_SHARE * track.size) for name, track in tracks.items()}
    network = train_speakers([tracks[name][: shares[name]] for name in names], SAMPLES, RATE, STEPS, SEED)
    score = partial(scored, system, network)
    clean = {}
    for part, chosen in ((DEVELOPMENT, names[::2]), (TEST, names[1::2])):
        clean[part] = speech_clips({name: tracks[name][shares[name] :] for name in chosen}, names)
        yield from score(part, "clean", clean[part])
        noise = read_kinds(data / "noise" / part)
        yield from score(part, "noisy", noisy(clean[part], noise))
        yield from score(part, "noise", noise)
    speech = clean[TEST]
    for snr_db in ATTACK_DB:
        yield from score(TEST, f"FGSM {snr_db}", speech.changed(partial(fgsm, network, snr_db), with_labels=True))
        yield from score(TEST, f"PGD {snr_db}", speech.changed(partial(pgd, network, snr_db), with_labels=True))
        yield from score(
            TEST, f"white {snr_db}", speech.changed(partial(attacks.white_noise, snr_db=snr_db, seed=SEED))
        )
    for name, (container, coding) in CODECS.items():
        yield from score(TEST, name, speech.changed(partial(coded, container, coding)))
    for part in (DEVELOPMENT, TEST):
        for folder in sorted((data / "unknown" / part).iterdir()):
            yield from score(part, folder.name.replace("_", " "), read_kind(folder))
    yield from score(TEST, "vibration", vibrations())
    for name in ADAPTIVE:
        evaded = partial(evading, system, network, name)
        yield from score(TEST, f"adaptive: {name}", speech.changed(evaded, with_labels=True))


def scored(system: JointSystem, network: SpeakerNetwork, part: str, kind: str, clips: Clips) -> Iterator[Row]:
    """Rows of the table for clips of one kind."""
    print(f"{part}: {kind}, {len(clips.groups)} clips", flush=True)
    with torch.no_grad():
        for start in range(0, len(clips.groups), BATCH):
            chosen = slice(start, start + BATCH)
            waveforms, labels = clips.waveforms[chosen], clips.labels[chosen]
            latent = LatentScores(system, waveforms)
            scores = {name: latent[name] for name in LATENT_SCORES}
            scores[LABEL] = label_change(network, partial(enhance, system), waveforms)
            right = network(waveforms).argmax(dim=1) == labels
            for index, group in enumerate(clips.groups[chosen]):
                values = {name: f"{values[index]:.6g}" for name, values in scores.items()}
                known = "" if labels[index] < 0 else str(int(right[index]))
                yield {"part": part, "kind": kind, "group": group, "recognised": known, **values}


def enhance(system: JointSystem, waveforms: torch.Tensor) -> torch.Tensor:
    """What the model makes of clips, differentiable."""
    spectra = system(system.stft.analyse(waveforms), Past())
    return system.stft.synthesise(spectra, waveforms.shape[-1])


def fgsm(network: SpeakerNetwork, snr_db: float, waveforms: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Clips after one step."""
    return attacks.fgsm(network, waveforms, labels, snr_db)


def pgd(network: SpeakerNetwork, snr_db: float, waveforms: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Clips after many steps."""
    return attacks.pgd(network, waveforms, labels, snr_db, steps=PGD_STEPS, seed=SEED)


def evading(
    system: JointSystem, network: SpeakerNetwork, name: str, waveforms: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Clips after an attack that knows the detector."""

    def score(attacked: torch.Tensor) -> torch.Tensor:
        return LatentScores(system, attacked)[name]

    return attacks.pgd(network, waveforms, labels, ADAPTIVE_DB, steps=ADAPTIVE_STEPS, seed=SEED, score=score)


def coded(container: str, coding: str, waveforms: torch.Tensor) -> torch.Tensor:
    """Clips through a codec and back."""
    decoded = []
    for waveform in waveforms.numpy():
        file = io.BytesIO()
        soundfile.write(file, waveform, RATE, format=container, subtype=coding)
        file.seek(0)
        decoded.append(np.resize(soundfile.read(file, dtype="float32")[0], SAMPLES))
    return torch.from_numpy(np.stack(decoded))


def read_mono(path: Path, seconds: float = MAX_SPEAKER_SECONDS) -> Float32Array:
    """The beginning of a recording at 16 kHz."""
    waveform, rate = read(path)
    return resample(waveform.mean(axis=0)[: round(seconds * rate)], rate, RATE)


def levelled(waveform: Float32Array) -> Float32Array:
    """The waveform at the common level."""
    return waveform * np.float32(LEVEL / max(1e-9, float(np.sqrt(np.mean(np.square(waveform))))))


def read_tracks(folder: Path) -> dict[str, Float32Array]:
    """Speech of each speaker of whom there is enough."""
    tracks = {}
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        parts: list[Float32Array] = []
        for path in find_audio(speaker):
            if sum(part.size for part in parts) < MAX_SPEAKER_SECONDS * RATE:
                parts.append(levelled(read_mono(path)))
        track = np.concatenate(parts)
        if track.size >= MIN_SPEAKER_SECONDS * RATE:
            tracks[speaker.name] = track
    return tracks


def cut(waveform: Float32Array, quietest_db: float) -> list[Float32Array]:
    """Clips one after another that are not much softer than the whole, at the common level."""
    least = np.sqrt(np.mean(np.square(waveform))) * 10 ** (quietest_db / 20)
    clips = [waveform[start : start + SAMPLES] for start in range(0, waveform.size - SAMPLES + 1, SAMPLES)]
    return [levelled(clip) for clip in clips if np.sqrt(np.mean(np.square(clip))) > least]


def speech_clips(tracks: dict[str, Float32Array], names: Sequence[str]) -> Clips:
    """Clips of speakers."""
    found = [(clip, name) for name, track in tracks.items() for clip in cut(track, QUIETEST_DB)[:CLIPS_PER_SPEAKER]]
    labels = torch.tensor([names.index(name) for _, name in found])
    return Clips(torch.from_numpy(np.stack([clip for clip, _ in found])), tuple(name for _, name in found), labels)


def read_kind(folder: Path, seed: int = SEED) -> Clips:
    """Clips of recordings of one kind; recordings that are shorter than a clip are repeated."""
    rng = np.random.default_rng(seed)
    paths = find_audio(folder)
    found: list[tuple[Float32Array, str]] = []
    for index in rng.permutation(len(paths)):
        waveform = read_mono(paths[index])
        clips = cut(np.resize(waveform, max(SAMPLES, waveform.size)), QUIETEST_UNKNOWN_DB)
        chosen = rng.permutation(len(clips))[:CLIPS_PER_RECORDING]
        found += [(clips[clip], f"{folder.name}/{paths[index].stem}") for clip in chosen]
        if len(found) >= CLIPS_PER_KIND:
            break
    return unlabelled(found[:CLIPS_PER_KIND])


def read_kinds(folder: Path) -> Clips:
    """Clips of all kinds below a folder, as many of each as of the kind that has the fewest, or a few more."""
    kinds = [read_kind(kind) for kind in sorted(folder.iterdir())]
    most = max(CLIPS_PER_RECORDING, CLIPS_PER_KIND // len(kinds))
    return unlabelled(
        [
            (clip, group)
            for kind in kinds
            for clip, group in zip(kind.waveforms.numpy()[:most], kind.groups, strict=False)
        ]
    )


def unlabelled(found: Sequence[tuple[Float32Array, str]]) -> Clips:
    """Clips of nobody whom the network knows."""
    waveforms = torch.from_numpy(np.stack([clip for clip, _ in found]))
    return Clips(waveforms, tuple(group for _, group in found), torch.full((len(found),), -1))


def noisy(speech: Clips, noise: Clips) -> Clips:
    """Speech with noise at random ratios."""
    rng = np.random.default_rng(SEED)
    chosen = torch.from_numpy(rng.integers(len(noise.groups), size=len(speech.groups)))
    gains = torch.from_numpy(10 ** (-rng.uniform(*NOISY_DB, len(speech.groups)) / 20)).float()
    return Clips(speech.waveforms + gains[:, None] * noise.waveforms[chosen], speech.groups, speech.labels)


def vibrations() -> Clips:
    """What a sensor on a machine gives: harmonics of a slow turn and a little noise, made."""
    rng = np.random.default_rng(SEED)
    time = np.arange(SAMPLES) / RATE
    found = []
    for number in range(VIBRATIONS):
        turn_hz, width = rng.uniform(15.0, 60.0), rng.uniform(3.0, 15.0)
        waveform = 0.1 * rng.standard_normal(SAMPLES)
        for harmonic in range(1, 60):
            phase = 2 * np.pi * (turn_hz * harmonic * time + rng.random())
            waveform += np.exp(-harmonic / width) * np.cos(phase)
        found.append((levelled(waveform.astype(np.float32)), f"vibration/{number}"))
    return unlabelled(found)


def measure_recordings(data: Path) -> Iterator[Row]:
    """Confidence of whole recordings by the bundled models: a row per recording and model."""
    tracks = {name: track[:RECORDING_SAMPLES] for name, track in read_tracks(data / "speech").items()}
    for part, chosen in ((DEVELOPMENT, list(tracks)[::2]), (TEST, list(tracks)[1::2])):
        rng = np.random.default_rng(SEED)
        clean = [(name, tracks[name]) for name in chosen]
        noise = [(kind.name, track) for kind in sorted((data / "noise" / part).iterdir()) for track in recordings(kind)]
        noises = [noise[index][1] for index in rng.integers(len(noise), size=len(clean))]
        kinds = {
            "clean": clean,
            "noisy": [(name, mixed(track, sound, rng)) for (name, track), sound in zip(clean, noises, strict=True)],
            "noise": noise,
        }
        for folder in sorted((data / "unknown" / part).iterdir()):
            kinds[folder.name.replace("_", " ")] = [(folder.name, track) for track in recordings(folder)]
        for model in MODELS:
            enhancer = sottovoce.load(model)
            for kind, found in kinds.items():
                print(f"{model}, {part}: {kind}, {len(found)} recordings", flush=True)
                for number, (name, track) in enumerate(found):
                    meter = measured(enhancer, track)
                    yield {
                        "model": model,
                        "part": part,
                        "kind": kind,
                        "group": name if kind in ("clean", "noisy") else f"{name}/{number}",
                        "confidence": f"{meter.whole:.4f}",
                        "per_second": " ".join(f"{value:.3f}" for value in meter.per_second),
                    }


def measure_safe(data: Path) -> Iterator[Row]:
    """What `--safe` costs where there is speech: a row per recording and model."""
    sets = find_sets(data)
    for model in TRUSTED:
        enhancer = sottovoce.load(model)
        for name in ("dry", "rooms", "pairs"):
            items = sets.get(name, [])[::EVERY]
            print(f"{model}: {name}, {len(items)} recordings", flush=True)
            for item in items:
                (noisy, _), (clean, _) = (soundfile.read(path, dtype="float32") for path in (item.noisy, item.clean))
                enhanced, meter = enhancer.enhance(noisy, RATE), measured(enhancer, noisy)
                gain = pesq(clean, enhanced)
                alone = left_alone(meter.per_second, model)
                safe = gain
                if alone:
                    caution = Caution(meter.per_second, TRUSTED[model], RATE, 1)
                    safe = pesq(clean, caution.mixed(noisy[np.newaxis], enhanced[np.newaxis])[0])
                yield {
                    "model": model,
                    "set": name,
                    "file": item.file,
                    "unprocessed": f"{pesq(clean, noisy):.4f}",
                    "enhanced": f"{gain:.4f}",
                    "safe": f"{safe:.4f}",
                    "left_alone": f"{alone:.4f}",
                }


def write_page(output: Path, clips: list[Row], recordings: list[Row], safe: list[Row]) -> None:
    """Write `detection.md` and its figures."""
    kinds = list(dict.fromkeys(row["kind"] for row in clips if row["part"] == TEST))
    attacked = [kind for kind in kinds if kind.split()[0].strip(":") in (*ATTACKS, "white", *CODECS, "adaptive")]
    unknown = [kind for kind in kinds if kind not in (*attacked, "clean", "noisy")]
    scores = [*LATENT_SCORES, LABEL]
    areas = {
        name: {kind: auroc(chosen(clips, name, TEST, kind), usual(clips, name, TEST)) for kind in kinds}
        for name in scores
    }
    values = {name: {kind: area.value for kind, area in by_kind.items()} for name, by_kind in areas.items()}
    for figure, shown in (("attacks", attacked), ("unknown", unknown)):
        some = {name: {kind: by_kind[kind] for kind in shown} for name, by_kind in values.items()}
        plots.save(figures.area_map(some), output / "figures" / f"detection_{figure}.png")
    by_model = {
        model: {
            kind: [float(row["confidence"]) for row in recordings if (row["model"], row["part"], row["kind"]) == key]
            for kind in dict.fromkeys(row["kind"] for row in recordings if row["part"] == TEST)
            for key in [(model, TEST, kind)]
        }
        for model in MODELS
    }
    plots.save(figures.strips(by_model, TRUSTED, "confidence"), output / "figures" / "detection_confidence.png")
    lines = [
        "# Detection by the latent space",
        "",
        ABOUT,
        "",
        "## The network that is attacked",
        "",
        *markdown_table(recognition_rows(clips, attacked)),
        "",
        "## Attacks",
        "",
        ABOUT_ATTACKS,
        "",
        "![AUROC of every score for attacks and controls](figures/detection_attacks.png)",
        "",
        *markdown_table(area_rows(areas, attacked)),
        "",
        *markdown_table(share_rows(clips, scores, ["clean", "noisy", *attacked])),
        "",
        ABOUT_NOISE,
        "",
        *markdown_table(against_noise_rows(clips, scores)),
        "",
        "## Unknown sound, clips of two seconds",
        "",
        "![AUROC of every score for unknown sound](figures/detection_unknown.png)",
        "",
        *markdown_table(area_rows(areas, unknown)),
        "",
        *markdown_table(share_rows(clips, scores, unknown)),
        "",
        "## Unknown sound, whole recordings",
        "",
        ABOUT_RECORDINGS,
        "",
        "![Confidence of every recording of the test](figures/detection_confidence.png)",
        "",
        *markdown_table(recording_rows(recordings)),
        "",
        "## What `--safe` costs speech",
        "",
        ABOUT_SAFE,
        "",
        *markdown_table(safe_rows(safe)),
    ]
    with replacing(output / "detection.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def chosen(rows: list[Row], name: str, part: str, kind: str) -> Scored:
    """One column of the rows of one kind."""
    found = [row for row in rows if (row["part"], row["kind"]) == (part, kind)]
    return Scored.of([float(row[name]) for row in found], [row["group"] for row in found])


def usual(rows: list[Row], name: str, part: str) -> Scored:
    """Speech, clean and noisy."""
    return chosen(rows, name, part, "clean") + chosen(rows, name, part, "noisy")


def recognition_rows(rows: list[Row], attacked: Sequence[str]) -> list[list[str]]:
    """How many clips the attacked network knows the speaker of."""
    table = [["clips of the test", "recognised"]]
    for kind in ("clean", "noisy", *attacked):
        table.append([kind, str(share_above(chosen(rows, "recognised", TEST, kind), 0.5))])
    return table


def area_rows(areas: dict[str, dict[str, Estimate]], kinds: Sequence[str]) -> list[list[str]]:
    """AUROC against speech of the test, a row per kind."""
    return [["AUROC", *areas], *([kind, *(str(by_kind[kind]) for by_kind in areas.values())] for kind in kinds)]


def share_rows(rows: list[Row], scores: Sequence[str], kinds: Sequence[str]) -> list[list[str]]:
    """Share above the threshold of the development speech, a row per kind."""
    limits = {name: threshold(usual(rows, name, DEVELOPMENT), FALSE_POSITIVES) for name in scores}
    table = [["share above the threshold", *scores]]
    for kind in kinds:
        cells = [str(share_above(chosen(rows, name, TEST, kind), limit)) for name, limit in limits.items()]
        table.append([kind, *cells])
    return table


def against_noise_rows(rows: list[Row], scores: Sequence[str]) -> list[list[str]]:
    """AUROC of attacks against white noise of the same ratio."""
    table = [["AUROC", *scores]]
    for attack in ATTACKS:
        for snr_db in ATTACK_DB:
            pairs = (
                (chosen(rows, name, TEST, f"{attack} {snr_db}"), chosen(rows, name, TEST, f"white {snr_db}"))
                for name in scores
            )
            table.append([f"{attack} {snr_db}", *(str(auroc(*pair)) for pair in pairs)])
    return table


def recording_rows(rows: list[Row]) -> list[list[str]]:
    """Confidence of whole recordings: AUROC and what is left alone, a row per kind."""
    table = [["recordings of the test"]]
    kinds = list(dict.fromkeys(row["kind"] for row in rows if row["part"] == TEST))
    body = [[kind] for kind in kinds]
    for model in MODELS:
        own = [row | {"doubt": str(1 - float(row["confidence"]))} for row in rows if row["model"] == model]
        limit = threshold(usual(own, "doubt", DEVELOPMENT), FALSE_POSITIVES)
        table[0] += [f"{model}: AUROC", "found"] + (["left alone"] if model in TRUSTED else [])
        for line, kind in zip(body, kinds, strict=True):
            scored = chosen(own, "doubt", TEST, kind)
            line += [str(auroc(scored, usual(own, "doubt", TEST))), str(share_above(scored, limit))]
            if model in TRUSTED:
                seconds = [row["per_second"] for row in own if (row["part"], row["kind"]) == (TEST, kind)]
                alone = [left_alone(np.array(each.split(), np.float32), model) for each in seconds]
                line.append(f"{np.mean(alone):.0%}")
    return table + body


def safe_rows(rows: list[Row]) -> list[list[str]]:
    """PESQ with and without `--safe`, a row per model and set."""
    table = [["", "recordings", "unprocessed", "enhanced", "`--safe`", "difference", "left alone", "changed"]]
    for model, name in dict.fromkeys((row["model"], row["set"]) for row in rows):
        own = [row for row in rows if (row["model"], row["set"]) == (model, name)]
        columns = {key: [float(row[key]) for row in own] for key in ("unprocessed", "enhanced", "safe", "left_alone")}
        differences = [after - before for after, before in zip(columns["safe"], columns["enhanced"], strict=True)]
        alone = columns["left_alone"]
        table.append(
            [
                f"{model}, {name}",
                str(len(own)),
                *(f"{mean(columns[key]):.2f}" for key in ("unprocessed", "enhanced", "safe")),
                f"{mean(differences):+.3f}",
                f"{np.mean(alone):.1%}",
                f"{np.mean(np.array(alone) > 0):.0%}",
            ]
        )
    return table


def recordings(folder: Path) -> list[Float32Array]:
    """Some recordings of a kind; those that are shorter than a clip are repeated."""
    paths = find_audio(folder)
    chosen = np.random.default_rng(SEED).permutation(len(paths))[:RECORDINGS_PER_KIND]
    tracks = [read_mono(paths[index], RECORDING_SAMPLES / RATE) for index in chosen]
    return [levelled(np.resize(track, max(SAMPLES, track.size))) for track in tracks]


def mixed(speech: Float32Array, noise: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Speech with noise at a random ratio."""
    return speech + np.resize(noise, speech.size) * np.float32(10 ** (-rng.uniform(*NOISY_DB) / 20))


def measured(enhancer: Enhancer, waveform: Float32Array) -> ConfidenceMeter:
    """A meter behind the end of a recording."""
    meter = ConfidenceMeter(enhancer, RATE, 1)
    meter.push(waveform[np.newaxis])
    meter.push(waveform[np.newaxis, :0], last=True)
    return meter


def left_alone(confidence: Float32Array, model: str) -> float:
    """Share of a recording that is left alone, 0 to 1."""
    return 1 - float(np.mean(trust(confidence, TRUSTED[model])))


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    raise SystemExit(main())
