"""Tables of a benchmark as rows of text, the heading first, and as one Markdown page.

Equal results give equal bytes. Rows follow `labels`, a mapping from systems to what they are called; systems without
results are left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from sottovoce.metrics.report import Mean, markdown_table
from sottovoce.metrics.scores import MEASURE_NAMES
from sspd2023.published import POSTER, POSTER_SNRS_DB
from sspd2023.results import UNPROCESSED, Cost, Facts, Result, Summary, change

PESQ = ("pesq_nb_raw", "pesq_wb", "pesq_nb")
"""The variants of PESQ; the first is most likely that of the poster."""

INTRUSIVE = ("pesq_nb_raw", "pesq_nb", "pesq_wb", "stoi", "estoi", "si_sdr_db")
PREDICTED = ("csig", "cbak", "covl", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak")
ABLATED = ("pesq_nb_raw", "pesq_wb", "estoi", "si_sdr_db", "covl")
COMPARED = ("pesq_nb_raw", "pesq_wb", "covl")
PER_SNR = ("stoi", "estoi", "si_sdr_db", "dnsmos_ovrl")
ABLATION_COMPARED = ("pesq_nb_raw", "estoi", "covl")
SPREAD = ("pesq_nb_raw", "covl")

CROSS_DOMAIN = "poster"
MATCHED = "matched"
CONDITIONS = {
    CROSS_DOMAIN: "Cross-domain, reverberant",
    MATCHED: "Matched: noises and rooms as in training",
    "dry": "Dry",
}
"""What the test sets are called, in the order of the report; others follow under their own names."""

_COMPOSITES = ("csig", "cbak", "covl")
_NOTHING = "–"
_METHOD = """\
Intervals are 95 % confidence intervals (Student's t) over mixtures, for these training seeds: the value of a mixture is
the mean over the seeds. Mixtures share speakers and noises, so that intervals are somewhat too narrow. The spread over
seeds is the standard deviation of the seeds' means. Values that are undefined (a silent or too short signal) are left
out and counted. All measures at 16 kHz, more is better; PESQ as MOS-LQO, wideband (wb) and narrowband (nb), and
narrowband before the mapping (nb-raw); CSIG, CBAK and COVL with PESQ wb."""


def systems_table(labels: Mapping[str, str], facts: Mapping[str, Facts]) -> list[list[str]]:
    """What the systems learned from, and their size.

    Args:
        labels: What systems are called, in the order of the rows.
        facts: What is known of them.

    Returns:
        One row per system.
    """
    return [["system", "learned from", "parameters"]] + [
        [label, facts[system].learned_from, _count(facts[system].parameters)]
        for system, label in labels.items()
        if system in facts
    ]


def snr_table(summary: Summary, condition: str, labels: Mapping[str, str], measures: Sequence[str]) -> list[list[str]]:
    """Means per SNR with their intervals; in the layout of the poster each with the published row below it.

    Args:
        summary: Results.
        condition: Name of the test set; published rows stand in "poster" only, for what the poster has.
        labels: What systems are called, in the order of the rows.
        measures: Columns, of `MEASURE_NAMES`.

    Returns:
        One row per system; every measure at every SNR in dB.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    columns = [(measure, snr_db) for measure in measures for snr_db in summary.snrs_db(condition)]
    rows = [["system", *(f"{MEASURE_NAMES[measure]} {_decibels(snr_db)}" for measure, snr_db in columns)]]
    published = condition == CROSS_DOMAIN and set(measures) <= {*PESQ, *_COMPOSITES}
    for system, label in _present(summary, condition, labels):
        rows.append([label, *(f"{summary.mean(condition, system, *column):.2f}" for column in columns)])
        if published and system in POSTER:
            rows.append([f"{label}, published", *(_published(system, *column) for column in columns)])
    return rows


def means_table(
    summary: Summary, condition: str, labels: Mapping[str, str], measures: Sequence[str]
) -> list[list[str]]:
    """Means over all mixtures of a condition with their intervals.

    Args:
        summary: Results.
        condition: Name of the test set.
        labels: What systems are called, in the order of the rows.
        measures: Columns, of `MEASURE_NAMES`.

    Returns:
        One row per system, one column per measure.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    return [["system", *(MEASURE_NAMES[measure] for measure in measures)]] + [
        [label, *(str(summary.mean(condition, system, measure)) for measure in measures)]
        for system, label in _present(summary, condition, labels)
    ]


def spread_table(summary: Summary, condition: str, labels: Mapping[str, str]) -> list[list[str]]:
    """Standard deviation over training seeds, of the systems that are trained.

    Args:
        summary: Results.
        condition: Name of the test set.
        labels: What systems are called, in the order of the rows.

    Returns:
        One row per system: number of seeds and the deviations; the heading alone where nothing is trained.
    """
    rows = [["system", "seeds", *(f"{MEASURE_NAMES[measure]}, spread" for measure in SPREAD)]]
    for system, label in _present(summary, condition, labels):
        spreads = [summary.spread(condition, system, measure) for measure in SPREAD]
        if spreads[0].seeds:
            cells = [_NOTHING if math.isnan(spread.deviation) else f"{spread.deviation:.3f}" for spread in spreads]
            rows.append([label, str(spreads[0].seeds), *cells])
    return rows


def differences_table(
    summary: Summary, condition: str, labels: Mapping[str, str], pairs: Sequence[tuple[str, str]], measure: str
) -> list[list[str]]:
    """Paired differences between systems per SNR and over all, each with what its interval says.

    Args:
        summary: Results.
        condition: Name of the test set.
        labels: What systems are called.
        pairs: Systems and their baselines, in the order of the rows; left out if either lacks results or a label.
        measure: What is compared.

    Returns:
        One row per pair: mean and interval, and "above" or "below" where the interval excludes 0.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    snrs_db = summary.snrs_db(condition)
    labelled = dict(_present(summary, condition, labels))
    rows = [["difference"]]
    for name in (*(f"{_decibels(snr_db)} dB" for snr_db in snrs_db), "all"):
        rows[0] += [name, "verdict"]
    for system, baseline in pairs:
        if system in labelled and baseline in labelled:
            cells = [f"{labelled[system]} − {labelled[baseline]}"]
            for snr_db in (*snrs_db, None):
                difference = summary.difference(condition, system, baseline, measure, snr_db)
                cells += [f"{difference:+.3f}", verdict(difference)]
            rows.append(cells)
    return rows


def domains_table(summary: Summary, labels: Mapping[str, str], measure: str) -> list[list[str]]:
    """Gains over the unprocessed mixtures in the matched domain against those across domains.

    Args:
        summary: Results.
        labels: What systems are called, in the order of the rows.
        measure: What is compared.

    Returns:
        One row per system that is in both conditions: the two gains, and the second minus the first; the heading alone
        where one of them lacks the unprocessed mixtures.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    rows = [["system", "gain, matched", "gain, cross-domain", "change", "verdict"]]
    both = summary.systems(MATCHED) & summary.systems(CROSS_DOMAIN)
    for system, label in labels.items():
        if {system, UNPROCESSED} <= both and system != UNPROCESSED:
            matched, crossed = (summary.gain(condition, system, measure) for condition in (MATCHED, CROSS_DOMAIN))
            changed = change(matched, crossed)
            rows.append([label, f"{matched:+.3f}", f"{crossed:+.3f}", f"{changed:+.3f}", verdict(changed)])
    return rows


def costs_table(costs: Sequence[Cost], labels: Mapping[str, str]) -> list[list[str]]:
    """Size and speed of the systems.

    Args:
        costs: What was measured.
        labels: What systems are called, in the order of the rows.

    Returns:
        One row per system.
    """
    by_system = {cost.system: cost for cost in costs}
    return [["system", "parameters", "CPU s per s of audio"]] + [
        [
            label,
            _count(by_system[system].parameters),
            f"{by_system[system].cpu_seconds_per_second:.4f}",
        ]
        for system, label in labels.items()
        if system in by_system
    ]


def verdict(difference: Mean) -> str:
    """Say whether an interval excludes 0.

    Args:
        difference: Mean difference.

    Returns:
        "above" or "below" 0, or "inconclusive", also where there is no interval.
    """
    if difference.value - difference.half_width > 0.0:
        return "above"
    if difference.value + difference.half_width < 0.0:
        return "below"
    return "inconclusive"


def to_markdown(
    results: Sequence[Result],
    labels: Mapping[str, str],
    *,
    pairs: Sequence[tuple[str, str]],
    facts: Mapping[str, Facts] | None = None,
    ablations: Mapping[str, str] | None = None,
    ablation_pairs: Sequence[tuple[str, str]] = (),
    ablation_seed: int | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Report for people, of the conditions that are present.

    Args:
        results: All results, in any order.
        labels: What systems are called, in the order of the rows.
        pairs: Systems and the baselines that they are compared with.
        facts: What is known of the systems.
        ablations: What ablations are called, in the order of the rows; not named in `labels` unless they are to stand
            in the other tables, too.
        ablation_pairs: Ablations and what they change in one thing.
        ablation_seed: Seed of the ablations: of rows with more seeds, this one alone is compared with them.
        notes: Sentences for the top: what was run, and what was scaled down.

    Returns:
        Markdown text.

    Raises:
        DataError: Two results are of the same output.
        MissingExtraError: The package scipy is not installed.
    """
    summary = Summary(results)
    present = set(summary.conditions)
    ordered = [name for name in CONDITIONS if name in present] + sorted(present - CONDITIONS.keys())
    lines = ["# Benchmark", "", *(f"- {note}" for note in notes), *([""] if notes else []), _METHOD, ""]
    lines += _section("Systems", systems_table({**labels, **(ablations or {})}, facts or {}))
    single = Summary([result for result in results if result.seed in (None, ablation_seed)])
    for condition in ordered:
        lines += _condition(summary, condition, labels, pairs)
        lines += _ablations(single, condition, ablations or {}, ablation_pairs)
    if {MATCHED, CROSS_DOMAIN} <= present:
        lines += [
            "## Domains",
            "",
            "Gain over the unprocessed mixtures, and how it changes from the matched to the cross-domain condition.",
            "The mixtures of the two differ, so the interval of the change is that of unpaired means.",
            "",
        ]
        for measure in COMPARED:
            lines += _section(f"Gain in {MEASURE_NAMES[measure]}", domains_table(summary, labels, measure))
    return "\n".join(lines[:-1]) + "\n"


def costs_to_markdown(costs: Sequence[Cost], labels: Mapping[str, str], *, notes: Sequence[str] = ()) -> str:
    """Report on size and speed, on its own since times differ from run to run.

    Args:
        costs: What was measured.
        labels: What systems are called, in the order of the rows.
        notes: Sentences for the top, such as the machine.

    Returns:
        Markdown text.
    """
    lines = ["# Cost", "", *(f"- {note}" for note in notes), *([""] if notes else [])]
    return "\n".join([*lines, *markdown_table(costs_table(costs, labels))]) + "\n"


def _condition(
    summary: Summary,
    condition: str,
    labels: Mapping[str, str],
    pairs: Sequence[tuple[str, str]],
) -> list[str]:
    """All sections of one condition but its ablations."""
    title = CONDITIONS.get(condition, condition)
    lines = [f"## {title}", "", f"`{condition}`, {summary.count(condition)} mixtures.", ""]
    if condition == CROSS_DOMAIN:
        lines += [
            'Rows named "published" are from the table of Li, Sun, Wang and Naqvi (SSPD 2023), which is of the',
            "authors' own mixtures and does not say which PESQ it means; its range suggests nb-raw.",
            "",
        ]
    # The composites do not depend on the variant, so only the comparison with the poster needs all three.
    for pesq in PESQ if condition == CROSS_DOMAIN else PESQ[:1]:
        rows = snr_table(summary, condition, labels, (pesq, *_COMPOSITES))
        lines += _section(f"Means per SNR in dB, {MEASURE_NAMES[pesq]}", rows)
    lines += _section("Means per SNR in dB, other measures", snr_table(summary, condition, labels, PER_SNR))
    lines += _section("Means over all mixtures", means_table(summary, condition, labels, INTRUSIVE))
    rows = means_table(summary, condition, labels, PREDICTED)
    lines += _section("Means over all mixtures: composite measures and DNSMOS", rows)
    lines += _section("Spread over training seeds", spread_table(summary, condition, labels))
    compared = [differences_table(summary, condition, labels, pairs, measure) for measure in COMPARED]
    for measure, rows in zip(COMPARED, compared, strict=True):
        lines += _section(f"Paired differences in {MEASURE_NAMES[measure]}", rows)
    if len(compared[0]) > 1:
        lines += ["Where systems are equal, one interval in twenty excludes 0 by chance.", ""]
    return lines


def _ablations(
    summary: Summary, condition: str, labels: Mapping[str, str], pairs: Sequence[tuple[str, str]]
) -> list[str]:
    """Means of the ablations, and what each changes, at one seed."""
    lines = _section("Ablations, one seed", means_table(summary, condition, labels, ABLATED))
    for measure in ABLATION_COMPARED:
        rows = differences_table(summary, condition, labels, pairs, measure)
        lines += _section(f"What each part changes in {MEASURE_NAMES[measure]}, one seed", rows)
    return lines


def _section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """A table under its title, or nothing for a heading without rows."""
    return [f"### {title}", "", *markdown_table(rows), ""] if len(rows) > 1 else []


def _present(summary: Summary, condition: str, labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    systems = summary.systems(condition)
    return ((system, label) for system, label in labels.items() if system in systems)


def _published(system: str, measure: str, snr_db: float) -> str:
    if snr_db not in POSTER_SNRS_DB:
        return _NOTHING
    name = "pesq" if measure in PESQ else measure
    return f"{POSTER[system][name][POSTER_SNRS_DB.index(snr_db)]:.2f}"


def _decibels(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _count(number: int | None) -> str:
    return _NOTHING if number is None else f"{number:,}"
