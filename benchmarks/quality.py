"""Scores of the bundled model, or of others, beside the unprocessed recordings and what else installs.

    python recipes/prepare_data.py data
    python benchmarks/quality.py data

scores the development sets `dry`, `rooms` and `poster` of `data` and the 50 pairs of `SOTTOVOCE_DATA`, clean speech
that goes in, and, where `pocketsphinx` is installed, the words that an offline recogniser makes of it; writes tables,
all scores and a page to listen to. What was scored is not scored again.
"""

import argparse
import csv
import html
import importlib.util
import itertools
import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile
from _scoring import (
    DATA,
    DEFAULT,
    UNPROCESSED,
    Item,
    System,
    enhanced_folder,
    find_sets,
    model,
    scored,
    unprocessed,
    write_scores,
)

from sottovoce.metrics import plots
from sottovoce.metrics.report import markdown_table, mean, summarise
from sottovoce.metrics.scores import MEASURE_NAMES, FileScores
from sottovoce.metrics.words import word_errors
from sottovoce.weights import MODELS
from sspd2023.systems import SYSTEMS

RATE = 16000
RESULTS = Path(__file__).parent / "results" / "quality"
PEERS = ("log_mmse", "noisereduce", "rnnoise", "webrtc", "dtln", "deepfilternet")
STRONGEST = "deepfilternet"
CLEAN_IN = 30
RECOGNISED = 12
DUTCH = "nathalie"
SHOWN = ("pesq_wb", "pesq_nb_raw", "stoi", "estoi", "si_sdr_db", "csig", "cbak", "covl", "dnsmos_ovrl", "dnsmos_sig")
SHOWN_BRIEFLY = ("pesq_wb", "stoi", "si_sdr_db")
EXCERPTS_PER_SET = 2
EXCERPT_SECONDS = 8
PICTURE_DPI = 60
FREE = ("CC0", "Public Domain")
CREDITS = """<h2>Sources</h2><p>Excerpts of eight seconds, mixed, enhanced and encoded again as Ogg Opus.
Speech: LibriSpeech (c) 2014 Vassil Panayotov, <a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>,
readers of LibriVox; the voices kathleen and nathalie of Rhasspy, CC0. Noise: clips of ESC-10, Noisekun and Blanket that
are CC0 or in the public domain. Rooms: OpenAIR by way of ToobAmp, CC BY 4.0; the seminar room of SpatialAudio, CC0.
Pairs: dns_synth_train_example_dataset by Esteban G&oacute;mez, CC BY 4.0, made with the data of the DNS
Challenge.</p>"""
GROUPS = ("SNR", "noise", "room")
BANDS_HZ = (0, 500, 1500, 3000, 5000, 8000)
MIN_KEPT = 1e-3  # -60 dB: also what is turned round, or is not there at all


def main() -> int:
    """Score what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, nargs="?", default=Path("data"), help="folder of recipes/prepare_data.py")
    add("-o", "--output", type=Path, default=RESULTS, help="folder of the tables and the page")
    add("--work", type=Path, default=Path("runs/quality"), help="folder of enhanced recordings and their scores")
    add("--model", action="append", default=[], metavar="NAME=FILE", help="another model to score")
    add("--no-peers", action="store_true", help="leave out what is compared with")
    add("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    sets = find_sets(arguments.data)
    if not sets:
        print(
            f"Skipped: found no development sets in {arguments.data} and no pairs in {DATA}; make them with "
            "recipes/prepare_data.py."
        )
        return 0
    bundled = {DEFAULT if name == "default" else name: path for name, path in MODELS.items()}
    models = bundled | dict(pair.split("=", 1) for pair in arguments.model)
    systems = find_systems({name: Path(path) for name, path in models.items()}, peers=not arguments.no_peers)
    scores: dict[str, list[FileScores]] = {name: [] for name in sets}
    for name, items in sets.items():
        for key, system in systems.items():
            scores[name] += scored(items, key, system, arguments.work / name, arguments.jobs)
    judged = "dry" if "dry" in sets else next(iter(sets))
    kept: list[FileScores] = []
    for key, system in systems.items():
        if key != UNPROCESSED:
            kept += clean_in(sets[judged], key, system, arguments.work / "clean_in", arguments.jobs)
    by_band = kept_report(sets[judged], systems, arguments.work / judged)
    lines = [*report(sets, scores), *by_band, *clean_report(kept), *recognised(sets.get("dry", []), systems)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_scores(arguments.output / "scores.csv", scores)
    listening_page(arguments.output / "listening", sets, scores, systems, arguments.work)
    print("\n".join(lines))
    return 0


def find_systems(models: Mapping[str, Path], *, peers: bool) -> dict[str, System]:
    """Systems by name; peers that are not installed are left out."""
    systems = {UNPROCESSED: unprocessed()}
    for name in PEERS if peers else ():
        entry = SYSTEMS[name]
        if entry.make is not None and not entry.missing:
            systems[name] = System(entry.make(np.zeros(0, np.float32)).enhance)
    return systems | {name: model(path) for name, path in models.items()}


def clean_in(items: Sequence[Item], name: str, system: System, work: Path, jobs: int) -> list[FileScores]:
    """Scores of clean speech after a system, against itself."""
    chosen = items[:: max(1, len(items) // CLEAN_IN)]
    return scored([Item(item.file, item.clean, item.clean) for item in chosen], name, system, work, jobs)


def report(sets: Mapping[str, Sequence[Item]], scores: Mapping[str, Sequence[FileScores]]) -> list[str]:
    """Tables of all sets: means, and the model by ratio, noise and room."""
    lines = [
        "# Quality",
        "",
        "Means with 95 % confidence intervals (Student's t over files; files share speakers and noises, so that the "
        "intervals are somewhat too narrow). PESQ wb is wideband LQO, nb-raw narrowband before the mapping; composites "
        "with PESQ wb. More is better for all.",
        "",
    ]
    for name, results in scores.items():
        lines += [f"## {name} ({len(sets[name])} files)", "", *means_table(results, SHOWN), ""]
        for group in GROUPS:
            lines += by_group(sets[name], results, group)
    return lines


def means_table(results: Sequence[FileScores], shown: Sequence[str]) -> list[str]:
    """Means of every system."""
    rows = [["", *(MEASURE_NAMES[measure] for measure in shown)]]
    rows += [[system, *map(str, means.values())] for system, means in summarise(results, shown).items()]
    return markdown_table(rows)


def by_group(items: Sequence[Item], results: Sequence[FileScores], group: str) -> list[str]:
    """PESQ, STOI and SI-SDR of the model and of the unprocessed recordings, by one property of the recordings."""
    of_file = {item.file: item.groups.get(group, "") for item in items}
    values = sorted(
        set(of_file.values()) - {""},
        key=lambda value: (float(value.removesuffix(" dB")) if group == "SNR" else 0.0, value),
    )
    if len(values) < 2:
        return []
    rows = [[group, *(f"{MEASURE_NAMES[m]}, {system}" for m in SHOWN_BRIEFLY for system in (UNPROCESSED, DEFAULT))]]
    for value in values:
        means = summarise([result for result in results if of_file[result.file] == value], SHOWN_BRIEFLY)
        rows.append([value, *(str(means[s][m]) for m in SHOWN_BRIEFLY for s in (UNPROCESSED, DEFAULT))])
    return [*markdown_table(rows), ""]


def kept_db(reference: np.ndarray, estimate: np.ndarray) -> list[float]:
    """Gain of a reference within an estimate, in dB, in each of `BANDS_HZ`: what is left of the speech."""
    wanted, found = np.fft.rfft(reference), np.fft.rfft(estimate)
    edges = [*np.searchsorted(np.fft.rfftfreq(len(reference), 1 / RATE), BANDS_HZ[:-1]).tolist(), len(wanted)]
    gains = (
        np.vdot(wanted[low:high], found[low:high]).real / np.vdot(wanted[low:high], wanted[low:high]).real
        for low, high in itertools.pairwise(edges)
    )
    return [20 * math.log10(max(gain, MIN_KEPT)) for gain in gains]


def kept_report(items: Sequence[Item], systems: Mapping[str, System], work: Path) -> list[str]:
    """What is kept of the speech in mixtures, by frequency."""
    rows = [["", *(f"{low} to {high} Hz" for low, high in itertools.pairwise(BANDS_HZ))]]
    for name, system in systems.items():
        folder = enhanced_folder(items, name, system, work)
        gains = [
            kept_db(soundfile.read(item.clean)[0], soundfile.read(folder / f"{item.file}.flac")[0]) for item in items
        ]
        rows.append([name, *(str(mean(list(band))) for band in zip(*gains, strict=True))])
    return [
        f"## Speech kept, by frequency ({len(items)} mixtures of `{work.name}`)",
        "",
        "Gain of the clean speech within the output, in dB: 0 is all of it.",
        "",
        *markdown_table(rows),
        "",
    ]


def clean_report(results: Sequence[FileScores]) -> list[str]:
    """Clean speech in, against itself."""
    count = len({result.file for result in results})
    return [f"## Clean speech in ({count} files, against itself)", "", *means_table(results, SHOWN_BRIEFLY), ""]


def recognised(items: Sequence[Item], systems: Mapping[str, System]) -> list[str]:
    """Word errors of an offline recogniser, against what it makes of the clean recordings."""
    if not items or not importlib.util.find_spec("pocketsphinx"):
        return ["Words were not recognised: that needs the set `dry` and the package pocketsphinx.", ""]
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def words(waveform: np.ndarray) -> list[str]:
        decoder.start_utt()
        decoder.process_raw((np.clip(waveform, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr.split() if found else []

    english = [item for item in items if item.groups.get("speaker") != DUTCH][:: max(1, len(items) // RECOGNISED)]
    read = partial(soundfile.read, dtype="float32")
    wanted = {item.file: words(read(item.clean)[0]) for item in english}
    rows = [["", "word error rate, %"]]
    for name, system in systems.items():
        errors = [
            (word_errors(wanted[i.file], words(system.enhance(*read(i.noisy)))), len(wanted[i.file])) for i in english
        ]
        rows.append([name, f"{100 * sum(e for e, _ in errors) / max(1, sum(n for _, n in errors)):.1f}"])
    return [
        f"## Words ({len(english)} files of `dry`)",
        "",
        "Errors of pocketsphinx' English recogniser, counted against its own words for the clean recordings, since no "
        "transcripts are there; it errs on these as well.",
        "",
        *markdown_table(rows),
        "",
    ]


def noise_licences() -> dict[str, str]:
    """Licence of every noise recording of `SOTTOVOCE_DATA`."""
    with (DATA / "noise.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["licence"] for row in csv.DictReader(file)}


def listening_page(
    output: Path,
    sets: Mapping[str, Sequence[Item]],
    scores: Mapping[str, Sequence[FileScores]],
    systems: Mapping[str, System],
    work: Path,
) -> None:
    """Free recordings on which the model wins most and loses most, by PESQ wb, to listen to and to look at.

    Beside the model stands the strongest of its peers, where that is installed.
    """
    output.mkdir(parents=True, exist_ok=True)
    for name in sets:
        for old in output.glob(f"{name}_*"):
            old.unlink()
    body = []
    licences = noise_licences()
    for name, items in sets.items():
        by_key = {(result.system, result.file): result.scores for result in scores[name]}
        gains = {
            item.file: by_key[DEFAULT, item.file].pesq_wb - by_key[UNPROCESSED, item.file].pesq_wb
            for item in items
            if not item.noise or licences.get(item.noise) in FREE
        }
        ranked = sorted((file for file in gains if math.isfinite(gains[file])), key=gains.__getitem__)
        chosen = [("worst", file) for file in ranked[:EXCERPTS_PER_SET]]
        chosen += [("best", file) for file in reversed(ranked[-EXCERPTS_PER_SET:])]
        of_file = {item.file: item for item in items}
        folders = {
            key: enhanced_folder(items, key, systems[key], work / name)
            for key in (DEFAULT, STRONGEST)
            if key in systems
        }
        body.append(f"<h2>{html.escape(name)}</h2>")
        for kind, file in chosen:
            item = of_file[file]
            described = ", ".join(item.groups[group] for group in GROUPS if item.groups.get(group, "none") != "none")
            change = f"{by_key[UNPROCESSED, file].pesq_wb:.2f} → {by_key[DEFAULT, file].pesq_wb:.2f}"
            paths = {"noisy": item.noisy, "enhanced": folders[DEFAULT] / f"{file}.flac"}
            if STRONGEST in folders:
                paths[STRONGEST] = folders[STRONGEST] / f"{file}.flac"
                change += f"; {SYSTEMS[STRONGEST].label}: {by_key[STRONGEST, file].pesq_wb:.2f}"
            paths["clean"] = item.clean
            body.append(f"<h3>{kind}: {html.escape(f'{file} {described}')} (PESQ wb {change})</h3><p>")
            signals = []
            for label, path in paths.items():
                waveform, rate = soundfile.read(path, frames=EXCERPT_SECONDS * RATE, dtype="float32")
                target = f"{name}_{file}_{label}.ogg"
                soundfile.write(output / target, waveform, rate, format="OGG", subtype="OPUS")
                signals.append((label, waveform, rate))
                body.append(
                    f'{html.escape(label)} <audio controls preload="none" src="{html.escape(quote(target))}"></audio>'
                )
            picture = f"{name}_{file}.webp"
            plots.recordings(signals).savefig(output / picture, dpi=PICTURE_DPI)
            shown = f'src="{html.escape(quote(picture))}" alt="spectrograms of {html.escape(file)}"'
            body.append(f'</p><p><img {shown} width="900" loading="lazy"></p>')
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sotto voce: best and worst</title>'
        "<style>body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}img{max-width:100%}</style>"
        "<h1>Best and worst of the bundled model</h1><p>By the change of PESQ wb. Eight seconds of each.</p>"
        + "\n".join(body)
        + CREDITS
        + "</html>\n"
    )
    (output / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
