"""Does enhancement help a speech recogniser? Word error rates of the bundled recordings, as they are and enhanced.

    pip install pocketsphinx
    python examples/recognise.py
    python examples/recognise.py --limit-db 12

pocketsphinx works without network; its model of US English comes with the package. Two of the recordings have known
texts. For the five pairs, the reference is what the recogniser finds in the clean version: not what was said, but what
it would find after a perfect enhancement. There are 200 words in all, so a few per cent are within chance.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import sottovoce
from sottovoce.metrics.words import word_errors
from sottovoce.signal.audio import Float32Array, quantise, read
from sottovoce.signal.resampling import resample

EXAMPLES = Path(__file__).parent
RATE = 16000
TEXTS = {
    "real/jfk_inaugural_1961.flac": "and so my fellow americans ask not what your country can do for you ask what you "
    "can do for your country",
    "real/1998-15444-0000.flac": "if called to a case supposed or suspected to be one of poisoning the medical man has "
    "two duties to perform to save the patient's life and to place himself in a position to give evidence if called "
    "upon to do so",
}


def load(name: str) -> Float32Array:
    """Read the first channel of an example, at the recogniser's rate."""
    waveform, rate = read(EXAMPLES / name)
    return resample(waveform[0], rate, RATE)


def main() -> None:
    """Print a table of words that were recognised wrongly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="recordings, as the table names them; all if not given")
    parser.add_argument(
        "--model", default="default", help="name of a bundled model, model.onnx or folder of a training"
    )
    parser.add_argument("--limit-db", type=float, help="the most attenuation allowed, in dB")
    arguments = parser.parse_args()
    try:
        from pocketsphinx import Decoder
    except ImportError:
        sys.exit("found no pocketsphinx, which this example needs: run `pip install pocketsphinx`")
    decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def recognise(waveform: Float32Array) -> list[str]:
        decoder.start_utt()
        decoder.process_raw(quantise(waveform, 16).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr.split() if hypothesis else []

    enhancer = sottovoce.load(arguments.model)
    pairs = sorted(f"pairs/noisy/{path.name}" for path in (EXAMPLES / "pairs" / "noisy").glob("*.flac"))
    unknown = set(arguments.names) - {*TEXTS, *pairs}
    if unknown:
        sys.exit(f"found {', '.join(sorted(unknown))}, expected some of {', '.join([*TEXTS, *pairs])}")
    print(f"{'words recognised wrongly':<30} {'words':>5} {'as it is':>9} {'enhanced':>9}")
    words, unprocessed, enhanced = 0, 0, 0
    for name in arguments.names or [*TEXTS, *pairs]:
        reference = TEXTS[name].split() if name in TEXTS else recognise(load(name.replace("noisy", "clean")))
        waveform = load(name)
        before = word_errors(reference, recognise(waveform))
        after = word_errors(reference, recognise(enhancer.enhance(waveform, RATE, limit_db=arguments.limit_db)))
        print(f"{name:<30} {len(reference):>5} {before:>9} {after:>9}", flush=True)
        words, unprocessed, enhanced = words + len(reference), unprocessed + before, enhanced + after
    print(f"{'word error rate':<30} {words:>5} {unprocessed / words:>9.1%} {enhanced / words:>9.1%}")


if __name__ == "__main__":
    main()
