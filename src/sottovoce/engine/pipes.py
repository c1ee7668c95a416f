"""Standard input and output through an enhancer: what comes in goes out as soon as the model allows."""

from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.engine.files import check_options, make_folder
from sottovoce.signal.audio import Writer, blocks, probe
from sottovoce.signal.pipes import PipeReader, PipeWriter, RawSound

if TYPE_CHECKING:
    from sottovoce.engine.enhancer import Enhancer

# The most that is read at once, which a live pipe never reaches; see `files` for the length.
_BLOCK_SECONDS = 1.0


def enhance_pipe(
    source: Path | RawIOBase,
    target: Path | RawIOBase,
    enhancer: "Enhancer",
    *,
    source_raw: RawSound | None = None,
    target_raw: str | None = None,
    limit_db: float | None = None,
    mix: float = 1.0,
    full_band: bool = True,
    linked: bool = False,
    live: bool = False,
    overwrite: bool = False,
) -> float:
    """Enhance one recording of which one side or both are a pipe; rate, channels, length and sample format stay.

    Memory does not depend on the length. What a slow pipe has is enhanced and passed on without waiting for more.

    Args:
        source: A recording, or an unbuffered binary file such as standard input.
        target: A file to write, whole or not at all, or an unbuffered binary file such as standard output.
        enhancer: The engine.
        source_raw: What the samples of a pipe without header are; otherwise a WAV is expected.
        target_raw: Name in `RAW_SUBTYPES` of the samples that a pipe gets instead of a WAV.
        limit_db: The most attenuation allowed at any time and frequency, in dB; None for no limit.
        mix: Share of the enhanced signal in the output, 0 (the input) to 1.
        full_band: Keep what lies above the model's band, with the gain that the model gives the upper part of its own.
        linked: Give all channels the same gains.
        live: Resample with a short filter, as `Enhancer.stream` does.
        overwrite: Replace an existing file.

    Returns:
        Seconds of sound that were enhanced.

    Raises:
        AudioError: The source cannot be read, is cut, or holds nothing; the target cannot be written or is closed.
        ConfigError: A number is out of its range.
    """
    check_options(limit_db, mix)
    if isinstance(source, Path):
        info = probe(source)
        pieces = blocks(source, max(1, round(_BLOCK_SECONDS * info.sample_rate)))
    else:
        reader = PipeReader(source, source_raw)
        info = reader.info
        pieces = reader.blocks(max(1, round(_BLOCK_SECONDS * info.sample_rate)))
    stream = enhancer.stream(
        info.sample_rate, info.channels, limit_db=limit_db, mix=mix, full_band=full_band, linked=linked, live=live
    )
    writer: Writer | PipeWriter
    if isinstance(target, Path):
        writer = Writer(target, info.sample_rate, info.channels, like=info, overwrite=overwrite)
        make_folder(target.parent)
    else:
        frames = None if info.needs_pyav or info.frames == 0 else info.frames
        writer = PipeWriter(target, info, raw=target_raw, frames=frames)
    taken = 0
    with writer:
        for block in pieces:
            taken += block.shape[1]
            writer.write(stream.push(block))
        writer.write(stream.flush())
    return taken / info.sample_rate
