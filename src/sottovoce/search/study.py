"""Trials: trainings of equal length with other settings, until the best settings are trained with other seeds."""

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from sottovoce.atomic import replacing
from sottovoce.config import SystemSettings, changed, dump_settings
from sottovoce.errors import ConfigError, DataError
from sottovoce.metrics.report import read_score_csv, score_csv
from sottovoce.metrics.scores import FileScores
from sottovoce.models.checkpoint import save_checkpoint
from sottovoce.models.joint import multiply_adds_per_second
from sottovoce.progress import Progress, part
from sottovoce.search.development import MEASURES, Development, Measure, of_held_out, of_pairs
from sottovoce.search.report import Outcome, Training, write_report
from sottovoce.search.space import Space
from sottovoce.signal.audio import find_audio
from sottovoce.training.log import ScoreLog
from sottovoce.training.preparation import TrainingData, prepare
from sottovoce.training.run import CHECKPOINT, fit, untrained
from sottovoce.training.stages import joint_stages

_log = logging.getLogger(__name__)

_HELD_OUT_SHARE = 0.25
_SCORED_STAGE = "joint"  # before it, there is nothing that enhances
# Trials that are drawn at random before the sampler has something to go on, and before one is cut short.
_RANDOM_TRIALS, _WHOLE_TRIALS = 8, 5
_SCORES, _COLUMNS = "scores.csv", ("system", "file")


@dataclass(frozen=True)
class Search:
    """What all trials of a search share.

    Attributes:
        out: The search's folder.
        settings: What is searched around.
        space: What is varied.
        measure: What trials are chosen by.
        data: What trials are trained on.
        development: What they are scored on.
        on_progress: Called with every task's progress.
    """

    out: Path
    settings: SystemSettings
    space: Space
    measure: Measure
    data: TrainingData
    development: Development
    on_progress: Progress | None

    def chosen(self, values: dict[str, Any], seed: int | None = None) -> SystemSettings:
        """Settings with other values of the parameters, and perhaps another seed.

        Args:
            values: Value of every parameter by its key.
            seed: Seed of the training; None for that of the settings.

        Returns:
            All settings of a training.

        Raises:
            ConfigError: Values that are valid one by one contradict each other.
        """
        settings = changed(self.settings, self.space.change(values), "the search")
        return settings if seed is None else changed(settings, {"training": {"seed": seed}}, "another seed")

    def folder(self, settings: SystemSettings) -> Path:
        """Folder of a training: a function of its settings."""
        return self.out / "trainings" / hashlib.sha256(dump_settings(settings).encode()).hexdigest()[:12]

    def training(self, settings: SystemSettings, trial: optuna.Trial | None = None) -> Training:
        """Train and score once; what is there is not made again, and what was interrupted goes on.

        Args:
            settings: All settings of the training.
            trial: Gets the scores on the way; None for a training that nothing cuts short.

        Returns:
            The training.

        Raises:
            optuna.TrialPruned: The trial is behind the others, and stops.
        """
        folder = self.folder(settings)
        reports = _Reports(trial)
        log = ScoreLog(
            folder / "development.csv",
            _SCORED_STAGE,
            name=self.measure,
            score=lambda network: self.development.mean(network, self.measure),
            every=settings.training.check_every,
            on_scores=reports.add,
        )
        network = untrained(settings)
        table = folder / _SCORES
        if not table.exists():
            stages = joint_stages(network, settings)
            fit(network, stages, self.data, folder, settings, callbacks=[log], on_progress=self.on_progress)
            save_checkpoint(folder / CHECKPOINT, network, settings)
            scores = self.development.scores(network, folder.name, MEASURES)
            with replacing(table) as temporary:
                rows = (((result.system, result.file), result.scores) for result in scores)
                temporary.write_text(score_csv(_COLUMNS, rows), encoding="utf-8")
        reports.add(log.scores())
        scores = read_score_csv(
            table.read_text(encoding="utf-8"), _COLUMNS, lambda whose, found: FileScores(whose[1], whose[0], found)
        )
        frontend = settings.frontend
        cost = multiply_adds_per_second(network.run_time_parts(), frontend.sample_rate / frontend.hop)
        return Training(folder, settings, cost, scores)


class _Reports:
    """What Optuna knows of a trial's scores on the way.

    Args:
        trial: The trial; None for a training that nothing cuts short.
    """

    def __init__(self, trial: optuna.Trial | None) -> None:
        self._trial = trial
        self._steps: set[int] = set()

    def add(self, scores: dict[int, float]) -> None:
        """Report what Optuna does not know yet.

        Args:
            scores: All scores by step.

        Raises:
            optuna.TrialPruned: The trial is behind the others.
        """
        if self._trial is None:
            return
        for step in sorted(scores.keys() - self._steps):
            self._trial.report(scores[step], step)
            self._steps.add(step)
        if scores and self._trial.should_prune():
            raise optuna.TrialPruned


def score_of(scores: list[FileScores], measure: str) -> float:
    """Mean of a measure; NaN if it is undefined for any mixture, since what is left would be an easier set."""
    return float(np.mean([getattr(result.scores, measure) for result in scores]))


def search(
    speech: Path,
    mixtures: Path,
    out: Path,
    settings: SystemSettings,
    space: Space,
    *,
    trials: int,
    repeats: int = 2,
    measure: Measure = "pesq_wb",
    development: Path | None = None,
    on_progress: Progress | None = None,
) -> Outcome:
    """Search settings by trials of equal length; an interrupted search in `out` goes on, and ends as an unbroken one.

    The first trial has the settings as they are. The suggestion for a trial depends on the seed and the trials before
    it alone, and a training's folder on its settings: so a search that was killed suggests the same again, and the
    training goes on.

    Args:
        speech: Folder of clean speech of anyone.
        mixtures: Folder of noisy recordings.
        out: Folder of the search: `study.db` (SQLite), `trainings/`, `best.yaml`, the report `README.md` and its
            pictures, `trials.csv`.
        settings: What is searched around.
        space: What is varied.
        trials: Number of trials, those of an interrupted search included.
        repeats: With so many other seeds the best settings and those as they are are trained at the end; 0 for none.
        measure: What trials are chosen by.
        development: Folder with `noisy` and `clean` to score on; None for mixtures of held-out speakers and noise.
        on_progress: Called with every task's progress.

    Returns:
        What came out.

    Raises:
        ConfigError: `trials` or `repeats` is out of its range.
        DataError: There is nothing to score on, `out` holds another search, or another process works there.
    """
    if trials < 1 or repeats < 0:
        raise ConfigError(
            f"found {trials} trials and {repeats} repeats, expected 1 or more trials, and 0 or more repeats"
        )
    out.mkdir(parents=True, exist_ok=True)
    share = settings.training.data.held_back_share
    if development is None and share < _HELD_OUT_SHARE:
        share = _HELD_OUT_SHARE
    around = changed(settings, {"training": {"data": {"held_back_share": share}}}, "the search")
    with _alone(out):
        _record(out, around, space, measure, development)
        data = prepare(speech, mixtures, out, around, on_progress, may_stream=False)
        scored_on = (
            of_held_out(data, out / "development", around, on_progress)
            if development is None
            else of_pairs(development, data, around)
        )
        shared = Search(out, around, space, measure, data, scored_on, on_progress)
        with _quiet():
            study = _study(out)
            _run_trials(shared, study, trials)
            outcome = _compare(shared, study, repeats)
            with replacing(out / "best.yaml") as temporary:
                best = changed(settings, space.change(outcome.best_values), "the search")
                temporary.write_text(dump_settings(best), encoding="utf-8")
            write_report(out, outcome)
    return outcome


def _run_trials(shared: Search, study: optuna.Study, trials: int) -> None:
    settings, space = shared.settings, shared.space
    progress = part(shared.on_progress, "trials")
    for running in study.get_trials(states=(TrialState.RUNNING,)):  # of a process that was killed
        study.tell(running.number, state=TrialState.FAIL)
    while (done := len(_with_first(finished(study)))) < trials:
        if progress is not None:
            progress(done, trials)
        key = np.random.SeedSequence([settings.training.seed, done]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(seed=int(key), n_startup_trials=_RANDOM_TRIALS)
        if not done and not study.get_trials(states=(TrialState.WAITING,)):
            study.enqueue_trial(space.to_optuna(space.given))
        trial = study.ask(space.distributions())
        values = {key: space.from_optuna(key, value) for key, value in trial.params.items()}
        _log.info("trial %d: %s", done, ", ".join(f"{key} {value}" for key, value in values.items()))
        try:
            chosen = shared.chosen(values)
            trial.set_user_attr("training", shared.folder(chosen).name)
            training = shared.training(chosen, trial)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
            continue
        except ConfigError as error:  # ends that are valid one by one may contradict each other
            _give_up(study, trial, str(error))
            continue
        value = score_of(training.scores, shared.measure)
        if math.isnan(value):
            _give_up(study, trial, f"{shared.measure} is undefined: the output of the network is silent or no number")
        else:
            study.tell(trial, value)
    if progress is not None:
        progress(trials, trials)


def _give_up(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    _log.warning("trial without a score: %s", reason)
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.FAIL)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ended, in order; those of which a process was killed are begun again, and are none."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "reason" in trial.user_attrs
    ]


def _with_first(ended: list[FrozenTrial]) -> list[FrozenTrial]:
    """The same trials, of which the first has a score: all others are compared with it."""
    if ended and ended[0].state != TrialState.COMPLETE:
        raise DataError(
            "found no score for the settings as they are: the output of the network is silent or no number; see with "
            "`sottovoce train` what is wrong with them, and search in another folder"
        )
    return ended


def _compare(shared: Search, study: optuna.Study, repeats: int) -> Outcome:
    """Train the best settings and those as they are with other seeds, and put everything together."""
    settings, space = shared.settings, shared.space
    ended = _with_first(finished(study))
    complete = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    best = max(complete, key=lambda trial: -math.inf if trial.value is None else trial.value)  # the first of equals

    def values_of(trial: FrozenTrial) -> dict[str, Any]:
        return {key: space.from_optuna(key, value) for key, value in trial.params.items()}

    trainings = {trial.number: shared.training(shared.chosen(values_of(trial))) for trial in complete}
    repeated: list[tuple[int, Training, Training]] = []
    progress = part(shared.on_progress, "other seeds")
    if values_of(best) != space.given:
        for number in range(repeats):
            if progress is not None:
                progress(number, repeats)
            seed = settings.training.seed + 1 + number
            given, better = (shared.training(shared.chosen(values, seed)) for values in (space.given, values_of(best)))
            repeated.append((seed, given, better))
    return Outcome(
        settings=settings,
        space=space,
        measure=shared.measure,
        measures=MEASURES,
        development=shared.development.what,
        unprocessed=tuple(shared.development.unprocessed(MEASURES)),
        trials=tuple(ended),
        values=tuple(values_of(trial) for trial in ended),
        trainings=trainings,
        best=best.number,
        importance=_importance(study, complete),
        repeated=tuple(repeated),
    )


def _importance(study: optuna.Study, complete: list[FrozenTrial]) -> dict[str, float]:
    """Share of each parameter in the variance of the scores; empty where there are too few trials or no variance."""
    if len(complete) <= max(2, len(complete[0].params)) or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _study(out: Path) -> optuna.Study:
    kept = out / "study.db"
    try:
        return optuna.create_study(
            storage=URL.create("sqlite", database=str(kept.resolve())).render_as_string(),
            study_name="search",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_WHOLE_TRIALS),
            load_if_exists=True,
        )
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        raise DataError(
            f"found {kept}, which is no study of this version of Optuna ({str(error).splitlines()[0]}): search in "
            "another folder"
        ) from error


def _record(out: Path, settings: SystemSettings, space: Space, measure: str, development: Path | None) -> None:
    """Keep what is searched in the folder, or see that it is what an interrupted search there was for."""
    hashed = hashlib.sha256()
    if development is not None:
        for path in find_audio(development):
            hashed.update(path.relative_to(development).as_posix().encode() + path.read_bytes())
    record = {
        "settings": settings.model_dump(mode="json"),
        "space": {key: parameter.model_dump(mode="json") for key, parameter in space.parameters.items()},
        "measure": measure,
        "development": None if development is None else hashed.hexdigest(),
    }
    kept = out / "search.json"
    if kept.exists():
        try:
            before = json.loads(kept.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != record:
            different = [name for name in record if not isinstance(before, dict) or before.get(name) != record[name]]
            raise DataError(
                f"found a search with other {' and '.join(different)} in {out}: give another folder, or the same again"
            )
    with replacing(kept) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Refuse to work beside another process in the same folder; a killed one's lock is free."""
    try:
        with FileLock(out / "search.lock", timeout=0):
            yield
    except Timeout:
        raise DataError(f"found another search at work in {out}: wait until it ends, or give another folder") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Optuna reports nothing: the search does."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
