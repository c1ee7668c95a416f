"""The joint system: speech autoencoder and mixture autoencoder in one latent space."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sottovoce.config import FrontendSettings, ModelSettings
from sottovoce.engine.metadata import ROOMS
from sottovoce.engine.options import RoomChoice
from sottovoce.models.autoencoder import AmplitudeDecoder, ConvStack, DecodedSpeech, Encoder, MaskDecoder, PhaseDecoder
from sottovoce.models.bands import BandMask, BandStack
from sottovoce.models.blocks import ConvBlock, Past
from sottovoce.models.frontend import (
    FeatureMaps,
    Infrasound,
    RunningLevel,
    TorchSTFT,
    compressed_amplitude,
    phasor,
    rotate,
)

# Whole signals go through in pieces of so many frames: what is computed between all frames of a piece stays small.
_MAX_FRAMES = 512


class Translation(NamedTuple):
    """A mixture on its way to speech.

    Attributes:
        latent: Shared latent h = G(E_M(mixture)), `(B, D, N)`.
        noise_code: What only the mixture decoder sees, `(B, K, N)`.
        amplitude: Compressed amplitude of the speech that D_A gives for h, `(B, F, N)`.
        spectrum: Enhanced spectrum, `(B, 2, F, N)`.
    """

    latent: Tensor
    noise_code: Tensor
    amplitude: Tensor
    spectrum: Tensor


class JointSystem(nn.Module):
    """SAE (E_S, D_A, D_P) and MAE (E_M, D_M) with one shared layer G: h = G(E(.)).

    This is the method: what stages train, and what objectives and checks look at. A subclass makes the networks, each
    of which maps frames `(B, C, N)`, and the past of its layers, to frames.

    All spectra that go in and come out are in the mixture's scale: divided by its running level (`level`), which the
    caller, or `forward`, multiplies back.

    Args:
        frontend: Window, hop, compression.
        latent_noise: Deviation of the noise on latents in training.
        shorter_windows: Windows of further spectra that encoders see, in samples, longest first.

    Source:
        Li, Sun, Wang and Naqvi, "Joint learning with shared latent space for self-supervised monaural speech
        enhancement" (SSPD 2023).
    """

    maps: nn.Module
    speech_encoder: nn.Module
    mixture_encoder: nn.Module
    shared: nn.Module
    amplitude_decoder: nn.Module
    phase_decoder: nn.Module
    noise_code: nn.Module
    mixture_decoder: nn.Module
    pretask: nn.Module | None
    mask: nn.Module
    room_choice = False

    def __init__(self, frontend: FrontendSettings, latent_noise: float, shorter_windows: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.latent_noise = latent_noise
        self.compression = frontend.compression
        self.stft = TorchSTFT((frontend.window, *shorter_windows), frontend.hop, frontend.synthesis_window)
        self.bins = frontend.bins
        self.infrasound = Infrasound(self.stft.reference.analysis_tapers, frontend.sample_rate)
        self.level = RunningLevel(frontend)

    def speech_parts(self) -> list[nn.Module]:
        """The networks of the speech stage, frozen in the joint stage: E_S, G, D_A, D_P."""
        return [self.speech_encoder, self.shared, self.amplitude_decoder, self.phase_decoder]

    def mixture_parts(self) -> list[nn.Module]:
        """The networks of the joint stage: E_M, the noise code, D_M, the masks of the pre-task, the mask."""
        pretask = [] if self.pretask is None else [self.pretask]
        return [self.mixture_encoder, self.noise_code, self.mixture_decoder, *pretask, self.mask]

    def run_time_parts(self) -> list[nn.Module]:
        """The networks that `forward` needs, and an exported model holds."""
        return [self.mixture_encoder, self.shared, self.amplitude_decoder, self.mask]

    def adapted_parts(self) -> list[nn.Module]:
        """The networks that adapters change: E_M and the mask. G and D_A stay what clean speech has taught."""
        return [self.mixture_encoder, self.mask]

    def _noisy(self, latent: Tensor, generator: torch.Generator | None) -> Tensor:
        """Latent noise, in training only: the predecessor's code also adds it at test."""
        if generator is None or self.latent_noise == 0:
            return latent
        noise = torch.randn(latent.shape, generator=generator, dtype=latent.dtype).to(latent.device)
        return latent + self.latent_noise * noise

    def analyse(self, waveform: Tensor) -> Tensor:
        """Spectra of whole signals without their infrasound, in the signal's own scale.

        Args:
            waveform: Samples `(B, T)`.

        Returns:
            `(B, 2, sum of F, N)`.
        """
        return self._audible(self.stft.analyse(waveform))

    def _audible(self, spectra: Tensor) -> Tensor:
        """Spectra without offset and rumble, which are noise: they carry no sound, and are not put back."""
        audible: Tensor = spectra - self.infrasound(spectra)
        return audible

    def encode_speech(self, spectra: Tensor) -> Tensor:
        """E_S and G.

        Args:
            spectra: Speech, `(B, 2, F, N)` of all resolutions.

        Returns:
            Latent h_s `(B, D, N)`.
        """
        past = Past()
        _, before_shared = self.speech_encoder(self.maps(spectra, past), past)
        latent: Tensor = self.shared(before_shared, past)
        return latent

    def decode_speech(self, latent: Tensor, generator: torch.Generator | None = None) -> DecodedSpeech:
        """D_A and D_P.

        Args:
            latent: `(B, D, N)`.
            generator: Source of the latent noise; None for no noise.

        Returns:
            Compressed amplitude and phasors.
        """
        noisy = self._noisy(latent, generator)
        return DecodedSpeech(self.amplitude_decoder(noisy, Past()), self.phase_decoder(noisy, Past()))

    def decode_mixture(self, latent: Tensor, noise_code: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """D_M.

        Args:
            latent: `(B, D, N)`.
            noise_code: `(B, K, N)`.
            generator: Source of the latent noise; None for no noise.

        Returns:
            Compressed amplitude of the mixture, `(B, F, N)`.
        """
        code = torch.cat([self._noisy(latent, generator), noise_code], dim=1)
        amplitude: Tensor = self.mixture_decoder(code, Past())
        return amplitude

    def decode_masks(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The masks of the second pre-task, which the latent of a mixture has to know; they are not applied.

        Args:
            latent: `(B, D, N)`.

        Returns:
            Ratio mask and dereverberation mask, each `(B, F, N)`, at least 0.

        Raises:
            ValueError: The system has no such decoder.

        Source:
            Li, Sun and Naqvi, "Self-supervised learning and multi-task pre-training based single-channel acoustic
            denoising" (MFI 2022): a dereverberation mask and a ratio mask beside the latent of clean speech.
        """
        if self.pretask is None:
            raise ValueError("found a system without masks of a pre-task, expected model.mask_pretask to be true")
        ratio, dereverberation = self.pretask(latent, Past()).chunk(2, dim=1)
        return ratio, dereverberation

    def spectrum_of(self, decoded: DecodedSpeech, reference: Tensor) -> Tensor:
        """Complex spectrum of decoded speech.

        Args:
            decoded: Compressed amplitude and phasors.
            reference: Spectrum whose phase is corrected, `(B, 2, F, N)`.

        Returns:
            `(B, 2, F, N)`.
        """
        amplitude = decoded.amplitude ** (1 / self.compression)
        return amplitude.unsqueeze(1) * rotate(decoded.phasors, phasor(reference))

    def recompute(self, spectrum: Tensor, samples: int) -> Tensor:
        """Spectra of all resolutions of the signal that `spectrum` makes: STFT(iSTFT(.)).

        Args:
            spectrum: `(B, 2, F, N)`, longest window.
            samples: Length of the signals.

        Returns:
            `(B, 2, sum of F, N)`.
        """
        return self.stft.analyse(self.stft.synthesise(spectrum, samples))

    def translate(
        self, spectra: Tensor, generator: torch.Generator | None = None, rooms: Tensor | None = None
    ) -> Translation:
        """Mixture to speech: E_M, G, D_A and the mask.

        Args:
            spectra: Mixture in its own scale, `(B, 2, F, N)` of all resolutions.
            generator: Source of the latent noise; None for no noise.
            rooms: What of the room to keep, `(B, 2)`; networks without a choice do not look at it.

        Returns:
            Everything that the losses look at.
        """
        past = Past()
        past.room = None if rooms is None else rooms.unsqueeze(-1)
        features, latent = self._encode_mixture(spectra, past)
        noisy = self._noisy(latent, generator)
        amplitude, spectrum = self._enhanced(features, noisy, spectra[:, :, : self.bins], past)
        return Translation(latent, self.noise_code(features, past), amplitude, spectrum)

    def _encode_mixture(self, spectra: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """E_M and G: features of the mixture, and its latent."""
        features, before_shared = self.mixture_encoder(self.maps(spectra, past), past)
        return features, self.shared(before_shared, past)

    def _enhanced(self, features: Tensor, latent: Tensor, mixture: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Compressed amplitude after D_A, and the spectrum that the mask, which it guides, leaves of the mixture."""
        amplitude: Tensor = self.amplitude_decoder(latent, past)
        return amplitude, rotate(self.mask(features, amplitude, past), mixture)

    def forward(self, spectra: Tensor, past: Past) -> Tensor:
        """Enhance frames as they come, in any scale: what is exported.

        Args:
            spectra: Mixture `(B, 2, F, N)` of all resolutions.
            past: What the layers have seen.

        Returns:
            Enhanced spectrum `(B, 2, F, N)` of the longest window.
        """
        return self._run(spectra, past)[1]

    def _run(self, spectra: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Latent h `(B, D, N)` and enhanced spectrum `(B, 2, F, N)` of frames in any scale."""
        if self.room_choice:
            if past.room is None:
                past.room = past.recall(spectra, len(ROOMS["natural"]))  # whoever begins may set this state
            past.remember(past.room)
        audible = self._audible(spectra)
        level: Tensor = self.level(audible, past)
        scaled = audible / level
        features, latent = self._encode_mixture(scaled, past)
        _, spectrum = self._enhanced(features, latent, scaled[:, :, : self.bins], past)
        return latent, spectrum * level

    @torch.no_grad()
    def enhance(self, waveform: Tensor) -> Tensor:
        """Enhance whole signals, as an exported model does.

        Args:
            waveform: Samples `(B, T)`.

        Returns:
            Samples `(B, T)`, aligned.
        """
        return self._enhance_from(Past(), waveform)

    def _enhance_from(self, past: Past, waveform: Tensor) -> Tensor:
        """Enhance whole signals, beginning with a state."""
        _, spectra = self._follow_from(past, waveform)
        return self.stft.synthesise(spectra, waveform.shape[-1])

    @torch.no_grad()
    def follow(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """The way of whole signals through the latent space, and what is enhanced on it.

        Args:
            waveform: Samples `(B, T)`.

        Returns:
            Latent h = G(E_M(.)) `(B, D, N)`, and enhanced spectrum `(B, 2, F, N)` in the signals' own scale.
        """
        return self._follow_from(Past(), waveform)

    def _follow_from(self, past: Past, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """What `follow` gives, beginning with a state."""
        latents, spectra = [], []
        for frames in torch.split(self.stft.analyse(waveform), _MAX_FRAMES, dim=-1):
            latent, spectrum = self._run(frames, past)
            latents.append(latent)
            spectra.append(spectrum)
            past = Past(past.next)
        return torch.cat(latents, dim=-1), torch.cat(spectra, dim=-1)

    @torch.no_grad()
    def reconstruct(self, speech: Tensor, phase_of: Tensor | None = None) -> Tensor:
        """Clean speech through the speech autoencoder: what its decoders can give at best.

        Args:
            speech: Samples `(B, T)`.
            phase_of: Signals whose phase the decoded speech corrects, `(B, T)`, such as mixtures; the speech itself if
                None.

        Returns:
            Samples `(B, T)`, aligned.
        """
        spectra = self.analyse(speech)
        level = self.level(spectra, Past())
        scaled = spectra / level
        reference = scaled if phase_of is None else self.analyse(phase_of)
        decoded = self.decode_speech(self.encode_speech(scaled))
        spectrum = self.spectrum_of(decoded, reference[:, :, : self.bins])
        return self.stft.synthesise(spectrum * level, speech.shape[-1])

    def compressed(self, spectrum: Tensor) -> Tensor:
        """Compressed amplitude A^p of the longest window.

        Args:
            spectrum: `(B, 2, F, N)`, perhaps of all resolutions.

        Returns:
            `(B, F, N)`.
        """
        return compressed_amplitude(spectrum[:, :, : self.bins], self.compression)


class JointAutoencoder(JointSystem):
    """The product: causal, E_M and the mask recurrent along time and shared by bands of frequency.

    Args:
        frontend: Window, hop, compression.
        model: Networks.
    """

    def __init__(self, frontend: FrontendSettings, model: ModelSettings) -> None:
        super().__init__(frontend, model.latent_noise)
        self.room_choice = model.room_choice
        latent, bins, convolutions = model.latent, self.bins, model.speech_encoder
        self.maps = maps = FeatureMaps(frontend, model.phase_features)
        self.speech_encoder = Encoder(ConvStack(maps.per_bin * bins, convolutions), convolutions.widths[-1], latent)
        bands = BandStack(maps.per_bin, frontend, model.mixture_encoder, model.room_choice)
        self.mixture_encoder = Encoder(bands, bands.width, latent)
        self.shared = ConvBlock(latent, latent)
        self.amplitude_decoder = AmplitudeDecoder(latent, bins, model.speech_decoder)
        self.phase_decoder = PhaseDecoder(latent, bins, model.speech_decoder)
        self.noise_code = ConvBlock(bands.width, model.noise_code)
        self.mixture_decoder = AmplitudeDecoder(latent + model.noise_code, bins, model.mixture_decoder)
        self.pretask = AmplitudeDecoder(latent, 2 * bins, model.mixture_decoder) if model.mask_pretask else None
        self.mask = MaskDecoder(BandMask(frontend, model.mask, model.room_choice))

    @torch.no_grad()
    def enhance(self, waveform: Tensor, room: RoomChoice = "natural") -> Tensor:
        """Enhance whole signals, as an exported model does.

        Args:
            waveform: Samples `(B, T)`.
            room: What of the room to keep; networks without a choice do not look at it.

        Returns:
            Samples `(B, T)`, aligned.
        """
        past = Past()
        past.room = waveform.new_tensor(ROOMS[room]).view(1, -1, 1).expand(len(waveform), -1, -1)
        return self._enhance_from(past, waveform)


def count_parameters(parts: list[nn.Module]) -> int:
    """Number of trained values of some networks."""
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def multiply_adds_per_second(parts: list[nn.Module], frames_per_second: float) -> int:
    """Multiply-adds of some networks: those of their convolutions, which run once a frame, and of their bands.

    Args:
        parts: Networks.
        frames_per_second: Frame rate in Hz.

    Returns:
        Multiply-adds per second of audio.
    """
    multiply_adds = 0
    for layer in (layer for part in parts for layer in part.modules()):
        if isinstance(layer, nn.Conv1d):
            multiply_adds += layer.weight.numel()
        elif isinstance(layer, BandStack | BandMask):
            multiply_adds += layer.multiply_adds
    return round(multiply_adds * frames_per_second)
