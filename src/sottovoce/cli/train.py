"""The command `train`."""

import os

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output
from sottovoce.cli.training import command_line, shown
from sottovoce.extras import require
from sottovoce.paths import require_writable
from sottovoce.training.saved import when_interrupted


def train(
    *,
    speech: str,
    mixtures: str,
    output: Output,
    config: str = "default",
    start: str | None = None,
    seed: int | None = None,
    processes: int | None = None,
    licence: str = "not stated",
    training_data: tuple[str, ...] = (),
) -> None:
    """Train on clean speech of anyone and noisy recordings of the place; no pairs are needed.

    The first folder below --speech names the speaker, that below --mixtures the session. Noise is taken from pauses of
    a second and more in the recordings: some minutes of them are enough to begin with. Writes the model, its
    training checkpoint, curves as pictures, TensorBoard logs and everything that was found to the output folder. The
    same command goes on with an interrupted run.

    Example:
        sottovoce train --speech clean/ --mixtures my_room/ -o runs/my_room
        sottovoce enhance meeting.wav -o clear.wav --model runs/my_room/model.onnx

    Args:
        speech: Clean speech of anyone: a folder; or a manifest of `sottovoce archive make`, tar shards, Parquet files,
            or an address, from which recordings come into memory a few at a time.
        mixtures: Noisy recordings, likewise.
        output: Folder of the run.
        config: Settings: the name of one that comes with sottovoce (default, example, poster, ...) or a YAML file.
        start: Go on from a trained model of the same networks, by the joint stage alone: a bundled model (default,
            live), a run's folder, or the checkpoint.safetensors in it.
        seed: Another seed than that of the settings.
        processes: Train in so many processes, with a batch each, on a GPU each where there are GPUs.
        licence: Licence of the weights, to be kept in the model.
        training_data: Corpora of the training, one sentence each, to be kept in the model.
    """
    require("train", "Training")
    require_writable(output)
    from sottovoce.config import changed, find_settings, load_settings
    from sottovoce.weights import find_checkpoint

    settings = load_settings(find_settings(config))
    if seed is not None:
        settings = changed(settings, {"training": {"seed": seed}}, "--seed")
    if processes is not None:
        settings = changed(settings, {"training": {"processes": processes}}, "--processes")
    if settings.training.processes > 1:
        # That all networks had a gradient, which need not be so in every step, is worth a warning to torch.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

    with interruption.ending_at_once(when_interrupted(output)):
        from sottovoce.models.export import Provenance
        from sottovoce.training.run import train as run

    terminal.say_every_step()
    with shown(output, settings.training.processes) as show:
        model = run(
            speech,
            mixtures,
            output,
            settings,
            Provenance(licence, training_data, command_line()),
            start=None if start is None else find_checkpoint(start),
            on_progress=show,
        )
    if show is None:
        return
    curves = [path for name in ("losses.png", "health.png") if (path := output / name).exists()]
    terminal.say(f"Wrote {model}; curves: {', '.join(map(str, curves))}.")
