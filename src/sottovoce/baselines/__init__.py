"""Systems to compare with: classical, oracle, supervised and self-supervised, and peers by package."""

from typing import TYPE_CHECKING

from sottovoce.config import CrossDomainSettings, MaskingSettings, SystemSettings, VectorQuantisedSettings

if TYPE_CHECKING:
    from sottovoce.baselines.network import Baseline
    from sottovoce.models.joint import JointAutoencoder


def build_network(settings: SystemSettings) -> "JointAutoencoder | Baseline":
    """The untrained networks that settings describe.

    Args:
        settings: All settings.

    Returns:
        The joint system, or the baseline in its place.
    """
    if isinstance(settings.baseline, MaskingSettings):
        from sottovoce.baselines.masking import Masking

        return Masking(settings.frontend, settings.model, settings.baseline)
    if isinstance(settings.baseline, VectorQuantisedSettings):
        from sottovoce.baselines.pvq import PVQ

        return PVQ(settings.frontend, settings.baseline)
    if isinstance(settings.baseline, CrossDomainSettings):
        from sottovoce.baselines.cf import CrossDomain

        return CrossDomain(settings.frontend, settings.baseline)
    from sottovoce.models.joint import JointAutoencoder

    return JointAutoencoder(settings.frontend, settings.model)
