"""Settings that an older version wrote, in checkpoints and runs, as this version reads them."""

import copy
from collections.abc import Collection
from typing import Any, NamedTuple, NoReturn

from sottovoce.errors import ConfigError

_GAINED_NOTHING = "was removed, since it gained nothing: leave the key out, or use commit c8d5ff2, the last that has it"
_MOVED = "is done by the package sspd2023 alone, in experiments/ of the repository: leave the key out, or use that"
_PUBLISHED = (
    "is no part of the product: use the package sspd2023, in experiments/ of the repository, which has the published "
    "networks, or commit a0f5f57, the last in which any system could have it"
)


class _Removed(NamedTuple):
    """What a key was for, its value that means what this version does, and what became of the others."""

    what: str
    kept: object
    now: str


_REMOVED = {
    "joint_weights.pseudo_loudness": _Removed("the loudness loss", 0.0, _GAINED_NOTHING),
    "joint_weights.remixed": _Removed("self-training on remixed estimates", 0.0, _GAINED_NOTHING),
    "joint_weights.alignment": _Removed("the alignment of latents", 0.0, _GAINED_NOTHING),
    "joint_weights.adversarial": _Removed("the adversarial loss", 0.0, _GAINED_NOTHING),
    "training.optimiser.weight_average": _Removed("averaging of the weights", 0.0, _GAINED_NOTHING),
    "baseline": _Removed("a system to compare with", None, _MOVED),
    "training.data.pairs": _Removed("learning from pairs", False, _MOVED),
    "model.causal": _Removed("a network that sees the future", True, _PUBLISHED),
    "model.normalisation": _Removed("batch normalisation", "channel", _PUBLISHED),
    "model.activation": _Removed("softplus", "prelu", _PUBLISHED),
    "model.equalise": _Removed("running-mean normalisation", False, _PUBLISHED),
    "model.phase": _Removed("another phase than a correction of the mixture's", "residual", _PUBLISHED),
    "model.shared_layer": _Removed("a system without shared layer", True, _PUBLISHED),
    "model.speech_encoder.kind": _Removed("another speech encoder", "convolution", _PUBLISHED),
    "model.mixture_encoder.kind": _Removed("another mixture encoder", "bands", _PUBLISHED),
    "model.speech_decoder.kind": _Removed("another speech decoder", "convolution", _PUBLISHED),
    "model.mixture_decoder.kind": _Removed("another mixture decoder", "convolution", _PUBLISHED),
    "model.mask.kind": _Removed("another mask", "bands", _PUBLISHED),
}
# What only those had a use for.
_REMOVED_WITH_THEM = (
    "training.late_share",
    "training.teacher_decay",
    "training.data.vary_pairs",
    "model.equalise_horizon_seconds",
)
# Keys that are still in use, but no longer with these values.
_REMOVED_VALUES: dict[str, tuple[tuple[object, ...], str]] = {
    "model.mask": ((None,), "a system without mask"),
    "model.noise_code": ((0,), "a system without noise code"),
    "model.phase_features": (("none", "unit"), "such a phase at the input"),
}
_RENAMED = {"frontend.windows": "frontend.window", "frontend.phase_features": "model.phase_features"}


def upgraded(content: dict[str, Any], origin: str, known: Collection[str] = ()) -> dict[str, Any]:
    """Bring settings into the form of this version.

    Args:
        content: Nested mapping, as in a YAML file; it stays as it is.
        origin: Where it comes from, for messages.
        known: Keys that are still in use.

    Returns:
        The mapping without removed keys, and with renamed ones at their place.

    Raises:
        ConfigError: A removed key was in use.
    """
    content = copy.deepcopy(content)

    def refuse(key: str, value: object, what: str, now: str) -> NoReturn:
        raise ConfigError(f"{origin}: {key}: found {value!r}, but {what} {now}")

    for key in (*_REMOVED, *_REMOVED_WITH_THEM):
        part, name = _place(content, key)
        if key in known or name not in part:
            continue
        value = part.pop(name)
        removed = _REMOVED.get(key)
        if removed is not None and value != removed.kept:
            refuse(key, value, removed.what, removed.now)
    for key, new in _RENAMED.items():
        part, name = _place(content, key)
        if name not in part:
            continue
        value = part.pop(name)
        if key == "frontend.windows" and isinstance(value, list | tuple):
            if len(value) != 1:
                refuse(key, list(value), "an input of several windows", _PUBLISHED)
            (value,) = value
        # Where both are there, the new one comes from the settings that somebody changed by the old one.
        part, name = _place(content, new)
        part[name] = value
    for key, (values, what) in _REMOVED_VALUES.items():
        part, name = _place(content, key)
        if name in part and part[name] in values:
            refuse(key, part[name], what, _PUBLISHED)
    return content


def _place(content: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that a dotted key stands in, empty where there is none, and its name there."""
    *parents, name = key.split(".")
    part: Any = content
    for parent in parents:
        part = part.get(parent) if isinstance(part, dict) else None
    return (part if isinstance(part, dict) else {}), name
