"""What a search varies: settings by their keys, and the values that each of them may take."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from sottovoce.config import Settings, SystemSettings, changed, explained
from sottovoce.errors import ConfigError
from sottovoce.yaml_file import read_mapping, shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SEARCHED = ("speech_weights", "joint_weights", "model", "training.optimiser")
"""Parts of the settings that a search may vary: no other data, steps or seeds, which would be another experiment."""

_MAX_CHOICES = 100


class Parameter(Settings):
    """The values of one setting: a range of numbers, or a list of choices."""

    low: float | None = Field(None, description="Smallest value.")
    high: float | None = Field(None, description="Largest value.")
    log: bool = Field(False, description="Whether ratios count and not differences: for weights and rates.")
    step: Annotated[float, Field(gt=0)] | None = Field(None, description="Distance of neighbouring values.")
    choices: tuple[Any, ...] | None = Field(None, min_length=2, max_length=_MAX_CHOICES, description="All values.")
    also: tuple[str, ...] = Field((), description="Other settings that have the same value.")

    @model_validator(mode="after")
    def _range_or_choices(self) -> Self:
        if self.choices is not None:
            if self.model_fields_set & {"low", "high", "log", "step"}:
                raise ValueError("has choices and a range, expected one of them")
            return self
        if self.low is None or self.high is None:
            raise ValueError("has neither choices nor both ends of a range, low and high")
        if not self.low < self.high:
            raise ValueError(f"is a range from low to high, found {self.low:g} to {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("is a logarithmic range, which begins above 0 and has no step: for 0, give choices")
        if self.step is not None and not _is_whole((self.high - self.low) / self.step):
            raise ValueError(f"has no whole steps from low to high: {self.low:g} to {self.high:g} by {self.step:g}")
        return self

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that all have to be valid, or the values between them are not either."""
        return (self.low, self.high) if self.choices is None else self.choices


@dataclass(frozen=True)
class Space:
    """Parameters by their keys, with what the settings that are searched around have for them.

    Attributes:
        parameters: Key, such as `joint_weights.cycle`, to values.
        given: Key to the value in these settings.
    """

    parameters: dict[str, Parameter]
    given: dict[str, Any]

    def distributions(self) -> "dict[str, BaseDistribution]":
        """The parameters as Optuna knows them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        made: dict[str, BaseDistribution] = {}
        for key, parameter in self.parameters.items():
            if parameter.choices is not None:
                made[key] = CategoricalDistribution([json.dumps(choice) for choice in parameter.choices])
                continue
            assert parameter.low is not None
            assert parameter.high is not None
            if isinstance(self.given[key], int):
                step = 1 if parameter.step is None else round(parameter.step)
                made[key] = IntDistribution(round(parameter.low), round(parameter.high), log=parameter.log, step=step)
            else:
                made[key] = FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
        return made

    def from_optuna(self, key: str, value: Any) -> Any:
        """A value of Optuna's as a setting: of a range without steps, three digits tell trials apart and can be read.

        Args:
            key: Key of the parameter.
            value: Number, or text of a choice.

        Returns:
            Value of the setting.
        """
        parameter = self.parameters[key]
        if parameter.choices is not None:
            return json.loads(value)
        if value == self.given[key] or not isinstance(value, float):
            return value  # the settings as they are keep all their digits
        return float(f"{value:.3g}" if parameter.step is None else f"{value:.12g}")

    def to_optuna(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values of settings as Optuna has them."""
        return {
            key: value if self.parameters[key].choices is None else json.dumps(value) for key, value in values.items()
        }

    def change(self, values: dict[str, Any]) -> dict[str, Any]:
        """What the settings become: a nested mapping for `config.changed`.

        Args:
            values: Value of every parameter by its key.

        Returns:
            The values, those of settings that go along with them included.
        """
        nested: dict[str, Any] = {}
        for key, value in values.items():
            for name in (key, *self.parameters[key].also):
                *parents, last = name.split(".")
                part = nested
                for parent in parents:
                    part = part.setdefault(parent, {})
                part[last] = value
        return nested


def read_space(path: Path, settings: SystemSettings) -> Space:
    """Read what to search, and see that every end of every range is a setting that can be trained.

    Args:
        path: YAML file: a mapping of keys of settings to `low`, `high`, and perhaps `log` or `step`, or to `choices`;
            and perhaps `also`, other keys that have the same value.
        settings: What is searched around; their own values belong to the space.

    Returns:
        The space.

    Raises:
        ConfigError: A key is unknown or cannot be searched, or a range is none, is invalid, or leaves out the value of
            the settings.
    """
    content = read_mapping(path)
    if not content:
        raise ConfigError(f"found no settings in {path}, expected at least one: say what to search")
    parameters, given = {}, {}
    for key, values in content.items():
        name = shown(str(key))
        if not isinstance(values, dict):
            raise ConfigError(
                f"{path}: {name}: found {shown(repr(values))}, expected a range or choices, such as "
                "{low: 0.01, high: 1, log: true} or {choices: [8, 16]}"
            )
        try:
            parameter = Parameter.model_validate(values)
        except ValidationError as error:
            raise explained(error, f"{path}: {name}") from error
        value = _value(settings, str(key), path)
        for other in parameter.also:
            if _value(settings, other, path) != value:
                raise ConfigError(
                    f"{path}: {name}: also: found {shown(other)}, which is not {shown(repr(value))} in the settings "
                    "that are searched around, expected one with an equal value"
                )
        _check_range(parameter, value, f"{path}: {name}")
        parameters[str(key)] = parameter
        # The choice as it is written: 0 is the value 0.0 of the settings, but Optuna knows choices by their text.
        choices = parameter.choices or ()
        given[str(key)] = choices[choices.index(value)] if value in choices else value
    keys = [key for name, parameter in parameters.items() for key in (name, *parameter.also)]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"{path}: found {shown(twice)} twice, expected each setting once")
    space = Space(parameters, given)
    for key, parameter in parameters.items():
        for value in parameter.extremes:
            found = round(value) if parameter.choices is None and isinstance(given[key], int) else value
            changed(settings, space.change({key: found}), str(path))
    return space


def _value(settings: SystemSettings, key: str, path: Path) -> Any:
    """What the settings have for a key; a list for a tuple, as in YAML."""
    if not key.startswith(tuple(f"{part}." for part in SEARCHED)):
        raise ConfigError(f"{path}: found {shown(key)}, expected a setting of {', '.join(SEARCHED)}")
    value: Any = settings.model_dump(mode="json")
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ConfigError(
                f"{path}: found {shown(key)}, which is no setting: settings.yaml in the folder of a run has all of them"
            )
        value = value[name]
    if isinstance(value, dict):
        raise ConfigError(f"{path}: found {shown(key)}, which is a group of settings: name one of them")
    return value


def _check_range(parameter: Parameter, given: Any, where: str) -> None:
    if parameter.choices is not None:
        if given not in parameter.choices:
            raise ConfigError(
                f"{where}: found choices without {shown(repr(given))}, the value of the settings, with which the "
                "search begins: add it"
            )
        return
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ConfigError(f"{where}: found a range for {shown(repr(given))}, which is no number: give choices")
    assert parameter.low is not None
    assert parameter.high is not None
    if isinstance(given, int) and any(
        value is not None and not value.is_integer() for value in (parameter.low, parameter.high, parameter.step)
    ):
        raise ConfigError(f"{where}: found a range of fractions for a whole number: give whole numbers")
    steps = 0.0 if parameter.step is None else (given - parameter.low) / parameter.step
    if not parameter.low <= given <= parameter.high or not _is_whole(steps):
        raise ConfigError(
            f"{where}: found a range without {given:g}, the value of the settings, with which the search begins: "
            "widen it"
        )


def _is_whole(steps: float) -> bool:
    return math.isclose(steps, round(steps), abs_tol=1e-6)
