"""Settings that an older version wrote, in checkpoints and runs, as this version reads them."""

import copy
from collections.abc import Collection
from typing import Any, NamedTuple

from sottovoce.errors import ConfigError

_GAINED_NOTHING = "was removed, since it gained nothing: leave the key out, or use commit c8d5ff2, the last that has it"
_MOVED = "is done by the package sspd2023 alone, in experiments/ of the repository: leave the key out, or use that"


class _Removed(NamedTuple):
    """What a key was for, the value that meant "off", and what became of it."""

    what: str
    off: float | None
    now: str


_REMOVED = {
    "joint_weights.pseudo_loudness": _Removed("the loudness loss", 0.0, _GAINED_NOTHING),
    "joint_weights.remixed": _Removed("self-training on remixed estimates", 0.0, _GAINED_NOTHING),
    "joint_weights.alignment": _Removed("the alignment of latents", 0.0, _GAINED_NOTHING),
    "joint_weights.adversarial": _Removed("the adversarial loss", 0.0, _GAINED_NOTHING),
    "training.optimiser.weight_average": _Removed("averaging of the weights", 0.0, _GAINED_NOTHING),
    "baseline": _Removed("a system to compare with", None, _MOVED),
    "training.data.pairs": _Removed("learning from pairs", False, _MOVED),
}
# What only those had a use for.
_REMOVED_WITH_THEM = ("training.late_share", "training.teacher_decay", "training.data.vary_pairs")


def upgraded(content: dict[str, Any], origin: str, known: Collection[str] = ()) -> dict[str, Any]:
    """Leave out removed keys that were off, which changes nothing.

    Args:
        content: Nested mapping, as in a YAML file; it stays as it is.
        origin: Where it comes from, for messages.
        known: Keys that are still in use.

    Returns:
        The mapping without removed keys.

    Raises:
        ConfigError: A removed key was in use.
    """
    content = copy.deepcopy(content)
    for key in (*_REMOVED, *_REMOVED_WITH_THEM):
        *parents, name = key.split(".")
        part: Any = content
        for parent in parents:
            part = part.get(parent) if isinstance(part, dict) else None
        if key in known or not isinstance(part, dict) or name not in part:
            continue
        value = part.pop(name)
        removed = _REMOVED.get(key)
        if removed is not None and value != removed.off:
            raise ConfigError(f"{origin}: {key}: found {value!r}, but {removed.what} {removed.now}")
    return content
