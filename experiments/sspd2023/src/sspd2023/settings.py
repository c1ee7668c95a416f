"""Settings of the compared systems: the joint system's, a baseline in its place, and whether it learns from pairs."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sottovoce.config import Settings, SystemSettings, load_settings_as
from sottovoce.errors import ConfigError

CONF = Path(__file__).parent / "conf"
"""Folder of the settings of all rows."""


class MaskingSettings(Settings):
    """A mask on the mixture, learned from pairs with the backbone E_M, G and D_A."""

    kind: Literal["masking"] = "masking"
    target: Literal["irm", "cirm"] = Field("irm", description="Ideal ratio mask, or its complex version.")


class VectorQuantisedSettings(Settings):
    """P-VQ: a pre-trained encoder of waveforms, a vector-quantised bottleneck, and a decoder of waveforms."""

    kind: Literal["pvq"] = "pvq"
    channels: int = Field(32, ge=1, description="Channels of the first layer; each doubles them, up to the width.")
    layers: int = Field(4, ge=1, description="Layers of the encoder, each a quarter of the rate of the one before.")
    kernel: int = Field(8, ge=1)
    stride: int = Field(4, ge=1)
    width: int = Field(256, ge=1, description="Channels of the bottleneck.")
    heads: int = Field(4, ge=1, description="Attention heads of the transformer.")
    blocks: int = Field(2, ge=1, description="Layers of the transformer.")
    context: int = Field(250, ge=1, description="Frames that attention sees: 4 s.")
    codes: int = Field(1024, ge=2, description="Entries of the codebook.")
    commitment: float = Field(0.25, ge=0, description="Weight of the encoder's distance from its codes.")
    decay: float = Field(0.95, gt=0, lt=1, description="Of the moving averages that the codebook follows.")
    masked_share: float = Field(0.5, gt=0, lt=1, description="Share of the frames hidden in the pre-training.")

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        if self.kernel < self.stride:
            raise ValueError(f"kernel is at least the stride ({self.stride}); found {self.kernel}")
        if self.width % self.heads:
            raise ValueError(f"width is a multiple of heads ({self.heads}); found {self.width}")
        return self


class CrossDomainSettings(Settings):
    """CF: spectra and self-supervised features together, and a recurrent network for the mask."""

    kind: Literal["cf"] = "cf"
    width: int = Field(256, ge=1, description="Channels of the linear layer and of each recurrent direction.")
    layers: int = Field(2, ge=1, description="Recurrent layers.")
    features: VectorQuantisedSettings = Field(
        VectorQuantisedSettings(), description="The encoder that is pre-trained, whose layers are the features."
    )


class ExperimentSettings(SystemSettings):
    """Everything that makes a compared system: the whole of a YAML file of `conf/`.

    The steps of the two stages are those of a baseline's pre-training and training, too.
    """

    baseline: MaskingSettings | VectorQuantisedSettings | CrossDomainSettings | None = Field(
        None, discriminator="kind", description="A system to compare with, trained in place of the joint one."
    )
    pairs: Literal["as recorded", "varied"] | None = Field(
        None,
        description="Supervised: mixtures and their own clean versions instead of pseudo-pairs; varied, they have the "
        "variety of these: speed, colour, what is left of the noise, and, for half of them, what is not speech in "
        "another recording.",
    )

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        if isinstance(self.baseline, MaskingSettings) and self.pairs is None:
            raise ValueError("baseline: a masking network learns from pairs alone: set pairs to 'as recorded'")
        if self.pairs is not None and not self.training.data.pseudo_clips:
            raise ValueError("pairs has nothing to draw: training.data.pseudo_clips is 0")
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
