"""Standard input and output through an enhancer: what comes in goes out as soon as the model allows."""

from io import RawIOBase
from pathlib import Path

from sottovoce.engine.enhancer import Enhancer, Stream
from sottovoce.engine.files import make_folder
from sottovoce.engine.options import EnhanceOptions
from sottovoce.signal.audio import MediaWriter, Metadata, Writer, blocks, open_writer, probe, read_metadata
from sottovoce.signal.limits import block_frames
from sottovoce.signal.output import OutputOptions
from sottovoce.signal.pipes import PipeReader, PipeWriter, RawSound


def enhance_pipe(
    source: Path | RawIOBase,
    target: Path | RawIOBase,
    enhancer: Enhancer,
    options: EnhanceOptions | None = None,
    *,
    output_options: OutputOptions | None = None,
    source_raw: RawSound | None = None,
    target_raw: str | None = None,
    live: bool = False,
    overwrite: bool = False,
) -> float:
    """Enhance one recording of which one side or both are a pipe; rate, channels, length and sample format stay.

    Memory does not depend on the length. What a slow pipe has is enhanced and passed on without waiting for more.

    Args:
        source: A recording, or an unbuffered binary file such as standard input.
        target: A file to write, whole or not at all, or an unbuffered binary file such as standard output.
        enhancer: The engine.
        options: How to enhance.
        output_options: What is kept beside the sound, and how small a lossy file becomes.
        source_raw: What the samples of a pipe without header are; otherwise a WAV is expected.
        target_raw: Name in `RAW_SUBTYPES` of the samples that a pipe gets instead of a WAV.
        live: Resample with a short filter, as `Enhancer.stream` does.
        overwrite: Replace an existing file.

    Returns:
        Seconds of sound that were enhanced.

    Raises:
        AudioError: The source cannot be read, is cut, or holds nothing; the target cannot be written or is closed.
        ModelError: The network fails, or gives what is no sound.
    """
    if isinstance(source, Path):
        info = probe(source)
        metadata = read_metadata(info)
        pieces = blocks(source, block_frames(info.sample_rate, info.channels))
    else:
        reader = PipeReader(source, source_raw)
        info, metadata = reader.info, reader.metadata
        pieces = reader.blocks(block_frames(info.sample_rate, info.channels))
    stream = Stream(enhancer, info.sample_rate, info.channels, options, live=live)
    writer: Writer | MediaWriter | PipeWriter
    if isinstance(target, Path):
        writer = open_writer(target, info, metadata=metadata, options=output_options, overwrite=overwrite)
        make_folder(target.parent)
    else:
        frames = None if info.needs_pyav or info.frames == 0 else info.frames
        if output_options is not None and not output_options.metadata:
            metadata = Metadata()
        writer = PipeWriter(target, info, metadata=metadata, raw=target_raw, frames=frames)
    taken = 0
    with writer:
        for block in pieces:
            taken += block.shape[1]
            writer.write(stream.push(block))
        writer.write(stream.flush())
    return taken / info.sample_rate
