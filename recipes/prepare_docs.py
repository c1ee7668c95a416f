"""Makes what README.md shows: a really noisy recording before and after the bundled model, to hear and to see.

python recipes/prepare_docs.py
"""

from pathlib import Path

import soundfile

import sottovoce
from sottovoce.metrics import plots

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "examples" / "real" / "2609-156975-0004.flac"


def main() -> None:
    """Enhance, and write sound and picture."""
    before, rate = soundfile.read(RECORDING, dtype="float32")
    sounds = {"before": before, "after": sottovoce.enhance(before, rate)}
    folder = ROOT / "docs" / "audio"
    folder.mkdir(exist_ok=True)
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.ogg", sound, rate, format="OGG", subtype="VORBIS")
    signals = [(name, sound, rate) for name, sound in sounds.items()]
    plots.save(plots.recordings(signals), ROOT / "docs" / "images" / "before_after.png")


if __name__ == "__main__":
    main()
