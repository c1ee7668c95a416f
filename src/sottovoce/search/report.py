"""The report of a search: a page with what was tried, what mattered, and whether the best is more than chance."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from sottovoce.atomic import replacing
from sottovoce.config import SystemSettings
from sottovoce.metrics import plots
from sottovoce.metrics.report import Mean, differences, markdown_table, mean
from sottovoce.metrics.scores import MEASURE_NAMES, FileScores
from sottovoce.search.space import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3


@dataclass(frozen=True)
class Training:
    """One training and its scores.

    Attributes:
        folder: Where it is.
        settings: All its settings.
        multiply_adds_per_second: What its network takes for a second of sound.
        scores: Of every development mixture.
    """

    folder: Path
    settings: SystemSettings
    multiply_adds_per_second: int
    scores: list[FileScores]

    def mean(self, measure: str) -> Mean:
        """Mean of a measure over the mixtures."""
        return mean([getattr(result.scores, measure) for result in self.scores])

    def gain_over(self, other: list[FileScores], measure: str) -> Mean:
        """Mean of the differences to other scores, mixture by mixture."""
        system, baseline = self.scores[0].system, other[0].system
        if system == baseline:
            return mean([0.0 for _ in self.scores])
        return differences([*other, *self.scores], system, baseline, [measure])[measure]


@dataclass(frozen=True)
class Outcome:
    """What came out of a search.

    Attributes:
        settings: What was searched around.
        space: What was varied.
        measure: What trials were chosen by.
        measures: What is shown of them.
        development: What they were scored on.
        unprocessed: Scores of these mixtures as they are.
        trials: Trials that ended, in order; the first has the settings as they are.
        values: Their values by key, in the same order.
        trainings: Trainings of the trials with a score, by Optuna's numbers.
        best: Optuna's number of the best trial.
        importance: Share of each parameter in the variance of the scores; empty where there are too few trials.
        repeated: Seed, the training of the settings as they are, and that of the best ones, for every other seed.
    """

    settings: SystemSettings
    space: Space
    measure: str
    measures: tuple[str, ...]
    development: str
    unprocessed: tuple[FileScores, ...]
    trials: tuple[FrozenTrial, ...]
    values: tuple[dict[str, Any], ...]
    trainings: dict[int, Training]
    best: int
    importance: dict[str, float]
    repeated: tuple[tuple[int, Training, Training], ...]

    @property
    def given(self) -> Training:
        """The training with the settings as they are; it is never cut short."""
        return self.trainings[self.trials[0].number]

    @property
    def best_values(self) -> dict[str, Any]:
        """Values of the best trial by key."""
        return next(values for trial, values in self._pairs() if trial.number == self.best)

    @property
    def best_index(self) -> int:
        """Place of the best trial among those that ended."""
        return next(index for index, trial in enumerate(self.trials) if trial.number == self.best)

    @property
    def gain(self) -> Mean:
        """What the best settings gain with seeds that chose nothing: the mean over these seeds."""
        return mean([best.gain_over(given.scores, self.measure).value for _, given, best in self.repeated])

    @property
    def seed_range(self) -> tuple[float, float]:
        """Lowest and highest score of the settings as they are, over seeds."""
        scores = [training.mean(self.measure).value for training in self._of_given_settings()]
        return min(scores), max(scores)

    def _of_given_settings(self) -> list[Training]:
        return [self.given, *(given for _, given, _ in self.repeated)]

    def _pairs(self) -> list[tuple[FrozenTrial, dict[str, Any]]]:
        return list(zip(self.trials, self.values, strict=True))

    def verdict(self) -> str:
        """Whether the best settings are better than those that were searched around, in sentences."""
        name = MEASURE_NAMES[self.measure]
        if self.best_index == 0:
            return f"No trial is better than the settings as they are ({name} {self.given.mean(self.measure):.3f})."
        found = self.trainings[self.best].gain_over(self.given.scores, self.measure)
        sentences = [
            f"Trial {self.best_index} is the best: {found:+.3f} {name} over the settings as they are, with the seed by "
            "which it was chosen, so that chance has helped it."
        ]
        if not self.repeated:
            return f"{sentences[0]} No other seed was tried, so nobody knows whether it is more than chance."
        low, high = self.seed_range
        sentences.append(
            f"With {len(self.repeated)} other seeds the difference is {self.gain:+.3f}; the settings as they are "
            f"differ by {high - low:.3f} over {len(self.repeated) + 1} seeds."
        )
        if len(self.repeated) < 2:
            sentences.append("One other seed has no interval: this says little.")
        elif self.gain.value - self.gain.half_width > 0:
            sentences.append("The gain is more than chance between seeds, on these mixtures.")
        else:
            sentences.append("That is not more than chance between seeds: keep the settings as they are, or search on.")
        return " ".join(sentences)


def write_report(out: Path, outcome: Outcome) -> None:
    """Write `README.md` with its pictures, and `trials.csv`.

    Args:
        out: The search's folder.
        outcome: What came out.
    """
    plots.save(_curves(outcome), out / "curves.png")
    plots.save(_values(outcome), out / "values.png")
    for name, text in (("trials.csv", _csv(outcome)), ("README.md", "\n".join(_page(outcome)) + "\n")):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _page(outcome: Outcome) -> list[str]:
    settings, training = outcome.settings, outcome.settings.training
    counts = {state: sum(trial.state == state for trial in outcome.trials) for state in TrialState}
    minutes = sum((trial.duration.total_seconds() for trial in outcome.trials if trial.duration), 0.0) / 60
    seeds = "".join(f", {seed}" for seed, _, _ in outcome.repeated)
    lines = [
        f"# Search around {settings.name}",
        "",
        outcome.verdict(),
        "",
        f"**Trials.** {len(outcome.trials)}, of which {counts[TrialState.PRUNED]} were cut short (below the median of "
        f"the trials before them at some step) and {counts[TrialState.FAIL]} have no score; a tree-structured Parzen "
        "estimator (Optuna) chose their values, the first ones at random. Seed for all, so that they differ by their "
        f"settings alone: {training.seed}. Seeds of the comparison at the end: {seeds.lstrip(', ') or 'none'}.",
        "",
        f"**Budget.** {training.speech_steps} and {training.joint_steps} steps each, with "
        f"{training.data.speech_clips} clean and {training.data.simulated_clips} simulated clips of "
        f"{training.data.clip_seconds:g} s a step; {minutes:.0f} minutes for all trials, without interrupted attempts "
        "and other seeds.",
        "",
        f"**Scored on** {outcome.development}. Intervals are 95 % over these mixtures, and know nothing of seeds.",
        "",
        "**What it does not say.** Short trainings may mislead: what learns quickly wins, and what would win after a "
        "full training is not known. The mixtures have chosen the settings, so their scores flatter them: measure the "
        "settings once more, at full length, on recordings that chose nothing.",
        "",
        "## Trials",
        "",
        *markdown_table(_table(outcome)),
        "",
        "![Scores on the way](curves.png)",
        "",
    ]
    if outcome.repeated:
        lines += ["## Other seeds", "", *markdown_table(_seeds(outcome)), ""]
    lines += ["## What matters", ""]
    if outcome.importance:
        shares = [[f"`{key}`", f"{share:.0%}"] for key, share in outcome.importance.items()]
        lines += [
            f"Share of each setting in the variance of the scores of {len(outcome.trainings)} whole trials (functional "
            "ANOVA of a random forest): with so few of them, a hint. Chance between trainings is in it as well.",
            "",
            *markdown_table([["setting", "importance"], *shares]),
            "",
        ]
    else:
        lines += ["Too few whole trials to say which setting matters.", ""]
    return [*lines, "![Scores by the value of each setting](values.png)"]


def _table(outcome: Outcome) -> list[list[str]]:
    measure, keys = outcome.measure, list(outcome.space.parameters)
    others = [name for name in outcome.measures if name != measure]
    heading = ["trial", *(f"`{key}`" for key in keys), "million multiply-adds per s", "steps", MEASURE_NAMES[measure]]
    heading += [f"{MEASURE_NAMES[measure]} − trial 0", *(MEASURE_NAMES[name] for name in others)]
    unprocessed = {
        name: mean([getattr(result.scores, name) for result in outcome.unprocessed]) for name in outcome.measures
    }
    blank = [""] * (len(keys) + 2)
    rows = [
        heading,
        ["unprocessed", *blank, f"{unprocessed[measure]:.3f}", "", *(f"{unprocessed[name]:.3f}" for name in others)],
    ]
    steps = outcome.settings.training.joint_steps
    for index, trial in enumerate(outcome.trials):
        number = f"**{index}**" if trial.number == outcome.best else str(index)
        values = [str(outcome.values[index][key]) for key in keys]
        training = outcome.trainings.get(trial.number)
        if training is None:
            reached = trial.last_step or 0
            note = (
                "no score" if "reason" in trial.user_attrs else f"cut short at {trial.intermediate_values[reached]:.3f}"
            )
            rows.append([number, *values, "", str(reached), note, "", *("" for _ in others)])
            continue
        rows.append(
            [
                number,
                *values,
                f"{training.multiply_adds_per_second / 1e6:.1f}",
                str(steps),
                f"{training.mean(measure):.3f}",
                ""
                if training.folder == outcome.given.folder
                else f"{training.gain_over(outcome.given.scores, measure):+.3f}",
                *(f"{training.mean(name):.3f}" for name in others),
            ]
        )
    return rows


def _seeds(outcome: Outcome) -> list[list[str]]:
    name = MEASURE_NAMES[outcome.measure]
    pairs = [(outcome.settings.training.seed, outcome.given, outcome.trainings[outcome.best]), *outcome.repeated]
    rows = [["seed", f"{name}, as they are", f"{name}, best", "difference"]]
    for index, (seed, given, best) in enumerate(pairs):
        rows.append(
            [
                f"{seed} (chose the best)" if not index else str(seed),
                f"{given.mean(outcome.measure):.3f}",
                f"{best.mean(outcome.measure):.3f}",
                f"{best.gain_over(given.scores, outcome.measure):+.3f}",
            ]
        )
    return [*rows, ["mean over the other seeds", "", "", f"{outcome.gain:+.3f}"]]


def _csv(outcome: Outcome) -> str:
    keys = list(outcome.space.parameters)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "step", *keys, outcome.measure, "training", "reason"])
    for index, (trial, values) in enumerate(zip(outcome.trials, outcome.values, strict=True)):
        on_the_way = sorted(trial.intermediate_values.items())
        if trial.number in outcome.trainings:
            score = outcome.trainings[trial.number].mean(outcome.measure).value
            on_the_way.append((outcome.settings.training.joint_steps, score))
        for step, value in on_the_way or [(0, math.nan)]:
            cells = [str(values[key]) for key in keys]
            score_cell = "undefined" if math.isnan(value) else f"{value:.4f}"
            state = trial.state.name.lower()
            attributes = (trial.user_attrs.get(name, "") for name in ("training", "reason"))
            writer.writerow([index, state, step, *cells, score_cell, *attributes])
    return text.getvalue()


def _curves(outcome: Outcome) -> "Figure":
    """Scores over the steps, a line for each trial."""
    figure = plots.new_figure(6.4, 3.6)
    axis = figure.subplots()
    steps = outcome.settings.training.joint_steps
    first, named = outcome.trials[0].number, set()
    for trial in outcome.trials:
        points = dict(trial.intermediate_values)
        if trial.number in outcome.trainings:
            points[steps] = outcome.trainings[trial.number].mean(outcome.measure).value
        label, colour, style = "whole trial", plots.COLOURS[1], "-"
        if trial.number == outcome.best:
            label, colour = "best", plots.COLOURS[0]
        elif trial.number == first:
            label, colour = "settings as they are", plots.COLOURS[2]
        elif trial.number not in outcome.trainings:
            label, style = "cut short", ":"
        axis.plot(
            sorted(points),
            [points[step] for step in sorted(points)],
            color=colour,
            linestyle=style,
            linewidth=2.0 if colour != plots.COLOURS[1] else 1.0,
            marker=".",
            label=None if label in named else label,
            zorder=3 if colour != plots.COLOURS[1] else 2,
        )
        named.add(label)
    axis.set_xlabel("step of the joint stage", fontsize=9, color=plots.INK)
    axis.set_ylabel(MEASURE_NAMES[outcome.measure], fontsize=9, color=plots.INK)
    axis.grid(color=plots.GRID)
    axis.legend(frameon=False, fontsize=8, labelcolor=plots.INK)
    plots.tidy(axis)
    return figure


def _values(outcome: Outcome) -> "Figure":
    """Scores of whole trials over the values of each parameter, beside what seeds alone change."""
    keys = list(outcome.space.parameters)
    columns = min(_COLUMNS, len(keys))
    lines = math.ceil(len(keys) / columns)
    figure = plots.new_figure(3.4 * columns, 2.6 * lines)
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    whole = [
        (trial.number, values)
        for trial, values in zip(outcome.trials, outcome.values, strict=True)
        if trial.number in outcome.trainings
    ]
    scores = [outcome.trainings[number].mean(outcome.measure).value for number, _ in whole]
    for axis, key in zip(axes, keys, strict=False):
        parameter = outcome.space.parameters[key]
        places: list[Any] = [values[key] for _, values in whole]
        if parameter.choices is not None:
            places = [parameter.choices.index(place) for place in places]
            axis.set_xticks(range(len(parameter.choices)), [str(choice) for choice in parameter.choices])
        else:
            assert parameter.low is not None
            assert parameter.high is not None
            if parameter.log:
                axis.set_xscale("log")
                axis.minorticks_off()
                axis.set_xlim(parameter.low / 1.1, parameter.high * 1.1)
            else:
                margin = 0.05 * (parameter.high - parameter.low)
                axis.set_xlim(parameter.low - margin, parameter.high + margin)
        if outcome.repeated:
            axis.axhspan(*outcome.seed_range, color=plots.COLOURS[2], alpha=0.25, linewidth=0)
        axis.plot(places, scores, "o", color=plots.COLOURS[0], markersize=4)
        axis.set_title(key, fontsize=8, color=plots.INK)
        axis.grid(color=plots.GRID)
        plots.tidy(axis)
    for axis in axes[len(keys) :]:
        axis.set_visible(False)
    figure.supylabel(MEASURE_NAMES[outcome.measure], fontsize=9, color=plots.INK)
    return figure
