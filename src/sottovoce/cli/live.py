"""The command `live`."""

import time
from typing import Annotated, Optional

import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import DEFAULT_OPTIONS, Options
from sottovoce.errors import AudioError, ConfigError
from sottovoce.extras import require


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
) -> int:
    """Enhance a microphone while you speak, for headphones, a recording program or a call.

    Calls take a virtual device as their microphone: see docs/live.md. The screen shows the level before and after. The
    key b switches enhancement off and on again; q ends, as Ctrl-C does. The first line gives the latency, the last one
    how often sound was lost.

    Example:
        sottovoce live --list-devices
        sottovoce live --input "USB microphone" --output clean --limit-db 20

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
    """
    if seconds is not None and not seconds >= 0:
        raise ConfigError(f"found --seconds {seconds:g}, expected 0 or more")
    require("live", "Live sound")
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
    session = Live(
        sottovoce.load(model),
        options,
        input_device=_device(input),
        output_device=_device(output),
        sample_rate=rate,
        channels=channels,
        block_seconds=block_ms / 1000,
    )
    with session:
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


def _device(text: str | None) -> str | int | None:
    return int(text) if text and text.isdecimal() else text
