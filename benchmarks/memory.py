"""Peak memory of the installed `sottovoce` command: short, very long and very wide recordings, and its peers."""

import os
import shlex
import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from _measure import finish, options, peer, peers, run, sottovoce, table, verdict, write_recording

SHORT_MINUTES = 10
PEAK_LIMIT_MIB = 120
GROWTH_LIMIT_MIB = 5
# The corners of what is accepted; 383 987 Hz is a prime, which has no divisor in common with the model's rate.
WIDE = [(48_000, 2), (48_000, 64), (192_000, 64), (384_000, 64), (383_987, 64), (4_000, 64)]
WIDE_SECONDS = 1
WIDE_LIMIT_MIB = 300


def write_noise(path: Path, rate: int, channels: int) -> Path:
    """Write a WAV of noise in blocks: the memory of this process would count as that of the ones it starts."""
    generator, block = np.random.default_rng(0), 1000
    with soundfile.SoundFile(path, "w", rate, channels, subtype="PCM_16") as file:
        for start in range(0, WIDE_SECONDS * rate, block):
            file.write(generator.normal(0, 0.1, (min(block, WIDE_SECONDS * rate - start), channels)))
    return path


def wide_peaks(folder: Path, model: str | None) -> list[tuple[str, float, float]]:
    """Return the sound, and the peaks as a file and as raw samples in a pipe, in MiB."""
    peaks = []
    for rate, channels in WIDE:
        recording = write_noise(folder / "wide.wav", rate, channels)
        as_file = run(sottovoce(recording, folder / "out", model)).peak_mib
        raw = folder / "wide.raw"
        with recording.open("rb") as source, raw.open("wb") as target:
            source.seek(-2 * channels * WIDE_SECONDS * rate, os.SEEK_END)
            shutil.copyfileobj(source, target)
        command = sottovoce(Path("-"), Path("-"), model)
        command = [word for word in command if word != "--overwrite"]
        command += ["--raw", "s16le", "--rate", str(rate), "--channels", str(channels)]
        line = f"{shlex.join(map(str, command))} < {shlex.quote(str(raw))} > {shlex.quote(str(folder / 'wide.out'))}"
        as_pipe = run(["sh", "-c", f"exec {line}"]).peak_mib
        peaks.append((f"{channels} channels, {rate} Hz", as_file, as_pipe))
    return peaks


def main() -> None:
    """Measure, print and write benchmarks/results/memory.md."""
    arguments = options(__doc__, "--minutes", 600, "length of the long recording")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = write_recording(folder / "short.flac", SHORT_MINUTES * 60)
        short_peak = run(sottovoce(short, folder / "out", arguments.model)).peak_mib
        rows = [["sottovoce", f"{short_peak:.0f}"]]
        for system, installed in peers().items():
            rows.append([system, f"{run(peer(system, short, folder)).peak_mib:.0f}" if installed else "not installed"])
        short.unlink()
        wide = wide_peaks(folder, arguments.model)
        long = write_recording(folder / "long.flac", arguments.minutes * 60)
        long_peak = run(sottovoce(long, folder / "out", arguments.model)).peak_mib

    growth = abs(long_peak - short_peak)
    peak = max(long_peak, short_peak)
    finish(
        "memory",
        "Memory",
        [
            "**Floor.** A recording is read, enhanced and written in blocks, so the need does not depend on its "
            "length: what stays is Python with numpy and ONNX Runtime, the network, and one block.",
            f"**Peak of the whole process**, 16 kHz mono FLAC: {short_peak:.0f} MiB for {SHORT_MINUTES} minutes, "
            f"{long_peak:.0f} MiB for {arguments.minutes / 60:g} hours. Limit {PEAK_LIMIT_MIB} MiB: "
            f"{verdict(peak, PEAK_LIMIT_MIB)}. Difference {growth:.0f} MiB, limit {GROWTH_LIMIT_MIB} MiB: "
            f"{verdict(growth, GROWTH_LIMIT_MIB)}.",
            table(["system", f"peak for {SHORT_MINUTES} minutes (MiB)"], rows),
            f"**Any rate and number of channels that is accepted**, {WIDE_SECONDS} s of noise each, as a WAV and as "
            f"raw samples in a pipe, which pass another resampler. Limit {WIDE_LIMIT_MIB} MiB: "
            f"{verdict(max(max(peaks) for _, *peaks in wide), WIDE_LIMIT_MIB)}.",
            table(["sound", "file (MiB)", "pipe (MiB)"], [[name, f"{a:.0f}", f"{b:.0f}"] for name, a, b in wide]),
        ],
    )


if __name__ == "__main__":
    main()
