"""What is lost from the trained system to the ear: by half precision, export, live blocks and 8-bit integers.

    python benchmarks/fidelity.py

enhances the 50 pairs of `SOTTOVOCE_DATA` with every bundled model in each of these ways.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import soundfile
import torch
from _measure import finish, one_core, table, verdict
from _scoring import DATA, PAIRS, find_sets
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from sottovoce import Enhancer
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import seal
from sottovoce.metrics.intrusive import pesq, si_sdr
from sottovoce.metrics.report import mean
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.weights import CHECKPOINTS, MODELS

Waveform = NDArray[np.float32]

RATE = 16_000
LIVE_BLOCK = RATE // 100
CALIBRATION_FILES = 12
CALIBRATION_SECONDS = 4
LIMIT = 0.01
INTEGERS = "8-bit integers, in one block"


class _Calibration(CalibrationDataReader):
    """Noisy recordings of the examples, from which the ranges of the activations are taken."""

    def __init__(self, enhancer: Enhancer) -> None:
        self._inputs = self._read(enhancer)

    @staticmethod
    def _read(enhancer: Enhancer) -> Iterator[dict[str, Waveform]]:
        folder = Path(__file__).parents[1] / "examples" / "unpaired" / "mixtures"
        for path in sorted(folder.rglob("*.ogg"))[:CALIBRATION_FILES]:
            waveform, _ = soundfile.read(path, frames=CALIBRATION_SECONDS * RATE, dtype="float32")
            spectra = enhancer.stft.spectra(enhancer.stft.frames(waveform[np.newaxis]))
            past = {f"past_{index}": state for index, state in enumerate(enhancer.model.initial_past(1))}
            yield {"spectra": np.ascontiguousarray(spectra), **past}

    def get_next(self) -> dict[str, Waveform] | None:
        return next(self._inputs, None)


def quantised(enhancer: Enhancer, path: Path) -> Enhancer:
    """The same network with products of 8-bit integers; the recurrent layers stay, as ONNX Runtime has no such one."""
    with tempfile.TemporaryDirectory() as name:
        prepared, target = Path(name) / "prepared.onnx", Path(name) / "quantised.onnx"
        # The exporter has simplified the graph; once more, and a state that stays as it is would lose its name.
        quant_pre_process(str(path), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Calibration(enhancer),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
        )
        graph = onnx.load(target)
    # The seal of the float model would be part of what is sealed now.
    kept = [entry for entry in graph.metadata_props if entry.key == "sottovoce"]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    return Enhancer(Model(seal(graph.SerializeToString()), "the quantised model"))


def streamed(enhancer: Enhancer, block: int | None = None) -> Callable[[Waveform], Waveform]:
    """Enhance in blocks, or in one; without the warm-up that files get, which the trained system does not have."""

    def enhance(waveform: Waveform) -> Waveform:
        stream = enhancer.stream(RATE, live=True)
        blocks = np.split(waveform, range(block or len(waveform), len(waveform), block or len(waveform)))
        return np.concatenate([*(stream.push(block) for block in blocks), stream.flush()], axis=1)[0]

    return enhance


def in_torch(checkpoint: Path) -> Callable[[Waveform], Waveform]:
    """Enhance with the system that was trained, its weights at half precision."""
    system, _ = load_checkpoint(checkpoint)
    return lambda waveform: system.enhance(torch.from_numpy(waveform)[None])[0].numpy()


def network_cost(enhancer: Enhancer, waveform: Waveform, frames: int | None) -> float:
    """Processor time of the network per second of sound in s: of all frames at once, or of some after each other."""
    metadata = enhancer.model.metadata
    spectra = np.ascontiguousarray(enhancer.stft.spectra(enhancer.stft.frames(waveform[np.newaxis])))
    count = spectra.shape[-1]
    times = []
    for _ in range(7):
        past, start = enhancer.model.initial_past(1), time.process_time()
        for first in range(0, count, frames or count):
            _, past = enhancer.model.run(np.ascontiguousarray(spectra[..., first : first + (frames or count)]), past)
        times.append(time.process_time() - start)
    return min(times) * metadata.sample_rate / (metadata.hop * count)


def main() -> int:
    """Measure, print and write benchmarks/results/fidelity.md."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    items = find_sets(Path()).get(PAIRS, [])
    if not items:
        print(f"Skipped: found no pairs in {DATA}.")
        return 0
    pairs = [tuple(soundfile.read(path, dtype="float32")[0] for path in (item.noisy, item.clean)) for item in items]
    rows, costs, losses = [], [], []
    for name, path in MODELS.items():
        enhancer = Enhancer.from_pretrained(name)
        integers = quantised(enhancer, path)
        ways = {
            "exported, in one block": streamed(enhancer),
            "exported, live blocks of 10 ms": streamed(enhancer, LIVE_BLOCK),
            "checkpoint at half precision, in torch": in_torch(CHECKPOINTS[name]),
            INTEGERS: streamed(integers),
        }
        whole: list[float] = []
        for way, enhance in ways.items():
            estimates = [enhance(noisy) for noisy, _ in pairs]
            qualities = [pesq(clean, estimate) for (_, clean), estimate in zip(pairs, estimates, strict=True)]
            ratios = [si_sdr(clean, estimate) for (_, clean), estimate in zip(pairs, estimates, strict=True)]
            whole = whole or qualities
            difference = mean([after - before for after, before in zip(qualities, whole, strict=True)])
            if way != INTEGERS:
                losses.append(abs(difference.value))
            rows.append([name, way, str(mean(qualities)), f"{difference.value:+.4f}", str(mean(ratios))])
        noisy = pairs[0][0][: 4 * RATE]
        with one_core():
            for way, system in {"float": enhancer, "8-bit integers": integers}.items():
                apart = np.abs(streamed(system, LIVE_BLOCK)(noisy) - streamed(system)(noisy)).max()
                taken = [f"{network_cost(system, noisy, frames):.5f}" for frames in (None, 1)]
                costs.append([name, way, *taken, f"{apart:.0e}"])
    finish(
        "fidelity",
        "Fidelity",
        [
            f"**PESQ wb and SI-SDR on {len(pairs)} pairs**, means with 95 % confidence intervals, and the mean change "
            "of PESQ against the exported model in one block, without the warm-up of files. The largest change is "
            f"{max(losses):.4f}, 8-bit integers aside, which do not ship (limit {LIMIT}: "
            f"{verdict(max(losses), LIMIT)}).",
            table(["model", "way", "PESQ wb", "change", "SI-SDR (dB)"], rows),
            "**Cost of the network**, CPU s per audio s on one core: 4 s at once as for files, and frame by frame as "
            "live. 8-bit integers (static ranges, from the examples; products of matrices, not the recurrent layers) "
            "are worth shipping only where they are cheaper.",
            table(["model", "numbers", "4 s at once", "frame by frame", "blocks of 10 ms differ by"], costs),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
