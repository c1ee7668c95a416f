"""The joint system: speech autoencoder and mixture autoencoder in one latent space."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sottovoce.config import FrontendSettings, ModelSettings
from sottovoce.models.autoencoder import (
    AmplitudeDecoder,
    DecodedSpeech,
    Encoder,
    MaskDecoder,
    PhaseDecoder,
    aligned,
)
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


@dataclass(frozen=True)
class Translation:
    """A mixture on its way to speech; all parts are aligned to the mixture.

    Attributes:
        latent: Shared latent h = G(E_M(mixture)), `(B, D, N)`.
        noise_code: What only the mixture decoder sees, `(B, K, N)`; None without.
        decoded: What D_A and D_P give for h.
        spectrum: Enhanced spectrum, `(B, 2, F, N)`.
    """

    latent: Tensor
    noise_code: Tensor | None
    decoded: DecodedSpeech
    spectrum: Tensor


class JointAutoencoder(nn.Module):
    """SAE (E_S, D_A, D_P) and MAE (E_M, D_M) with one shared layer G: h = G(E(.)).

    All spectra that go in and come out are in the mixture's scale: divided by its running level (`level`), which the
    caller, or `forward`, multiplies back.

    Args:
        frontend: Windows, hop, compression.
        model: Networks.

    Source:
        Li, Sun, Wang and Naqvi, "Joint learning with shared latent space for self-supervised monaural speech
        enhancement" (SSPD 2023).
    """

    def __init__(self, frontend: FrontendSettings, model: ModelSettings) -> None:
        super().__init__()
        self.settings = model
        self.compression = frontend.compression
        self.stft = TorchSTFT(frontend.windows, frontend.hop, frontend.synthesis_window)
        self.bins = self.stft.reference.bins[0]
        frames_per_second = frontend.sample_rate / frontend.hop
        self.infrasound = Infrasound(frontend)
        self.level = RunningLevel(frontend)
        self.maps = FeatureMaps(frontend)

        horizon = max(1, round(model.equalise_horizon_seconds * frames_per_second)) if model.equalise else None
        self.speech_encoder = Encoder(self.maps.channels, frontend, model.speech_encoder, model, horizon)
        self.mixture_encoder = Encoder(self.maps.channels, frontend, model.mixture_encoder, model, horizon)
        self.shared = _pointwise(model.latent, model.latent, model) if model.shared_layer else None
        self.amplitude_decoder = AmplitudeDecoder(model.latent, self.bins, model.speech_decoder, model)
        self.phase_decoder = (
            None if model.phase == "mixture" else PhaseDecoder(model.latent, self.bins, model.speech_decoder, model)
        )
        self.noise_code = _pointwise(self.mixture_encoder.width, model.noise_code, model) if model.noise_code else None
        self.mixture_decoder = AmplitudeDecoder(
            model.latent + model.noise_code, self.bins, model.mixture_decoder, model
        )
        self.pretask = (
            AmplitudeDecoder(model.latent, 2 * self.bins, model.mixture_decoder, model) if model.mask_pretask else None
        )
        self.mask = MaskDecoder(self.mixture_encoder.width, frontend, model.mask, model.causal) if model.mask else None

    @property
    def delay_frames(self) -> int:
        """Frames by which `forward` lags behind its input."""
        mask = 0 if self.mask is None else self.mask.delay
        return self.mixture_encoder.delay + self.amplitude_decoder.delay + mask

    def speech_parts(self) -> list[nn.Module]:
        """The networks of the speech stage, frozen in the joint stage: E_S, G, D_A, D_P."""
        parts = [self.speech_encoder, self.shared, self.amplitude_decoder, self.phase_decoder]
        return [part for part in parts if part is not None]

    def mixture_parts(self) -> list[nn.Module]:
        """The networks of the joint stage: E_M, the noise code, D_M, the masks of the pre-task, the mask."""
        parts = [self.mixture_encoder, self.noise_code, self.mixture_decoder, self.pretask, self.mask]
        return [part for part in parts if part is not None]

    def run_time_parts(self) -> list[nn.Module]:
        """The networks that `forward` needs, and an exported model holds."""
        phase = self.phase_decoder if self._uses_phase_decoder else None
        parts = [self.mixture_encoder, self.shared, self.amplitude_decoder, phase, self.mask]
        return [part for part in parts if part is not None]

    @property
    def _uses_phase_decoder(self) -> bool:
        return self.mask is None and self.phase_decoder is not None

    def _share(self, latent: Tensor, past: Past) -> Tensor:
        return latent if self.shared is None else self.shared(latent, past)

    def _noisy(self, latent: Tensor, generator: torch.Generator | None) -> Tensor:
        """Latent noise, in training only: the predecessor's code also adds it at test."""
        if generator is None or self.settings.latent_noise == 0:
            return latent
        noise = torch.randn(latent.shape, generator=generator, dtype=latent.dtype).to(latent.device)
        return latent + self.settings.latent_noise * noise

    def analyse(self, waveform: Tensor) -> Tensor:
        """Spectra of whole signals without their infrasound, in the signal's own scale.

        Args:
            waveform: Samples `(B, T)`.

        Returns:
            `(B, 2, sum of F, N)`.
        """
        spectra = self.stft.analyse(waveform)
        audible: Tensor = spectra - self.infrasound(spectra)
        return audible

    def encode_speech(self, spectra: Tensor) -> Tensor:
        """E_S and G.

        Args:
            spectra: Speech, `(B, 2, F, N)` of all resolutions.

        Returns:
            Latent h_s `(B, D, N)`.
        """

        def encode(maps: Tensor, past: Past) -> Tensor:
            return self._share(self.speech_encoder(maps, past)[1], past)

        return aligned(encode, self.maps(spectra, Past()), self.speech_encoder.delay)

    def decode_speech(self, latent: Tensor, generator: torch.Generator | None = None) -> DecodedSpeech:
        """D_A and D_P.

        Args:
            latent: `(B, D, N)`.
            generator: Source of the latent noise; None for no noise.

        Returns:
            Compressed amplitude, and phasors where there is a D_P.
        """
        noisy = self._noisy(latent, generator)
        decoded = aligned(self.amplitude_decoder, noisy, self.amplitude_decoder.delay)
        if self.phase_decoder is None:
            return DecodedSpeech(decoded, None)
        phasors = aligned(self.phase_decoder, noisy, self.phase_decoder.delay)
        return DecodedSpeech(decoded, _complex(phasors))

    def decode_mixture(
        self, latent: Tensor, noise_code: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        """D_M.

        Args:
            latent: `(B, D, N)`.
            noise_code: `(B, K, N)`, or None where the system has none.
            generator: Source of the latent noise; None for no noise.

        Returns:
            Compressed amplitude of the mixture, `(B, F, N)`.
        """
        code = self._noisy(latent, generator)
        if noise_code is not None:
            code = torch.cat([code, noise_code], dim=1)
        return aligned(self.mixture_decoder, code, self.mixture_decoder.delay)

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
        ratio, dereverberation = aligned(self.pretask, latent, self.pretask.delay).chunk(2, dim=1)
        return ratio, dereverberation

    def spectrum_of(self, decoded: DecodedSpeech, reference: Tensor) -> Tensor:
        """Complex spectrum of decoded speech.

        Args:
            decoded: Compressed amplitude and phasors.
            reference: Spectrum whose phase is taken or corrected, `(B, 2, F, N)`.

        Returns:
            `(B, 2, F, N)`.
        """
        if self.settings.phase == "mixture" or decoded.phasors is None:
            phasors = phasor(reference)
        elif self.settings.phase == "residual":
            phasors = rotate(decoded.phasors, phasor(reference))
        else:
            phasors = decoded.phasors
        return (decoded.amplitude ** (1 / self.compression)).unsqueeze(1) * phasors

    def recompute(self, spectrum: Tensor, samples: int) -> Tensor:
        """Spectra of all resolutions of the signal that `spectrum` makes: STFT(iSTFT(.)).

        Args:
            spectrum: `(B, 2, F, N)`, longest window.
            samples: Length of the signals.

        Returns:
            `(B, 2, sum of F, N)`.
        """
        return self.stft.analyse(self.stft.synthesise(spectrum, samples))

    def translate(self, spectra: Tensor, generator: torch.Generator | None = None) -> Translation:
        """Mixture to speech: E_M, G, D_A and D_P, and the mask where there is one.

        Args:
            spectra: Mixture in its own scale, `(B, 2, F, N)` of all resolutions.
            generator: Source of the latent noise; None for no noise.

        Returns:
            Everything that the losses look at.
        """
        frames = spectra.shape[-1]
        padded = nn.functional.pad(spectra, (0, self.delay_frames))
        translation = self._translate(padded, Past(), generator, for_mixture_decoder=True)
        encoder, decoder = self.mixture_encoder.delay, self.amplitude_decoder.delay

        def cut(part: Tensor, delay: int) -> Tensor:
            return part[..., delay : delay + frames]

        decoded = translation.decoded
        return Translation(
            latent=cut(translation.latent, encoder),
            noise_code=None if translation.noise_code is None else cut(translation.noise_code, encoder),
            decoded=DecodedSpeech(
                cut(decoded.amplitude, encoder + decoder),
                None if decoded.phasors is None else cut(decoded.phasors, encoder + decoder),
            ),
            spectrum=cut(translation.spectrum, self.delay_frames),
        )

    def _translate(
        self, spectra: Tensor, past: Past, generator: torch.Generator | None, for_mixture_decoder: bool
    ) -> Translation:
        """Translate frames as they come; every part lags by the delay of the networks before it."""
        features, before_shared = self.mixture_encoder(self.maps(spectra, past), past)
        latent = self._share(before_shared, past)
        noise_code = None
        if for_mixture_decoder and self.noise_code is not None:
            noise_code = self.noise_code(features, past)
        noisy = self._noisy(latent, generator)
        guide = self.amplitude_decoder(noisy, past)
        phasors = None
        if self._uses_phase_decoder and self.phase_decoder is not None:
            phasors = _complex(self.phase_decoder(noisy, past))
        decoded = DecodedSpeech(guide, phasors)
        mixture = spectra[:, :, : self.bins]
        if self.delay_frames:
            mixture = _complex(past.delay(mixture.flatten(1, 2), self.delay_frames))
        if self.mask is None:
            return Translation(latent, noise_code, decoded, self.spectrum_of(decoded, mixture))
        waiting = past.delay(features, self.amplitude_decoder.delay)
        spectrum = rotate(self.mask(waiting, guide, past), mixture)
        return Translation(latent, noise_code, decoded, spectrum)

    def forward(self, spectra: Tensor, past: Past) -> Tensor:
        """Enhance frames as they come, in any scale: what is exported.

        Args:
            spectra: Mixture `(B, 2, F, N)` of all resolutions.
            past: What the layers have seen.

        Returns:
            Enhanced spectrum `(B, 2, F, N)` of the longest window, lagging by `delay_frames`.
        """
        # Offset and rumble are noise: they carry no sound, and are not put back.
        audible = spectra - self.infrasound(spectra)
        level = self.level(audible, past)
        enhanced = self._translate(audible / level, past, None, for_mixture_decoder=False).spectrum
        return enhanced * past.delay(level.squeeze(1), self.delay_frames).unsqueeze(1)

    @torch.no_grad()
    def enhance(self, waveform: Tensor) -> Tensor:
        """Enhance whole signals, as an exported model does.

        Args:
            waveform: Samples `(B, T)`.

        Returns:
            Samples `(B, T)`, aligned.
        """
        spectra = nn.functional.pad(self.stft.analyse(waveform), (0, self.delay_frames))
        past, enhanced = Past(), []
        for frames in torch.split(spectra, _MAX_FRAMES, dim=-1):
            enhanced.append(self(frames, past))
            past = Past(past.next)
        return self.stft.synthesise(torch.cat(enhanced, dim=-1)[..., self.delay_frames :], waveform.shape[-1])

    @torch.no_grad()
    def reconstruct(self, speech: Tensor, phase_of: Tensor | None = None) -> Tensor:
        """Clean speech through the speech autoencoder: what its decoders can give at best.

        Args:
            speech: Samples `(B, T)`.
            phase_of: Signals whose phase the decoded speech takes or corrects, `(B, T)`, such as mixtures; the speech
                itself if None.

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


def _pointwise(inputs: int, outputs: int, model: ModelSettings) -> ConvBlock:
    """One layer that sees one frame."""
    return ConvBlock(inputs, outputs, 1, normalisation=model.normalisation, activation=model.activation)


def _complex(rows: Tensor) -> Tensor:
    """Rows `(B, 2 F, N)`, real parts first, as `(B, 2, F, N)`."""
    batch, count, frames = rows.shape
    return rows.reshape(batch, 2, count // 2, frames)


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
