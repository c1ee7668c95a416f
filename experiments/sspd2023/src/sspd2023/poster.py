"""The published networks: centred convolutions, batch normalisation, softplus; speech is decoded from the latent."""

import functools
from typing import Literal

import torch
from torch import Tensor, nn

from sottovoce.config import ConvolutionSettings, FrontendSettings
from sottovoce.models.autoencoder import (
    AmplitudeDecoder,
    Block,
    ConvStack,
    DecodedSpeech,
    Decoder,
    Encoder,
    MaskDecoder,
    PhaseDecoder,
    begin_at_one,
    halves,
)
from sottovoce.models.blocks import ChannelNorm, FrameConv, Past, pooled
from sottovoce.models.frontend import compressed_amplitude, phasor
from sottovoce.models.joint import JointSystem
from sspd2023.settings import PosterSettings, TemporalSettings

_LEVEL_FRAMES = 512  # the running level takes memory with their square


class Centred(nn.Module):
    """A causal network whose output is read later, so that it sees as much of the future as of the past.

    The input is padded at the end of a signal, the layers never: silence that follows is like silence that was
    recorded. It takes whole signals.

    Args:
        network: From `(B, C, N)` to `(B, C', N)`.
        delay: Frames.
    """

    def __init__(self, network: nn.Module, delay: int) -> None:
        super().__init__()
        self.network = network
        self.delay = delay

    def forward(self, frames: Tensor, _: Past) -> Tensor:
        """Map `(B, C, N)` to `(B, C', N)` or `(B, C', C'', N)`, aligned to the input."""
        ahead: Tensor = self.network(nn.functional.pad(frames, (0, self.delay)), Past())
        return ahead[..., self.delay :]


class Nothing(nn.Module):
    """No channels: what stands in the place of a network that a system does not have."""

    def forward(self, features: Tensor, _: Past) -> Tensor:
        """Map `(B, C, N)` to `(B, 0, N)`."""
        return features[:, :0]


class Same(nn.Module):
    """What stands in the place of the shared layer, where encoders share none."""

    def forward(self, latent: Tensor, _: Past) -> Tensor:
        """Give back `(B, D, N)`."""
        return latent


class NoCorrection(nn.Module):
    """What stands in the place of D_P, where decoded speech has the mixture's phase.

    Args:
        bins: Bins of the spectrum.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self._bins = bins

    def forward(self, latent: Tensor, _: Past) -> Tensor:
        """Map `(B, D, N)` to phasors 1 + 0i, `(B, 2, F, N)`."""
        one = latent.new_ones(latent.shape[0], 1, self._bins, latent.shape[-1])
        return torch.cat([one, torch.zeros_like(one)], dim=1)


class PhaseMaps(nn.Module):
    """Maps of amplitude^p and of cosine and sine of the phase, of all windows, joined by channel.

    Args:
        compression: p.
        phase: "none" for amplitudes alone; "unit" for cosine and sine as in the poster; "compressed" for both times
            amplitude^p, which tell a phase only where there is energy to have one.

    Attributes:
        per_bin: Maps of a bin.

    Source:
        Li, Sun, Wang and Naqvi (SSPD 2023): multi-resolution feature maps of one hop.
    """

    def __init__(self, compression: float, phase: Literal["none", "unit", "compressed"]) -> None:
        super().__init__()
        self._compression = compression
        self._phase = phase
        self.per_bin = 1 if phase == "none" else 3

    def forward(self, spectra: Tensor, _: Past) -> Tensor:
        """Map spectra `(B, 2, F, N)` to `(B, per_bin F, N)`."""
        compressed = compressed_amplitude(spectra, self._compression)
        if self._phase == "none":
            return compressed
        phases = phasor(spectra)
        if self._phase == "compressed":
            phases = phases * compressed.unsqueeze(1)
        return torch.cat([compressed, phases.flatten(1, 2)], dim=1)


class RunningMean(nn.Module):
    """Mean over the last `horizon` frames, or over those that there are.

    Args:
        horizon: Number of frames.
    """

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self._horizon = horizon

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Mean at every frame of `(B, C, N)`."""
        mean, share = pooled(frames, self._horizon, past)
        return mean / share


class Equaliser(nn.Module):
    """Running-mean normalisation: every channel is divided by its own running mean.

    The predecessor's code divides by the mean over the whole clip, which needs the future; a mean of fixed horizon is
    trained and used in the same way.

    Args:
        horizon: Frames of the running mean.

    Source:
        Wang, Venkataramani and Smaragdis (2020), code of the encoder ("EQ").
    """

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self._mean = RunningMean(horizon)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Equalise positive `(B, C, N)`."""
        mean: Tensor = self._mean(frames, past)
        return frames / (mean + 1e-3)


class BatchBlock(nn.Module):
    """Convolution, batch normalisation, softplus and, in encoders, perhaps the equaliser.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Taps.
        equalise_horizon: Frames of the equaliser's running mean; None for no equaliser.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, equalise_horizon: int | None = None) -> None:
        super().__init__()
        self.conv = FrameConv(inputs, outputs, kernel)
        self.norm = nn.BatchNorm1d(outputs)
        self.equaliser = None if equalise_horizon is None else Equaliser(equalise_horizon)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` to `(B, outputs, N)`."""
        active = nn.functional.softplus(self.norm(self.conv(frames, past)))
        return active if self.equaliser is None else self.equaliser(active, past)


class GatedBlock(nn.Module):
    """Residual gated convolution: x + a(x) * sigmoid(b(x)), a and b dilated convolutions of the normalised input.

    Args:
        width: Channels.
        kernel: Taps.
        dilation: Frames between taps.

    Source:
        Gated linear units after Dauphin et al. (2017); dilated stacks after van den Oord et al. (2016).
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv = FrameConv(width, 2 * width, kernel, dilation)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, width, N)` to `(B, width, N)`."""
        return frames + nn.functional.glu(self.conv(self.norm(frames), past), dim=1)


class TemporalStack(nn.Module):
    """Residual stack of gated dilated convolutions between linear layers, the last one of normalised channels.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        settings: Width, dilations and kernel.
    """

    def __init__(self, inputs: int, outputs: int, settings: TemporalSettings) -> None:
        super().__init__()
        self.input = FrameConv(inputs, settings.width)
        self.blocks = nn.ModuleList(GatedBlock(settings.width, settings.kernel, d) for d in settings.dilations)
        self.norm = ChannelNorm(settings.width)
        self.output = FrameConv(settings.width, outputs)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` to `(B, outputs, N)`."""
        frames = self.input(frames, past)
        for block in self.blocks:
            frames = block(frames, past)
        rows: Tensor = self.output(self.norm(frames), past)
        return rows


class TemporalMask(nn.Module):
    """Real and imaginary part of a mask from features and the guiding amplitude.

    Args:
        inputs: Channels of the mixture encoder's features.
        bins: Bins of the spectrum.
        settings: The stack.
    """

    def __init__(self, inputs: int, bins: int, settings: TemporalSettings) -> None:
        super().__init__()
        stack = TemporalStack(inputs + bins, 2 * bins, settings)
        begin_at_one(stack.output)
        self.stack = Centred(stack, sum(d * ((settings.kernel - 1) // 2) for d in settings.dilations))

    def forward(self, features: Tensor, guide: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` and `(B, F, N)` to real and imaginary parts `(B, 2, F, N)`."""
        return torch.stack(halves(self.stack(torch.cat([features, guide], dim=1), past)), dim=1)


def encoder(inputs: int, settings: ConvolutionSettings, frontend: FrontendSettings, poster: PosterSettings) -> Encoder:
    """E_S or E_M.

    Args:
        inputs: Channels of the feature maps.
        settings: Its layers.
        frontend: Hop, for the equaliser's horizon.
        poster: Equaliser and width of the latent.

    Returns:
        The network, centred.
    """
    block: Block = BatchBlock
    if poster.equalise:
        frames = round(poster.equalise_horizon_seconds * frontend.sample_rate / frontend.hop)
        block = functools.partial(BatchBlock, equalise_horizon=max(1, frames))
    delay = len(settings.widths) * ((settings.kernel - 1) // 2)
    return Encoder(Centred(ConvStack(inputs, settings, block), delay), settings.widths[-1], poster.latent)


def decoder(kind: type[Decoder], inputs: int, outputs: int, settings: ConvolutionSettings) -> Centred:
    """A decoder.

    Args:
        kind: What it decodes.
        inputs: Channels of the latent.
        outputs: Channels or bins that it gives.
        settings: Layers in front of the output layer.

    Returns:
        The network, centred.
    """
    return Centred(
        kind(inputs, outputs, settings, BatchBlock), (len(settings.widths) + 1) * ((settings.kernel - 1) // 2)
    )


class PosterAutoencoder(JointSystem):
    """The joint system of the poster, its ablations and SSE: it takes whole signals.

    Args:
        frontend: Longest window, hop, compression.
        poster: Networks.

    Source:
        Li, Sun, Wang and Naqvi (SSPD 2023); Wang, Venkataramani and Smaragdis (2020): SSE.
    """

    def __init__(self, frontend: FrontendSettings, poster: PosterSettings) -> None:
        super().__init__(frontend, poster.latent_noise, poster.shorter_windows)
        latent, bins = poster.latent, self.bins
        self._absolute = poster.phase == "absolute"
        self._masks = poster.mask is not None
        self.maps = PhaseMaps(frontend.compression, poster.phase_features)
        inputs = self.maps.per_bin * sum(self.stft.reference.bins)
        self.speech_encoder = encoder(inputs, poster.speech_encoder, frontend, poster)
        self.mixture_encoder = encoder(inputs, poster.mixture_encoder, frontend, poster)
        self.shared = BatchBlock(latent, latent) if poster.shared_layer else Same()
        self.amplitude_decoder = decoder(AmplitudeDecoder, latent, bins, poster.speech_decoder)
        self.phase_decoder = (
            NoCorrection(bins)
            if poster.phase == "mixture"
            else decoder(PhaseDecoder, latent, bins, poster.speech_decoder)
        )
        width = poster.mixture_encoder.widths[-1]
        self.noise_code = BatchBlock(width, poster.noise_code) if poster.noise_code else Nothing()
        self.mixture_decoder = decoder(AmplitudeDecoder, latent + poster.noise_code, bins, poster.mixture_decoder)
        self.pretask = None
        self.mask = Nothing() if poster.mask is None else MaskDecoder(TemporalMask(width, bins, poster.mask))

    def run_time_parts(self) -> list[nn.Module]:
        """The networks that `enhance` needs: D_P where there is no mask."""
        return [*super().run_time_parts(), *([] if self._masks else [self.phase_decoder])]

    def spectrum_of(self, decoded: DecodedSpeech, reference: Tensor) -> Tensor:
        """Complex spectrum of decoded speech; D_P may give the phase itself in place of a correction."""
        if not self._absolute:
            return super().spectrum_of(decoded, reference)
        return (decoded.amplitude ** (1 / self.compression)).unsqueeze(1) * decoded.phasors

    def _enhanced(self, features: Tensor, latent: Tensor, mixture: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Compressed amplitude after D_A, and the spectrum that the mask leaves, or that both decoders make."""
        if self._masks:
            return super()._enhanced(features, latent, mixture, past)
        decoded = DecodedSpeech(self.amplitude_decoder(latent, past), self.phase_decoder(latent, past))
        return decoded.amplitude, self.spectrum_of(decoded, mixture)

    @torch.no_grad()
    def enhance(self, waveform: Tensor) -> Tensor:
        """Enhance whole signals `(B, T)`, which the networks see at once."""
        spectra = self.analyse(waveform)
        past, levels = Past(), []
        for frames in torch.split(spectra, _LEVEL_FRAMES, dim=-1):
            levels.append(self.level(frames, past))
            past = Past(past.next)
        level = torch.cat(levels, dim=-1)
        return self.stft.synthesise(self.translate(spectra / level).spectrum * level, waveform.shape[-1])
