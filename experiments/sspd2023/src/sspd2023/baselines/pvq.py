"""P-VQ: a waveform network whose encoder is pre-trained without labels and whose bottleneck is vector-quantised."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from sottovoce.config import FrontendSettings
from sottovoce.models.frontend import TorchSTFT, amplitude
from sottovoce.objectives.joint import LossTerms, UnpairedTensors
from sottovoce.objectives.spectral import multi_resolution
from sspd2023.baselines.network import Baseline
from sspd2023.settings import VectorQuantisedSettings

_LABELS = 128
_LABEL_WIDTH = 16
_BANDS = 32
_SPAN = 6  # frames that are hidden together: 100 ms, about a phone, so that repeating the last frame is not enough
_LOG_FLOOR = 1e-3  # 60 dB below the level of the signal
_DEAD_SHARE = 0.1  # a code is dead below this share of the use that it would have if all were used equally
_FEEDFORWARD = 4


def signal_level(waveform: Tensor) -> Tensor:
    """Root-mean-square level of whole signals: the scale in which P-VQ and CF work.

    Args:
        waveform: Samples `(B, T)`, full scale ±1.

    Returns:
        `(B, 1)`, above 0.
    """
    return torch.sqrt(waveform.square().mean(dim=-1, keepdim=True) + 1e-10)


class CausalAttention(nn.Module):
    """Self-attention over the last frames, in memory that grows with the length of a signal and not its square.

    Args:
        width: Channels.
        heads: Attention heads.
        context: Frames that a frame sees, its own included.

    Source:
        Penalties that grow with the distance, in place of positions, after Press, Smith and Lewis, "Train short, test
        long: attention with linear biases enables input length extrapolation" (ICLR 2022): trained on clips of seconds,
        it is used on recordings of any length.
    """

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)
        self._heads = heads
        self._context = context

    def forward(self, frames: Tensor) -> Tensor:
        """Map `(B, N, width)` to `(B, N, width)`."""
        batch, count, width = frames.shape
        projected = self.project_in(frames).reshape(batch, count, 3, self._heads, width // self._heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        slopes = 2.0 ** (-8.0 * torch.arange(1, self._heads + 1, device=frames.device) / self._heads)
        time = torch.arange(count, device=frames.device)
        blocks = []
        for start in range(0, count, self._context):
            now = slice(start, start + self._context)
            seen = slice(max(0, start - self._context + 1), start + self._context)
            distance = time[now, None] - time[None, seen]
            bias = (-slopes[:, None, None] * distance).masked_fill(
                (distance < 0) | (distance >= self._context), -torch.inf
            )
            blocks.append(
                nn.functional.scaled_dot_product_attention(
                    query[:, :, now], key[:, :, seen], value[:, :, seen], attn_mask=bias
                )
            )
        attended: Tensor = self.project_out(torch.cat(blocks, dim=2).transpose(1, 2).reshape(batch, count, width))
        return attended


class TransformerBlock(nn.Module):
    """Attention and two linear layers, each after a normalisation and added to its input.

    Args:
        width: Channels.
        heads: Attention heads.
        context: Frames that a frame sees, its own included.
    """

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), CausalAttention(width, heads, context))
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, _FEEDFORWARD * width),
            nn.GELU(),
            nn.Linear(_FEEDFORWARD * width, width),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Map `(B, N, width)` to `(B, N, width)`."""
        frames = frames + self.attention(frames)
        output: Tensor = frames + self.feedforward(frames)
        return output


class WaveformEncoder(nn.Module):
    """Causal convolutions on the waveform, each a fraction of the rate of the one before, and a causal transformer.

    Frame n is complete with sample (n + 1) `hop` - 1, as in `TorchSTFT`.

    Args:
        settings: Numbers and widths.

    Attributes:
        hop: Samples per frame of the bottleneck.
    """

    def __init__(self, settings: VectorQuantisedSettings) -> None:
        super().__init__()
        self.hop = settings.stride**settings.layers
        self._past = settings.kernel - settings.stride
        self.convolutions = nn.ModuleList(
            _initialised(
                nn.Sequential(
                    nn.Conv1d(inputs, outputs, settings.kernel, settings.stride),
                    nn.ReLU(),
                    nn.Conv1d(outputs, 2 * outputs, 1),
                    nn.GLU(dim=1),
                )
            )
            for inputs, outputs in pairwise((1, *_widths(settings)))
        )
        self.norm_in = nn.LayerNorm(settings.width)
        self.norm_out = nn.LayerNorm(settings.width)
        self.blocks = nn.ModuleList(
            TransformerBlock(settings.width, settings.heads, settings.context) for _ in range(settings.blocks)
        )

    def convolve(self, waveform: Tensor) -> list[Tensor]:
        """Outputs of the convolutions.

        Args:
            waveform: Samples in the scale of their level, `(B, T)`; silence follows up to a whole number of frames.

        Returns:
            `(B, channels, frames)` for each layer, the last one at the rate of the bottleneck.
        """
        frames = nn.functional.pad(waveform, (0, -waveform.shape[-1] % self.hop)).unsqueeze(1)
        outputs = []
        for convolution in self.convolutions:
            frames = convolution(nn.functional.pad(frames, (self._past, 0)))
            outputs.append(frames)
        return outputs

    def contextualise(self, frames: Tensor) -> list[Tensor]:
        """Outputs of the layers of the transformer.

        Args:
            frames: `(B, width, N)`, the last of `convolve`.

        Returns:
            `(B, width, N)` for each layer.
        """
        frames = self.norm_in(frames.transpose(1, 2))
        outputs = []
        for block in self.blocks:
            frames = block(frames)
            outputs.append(frames)
        outputs[-1] = self.norm_out(frames)
        return [output.transpose(1, 2) for output in outputs]

    def features(self, waveform: Tensor) -> list[Tensor]:
        """What a network that builds on the encoder may see: the last convolution, and every layer of the transformer.

        Args:
            waveform: Samples in the scale of their level, `(B, T)`.

        Returns:
            `1 + blocks` tensors `(B, width, ceil(T / hop))`; frame n is complete with sample (n + 1) `hop` - 1.
        """
        convolved = self.convolve(waveform)[-1]
        return [convolved, *self.contextualise(convolved)]


class MaskedPrediction(nn.Module):
    """Pre-training of the encoder: it names the sound of frames, those included that it does not see.

    The names are fixed before the training: a random projection of the log-amplitudes of bands, and the nearest of
    random vectors. No labels, no second network and nothing that could collapse.

    Args:
        settings: Numbers and widths.

    Source:
        BEST-RQ: Chiu, Qin, Zhang, Yu and Wu, "Self-supervised learning with random-projection quantizer for speech
        recognition" (ICML 2022). Two parts are others': a learned vector in place of hidden frames is that of wav2vec
        2.0 (Baevski et al., 2020), and visible frames count as well, as in HuBERT (Hsu et al., 2021, equation 2
        with α = 1/2), since what is there is learned in far fewer steps than what is missing.
    """

    projection: Tensor
    names: Tensor

    def __init__(self, settings: VectorQuantisedSettings) -> None:
        super().__init__()
        hop = settings.stride**settings.layers
        self._stft = TorchSTFT((2 * hop,), hop)
        self._chance = 1 - (1 - settings.masked_share) ** (1 / _SPAN)
        self.hidden = nn.Parameter(torch.randn(settings.width))
        self.head = nn.Linear(settings.width, _LABELS)
        self.register_buffer("projection", torch.randn(_LABEL_WIDTH, _BANDS))
        self.register_buffer("names", nn.functional.normalize(torch.randn(_LABELS, _LABEL_WIDTH), dim=1))

    def labels(self, waveform: Tensor) -> Tensor:
        """Names of the frames of a signal.

        Args:
            waveform: Samples in the scale of their level, `(B, T)`.

        Returns:
            Whole numbers `(B, frames)`; the frames begin with those of the encoder.
        """
        # Single bins of noise are chance, and their names could not be guessed: means over bands are less so.
        bands = nn.functional.adaptive_avg_pool1d(amplitude(self._stft.analyse(waveform)).mT, _BANDS).mT
        logarithm = torch.log(bands + _LOG_FLOOR)
        deviation, mean = torch.std_mean(logarithm, dim=-1, keepdim=True)
        # Without it few names would be used; over one signal, since the colour of its microphone is not to be named.
        normalised = (logarithm - mean) / (deviation + 1e-3)
        return (self.names @ (self.projection @ normalised)).argmax(dim=1)

    def forward(self, encoder: WaveformEncoder, waveform: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the names of all frames, of which some are hidden.

        Args:
            encoder: The encoder that is trained.
            waveform: Samples in the scale of their level, `(B, T)`.
            generator: Source of the places that are hidden.

        Returns:
            Scalar, at least 0.
        """
        frames = encoder.convolve(waveform)[-1]
        starts = torch.rand(frames.shape[0], 1, frames.shape[-1], generator=generator) < self._chance
        spans = nn.functional.max_pool1d(nn.functional.pad(starts.float(), (_SPAN - 1, 0)), _SPAN, stride=1)
        hidden = spans.to(frames.device) > 0
        seen = torch.where(hidden, self.hidden[:, None], frames)
        logits = self.head(encoder.contextualise(seen)[-1].transpose(1, 2))
        labels = self.labels(waveform)[:, : frames.shape[-1]]
        # Flat, since the loss of more dimensions has no deterministic gradient on every device.
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


class VectorQuantiser(nn.Module):
    """Replacement of every frame by the nearest of a set of codes, which follow the frames that they stand for.

    Args:
        codes: Entries of the codebook.
        width: Channels.
        decay: Of the moving averages that the codebook follows.

    Source:
        Van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning" (2017), appendix A.1, for the
        moving averages; Dhariwal et al., "Jukebox" (2020), section 3.1, for the new life of codes that nothing uses.
    """

    codebook: Tensor
    use: Tensor
    drawn: Tensor

    def __init__(self, codes: int, width: int, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.register_buffer("codebook", torch.randn(codes, width))
        self.register_buffer("use", torch.zeros(codes))
        self.register_buffer("drawn", torch.tensor(False))

    def nearest(self, latent: Tensor) -> Tensor:
        """Index of the code that is nearest to each frame.

        Args:
            latent: `(B, D, N)`.

        Returns:
            `(B, N)`.
        """
        # |z - c|² without |z|², which is the same for all codes.
        distance = self.codebook.square().sum(dim=1)[:, None] - 2 * self.codebook @ latent
        return distance.argmin(dim=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Codes of the frames; the gradient passes them, as if they were the frames.

        Args:
            latent: `(B, D, N)`.

        Returns:
            `(B, D, N)`.
        """
        codes = self.codebook[self.nearest(latent)].transpose(1, 2)
        return latent + (codes - latent).detach()

    @torch.no_grad()
    def follow(self, latent: Tensor, generator: torch.Generator) -> None:
        """Move the codes towards the mean of their frames, and put those without use where frames are.

        Args:
            latent: Frames of one training step, `(B, D, N)`.
            generator: Source of the frames that codes are put on.
        """
        frames = latent.transpose(1, 2).flatten(0, 1)
        codes = self.codebook.shape[0]
        share = frames.shape[0] / codes
        if self.drawn:
            chosen = nn.functional.one_hot(self.nearest(latent).flatten(), codes).to(frames)
            count = chosen.sum(dim=0)
            use = self._decay * self.use + (1 - self._decay) * count
            step = (chosen.T @ frames - count[:, None] * self.codebook) / use.clamp(min=1e-6)[:, None]
            self.codebook += (1 - self._decay) * step
            self.use.copy_(use)
        dead = self.use < _DEAD_SHARE * share
        others = torch.randint(frames.shape[0], (codes,), generator=generator).to(frames.device)
        self.codebook.copy_(torch.where(dead[:, None], frames[others], self.codebook))
        self.use.copy_(torch.where(dead, share, self.use))
        self.drawn.fill_(True)


class WaveformDecoder(nn.Module):
    """The mirrored encoder: transposed convolutions, which also see what the encoder has at their rate.

    At the rate of the bottleneck they see the codes alone: a way around the codes would leave them without work.

    Args:
        settings: Numbers and widths.
    """

    def __init__(self, settings: VectorQuantisedSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _initialised(
                nn.Sequential(
                    nn.Conv1d(inputs, 2 * inputs, 1),
                    nn.GLU(dim=1),
                    nn.ConvTranspose1d(inputs, outputs, settings.kernel, settings.stride),
                )
            )
            for inputs, outputs in pairwise((*reversed(_widths(settings)), 1))
        )
        # The training begins with the mixture as it is, and not with noise that would have to be unlearned.
        for parameter in self.layers[-1].get_submodule("2").parameters():
            nn.init.zeros_(parameter)

    def forward(self, frames: Tensor, waveform: Tensor, convolved: list[Tensor]) -> Tensor:
        """Estimate of the speech.

        Args:
            frames: Codes `(B, width, N)`.
            waveform: The mixture, samples `(B, T)`.
            convolved: Outputs of the encoder's convolutions.

        Returns:
            Samples `(B, T)`.
        """
        *layers, last = self.layers
        # What reaches beyond the last frame lacks what a next frame would add: it is cut off.
        for layer, skip in zip(layers, reversed(convolved[:-1]), strict=True):
            frames = skip + torch.relu(layer(frames)[..., : skip.shape[-1]])
        estimate: Tensor = waveform + last(frames)[:, 0, : waveform.shape[-1]]
        return estimate


class PVQ(Baseline):
    """P-VQ: Demucs with a pre-trained encoder, a causal transformer and a vector-quantised bottleneck.

    What differs from the paper: its encoder begins with the public weights of WavLM, which are large and learned from
    other recordings. Here it is pre-trained by masked prediction on the unlabelled recordings that all systems have.
    The decoder's output is added to the mixture, so that it is of use after few steps, and attention has a horizon.

    Args:
        frontend: Settings of the spectra in the loss.
        settings: Numbers and widths.

    Source:
        Zhao, Zhu and Zhang, "Speech enhancement using self-supervised pre-trained model and vector quantization"
        (2022); the waveform network after Défossez, Synnaeve and Adi, "Real time speech enhancement in the waveform
        domain" (Interspeech 2020); batch normalisation before the codes after Łańcucki et al., "Robust training of
        vector quantized bottleneck models" (IJCNN 2020).
    """

    def __init__(self, frontend: FrontendSettings, settings: VectorQuantisedSettings) -> None:
        super().__init__()
        self.encoder = WaveformEncoder(settings)
        self.prediction = MaskedPrediction(settings)
        # Else the commitment would draw all frames to one code before the decoder has a use for codes.
        self.spread = nn.BatchNorm1d(settings.width, affine=False)
        self.quantiser = VectorQuantiser(settings.codes, settings.width, settings.decay)
        self.decoder = WaveformDecoder(settings)
        self._commitment = settings.commitment
        self._compression = frontend.compression
        self._resolutions = [TorchSTFT((window,), window // 4) for window in frontend.loss_windows]

    def pretrained_parts(self) -> list[nn.Module]:
        """Encoder, and what predicts the names of hidden frames."""
        return [self.encoder, self.prediction]

    def pretraining_terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Masked prediction on the noisy recordings."""
        waveform = batch.mixtures / signal_level(batch.mixtures)
        return {"masked_prediction": self.prediction(self.encoder, waveform, generator)}

    def trained_parts(self) -> list[nn.Module]:
        """All that enhances: the pre-trained encoder is trained on."""
        return [self.encoder, self.spread, self.quantiser, self.decoder]

    def run_time_parts(self) -> list[nn.Module]:
        """All but what the pre-training alone needs."""
        return self.trained_parts()

    def terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Distance of waveforms and of spectra on simulated pairs, and of the encoder's frames from their codes."""
        level = signal_level(batch.simulated_mixtures)
        mixture, target = batch.simulated_mixtures / level, batch.simulated_targets / level
        convolved = self.encoder.convolve(mixture)
        latent = self.spread(self.encoder.contextualise(convolved[-1])[-1])
        if self.quantiser.training:
            self.quantiser.follow(latent, generator)
        codes = self.quantiser(latent)
        estimate = self.decoder(codes, mixture, convolved)
        return {
            "waveform": nn.functional.l1_loss(estimate, target),
            "multi_resolution": multi_resolution(estimate, target, self._resolutions, self._compression),
            "commitment": self._commitment * nn.functional.mse_loss(latent, codes.detach()),
        }

    @torch.no_grad()
    def enhance(self, waveform: Tensor) -> Tensor:
        """Enhance whole signals in the scale of their level."""
        level = signal_level(waveform)
        mixture = waveform / level
        convolved = self.encoder.convolve(mixture)
        codes = self.quantiser(self.spread(self.encoder.contextualise(convolved[-1])[-1]))
        estimate: Tensor = self.decoder(codes, mixture, convolved)
        return estimate * level


def _widths(settings: VectorQuantisedSettings) -> tuple[int, ...]:
    doubled = (min(settings.channels * 2**layer, settings.width) for layer in range(settings.layers - 1))
    return (*doubled, settings.width)


def _initialised(layer: nn.Sequential) -> nn.Sequential:
    """Weights that keep the size of a signal: there is no normalisation that would mend it.

    Source:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers" (ICCV 2015).
    """
    for part in layer:
        if isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
            taps = part.in_channels * part.kernel_size[0]
            if isinstance(part, nn.ConvTranspose1d):
                taps //= part.stride[0]
            nn.init.normal_(part.weight, std=math.sqrt(2 / taps))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return layer
