"""What is saved of a training, by the names of its files: commands say it before torch is loaded."""

from pathlib import Path

FINISHED = "finished.pt"
"""Name of the networks in a stage's folder once the stage is finished."""

_STAGES = ("speech", "joint")  # of what has a command of its own


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a stage's folder, or None."""
    return max(folder.glob("step=*.ckpt"), key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Number of steps behind a checkpoint."""
    return int(checkpoint.stem.split("=")[1].split("-")[0])


def saved_until(out: Path) -> str:
    """Up to where a training is saved.

    Args:
        out: The run's folder.

    Returns:
        "step 40 of the joint stage" or "the end of the speech stage"; nothing where nothing is saved.
    """
    until = ""
    for stage in _STAGES:
        folder = out / "stages" / stage
        if (folder / FINISHED).exists():
            until = f"the end of the {stage} stage"
        elif (checkpoint := newest_checkpoint(folder)) is not None:
            until = f"step {step_of(checkpoint)} of the {stage} stage"
    return until


def when_resumed(out: Path) -> str:
    """Where a training goes on.

    Args:
        out: The run's folder.

    Returns:
        A sentence; nothing where there was no training before.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return ""
    until = saved_until(out)
    return f"going on from {until}" if until else "nothing of the training was saved: starting from the beginning"


def when_interrupted(out: Path) -> str:
    """What is saved of a training that is interrupted, and how to go on.

    Args:
        out: The run's folder.

    Returns:
        A sentence.
    """
    until = saved_until(out)
    if not until:
        return "nothing of the training is saved yet: the same command starts from the beginning"
    return f"the training is saved in {out} up to {until}: the same command goes on from there"
