"""All measures of one estimate, and of folders of estimates."""

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from sottovoce import interruption
from sottovoce.errors import AudioError, DataError, MissingExtraError, SottovoceError
from sottovoce.extras import is_installed
from sottovoce.metrics.composite import composite, llr, wss
from sottovoce.metrics.dnsmos import Dnsmos, dnsmos
from sottovoce.metrics.intrusive import SAMPLE_RATE, FloatArray, is_silent, pesq, pesq_raw, segmental_snr, si_sdr, stoi
from sottovoce.paths import is_file
from sottovoce.signal.audio import find_audio, read
from sottovoce.signal.levels import active_speech_db, rms_db, to_db
from sottovoce.signal.resampling import resample

_LENGTH_TOLERANCE = SAMPLE_RATE // 1000


@dataclass(frozen=True)
class Scores:
    """Measures of one signal at 16 kHz; NaN is "undefined"."""

    pesq_wb: float
    """PESQ MOS-LQO, wideband."""
    pesq_nb: float
    """PESQ MOS-LQO, narrowband."""
    pesq_nb_raw: float
    """Narrowband PESQ before the mapping to MOS-LQO."""
    stoi: float
    estoi: float
    si_sdr_db: float
    seg_snr_db: float
    llr: float
    wss: float
    csig: float
    """Composite measures with wideband PESQ."""
    cbak: float
    covl: float
    dnsmos_ovrl: float
    dnsmos_sig: float
    dnsmos_bak: float


MEASURES = tuple(field.name for field in fields(Scores))
"""Names of the measures, in the order of every table."""

WITHOUT_DNSMOS = tuple(measure for measure in MEASURES if not measure.startswith("dnsmos_"))
"""All but DNSMOS, which takes as long as the others together."""


@dataclass(frozen=True)
class Ratings:
    """What can be said of a recording without a reference; NaN is "undefined"."""

    dnsmos_ovrl: float
    dnsmos_sig: float
    dnsmos_bak: float
    speech_dbfs: float
    """Level of the active speech."""
    rms_dbfs: float
    peak_dbfs: float


RATINGS = tuple(field.name for field in fields(Ratings))
"""Names of the measures that need no reference."""

MEASURE_NAMES = {
    "pesq_wb": "PESQ wb",
    "pesq_nb": "PESQ nb",
    "pesq_nb_raw": "PESQ nb-raw",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "si_sdr_db": "SI-SDR in dB",
    "seg_snr_db": "segmental SNR in dB",
    "llr": "LLR",
    "wss": "WSS",
    "csig": "CSIG",
    "cbak": "CBAK",
    "covl": "COVL",
    "dnsmos_ovrl": "DNSMOS OVRL",
    "dnsmos_sig": "DNSMOS SIG",
    "dnsmos_bak": "DNSMOS BAK",
}
"""What figures and published tables call the measures; options, CSV and the report of `evaluate` have the keys."""

LOWER_IS_BETTER = frozenset({"llr", "wss"})
"""The distances among the measures; more is better for all others."""


@dataclass(frozen=True)
class Job:
    """One estimate of one recording."""

    file: str
    """Path below the folder, without suffix: what pairs a file with its reference."""
    system: str
    """Who made the estimate, e.g. "estimate" or "unprocessed"."""
    reference: Path | None
    """None for `Ratings` in place of `Scores`."""
    estimate: Path


@dataclass(frozen=True)
class FileScores:
    """The scores of one estimate of one recording."""

    file: str
    system: str
    scores: Scores | Ratings
    silent_channels: tuple[int, ...] = ()
    """Channels, from 1, in which the reference is silent: no measure is defined there, and the others are scored."""


def score(reference: FloatArray, estimate: FloatArray, *, measures: Collection[str] = MEASURES) -> Scores:
    """Compute every measure that is wanted and whose package is installed.

    Args:
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1.
        estimate: Processed speech `(samples,)`, aligned with the reference.
        measures: What is wanted; the rest is NaN where it takes long.

    Returns:
        Scores; NaN where a measure is undefined for these signals, is not wanted, or where pesq or speechmos is not
        installed.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.
        MissingExtraError: The package pystoi is not installed.
    """
    pesq_wb = pesq_nb = math.nan
    with contextlib.suppress(MissingExtraError):
        if not {"pesq_wb", "csig", "cbak", "covl"}.isdisjoint(measures):
            pesq_wb = pesq(reference, estimate, band="wb")
        if not {"pesq_nb", "pesq_nb_raw"}.isdisjoint(measures):
            pesq_nb = pesq(reference, estimate, band="nb")
    ratings = _dnsmos(estimate, measures)
    likelihood, slope = llr(reference, estimate), wss(reference, estimate)
    seg_snr_db = segmental_snr(reference, estimate)
    predicted = composite(pesq=pesq_wb, llr=likelihood, wss=slope, segmental_snr=seg_snr_db)
    return Scores(
        pesq_wb=pesq_wb,
        pesq_nb=pesq_nb,
        pesq_nb_raw=pesq_raw(pesq_nb),
        stoi=stoi(reference, estimate) if "stoi" in measures else math.nan,
        estoi=stoi(reference, estimate, extended=True) if "estoi" in measures else math.nan,
        si_sdr_db=si_sdr(reference, estimate),
        seg_snr_db=seg_snr_db,
        llr=likelihood,
        wss=slope,
        csig=predicted.csig,
        cbak=predicted.cbak,
        covl=predicted.covl,
        dnsmos_ovrl=ratings.ovrl,
        dnsmos_sig=ratings.sig,
        dnsmos_bak=ratings.bak,
    )


def _dnsmos(estimate: FloatArray, measures: Collection[str]) -> Dnsmos:
    if any(measure.startswith("dnsmos_") for measure in measures):
        with contextlib.suppress(MissingExtraError):
            return dnsmos(estimate)
    return Dnsmos(math.nan, math.nan, math.nan)


def rate_file(path: Path, *, measures: Collection[str] = RATINGS) -> Ratings:
    """Measure a recording without a reference; for DNSMOS, other rates are resampled to 16 kHz.

    Args:
        path: A recording.
        measures: What is wanted; the rest is NaN where it takes long.

    Returns:
        Ratings: of DNSMOS the mean over the channels that are not silent, of the levels that of all channels.

    Raises:
        AudioError: The file cannot be read.
    """
    waveform, rate = read(path)
    speech = _at_16k(waveform, rate)
    ratings = [_dnsmos(channel, measures) for channel in speech if not is_silent(channel)]
    ovrl, sig, bak = np.mean(ratings, axis=0) if ratings else (math.nan,) * 3
    active = [active_speech_db(channel, SAMPLE_RATE) for channel in speech if not is_silent(channel)]
    return Ratings(
        dnsmos_ovrl=float(ovrl),
        dnsmos_sig=float(sig),
        dnsmos_bak=float(bak),
        speech_dbfs=max(active, default=math.nan),
        rms_dbfs=rms_db(waveform),
        peak_dbfs=float(to_db(np.abs(waveform).max(initial=0.0))),
    )


def score_files(reference: Path, estimate: Path, *, measures: Collection[str] = MEASURES) -> Scores:
    """Score a recording against its reference; other rates are resampled to 16 kHz.

    Args:
        reference: Clean recording.
        estimate: Processed recording, with as many channels and of the same duration within a millisecond.
        measures: As in `score`.

    Returns:
        Scores, the mean over the channels; those in which the reference is silent are left out, unless all are.

    Raises:
        AudioError: A file cannot be read, or the two differ in channels or duration.
        MissingExtraError: The package pystoi is not installed.
    """
    scores, _ = _score_channels(reference, estimate, measures)
    return scores


def list_jobs(systems: Mapping[str, Path]) -> list[Job]:
    """List the recordings of folders, to be rated without a reference.

    Args:
        systems: Folder of each system, or one file.

    Returns:
        The jobs, folder by folder.

    Raises:
        AudioError: A folder is missing or holds no recording.
        DataError: A folder has two recordings of one name.
    """
    return [
        Job(name or path.stem, system, None, path)
        for system, folder in systems.items()
        for name, path in _by_name(folder).items()
    ]


def match(reference: Path, systems: Mapping[str, Path]) -> tuple[list[Job], list[str]]:
    """Pair the recordings of folders by their paths below the folder, without suffix; or one file with one file.

    Args:
        reference: Folder of clean recordings, or one file.
        systems: Folder of the estimates of each system, or one file.

    Returns:
        The jobs, file by file, for files that the reference and every system have; and one sentence for each file
        that lacks a counterpart.

    Raises:
        AudioError: A folder is missing or holds no recording.
        DataError: A folder has two recordings of one name, or there is no name that all folders share.
    """
    clean = _by_name(reference)
    estimates = {system: _by_name(folder) for system, folder in systems.items()}
    problems = [
        f"{folder / name}: found no such recording, expected the counterpart of {clean[name]}"
        for system, folder in systems.items()
        for name in clean.keys() - estimates[system].keys()
    ] + [
        f"{reference / name}: found no such recording, expected the reference of {path}"
        for paths in estimates.values()
        for name, path in paths.items()
        if name not in clean
    ]
    common = sorted(clean.keys() & set.intersection(*(set(paths) for paths in estimates.values())))
    if not common:
        folders = ", ".join(str(folder) for folder in (reference, *systems.values()))
        raise DataError(
            f"found no name that all of {folders} share, expected recordings paired by their path below the folder "
            "without suffix, such as clean/a/1.flac and enhanced/a/1.wav"
        )
    jobs = [
        Job(name or clean[name].stem, system, clean[name], paths[name])
        for name in common
        for system, paths in estimates.items()
    ]
    return jobs, sorted(problems)


def score_jobs(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    measures: Collection[str] = MEASURES,
    on_done: Callable[[], object] = lambda: None,
) -> tuple[list[FileScores], list[str]]:
    """Score many recordings, in parallel processes.

    Args:
        jobs: What to score.
        workers: Number of processes, >= 1; 1 works in this process.
        measures: As in `score`.
        on_done: Called after each job.

    Returns:
        The scores in the order of the jobs, and one sentence for each estimate that could not be scored. A file that
        fails for one system is left out for all, so that every mean is over the same files.

    Raises:
        DataError: A process ended abruptly.
        MissingExtraError: The package pystoi is not installed.
    """
    results: dict[Job, tuple[Scores | Ratings, tuple[int, ...]] | str] = {}
    if workers == 1:
        for job in jobs:
            results[job] = _attempt(job, measures)
            on_done()
    else:
        with interruption.process_pool(min(workers, len(jobs))) as pool:
            with interruption.blocked():
                futures = {pool.submit(_attempt, job, measures): job for job in jobs}
            try:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    on_done()
            except BrokenProcessPool as error:
                raise DataError(
                    "a scoring process ended abruptly: repeat with `--jobs 1` to see which recording it was, or with "
                    "fewer jobs if memory ran out"
                ) from error
            finally:
                # After an interrupt or an error the rest is of no use.
                pool.shutdown(cancel_futures=True)
    failed = {job.file for job, result in results.items() if isinstance(result, str)}
    scored = [
        FileScores(job.file, job.system, *result)
        for job in jobs
        if not isinstance(result := results[job], str) and job.file not in failed
    ]
    return scored, [result for job in jobs if isinstance(result := results[job], str)]


def notes(measures: Collection[str] = MEASURES) -> list[str]:
    """One sentence for each optional package whose absence leaves some of these measures undefined."""
    consequences = {
        "pesq": "pesq_*, csig, cbak and covl are undefined: the package 'pesq' is not installed; it is built from "
        "source, which needs a C compiler: run `pip install 'sottovoce[metrics]'`.",
        "speechmos": "dnsmos_* are undefined: the package 'speechmos' is not installed: run "
        "`pip install 'sottovoce[metrics]'`.",
    }
    needs = {
        "pesq": any(measure.startswith("pesq") or measure in ("csig", "cbak", "covl") for measure in measures),
        "speechmos": any(measure.startswith("dnsmos") for measure in measures),
    }
    return [sentence for package, sentence in consequences.items() if needs[package] and not is_installed(package)]


def silent_channels(results: Sequence[FileScores]) -> list[str]:
    """One sentence for each recording of which not all channels could be scored."""
    files = {result.file: result.silent_channels for result in results if result.silent_channels}
    return [
        f"{file}: the reference is silent in channel {', '.join(map(str, silent))}: the scores are those of the others."
        for file, silent in files.items()
    ]


def _attempt(job: Job, measures: Collection[str]) -> tuple[Scores | Ratings, tuple[int, ...]] | str:
    try:
        if job.reference is None:
            return rate_file(job.estimate, measures=measures), ()
        return _score_channels(job.reference, job.estimate, measures)
    except MissingExtraError:
        raise
    except SottovoceError as error:
        return str(error)


def _score_channels(reference: Path, estimate: Path, measures: Collection[str]) -> tuple[Scores, tuple[int, ...]]:
    """Mean scores of a recording, and the numbers of the channels that were left out of the mean."""
    clean, noisy = (_read_16k(path) for path in (reference, estimate))
    if len(clean) != len(noisy):
        raise AudioError(
            f"{estimate}: found {len(noisy)} channel(s), expected {len(clean)} as in its reference {reference}"
        )
    length = min(clean.shape[-1], noisy.shape[-1])
    if max(clean.shape[-1], noisy.shape[-1]) - length > _LENGTH_TOLERANCE:
        raise AudioError(
            f"{estimate}: found {noisy.shape[-1] / SAMPLE_RATE:.3f} s, expected {clean.shape[-1] / SAMPLE_RATE:.3f} s "
            f"as in its reference {reference}; cut both to the same aligned stretch"
        )
    silent = tuple(number for number, channel in enumerate(clean, 1) if is_silent(channel))
    if len(silent) == len(clean):
        silent = ()
    channels = [
        astuple(score(pair[0][:length], pair[1][:length], measures=measures))
        for number, pair in enumerate(zip(clean, noisy, strict=True), 1)
        if number not in silent
    ]
    return Scores(*(float(value) for value in np.mean(channels, axis=0))), silent


def _read_16k(path: Path) -> FloatArray:
    return _at_16k(*read(path))


def _at_16k(waveform: FloatArray, rate: int) -> FloatArray:
    return resample(waveform, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else waveform


def _by_name(folder: Path) -> dict[str, Path]:
    """Recordings of a folder by their path below it, without suffix; one file alone has none."""
    if is_file(folder):
        return {"": folder}
    named: dict[str, Path] = {}
    for path in find_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"found both {named[name]} and {path}, expected one recording of each name: remove one")
        named[name] = path
    return named
