"""Systems to compare with: classical, oracle, supervised and self-supervised, and peers by package."""

from typing import TYPE_CHECKING

from sspd2023.settings import CrossDomainSettings, ExperimentSettings, MaskingSettings, VectorQuantisedSettings

if TYPE_CHECKING:
    from sottovoce.models.joint import JointSystem
    from sspd2023.baselines.network import Baseline


def build_network(settings: ExperimentSettings) -> "JointSystem | Baseline":
    """The untrained networks that settings describe.

    Args:
        settings: All settings.

    Returns:
        The joint system, or the baseline in its place.
    """
    if isinstance(settings.baseline, MaskingSettings):
        from sspd2023.baselines.masking import Masking

        assert settings.poster is not None
        return Masking(settings.frontend, settings.poster, settings.baseline)
    if isinstance(settings.baseline, VectorQuantisedSettings):
        from sspd2023.baselines.pvq import PVQ

        return PVQ(settings.frontend, settings.baseline)
    if isinstance(settings.baseline, CrossDomainSettings):
        from sspd2023.baselines.cf import CrossDomain

        return CrossDomain(settings.frontend, settings.baseline)
    if settings.poster is not None:
        from sspd2023.poster import PosterAutoencoder

        return PosterAutoencoder(settings.frontend, settings.poster)
    from sottovoce.models.joint import JointAutoencoder

    assert settings.model is not None
    return JointAutoencoder(settings.frontend, settings.model)
