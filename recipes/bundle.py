"""Puts runs' systems into the package: exported models, training checkpoints at half precision, clean speech.

From the corpora to the bundled models:

    python recipes/prepare_data.py data
    for name in default live; do
        sottovoce train --start $name --config bundled/$name --speech data/speech --mixtures data/mixtures -o runs/$name
    done
    python recipes/bundle.py runs/default runs/live --speech data/speech --before before

where the models to start from are those of the part before, which the model card describes, and `before` holds their
checkpoints, those of commit ab34e22.
"""

import argparse
import shutil
from pathlib import Path

import soundfile
import torch
from torch import nn

from sottovoce.data.corpora.manifest import scan
from sottovoce.data.simulation.mixtures import members, read_mono
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint
from sottovoce.models.export import Provenance, export_model
from sottovoce.weights import CHECKPOINTS, DEFAULT_SPEECH, MODELS

COMMAND = (
    "sottovoce train --start {name} --speech data/speech --mixtures data/mixtures "
    "--config bundled/{name} -o runs/{name}"
)
# How much of the weights before the last part is mixed into those after it: of `dry` the mean loses less than the new
# weights alone, of `pairs` it wins almost as much. The model card has the numbers.
BEFORE_SHARE = {"default": 0.4, "live": 0.0}
OPUS_COMPRESSION = 0.9  # about 30 kbit/s
LICENCE = "Apache-2.0"
TRAINING_DATA = (
    "Clean speech: LibriSpeech, 65 readers (CC BY 4.0); kerstin, Rhasspy (CC0); LJ Speech (public domain).",
    "Speech inside the noisy recordings: LibriSpeech, 25 other readers (CC BY 4.0); Picovoice Speech-to-Intent "
    "(Apache-2.0).",
    "Noise inside them: ESC-10 (CC0 and CC BY clips), Blanket, Noisekun, Ambient Sounds, Ambient Engine, sounds of "
    "AntumMT (CC0, CC BY, public domain), OpenClonk (CC BY), Picovoice kitchen (Apache-2.0).",
    "Rooms inside them: OpenAIR by way of Reverb.js and ToobAmp (public domain, CC BY), audiomentations (MIT).",
)


def main() -> None:
    """Read the arguments and bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, whose settings name the models")
    parser.add_argument(
        "--speech", type=Path, required=True, help="clean speech of the training, of which an utterance each is kept"
    )
    parser.add_argument("--before", type=Path, required=True, help="folder of the checkpoints before the last part")
    arguments = parser.parse_args()
    for run in arguments.runs:
        model, settings = load_checkpoint(run / "checkpoint.safetensors")
        name = settings.name
        if share := BEFORE_SHARE[name]:
            mix_in(model, load_checkpoint(arguments.before / f"{name}.safetensors")[0], share)
        # The exported file has the rounded weights as well: a place is added to both.
        save_checkpoint(CHECKPOINTS[name], model, settings, dtype=torch.float16)
        model, _ = load_checkpoint(CHECKPOINTS[name])
        provenance = Provenance(LICENCE, TRAINING_DATA, COMMAND.format(name=name))
        metadata = export_model(MODELS[name], model, settings, provenance)
        print(f"Bundled {name}: {metadata.parameters:,} parameters.")
    print(f"Bundled {bundle_speech(arguments.speech) / 60:.1f} minutes of clean speech.")


def mix_in(model: nn.Module, before: nn.Module, share: float) -> None:
    """Put a share of the weights that a model had before into it; weights that it did not have stay as they are."""
    weights = model.state_dict()
    with torch.no_grad():
        for name, weight in before.state_dict().items():
            if weight.is_floating_point():
                weights[name].lerp_(weight, share)


def bundle_speech(speech: Path) -> float:
    """Keep an utterance of every speaker, small, to adapt models with."""
    manifest, seconds = scan(speech), 0.0
    shutil.rmtree(DEFAULT_SPEECH, ignore_errors=True)
    for group in manifest.groups:
        recording = members(manifest, group)[0]
        waveform = read_mono(recording, recording.sample_rate)
        target = DEFAULT_SPEECH / group / f"{recording.path.stem}.ogg"
        target.parent.mkdir(parents=True)
        soundfile.write(
            target, waveform, recording.sample_rate, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION
        )
        seconds += recording.seconds
    readers = ", ".join(group for group in manifest.groups if group.isdigit())
    (DEFAULT_SPEECH / "ATTRIBUTION.md").write_text(ATTRIBUTION.format(readers=readers), encoding="utf-8")
    return seconds


ATTRIBUTION = """\
# Clean speech to adapt models with

An utterance of every speaker whose clean speech the bundled model was trained on, 16 kHz mono, encoded again as Ogg
Opus by `recipes/bundle.py`. A folder's name is the speaker.

- LibriSpeech (c) 2014 by Vassil Panayotov, licensed under
  [Creative Commons Attribution 4.0 International](https://creativecommons.org/licenses/by/4.0/) (CC BY 4.0), read by
  volunteers of [LibriVox](https://librivox.org); folders are LibriSpeech's numbers of the readers: {readers}.
- `LJ`: [The LJ Speech Dataset](https://keithito.com/LJ-Speech-Dataset), public domain, recorded by LibriVox.
- `kerstin`: [dataset-voice-kerstin](https://github.com/rhasspy/dataset-voice-kerstin), CC0 1.0.
"""

if __name__ == "__main__":
    main()
