"""Peak memory of the installed `sottovoce` command on a short and on a very long recording, beside its peers."""

import tempfile
from pathlib import Path

from _measure import finish, options, peer, peers, run, sottovoce, table, verdict, write_recording

SHORT_MINUTES = 10
PEAK_LIMIT_MIB = 120
GROWTH_LIMIT_MIB = 5


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
        ],
    )


if __name__ == "__main__":
    main()
