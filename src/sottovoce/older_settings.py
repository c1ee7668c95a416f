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
_FIXED = "is the same in all trainings, 0.3 to 5 s: leave the key out"


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
    "training.data.pseudo_pause_seconds": _Removed("the range of pauses before words", [0.3, 5.0], _FIXED),
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
# Simulated mixtures had no section of their own: every key of theirs began with `pseudo_`.
_WEIGHTS = (
    "latent",
    "amplitude",
    "magnitude",
    "complex",
    "multi_resolution",
    "snr",
    "ratio_mask",
    "dereverberation_mask",
)
_SIMULATION = {
    "snr_db": "snr_db",
    "quiet_share": "quiet_share",
    "attenuation_db": "attenuation_db",
    "colour": "random_filter",
    "band_limited_share": "band_limited_share",
    "speed": "speech.speed",
    "held_vowel_share": "speech.held_vowel_share",
    "pause_share": "speech.pause_share",
    "room_share": "room.share",
    "rooms": "room.count",
    "t60_seconds": "room.t60_seconds",
    "early_ms": "room.early_ms",
    "target_t60_seconds": "room.target_t60_seconds",
    "noise_speed": "noise.speed",
    "noise_reversed_share": "noise.reversed_share",
    "noise_swelling_share": "noise.swelling_share",
    "babble_share": "noise.babble_share",
    "synthetic_share": "noise.synthetic_share",
    "second_noise_share": "noise.second_share",
}
_RENAMED = {
    "frontend.windows": "frontend.window",
    "frontend.phase_features": "model.phase_features",
    **{f"joint_weights.pseudo_{name}": f"joint_weights.simulated_{name}" for name in _WEIGHTS},
    "training.data.pseudo_clips": "training.data.simulated_clips",
    **{f"training.data.pseudo_{old}": f"training.data.simulation.{new}" for old, new in _SIMULATION.items()},
}


def renamed(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """Give settings the names of this version.

    Args:
        content: Nested mapping, as in a YAML file; it stays as it is.
        origin: Where it comes from, for messages.

    Returns:
        The mapping with the values of renamed keys where they belong now.

    Raises:
        ConfigError: A value is there under its old and its new name, or has no meaning under the new one.
    """
    content = copy.deepcopy(content)
    for old, new in _RENAMED.items():
        part, name = _place(content, old)
        if name not in part:
            continue
        value = part.pop(name)
        if old == "frontend.windows" and isinstance(value, list | tuple):
            if len(value) != 1:
                _refuse(origin, old, list(value), "an input of several windows", _PUBLISHED)
            (value,) = value
        part, name = _place(content, new, make=True)
        if name in part:
            raise ConfigError(f"{origin}: found {old} and {new}, its name in this version: leave out the first")
        part[name] = value
    return content


def upgraded(content: dict[str, Any], origin: str, known: Collection[str] = ()) -> dict[str, Any]:
    """Bring settings into the form of this version.

    Args:
        content: Nested mapping, as in a YAML file; it stays as it is.
        origin: Where it comes from, for messages.
        known: Keys that are still in use.

    Returns:
        The mapping without removed keys, and with renamed ones at their place.

    Raises:
        ConfigError: A removed key was in use, or a value is there under its old and its new name.
    """
    content = renamed(content, origin)
    for key in (*_REMOVED, *_REMOVED_WITH_THEM):
        part, name = _place(content, key)
        if key in known or name not in part:
            continue
        value = part.pop(name)
        removed = _REMOVED.get(key)
        if removed is not None and value != removed.kept:
            _refuse(origin, key, value, removed.what, removed.now)
    for key, (values, what) in _REMOVED_VALUES.items():
        part, name = _place(content, key)
        if name in part and part[name] in values:
            _refuse(origin, key, part[name], what, _PUBLISHED)
    return content


def _refuse(origin: str, key: str, value: object, what: str, now: str) -> NoReturn:
    raise ConfigError(f"{origin}: {key}: found {value!r}, but {what} {now}")


def _place(content: dict[str, Any], key: str, *, make: bool = False) -> tuple[dict[str, Any], str]:
    """The mapping that a dotted key stands in and its name there; where there is none, an empty one."""
    *parents, name = key.split(".")
    part: Any = content
    for parent in parents:
        if make and isinstance(part, dict):
            part.setdefault(parent, {})
        part = part.get(parent) if isinstance(part, dict) else None
    return (part if isinstance(part, dict) else {}), name
