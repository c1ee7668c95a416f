import pytest
import torch

from images.networks import ImageSystem


@pytest.fixture(scope="module", params=[True, False], ids=["refined", "published"])
def network(request):
    torch.manual_seed(0)
    return ImageSystem(refines=request.param, noise_code=4 if request.param else 0).eval()


@pytest.mark.parametrize("size", [(64, 64), (65, 67), (70, 94)])
def test_images_of_any_size(network, size):
    image = torch.rand(2, 1, *size)
    assert network(image).shape == image.shape
    assert network.reconstruct(image).shape == image.shape


def test_a_shift_of_four_pixels_shifts_the_output(network):
    """Nothing depends on the place in an image, but for its borders."""
    image = torch.rand(1, 1, 96, 96)
    shifted = network(image.roll(4, dims=-1))
    inner = slice(36, 60)
    torch.testing.assert_close(shifted[..., inner, inner], network(image)[..., inner, 32:56], rtol=1e-4, atol=1e-5)


def test_latent_noise_is_for_training_alone(network):
    image = torch.rand(1, 1, 64, 64)
    assert torch.equal(network.translate(image).decoded, network.translate(image).decoded)
    noisy = network.translate(image, torch.Generator().manual_seed(1))
    assert torch.equal(noisy.latent, network.translate(image).latent)
    assert not torch.equal(noisy.decoded, network.translate(image).decoded)


def test_the_published_image_is_what_the_clean_decoder_gives():
    network = ImageSystem(refines=False, noise_code=0)
    translation = network.translate(torch.rand(1, 1, 64, 64))
    assert translation.image is translation.decoded
    assert translation.noise_code.shape[1] == 0
    assert torch.equal(translation.decoded, network.decode_clean(translation.latent))
