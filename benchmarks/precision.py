"""What bfloat16 would save: a step of the joint stage on the CPU, in float32 and under autocast."""

import argparse
import contextlib
import time

import numpy as np
import torch
from _measure import finish, table

from sottovoce.config import find_settings, load_settings
from sottovoce.objectives.joint import UnpairedTensors
from sottovoce.training.run import untrained
from sottovoce.training.stages import joint_stages

CLIPS, SAMPLES = 2, 16000


def main() -> None:
    """Measure, print and write benchmarks/results/precision.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="steps of each kind, in turns")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = load_settings(find_settings("default"))
    model = untrained(settings).train()
    stage = joint_stages(model, settings)[1]
    rng = np.random.default_rng(0)
    signals = (0.1 * rng.standard_normal((6, CLIPS, SAMPLES))).astype(np.float32)
    batch = UnpairedTensors(*map(torch.from_numpy, signals), simulated_rooms=torch.zeros(CLIPS, 2))
    precisions = {
        "float32": contextlib.nullcontext,
        "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    }
    seconds: dict[str, list[float]] = {name: [] for name in precisions}
    losses = dict.fromkeys(precisions, 0.0)
    for step in range(arguments.steps + 1):
        for name, context in precisions.items():
            model.zero_grad()
            start = time.process_time()
            with context():
                loss = stage.loss(stage.terms(batch, torch.Generator().manual_seed(1)))
            loss.backward()
            if step:  # the first one sets up
                seconds[name].append(time.process_time() - start)
            losses[name] = loss.item()
    apart = abs(losses["bfloat16"] / losses["float32"] - 1)
    rows = [[name, f"{np.median(of):.3f}", f"{min(of):.3f} to {max(of):.3f}"] for name, of in seconds.items()]
    finish(
        "precision",
        "Mixed precision on a CPU",
        [
            f"A step of the joint stage of `default`, {3 * CLIPS} clips of {SAMPLES / 16000:g} s of noise, one thread, "
            f"{arguments.steps} steps of each kind in turns.",
            table(["", "CPU seconds (median)", "range"], rows),
            f"The loss in bfloat16 is apart from that in float32 by {apart:.1e} of its value.",
        ],
    )


if __name__ == "__main__":
    main()
