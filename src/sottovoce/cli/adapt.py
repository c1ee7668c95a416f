"""The command `adapt`."""

from pathlib import Path

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output
from sottovoce.cli.training import command_line, shown
from sottovoce.extras import require
from sottovoce.paths import require_writable
from sottovoce.training.saved import when_interrupted


def adapt(
    *,
    mixtures: Path,
    output: Output,
    model: str = "default",
    speech: Path | None = None,
    steps: int = 150,
    seed: int = 1,
) -> None:
    """Make a model better for one place, from noisy recordings of it; no clean version of anything is needed.

    Some minutes of recordings teach the noise and the voices of the place; they should have pauses in which nobody
    speaks. A part of them is held back, and what was learned is taken only if it is better there; otherwise the output
    holds the old model. A single long recording serves as well. The same command goes on where it was interrupted.

    Example:
        sottovoce adapt --mixtures my_room/ -o runs/my_room
        sottovoce enhance meeting.wav -o clear.wav --model runs/my_room/model.onnx

    Args:
        mixtures: Noisy recordings of the place: a folder, or one file.
        output: Folder to write: model.onnx, its checkpoint, model.place, what was measured, and pictures.
        model: What to start from: a bundled model (default, live), a run's folder, or the checkpoint.safetensors in it.
        speech: Folder of clean speech of anyone; some that comes along by default.
        steps: Steps of the training; 150 take about 5 minutes on two cores.
        seed: Seed of all draws.
    """
    require("train", "Adapting")
    require_writable(output)
    from sottovoce.weights import DEFAULT_SPEECH, find_checkpoint

    checkpoint = find_checkpoint(model)
    with interruption.ending_at_once(when_interrupted(output)):
        from sottovoce.training.adapt import adapt as run

    with shown(output) as show:
        adaptation = run(
            mixtures,
            output,
            checkpoint=checkpoint,
            speech=DEFAULT_SPEECH if speech is None else speech,
            steps=steps,
            seed=seed,
            command=command_line(),
            on_progress=show,
        )
    for line in adaptation.place.sentences():
        terminal.say(line)
    terminal.say(f"{'Adapted' if adaptation.adopted else 'Kept the old model'}: {adaptation.reason}.")
    terminal.say(f"Wrote {adaptation.model}; pictures and numbers are beside it.")
    if adaptation.refused is not None:
        terminal.say(f"What was learned is in {adaptation.refused}, if you want to hear it.")
