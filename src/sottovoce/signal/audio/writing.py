"""Sound files are written by blocks, and appear whole or not at all."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from sottovoce.atomic import temporary_beside
from sottovoce.errors import AudioError
from sottovoce.paths import require_usable_name
from sottovoce.signal.audio.containers import find_defect
from sottovoce.signal.audio.formats import AudioInfo, choose_format, exceeds_limit, too_long
from sottovoce.signal.audio.layout import flac_comment, write_layout
from sottovoce.signal.audio.lossy import Encoding, encoding_of_bit_rate, encoding_of_quality
from sottovoce.signal.audio.metadata import Metadata, clear_peak_time, write_metadata
from sottovoce.signal.audio.reading import open_sound
from sottovoce.signal.audio.targets import (
    LOSSY_PEAK,
    disk_error,
    limit,
    nothing_to_write,
    put_in_place,
    refuse_existing,
    require_block,
    unwritable,
    warn_limited,
    warn_unkept,
)
from sottovoce.signal.output import OutputOptions

# libsndfile's Vorbis encoder takes memory on the stack for what one call writes.
_WRITE_FRAMES = 16384
_INTEGER_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ULAW": 16, "ALAW": 16}


class Writer:
    """Writes a recording block by block, as a context manager; the file appears whole or not at all.

    The blocks go to a temporary file in the target's folder, which gets the target's name at the end of the `with`
    block and disappears if that is left by an exception. Integer sample formats are rounded and limited to ±1, lossy
    ones are limited to ±10, with a warning that says how many samples were beyond; float takes every value. A WAV of
    more than 4 GiB becomes an RF64, at once if `like` shows that it will be so long.

    Args:
        path: The file to write; its suffix sets the kind.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        like: A recording whose sample format, channel layout and bit rate are kept where the kind of file allows it;
            without it 16 bit, and 24 bit where a FLAC takes the place of a wider format.
        metadata: What the file says beside its samples; a warning names what its kind has no place for.
        options: Whether metadata is kept, and the quality of a lossy file.
        overwrite: Replace an existing file.

    Raises:
        AudioError: The kind of file is unknown or cannot hold the rate, the channels or the length, the file exists, or
            it cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        sample_rate: int,
        channels: int,
        *,
        like: AudioInfo | None = None,
        metadata: Metadata | None = None,
        options: OutputOptions | None = None,
        overwrite: bool = False,
    ) -> None:
        options = options or OutputOptions()
        metadata = metadata or Metadata()
        self.path = Path(path)
        require_usable_name(self.path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.format, self.subtype = choose_format(self.path, sample_rate, channels, like)
        self._encoding = _choose_encoding(self.subtype, sample_rate, channels, like, options)
        self._layout = like.layout if like is not None else None
        self._metadata = metadata if options.metadata else metadata.layout_only()
        self._unkept = self._metadata.lost_in(self.format)
        self._overwrite = overwrite
        self._frames = 0
        self._limited = 0
        refuse_existing(self.path, overwrite=self._overwrite)

    def __enter__(self) -> Self:
        self._part = temporary_beside(self.path.with_suffix(".part"))
        try:
            self._part.touch(exist_ok=False)
            self._file = self._open()
        except OSError as error:
            raise unwritable(self.path, error) from error
        except sf.SoundFileError as error:
            self._part.unlink(missing_ok=True)
            raise AudioError(f"cannot write {self.path} as {self.format} {self.subtype} ({error})") from error
        return self

    def write(self, block: NDArray[np.floating]) -> None:
        """Append samples.

        Args:
            block: Samples `(channels, n)`, full scale ±1.

        Raises:
            AudioError: The disk does not take them, or the kind of file holds no more.
            ValueError: The block has another shape.
        """
        require_block(block, self.channels)
        for start in range(0, block.shape[1], _WRITE_FRAMES):
            samples = self._encode(block[:, start : start + _WRITE_FRAMES]).T
            try:
                if exceeds_limit(self.format, self.subtype, self._frames + len(samples), self.channels):
                    self._go_on_as_rf64()
                self._file.write(samples)
            # soundfile asserts that libsndfile took every sample.
            except (sf.SoundFileError, AssertionError) as error:
                raise disk_error(self.path, self._frames / self.sample_rate) from error
            self._frames += samples.shape[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
            else:
                with contextlib.suppress(sf.SoundFileError):
                    self._file.close()
        finally:
            self._part.unlink(missing_ok=True)

    def _open(self) -> sf.SoundFile:
        file = sf.SoundFile(
            self._part,
            "w",
            self.sample_rate,
            self.channels,
            self.subtype,
            format=self.format,
            compression_level=self._encoding.compression_level,
            bitrate_mode=self._encoding.bitrate_mode,
        )
        for name, text in self._metadata.texts_for(self.format).items():
            try:
                setattr(file, name, text)
            except sf.SoundFileError:  # a W64
                self._unkept.append(name)
        return file

    def _go_on_as_rf64(self) -> None:
        """Copy what a WAV holds to an RF64, whose header has other sizes, and go on with that."""
        if self.format == "AIFF":
            raise too_long(self.path)
        self._file.close()
        self.format = "RF64"
        written = self._part.rename(self._part.with_suffix(".full"))
        try:
            self._file = self._open()
            with sf.SoundFile(written) as file:
                dtype = "int32" if self.subtype in _INTEGER_BITS else "float32"
                for block in file.blocks(_WRITE_FRAMES, dtype=dtype):
                    self._file.write(block)
        finally:
            written.unlink()

    def _encode(self, block: NDArray[np.floating]) -> NDArray[np.float32] | NDArray[np.int32]:
        if self.subtype in ("FLOAT", "DOUBLE"):
            return block.astype(np.float32)
        bits = _INTEGER_BITS.get(self.subtype)
        samples, count = limit(block, LOSSY_PEAK if bits is None else 1)
        self._limited += count
        if bits is None:
            return samples
        # libsndfile truncates where it should round, so the integers are made here: read and written is the same.
        return quantise(samples, bits) << (32 - bits)

    def _commit(self) -> None:
        if self._frames == 0:
            self._file.close()
            raise nothing_to_write(self.path)
        try:
            self._file.close()
        except sf.SoundFileError as error:
            raise disk_error(self.path, self._frames / self.sample_rate) from error
        # An encoder may notice only while it closes, and say nothing, that the disk took no more.
        if not self._is_whole():
            raise disk_error(self.path, self._frames / self.sample_rate)
        try:
            if self.subtype in ("FLOAT", "DOUBLE"):
                clear_peak_time(self._part)
            self._write_metadata()
        except OSError as error:
            raise disk_error(self.path, self._frames / self.sample_rate) from error
        if not self._is_whole():
            raise AudioError(
                f"cannot write {self.path} with the metadata of its recording, which is damaged: leave it out "
                "(--no-metadata)"
            )
        put_in_place(self._part, self.path, overwrite=self._overwrite)
        warn_unkept(self.path, self._unkept)
        warn_limited(self.path, self._limited, 1 if self.subtype in _INTEGER_BITS else LOSSY_PEAK)

    def _is_whole(self) -> bool:
        try:
            with open_sound(self._part) as written:
                return bool(written.frames == self._frames and find_defect(self._part) is None)
        except sf.SoundFileError:
            return False

    def _write_metadata(self) -> None:
        metadata, layout = self._metadata, self._layout
        if layout is not None and self.format == "FLAC":
            metadata = metadata.with_comment(flac_comment(layout))
        write_metadata(self._part, metadata)
        if layout is None:
            return
        is_kept = write_layout(self._part, layout) or (self.format == "FLAC" and not layout.is_ambisonic)
        # Whoever reads one or two channels needs no layout.
        if not is_kept and (self.channels > 2 or layout.is_ambisonic):
            self._unkept.append("ambisonic layout" if layout.is_ambisonic else "speakers of the channels")


def _choose_encoding(
    subtype: str, sample_rate: int, channels: int, like: AudioInfo | None, options: OutputOptions
) -> Encoding:
    if options.quality is not None:
        return encoding_of_quality(subtype, options.quality)
    bit_rate = 1000 * options.bitrate if options.bitrate else like.bit_rate if like else 0.0
    return encoding_of_bit_rate(subtype, sample_rate, channels, bit_rate) if bit_rate else Encoding()


def quantise(samples: NDArray[np.floating], bits: int) -> NDArray[np.int32]:
    """Round samples to integers; what is beyond full scale is limited.

    Args:
        samples: Samples of any shape, full scale ±1.
        bits: Bits of the integers, 8 to 32.

    Returns:
        Integers of the same shape, from -2 ** (bits - 1) to 2 ** (bits - 1) - 1.
    """
    scale = 2.0 ** (bits - 1)
    return np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1).astype(np.int32)
