"""The command `mix`."""

from pathlib import Path
from typing import Literal

from sottovoce import terminal
from sottovoce.cli.arguments import Output
from sottovoce.errors import ConfigError
from sottovoce.extras import require
from sottovoce.paths import require_writable
from sottovoce.progress import part


def mix(
    *,
    speech: Path,
    noise: Path,
    output: Output,
    count: int,
    rooms: Path | None = None,
    simulated_rooms: float | None = None,
    snr_db: tuple[float, ...] = (-5.0, 0.0, 5.0),
    seconds: float | None = None,
    target: Literal["dry", "early"] = "dry",
    sample_rate: int = 16000,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Make noisy mixtures with known clean speech, to test with.

    Writes noisy/, clean/ and mixtures.csv, which says how each mixture was made. Equal arguments give equal files. The
    first folder below --speech names the speaker, that below --noise the kind of noise; both are dealt out evenly.
    Recordings that cannot be used are named and left out, and the exit code is then 1.

    Example:
        sottovoce mix --speech clean/ --noise noise/ --count 90 --snr-db 0 5 10 -o test/
        sottovoce mix --speech clean/ --noise noise/ --simulated-rooms 0.5 --seconds 30 --count 40 -o field/

    Args:
        speech: Folder of clean speech, a sub-folder per speaker.
        noise: Folder of noise, a sub-folder per kind.
        output: Folder to make.
        count: Number of mixtures.
        rooms: Folder of measured room impulse responses; every mixture is in one of them.
        simulated_rooms: Share of the mixtures in a simulated room, 0 to 1.
        snr_db: Ratios of active speech to noise in dB, taken in turn.
        seconds: Length of each mixture, from utterances of one speaker with the pauses of a conversation; without it,
            a mixture is one utterance.
        target: What counts as clean: dry speech, or direct sound with early reflections (50 ms).
        sample_rate: Rate of the mixtures in Hz.
        seed: Another seed gives other mixtures.
        overwrite: Replace an existing folder of mixtures.
    """
    from sottovoce.data.corpora.manifest import scan
    from sottovoce.data.simulation.mixtures import TABLE, make_mixtures
    from sottovoce.signal.audio import find_audio

    if rooms is not None and simulated_rooms is not None:
        raise ConfigError("found --rooms and --simulated-rooms, expected one of them")
    require_writable(output)
    if simulated_rooms:
        require("train", "Simulating rooms", "pyroomacoustics")
    with terminal.progress() as show:
        speakers = scan(speech, progress=part(show, "looking at the speech"))
        noises = scan(noise, progress=part(show, "looking at the noise"))
        rows = make_mixtures(
            speakers,
            noises,
            output,
            count=count,
            snr_db=snr_db,
            seed=seed,
            responses=find_audio(rooms) if rooms else (),
            room_share=1.0 if rooms else simulated_rooms or 0.0,
            seconds=seconds,
            target=target,
            sample_rate=sample_rate,
            overwrite=overwrite,
            progress=part(show, "mixing"),
        )
    left_out = (*speakers.unusable, *noises.unusable)
    for unusable in left_out:
        terminal.warn(f"left out: {unusable.reason}")
    seconds_in_all = sum(row.seconds for row in rows)
    files = "1 file" if len(rows) == 1 else f"{len(rows)} files"
    terminal.say(f"Mixed {files}, {terminal.duration(seconds_in_all)} of sound; see {output / TABLE}.")
    return 1 if left_out else 0
