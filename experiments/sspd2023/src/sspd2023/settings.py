"""Settings of the compared systems: which networks, and whether they learn from pairs."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sottovoce.config import (
    ConvolutionSettings,
    Kernel,
    Layers,
    ModelSettings,
    RunSettings,
    Settings,
    Weight,
    Width,
    Windows,
    load_settings_as,
    of_bounded_size,
)
from sottovoce.errors import ConfigError

CONF = Path(__file__).parent / "conf"
"""Folder of the settings of all rows."""


class TemporalSettings(Settings):
    """A residual stack of gated dilated convolutions over time."""

    width: Width = Field(128, description="Channels of the stack.")
    dilations: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (1, 2, 4, 8, 16), max_length=64, description="Frames between the taps of each layer."
    )
    kernel: Kernel = Field(3, description="Taps of a layer.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        return of_bounded_size(self, 2 * self.width**2 * self.kernel * len(self.dilations))


class PosterSettings(Settings):
    """The published networks, and what ablations and remedies change in them."""

    latent: Width = Field(64, description="Width D of the shared latent space.")
    shorter_windows: Windows = Field(
        (), description="Windows of further spectra at the input, shorter than frontend.window, longest first."
    )
    phase_features: Literal["none", "unit", "compressed"] = Field(
        "unit", description="Phase at the input: none; cosine and sine; both times amplitude^p."
    )
    equalise: bool = Field(False, description="Whether encoder layers are divided by their own running mean.")
    equalise_horizon_seconds: float = Field(1.0, gt=0, le=60, description="Time over which that running mean is taken.")
    speech_encoder: ConvolutionSettings
    mixture_encoder: ConvolutionSettings
    speech_decoder: ConvolutionSettings
    mixture_decoder: ConvolutionSettings
    phase: Literal["mixture", "residual", "absolute"] = Field(
        "residual",
        description="Phase of decoded speech: the input's (without D_P), D_P's correction of it, or D_P's alone.",
    )
    shared_layer: bool = Field(True, description="Whether both encoders end in one shared layer G.")
    noise_code: int = Field(0, ge=0, le=4096, description="Width of a latent that only the mixture decoder sees.")
    mask: TemporalSettings | None = Field(None, description="Mask on the mixture, guided by D_A; none decodes speech.")
    latent_noise: float = Field(1.0, ge=0, le=1000, description="Deviation of the noise on latents, in training only.")


class MaskingSettings(Settings):
    """A mask on the mixture, learned from pairs with the backbone E_M, G and D_A."""

    kind: Literal["masking"] = "masking"
    target: Literal["irm", "cirm"] = Field("irm", description="Ideal ratio mask, or its complex version.")


class VectorQuantisedSettings(Settings):
    """P-VQ: a pre-trained encoder of waveforms, a vector-quantised bottleneck, and a decoder of waveforms."""

    kind: Literal["pvq"] = "pvq"
    channels: Width = Field(32, description="Channels of the first layer; each doubles them, up to the width.")
    layers: int = Field(
        4, ge=1, le=8, description="Layers of the encoder, each a quarter of the rate of the one before."
    )
    kernel: Kernel = 8
    stride: int = Field(4, ge=1, le=16)
    width: Width = Field(256, description="Channels of the bottleneck.")
    heads: Width = Field(4, description="Attention heads of the transformer.")
    blocks: Layers = Field(2, description="Layers of the transformer.")
    context: int = Field(250, ge=1, le=10_000, description="Frames that attention sees: 4 s.")
    codes: int = Field(1024, ge=2, le=2**16, description="Entries of the codebook.")
    commitment: Weight = Field(0.25, description="Weight of the encoder's distance from its codes.")
    decay: float = Field(0.95, gt=0, lt=1, description="Of the moving averages that the codebook follows.")
    masked_share: float = Field(0.5, gt=0, lt=1, description="Share of the frames hidden in the pre-training.")

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        if self.kernel < self.stride:
            raise ValueError(f"kernel is at least the stride ({self.stride}); found {self.kernel}")
        if self.width % self.heads:
            raise ValueError(f"width is a multiple of heads ({self.heads}); found {self.width}")
        return of_bounded_size(self, self.width * (self.codes + self.width * (12 * self.blocks + self.kernel)))


class CrossDomainSettings(Settings):
    """CF: spectra and self-supervised features together, and a recurrent network for the mask."""

    kind: Literal["cf"] = "cf"
    width: Width = Field(256, description="Channels of the linear layer and of each recurrent direction.")
    layers: Layers = Field(2, description="Recurrent layers.")
    features: VectorQuantisedSettings = Field(
        VectorQuantisedSettings(), description="The encoder that is pre-trained, whose layers are the features."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        return of_bounded_size(self, 24 * self.width**2 * self.layers)


class ExperimentSettings(RunSettings):
    """Everything that makes a compared system: the whole of a YAML file of `conf/`.

    The steps of the two stages are those of a baseline's pre-training and training, too.
    """

    poster: PosterSettings | None = Field(None, description="The published networks.")
    model: ModelSettings | None = Field(None, description="The product's networks in their place.")
    baseline: MaskingSettings | VectorQuantisedSettings | CrossDomainSettings | None = Field(
        None, discriminator="kind", description="A system to compare with, trained in place of the joint one."
    )
    pairs: Literal["as recorded", "varied"] | None = Field(
        None,
        description="Supervised: mixtures and their clean versions instead of simulated pairs; varied, they have the "
        "variety of these: speed, colour, what is left of the noise, and, for half of them, what is not speech in "
        "another recording.",
    )

    @model_validator(mode="after")
    def _networks_fit(self) -> Self:
        if (self.poster is None) == (self.model is None):
            raise ValueError("found both of poster and model, or neither, expected one: they are the networks")
        if self.poster is None:
            if isinstance(self.baseline, MaskingSettings):
                raise ValueError("baseline: a masking network is made from the poster's: give poster")
            return self
        windows = (self.frontend.window, *self.poster.shorter_windows)
        if any(a <= b for a, b in pairwise(windows)) or any(window % 2 for window in windows):
            raise ValueError(f"poster.shorter_windows are even and fall from frontend.window; found {list(windows)}")
        if self.poster.shorter_windows and self.frontend.synthesis_window not in (None, self.frontend.window):
            raise ValueError("frontend.synthesis_window is the whole window where there are several")
        return self

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        if isinstance(self.baseline, MaskingSettings) and self.pairs is None:
            raise ValueError("baseline: a masking network learns from pairs alone: set pairs to 'as recorded'")
        if self.pairs is not None and not self.training.data.simulated_clips:
            raise ValueError("pairs has nothing to draw: training.data.simulated_clips is 0")
        return self


def load_row(name: str) -> ExperimentSettings:
    """Read the settings of a row.

    Args:
        name: Path below `conf/` without suffix: "poster_cpu", "baselines/sse", "ablations/shift_32".

    Returns:
        The settings.

    Raises:
        ConfigError: There are no settings of that name, or they are wrong.
    """
    path = CONF / f"{name}.yaml"
    if not path.is_file():
        known = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
        raise ConfigError(f"found the settings {name!r}, expected one of {', '.join(known)}")
    return load_settings_as(ExperimentSettings, path)
