"""Puts a run's system into the package: the exported model and the training checkpoint at half precision.

From the corpora to a bundled model:

    python recipes/prepare_data.py data
    sottovoce train --speech data/speech --mixtures data/mixtures -o runs/default
    python recipes/bundle_default.py runs/default
"""

import argparse
from pathlib import Path

import torch

from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint
from sottovoce.models.export import export_model
from sottovoce.weights import DEFAULT_CHECKPOINT, DEFAULT_MODEL

COMMAND = "sottovoce train --speech data/speech --mixtures data/mixtures -o runs/default"
LICENCE = "Apache-2.0"
TRAINING_DATA = (
    "Clean speech: LibriSpeech, 65 readers (CC BY 4.0); kerstin, Rhasspy (CC0); LJ Speech (public domain).",
    "Speech inside the noisy recordings: LibriSpeech, 25 other readers (CC BY 4.0); Picovoice Speech-to-Intent "
    "(Apache-2.0).",
    "Noise inside them: ESC-10 (CC0 and CC BY clips), Blanket, Noisekun, Ambient Sounds (CC0, CC BY, public domain), "
    "Picovoice kitchen (Apache-2.0).",
    "Rooms inside them: OpenAIR by way of Reverb.js and ToobAmp (public domain, CC BY), audiomentations (MIT).",
)


def main() -> None:
    """Read the arguments and bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    model, settings = load_checkpoint(parser.parse_args().run / "checkpoint.safetensors")
    metadata = export_model(
        DEFAULT_MODEL, model, settings, licence=LICENCE, training_data=TRAINING_DATA, command=COMMAND
    )
    save_checkpoint(DEFAULT_CHECKPOINT, model, settings, dtype=torch.float16)
    print(f"Bundled {metadata.name}: {metadata.parameters:,} parameters.")


if __name__ == "__main__":
    main()
