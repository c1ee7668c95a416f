"""CF: a mask from cross-domain features: the spectrum, and the layers of a self-supervised encoder."""

import torch
from torch import Tensor, nn

from sottovoce.config import FrontendSettings
from sottovoce.models.frontend import TorchSTFT, amplitude
from sottovoce.objectives.joint import LossTerms, UnpairedTensors
from sspd2023.baselines.network import Baseline
from sspd2023.baselines.pvq import MaskedPrediction, WaveformEncoder, signal_level
from sspd2023.settings import CrossDomainSettings

_WINDOW_SECONDS = 0.025
_HOP_SECONDS = 0.010


class LayerSum(nn.Module):
    """Learned mean of the layers of an encoder; every layer is normalised, so that none wins by its size.

    Args:
        layers: Number of layers.
        width: Channels of each.
    """

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.importance = nn.Parameter(torch.zeros(layers))

    def weights(self) -> Tensor:
        """Weights of the layers `(layers,)`, at least 0, together 1."""
        return self.importance.softmax(dim=0)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map `layers` tensors `(B, width, M)` to `(B, width, M)`."""
        layers = zip(self.weights(), self.norms, features, strict=True)
        return torch.stack([weight * norm(frames.transpose(1, 2)) for weight, norm, frames in layers]).sum(0).mT


class MaskNetwork(nn.Module):
    """A linear layer, recurrent layers in both directions of time, and the mask.

    Args:
        inputs: Channels of the features.
        width: Channels of the linear layer and of each direction.
        layers: Recurrent layers.
        bins: Bins of the mask.
    """

    def __init__(self, inputs: int, width: int, layers: int, bins: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(inputs, width)
        self.recurrent = nn.LSTM(width, width, layers, batch_first=True, bidirectional=True)
        self.project_out = nn.Linear(width, bins)

    def forward(self, features: Tensor) -> Tensor:
        """Map `(B, inputs, N)` to a mask `(B, bins, N)` between 0 and 1."""
        both, _ = self.recurrent(self.project_in(features.mT))
        forward, backward = both.chunk(2, dim=-1)
        return torch.sigmoid(self.project_out(forward + backward)).mT


class CrossDomain(Baseline):
    """CF: a recurrent network masks log(1 + A) of the mixture, which it sees together with self-supervised features.

    What differs from the paper: the features are those of an encoder that is pre-trained here, on the same unlabelled
    recordings that all systems have (`pvq.MaskedPrediction`), since the paper's is far larger and comes from elsewhere.
    It is frozen afterwards; the paper also has versions in which a part or all of it is trained on.

    Args:
        frontend: Settings of the spectra; the sample rate alone is used, since the windows are the paper's.
        settings: Numbers and widths.

    Source:
        Hung, Fu, Tseng, Chiang, Tsao and Lin, "Boosting self-supervised embeddings for speech enhancement" (Interspeech
        2022), and its code.
    """

    def __init__(self, frontend: FrontendSettings, settings: CrossDomainSettings) -> None:
        super().__init__()
        window = 2 * round(_WINDOW_SECONDS * frontend.sample_rate / 2)
        self._stft = TorchSTFT((window,), round(_HOP_SECONDS * frontend.sample_rate))
        bins = window // 2 + 1
        self.encoder = WaveformEncoder(settings.features)
        self.prediction = MaskedPrediction(settings.features)
        self.layer_sum = LayerSum(1 + settings.features.blocks, settings.features.width)
        self.network = MaskNetwork(bins + settings.features.width, settings.width, settings.layers, bins)

    def pretrained_parts(self) -> list[nn.Module]:
        """Encoder, and what predicts the names of hidden frames."""
        return [self.encoder, self.prediction]

    def pretraining_terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Masked prediction on the noisy recordings."""
        waveform = batch.mixtures / signal_level(batch.mixtures)
        return {"masked_prediction": self.prediction(self.encoder, waveform, generator)}

    def trained_parts(self) -> list[nn.Module]:
        """All but the encoder."""
        return [self.layer_sum, self.network]

    def run_time_parts(self) -> list[nn.Module]:
        """All but what the pre-training alone needs."""
        return [self.encoder, self.layer_sum, self.network]

    def terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Mean distance of the masked log(1 + A) from that of the speech, on simulated pairs."""
        level = signal_level(batch.simulated_mixtures)
        mixture = batch.simulated_mixtures / level
        spectrum = self._stft.analyse(mixture)
        target = torch.log1p(amplitude(self._stft.analyse(batch.simulated_targets / level)))
        estimate = self.mask(mixture, spectrum) * torch.log1p(amplitude(spectrum))
        return {"amplitude": nn.functional.l1_loss(estimate, target)}

    @torch.no_grad()
    def enhance(self, waveform: Tensor) -> Tensor:
        """Enhance whole signals in the scale of their level, with the mixture's phase."""
        level = signal_level(waveform)
        spectrum = self._stft.analyse(waveform / level)
        size = amplitude(spectrum)
        wanted = torch.expm1(self.mask(waveform / level, spectrum) * torch.log1p(size))
        return self._stft.synthesise((wanted / size).unsqueeze(1) * spectrum, waveform.shape[-1]) * level

    def mask(self, waveform: Tensor, spectrum: Tensor) -> Tensor:
        """Mask on log(1 + A).

        Args:
            waveform: Samples in the scale of their level, `(B, T)`.
            spectrum: Their spectra, real and imaginary parts `(B, 2, F, N)`.

        Returns:
            `(B, F, N)`, 0 to 1.
        """
        with torch.no_grad():
            features = self.encoder.features(waveform)
        summed = self._at_spectrum_rate(self.layer_sum(features), spectrum.shape[-1])
        mask: Tensor = self.network(torch.cat([torch.log1p(amplitude(spectrum)), summed], dim=1))
        return mask

    def _at_spectrum_rate(self, features: Tensor, frames: int) -> Tensor:
        """Linear interpolation between the encoder's frames, each taken to lie in the middle of its newest samples."""
        stft, hop = self._stft.reference, self.encoder.hop
        centre = (torch.arange(frames, device=features.device) + 1) * stft.hop - stft.window / 2
        place = (centre / hop - 0.5).clamp(0, features.shape[-1] - 1)
        before = place.floor().long()
        after = (before + 1).clamp(max=features.shape[-1] - 1)
        return torch.lerp(features[..., before], features[..., after], place - before)
