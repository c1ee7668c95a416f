"""The command `live`."""

import contextlib
import time
from pathlib import Path
from typing import Annotated, Optional

import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import DEFAULT_OPTIONS, Options
from sottovoce.engine.adapters import PLACE_SUFFIX
from sottovoce.errors import AudioError, ConfigError, DataError
from sottovoce.extras import require
from sottovoce.paths import is_file, require_writable


def live(
    *,
    input: Optional[str] = None,
    output: Annotated[Optional[str], tyro.conf.arg(aliases=["-o"])] = None,
    list_devices: bool = False,
    model: str = "default",
    options: Options = DEFAULT_OPTIONS,
    rate: Optional[int] = None,
    channels: int = 1,
    block_ms: float = 10.0,
    seconds: Optional[float] = None,
    adapt: bool = False,
    keep_place: Optional[Path] = None,
) -> int:
    """Enhance a microphone while you speak, for headphones, a recording program or a call.

    Calls take a virtual device as their microphone: see docs/live.md. The screen shows the level before and after. The
    key b switches enhancement off and on again; q ends, as Ctrl-C does. The first line gives the latency, the last one
    how often sound was lost.

    Example:
        sottovoce live --list-devices
        sottovoce live --input "USB microphone" --output clean --limit-db 20
        sottovoce live --adapt --keep-place my_room.place

    Args:
        input: Device to record from: its name, a part of it, or its number; the usual one if not given.
        output: Device to play to.
        list_devices: List the devices, and do nothing else.
        model: A bundled model: default, or live, which has 16 ms less latency. Or the folder of a training or an
            adaptation, or the model.onnx in it; or the model.place that an adaptation wrote.
        options: How to enhance.
        rate: Rate of the devices in Hz; the model's if not given, where the devices take it.
        channels: Number of channels, each enhanced on its own.
        block_ms: Length of a block in ms: shorter blocks have less latency, and more gaps on a busy machine.
        seconds: End after this time; without it, run until stopped.
        adapt: Learn the place in the background from the first minutes of what comes in, as `sottovoce adapt` does, and
            go on with the adapted model where it is better.
        keep_place: With --adapt, a new file (.place) for what was learned; --model takes it the next time.
    """
    if seconds is not None and not seconds >= 0:
        raise ConfigError(f"found --seconds {seconds:g}, expected 0 or more")
    if keep_place is not None:
        _check_place(keep_place, adapt=adapt)
    require("live", "Live sound")
    checkpoint = _checkpoint(model) if adapt else None
    import sottovoce
    from sottovoce.engine.live import Live, devices

    if list_devices:
        found = devices()
        if not found:
            raise AudioError("found no sound device, expected one at least: see whether a sound server runs")
        terminal.print_line("nr  in out  rate     device (* is the usual input, + the usual output)")
        for device in found:
            marks = "*" * device.is_default_input + "+" * device.is_default_output
            terminal.print_line(
                f"{device.number:2d} {device.inputs:3d} {device.outputs:3d}  {device.sample_rate:<7d}  "
                f"{device.name} ({device.system}) {marks}".rstrip()
            )
        return 0
    enhancer = sottovoce.load(model)
    session = Live(
        enhancer,
        options,
        input_device=_device(input),
        output_device=_device(output),
        sample_rate=rate,
        channels=channels,
        block_seconds=block_ms / 1000,
    )
    adaptation: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if checkpoint is not None:
        from sottovoce.cli.training import command_line
        from sottovoce.training.live import LiveAdaptation

        adaptation = LiveAdaptation(
            session.sample_rate,
            channels,
            model_rate=enhancer.model.metadata.sample_rate,
            checkpoint=checkpoint,
            exchange=session.relay.exchange,
            say=terminal.say,
            keep=keep_place,
            command=command_line(),
        )
        session.relay.listener = adaptation.receive
    with adaptation, session:
        start = time.monotonic()
        latency = session.latency
        try:
            with interruption.accepted(), terminal.keys() as next_key, terminal.meters() as show:
                # Said where an interruption is an end: who reads this may interrupt at once.
                terminal.say(
                    f"From {session.input_name!r} to {session.output_name!r} at {session.sample_rate} Hz, "
                    f"latency {1000 * latency.total_seconds:.0f} ms: model {1000 * latency.model_seconds:.0f}, "
                    f"blocks {1000 * latency.blocks_seconds:.0f}, input {1000 * latency.input_seconds:.0f}, "
                    f"output {1000 * latency.output_seconds:.0f}."
                )
                while seconds is None or time.monotonic() - start < seconds:
                    session.check()
                    key = next_key()
                    if key == "q":
                        break
                    if key == "b":
                        session.relay.bypass = not session.relay.bypass
                    show(session.relay)
        finally:
            terminal.say(
                f"Ran {terminal.duration(time.monotonic() - start)}: {session.overruns} overrun(s), in which sound was "
                f"lost, and {session.underruns} underrun(s), in which there was silence."
            )
    return 0


def _check_place(path: Path, *, adapt: bool) -> None:
    if not adapt:
        raise ConfigError("found --keep-place without --adapt, which makes the place: add --adapt")
    if path.suffix != PLACE_SUFFIX:
        raise ConfigError(f"found --keep-place {path}, expected a name that ends in {PLACE_SUFFIX}")
    require_writable(path)
    if path.exists():
        raise DataError(f"found {path}, which is kept: name another file")


def _checkpoint(model: str) -> Path:
    require("train", "Adapting")
    from sottovoce.weights import find_checkpoint

    checkpoint = find_checkpoint(model)
    if not is_file(checkpoint):
        raise DataError(
            f"found no training checkpoint at {checkpoint}, from which --adapt starts: give a bundled model, or the "
            "folder of a training or an adaptation"
        )
    return checkpoint


def _device(text: str | None) -> str | int | None:
    return int(text) if text and text.isdecimal() else text
