"""The page on amplitude and phase: tables and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sottovoce.atomic import replacing
from sottovoce.metrics import plots
from sottovoce.metrics.report import markdown_table
from sottovoce.metrics.scores import MEASURE_NAMES
from sspd2023.phase import figures
from sspd2023.phase.measures import EDGES_DB, Curves
from sspd2023.phase.study import AMPLITUDES, CLEAN, PHASES, Study, system
from sspd2023.report import CONDITIONS, differences_table, snr_table
from sspd2023.results import UNPROCESSED, Result, Summary

_METHOD = """\
Every row is a signal made of an amplitude and a phase: windows of 64 ms, hop 16 ms. The target is the dry voice, in
amplitude and in phase; the mixture's phase is that of the noisy, reverberant recording.

- **Amplitudes**: that of the clean speech (the answer); that of the bundled model's output; that of what D_A and D_P,
  the decoders of the bundled model's training, make of the mixture's latent. Where the row `joint` was trained, the
  same with the poster's decoders.
- **Phases**: the mixture's; by phase-gradient heap integration (Prusa, Balazs and Søndergaard 2017), which computes
  one from the amplitude alone; by 50 iterations of Griffin-Lim, which begin at the mixture's; D_P's, which corrects the
  mixture's, from the latent of the mixture or of the clean speech, which only an oracle has; the true one.

The clean amplitude with the true phase is the clean speech: its SI-SDR is what rounding leaves. Intervals are 95 %
confidence intervals (Student's t) over mixtures. PESQ as MOS-LQO, wide band (wb) and narrow band (nb)."""

_CURVES = """\
Bins of speech within 50 dB of its loudest, by their local ratio |S|² / |Y - S|² of clean speech S and mixture Y, in
classes of 5 dB; the outermost hold all beyond. *Phase error* is the mean absolute difference from the true phase
(90° is chance; a mixture that opposes the speech is far from it, so that errors above 90° gather below 0 dB).
*Advance* is the phase's change from one frame to the next: an offset that stays is no error there. *Inconsistency*
is the energy of Ŝ − STFT(iSTFT(Ŝ)), relative to that of Ŝ: 0 (−∞ dB) for the spectrum of a signal."""

_COMPARED = ("pesq_wb", "estoi")
_TABLE_CLASSES_DB = (-20, -10, 0, 10, 20)


def write(
    studies: Mapping[str, Study], unprocessed: Sequence[Result], notes: Sequence[str], output: Path
) -> list[Path]:
    """Write `phase.md` and its figures.

    Args:
        studies: What came out, by condition.
        unprocessed: Results of the unprocessed mixtures.
        notes: Sentences for the top: what was run.
        output: Folder of the benchmark.

    Returns:
        What was written.
    """
    files = [output / "phase.md"]
    lines = ["# Amplitude and phase", "", *(f"- {note}" for note in notes), "", _METHOD, ""]
    for condition, study in studies.items():
        beside = [result for result in unprocessed if result.condition == condition]
        summary = Summary([*beside, *study.results])
        drawn = {
            "phase_scores": figures.score_panels(summary, condition),
            "phase_errors": figures.curve_panels(study.curves),
        }
        for name, figure in drawn.items():
            files.append(output / "figures" / f"{condition}_{name}.png")
            plots.save(figure, files[-1])
        lines += section(summary, study.curves, condition)
    with replacing(files[0]) as temporary:
        temporary.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    return files


def section(summary: Summary, curves: Mapping[tuple[str, str], Sequence[Curves]], condition: str) -> list[str]:
    """Tables and figures of one condition.

    Args:
        summary: Results of the study and of the unprocessed mixtures.
        curves: Measures by local ratio of every mixture, by amplitude and phase.
        condition: Name of the test set.

    Returns:
        Lines of Markdown.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    labels = {UNPROCESSED: "unprocessed"} | {
        system(amplitude, phase): f"{amplitude_label}, {phase_label}"
        for amplitude, amplitude_label in AMPLITUDES.items()
        for phase, phase_label in PHASES.items()
    }
    pairs = [(system(a, p), system(a, "mixture")) for a in AMPLITUDES for p in PHASES if p != "mixture"]
    title = CONDITIONS.get(condition, condition)
    lines = [f"## {title}", "", f"`{condition}`, {summary.count(condition)} mixtures.", ""]
    lines += [f"![Scores of every amplitude with every phase](figures/{condition}_phase_scores.png)", ""]
    for measures in (("pesq_wb", "pesq_nb"), ("estoi", "si_sdr_db")):
        names = " and ".join(MEASURE_NAMES[measure] for measure in measures)
        rows = snr_table(summary, condition, labels, measures)
        lines += [f"### {names} per SNR in dB", "", *markdown_table(rows), ""]
    for measure in _COMPARED:
        rows = differences_table(summary, condition, labels, pairs, measure)
        lines += [f"### What the phase changes in {MEASURE_NAMES[measure]}, against the mixture's", ""]
        lines += [*markdown_table(rows), ""]
    lines += ["### Phase error and inconsistency by local ratio", "", _CURVES, ""]
    lines += [f"![Phase error and inconsistency against local ratio](figures/{condition}_phase_errors.png)", ""]
    return [*lines, *markdown_table(curves_table(curves)), ""]


def curves_table(curves: Mapping[tuple[str, str], Sequence[Curves]]) -> list[list[str]]:
    """Phase error and inconsistency of phases with the clean amplitude, in some classes of local ratios.

    Args:
        curves: Measures of every mixture, by amplitude and phase.

    Returns:
        Rows of text, the heading first: one row per phase.
    """
    indices = [EDGES_DB.index(edge) for edge in _TABLE_CLASSES_DB]
    classes = [f"{EDGES_DB[index]}..{EDGES_DB[index + 1]} dB".replace("-", "−") for index in indices]
    rows = [["clean amplitude, phase", *(f"error in ° at {name}" for name in classes)]]
    rows[0] += [f"inconsistency in dB at {name}" for name in classes]
    for phase, label in PHASES.items():
        if (CLEAN, phase) not in curves:
            continue
        error, inconsistency = (
            figures.class_means(curves[CLEAN, phase], measure) for measure in ("phase_degrees", "inconsistency_db")
        )
        cells = [f"{error[index]:.0f}" for index in indices]
        # The true amplitude with the true phase is a signal's, but for rounding.
        cells += ["−∞" if phase == CLEAN else f"{inconsistency[index]:.1f}" for index in indices]
        rows.append([label, *cells])
    return rows
