"""Settings that an older version wrote, in checkpoints and runs, as this version reads them."""

import copy
from typing import Any

from sottovoce.errors import ConfigError

# Keys of what was tried, gained nothing and was removed; by key, what it was and the value that meant "off".
# The last version that had them is commit c8d5ff2.
_REMOVED: dict[str, tuple[str, float]] = {
    "joint_weights.pseudo_loudness": ("the loudness loss", 0.0),
    "joint_weights.remixed": ("self-training on remixed estimates", 0.0),
    "joint_weights.alignment": ("the alignment of latents", 0.0),
    "joint_weights.adversarial": ("the adversarial loss", 0.0),
    "training.optimiser.weight_average": ("averaging of the weights", 0.0),
}
# Values that only those had a use for.
_REMOVED_WITH_THEM = ("training.late_share", "training.teacher_decay")


def upgraded(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """Leave out removed keys that were off, which changes nothing.

    Args:
        content: Nested mapping, as in a YAML file; it stays as it is.
        origin: Where it comes from, for messages.

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
        if not isinstance(part, dict) or name not in part:
            continue
        value = part.pop(name)
        what, off = _REMOVED.get(key, ("", value))
        if value != off:
            raise ConfigError(
                f"{origin}: {key}: found {value!r}, but {what} was removed from sottovoce, since it gained nothing: "
                "leave the key out, or use commit c8d5ff2, the last that has it"
            )
    return content
