"""What an installation without extras takes: packages, space on disk, and whether anything must be compiled."""

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from _measure import ROOT, finish, table, verdict

LIMIT_MB = 220
# What every environment has before anything is installed into it.
BEFORE = {"pip", "setuptools"}


def main() -> None:
    """Install, measure, print and write benchmarks/results/install.md."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, ROOT], check=True, capture_output=True
        )
        wheel = next(folder.glob("*.whl"))
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        # Whatever has no wheel for this machine would have to be compiled, and fails here.
        subprocess.run(
            [python, "-m", "pip", "install", "--only-binary", ":all:", "-c", ROOT / "constraints.txt", wheel],
            check=True,
            capture_output=True,
        )
        packages = next((folder / "venv").glob("**/site-packages"))
        found = list(importlib.metadata.distributions(path=[str(packages)]))
        sizes = {part.name: size_mb(part) for part in found if part.name not in BEFORE}
        environment = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 1e6
        wheel_mb = wheel.stat().st_size / 1e6
    total = sum(sizes.values())
    ordered = sorted(sizes.items(), key=lambda part: -part[1])
    finish(
        "install",
        "Installation",
        [
            f"**On disk**, without extras: {total:.0f} MB in {len(sizes)} packages, byte code included (limit "
            f"{LIMIT_MB} MB: {verdict(total, LIMIT_MB)}); the whole environment with pip takes {environment:.0f} MB. "
            f"All of it comes as wheels: no compiler is needed. sottovoce's own wheel has {wheel_mb:.1f} MB.",
            table(["package", "MB"], [[package, f"{size:.1f}"] for package, size in ordered]),
        ],
    )


def size_mb(package: importlib.metadata.Distribution) -> float:
    """Space of the files of an installed package in MB."""
    paths = [Path(str(package.locate_file(file))) for file in package.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
