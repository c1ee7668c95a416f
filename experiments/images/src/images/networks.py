"""The two autoencoders and their shared layer, as convolutions over images."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

_MULTIPLE = 4  # of pixels: encoders take every fourth


class Translation(NamedTuple):
    """A noisy image on its way to a clean one.

    Attributes:
        latent: Shared latent h = G(E_M(noisy)), `(B, D, H/4, W/4)`.
        noise_code: What only the mixture decoder sees, `(B, K, H/4, W/4)`.
        decoded: What D_S makes of h, `(B, 1, H, W)`.
        image: The denoised image, `(B, 1, H, W)`.
    """

    latent: Tensor
    noise_code: Tensor
    decoded: Tensor
    image: Tensor


class ImageSystem(nn.Module):
    """Clean autoencoder (E_S, D_S) and mixture autoencoder (E_M, D_M) with one shared layer G: h = G(E(.)).

    All images that go in and come out are in the representation of their noise and in the noisy image's scale
    (`images.noise`). Their sides are multiples of 4.

    Args:
        refines: Whether the denoised image is the noisy one less what a network finds in it, guided by D_S, as the
            product's mask is; otherwise it is what D_S decodes, as in the published system.
        latent: Channels D of the latent, of which there is a pixel for every 4 x 4 of the image.
        width: Channels of the layers.
        noise_code: Channels K of the noise code.
        latent_noise: Deviation of the noise on latents in training.

    Source:
        Li, Sun, Wang and Naqvi, "Joint learning with shared latent space for self-supervised monaural speech
        enhancement" (SSPD 2023), for spectra. Pixels as channels of half as many rows and columns: Zhang, Zuo and
        Zhang, "FFDNet" (2018).
    """

    def __init__(
        self, *, refines: bool = True, latent: int = 8, width: int = 24, noise_code: int = 4, latent_noise: float = 0.1
    ) -> None:
        super().__init__()
        self.latent_noise = latent_noise
        self.clean_encoder = nn.Sequential(nn.PixelUnshuffle(2), _layer(4, width), _encoder_end(width, latent))
        self.shared = nn.Conv2d(latent, latent, 1)
        self.clean_decoder = _decoder(latent, width)
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2), _layer(4, width), _layer(width, width), _layer(width, width, dilation=2)
        )
        self.mixture_encoder = _encoder_end(width, latent)
        self.noise_code = nn.Conv2d(width, noise_code, 3, stride=2, padding=1) if noise_code else None
        self.mixture_decoder = _decoder(latent + noise_code, width)
        self.refinement = _Refinement(width) if refines else None

    def clean_parts(self) -> list[nn.Module]:
        """What clean images teach: E_S, G, D_S."""
        return [self.clean_encoder, self.shared, self.clean_decoder]

    def _noisy(self, latent: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return latent
        return latent + self.latent_noise * torch.randn(latent.shape, generator=generator)

    def encode_clean(self, image: Tensor) -> Tensor:
        """E_S and G: `(B, 1, H, W)` to h_s `(B, D, H/4, W/4)`."""
        latent: Tensor = self.shared(self.clean_encoder(image))
        return latent

    def decode_clean(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """D_S: latent `(B, D, H/4, W/4)` to an image `(B, 1, H, W)`, above 0; a generator gives latent noise."""
        image: Tensor = nn.functional.softplus(self.clean_decoder(self._noisy(latent, generator)), beta=20)
        return image

    def decode_mixture(self, latent: Tensor, noise_code: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """D_M: latent and noise code to the noisy image `(B, 1, H, W)`; a generator gives latent noise."""
        image: Tensor = self.mixture_decoder(torch.cat([self._noisy(latent, generator), noise_code], dim=1))
        return image

    def translate(self, noisy: Tensor, generator: torch.Generator | None = None) -> Translation:
        """E_M, G, D_S and the refinement.

        Args:
            noisy: `(B, 1, H, W)`.
            generator: Source of the latent noise; None for no noise.

        Returns:
            Everything that the losses look at.
        """
        features = self.features(noisy)
        latent = self.shared(self.mixture_encoder(features))
        decoded = self.decode_clean(latent, generator)
        image = decoded if self.refinement is None else self.refinement(features, decoded, noisy)
        noise_code = latent[:, :0] if self.noise_code is None else self.noise_code(features)
        return Translation(latent, noise_code, decoded, image)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Denoise an image of any size, in the representation: `(B, 1, H, W)` to the same."""
        height, width = image.shape[-2:]
        padded = nn.functional.pad(image, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode="reflect")
        return self.translate(padded).image[..., :height, :width]

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> Tensor:
        """A clean image of any size through E_S, G and D_S: what D_S can give at best."""
        height, width = image.shape[-2:]
        padded = nn.functional.pad(image, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode="reflect")
        return self.decode_clean(self.encode_clean(padded))[..., :height, :width]


class _Refinement(nn.Module):
    """What D_S takes for the image, a share of what the noisy image differs from it, and a correction.

    Like the product's mask, it keeps detail that is in the noisy image and not in a narrow latent.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.halves = nn.PixelUnshuffle(2)
        output = nn.Conv2d(width, 8, 3, padding=1)
        nn.init.zeros_(output.weight)
        self.network = nn.Sequential(
            _layer(width + 8, width),
            _layer(width, width, dilation=2),
            _layer(width, width),
            output,
            nn.PixelShuffle(2),
        )

    def forward(self, features: Tensor, guide: Tensor, noisy: Tensor) -> Tensor:
        joined = torch.cat([features, self.halves(guide), self.halves(noisy)], dim=1)
        mask, correction = self.network(joined).chunk(2, dim=1)
        refined: Tensor = guide + torch.sigmoid(mask) * (noisy - guide) + correction
        return refined


def _layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation)
    # Without normalisation, whose means would depend on how much air is in a patch: variances have to be right at once.
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.ReLU())


def _encoder_end(width: int, latent: int) -> nn.Sequential:
    """From half of the pixels to a quarter of them, and to the latent that the shared layer takes."""
    return nn.Sequential(_layer(width, width, stride=2), _layer(width, width), nn.Conv2d(width, latent, 3, padding=1))


def _decoder(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        _layer(inputs, 2 * width),
        nn.PixelShuffle(2),
        _layer(width // 2, width),
        nn.Conv2d(width, 4, 3, padding=1),
        nn.PixelShuffle(2),
    )
