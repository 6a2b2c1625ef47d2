"""Random changes to a batch of crops: what a detector's boxes, cameras and crowds do to them."""

import torch
from torch import Tensor
from torch.nn import functional


def augment(crops: Tensor, random: torch.Generator) -> Tensor:
    """Mirror, jitter, light, blur and erase, each image by its own dice.

    Parameters
    ----------
    crops : Tensor, uint8 [N, H, W, 3]
        BGR.
    random : torch.Generator
        On the CPU; the same state gives the same result.

    Returns
    -------
    Tensor, float32 [N, H, W, 3]
        0..255.
    """
    images = crops.permute(0, 3, 1, 2).float()
    images = _jitter(images, random)
    images = _light(images, random)
    images = _blur(images, random)
    images = _erase(images, random)
    return images.permute(0, 2, 3, 1)


def _uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    return torch.empty(count).uniform_(low, high, generator=random)


def _chosen(count: int, probability: float, random: torch.Generator) -> Tensor:
    return torch.rand(count, generator=random) < probability


def _jitter(images: Tensor, random: torch.Generator) -> Tensor:
    """Mirror half of them; shift by up to 8 % and scale by up to 12 %, as the edges of a detector's boxes do."""
    count = len(images)
    transform = torch.zeros(count, 2, 3)
    mirrored = torch.where(_chosen(count, 0.5, random), -1.0, 1.0)
    transform[:, 0, 0] = mirrored * _uniform(count, 0.88, 1.12, random)
    transform[:, 1, 1] = _uniform(count, 0.88, 1.12, random)
    # The grid spans -1..1, so 0.16 is 8 % of a side.
    transform[:, 0, 2] = _uniform(count, -0.16, 0.16, random)
    transform[:, 1, 2] = _uniform(count, -0.16, 0.16, random)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _light(images: Tensor, random: torch.Generator) -> Tensor:
    """Brightness, contrast and colour temperature of half of them, with sensor noise in the dark ones."""
    count = len(images)
    chosen = _chosen(count, 0.5, random)[:, None, None, None]
    gain = torch.exp(_uniform(count, -0.6, 0.4, random))[:, None, None, None]
    tint = torch.exp(_uniform(3 * count, -0.08, 0.08, random)).view(count, 3, 1, 1)
    contrast = _uniform(count, 0.7, 1.3, random)[:, None, None, None]
    mean = images.mean((1, 2, 3), keepdim=True)
    noise = torch.randn(images.shape, generator=random) * 12 * (1 - gain).clamp_min(0)
    changed = (((images - mean) * contrast + mean) * gain * tint + noise).clamp(0, 255)
    return torch.where(chosen, changed, images)


def _blur(images: Tensor, random: torch.Generator, size: int = 7) -> Tensor:
    """Blur a fifth of them: along a random line (motion) or round (out of focus)."""
    rows = torch.nonzero(_chosen(len(images), 0.2, random)).squeeze(1)
    if not len(rows):
        return images
    count = len(rows)
    # One Gaussian for both, long along the line and narrow across it; out of focus is as wide as long.
    along = _uniform(count, 0.6, 2.5, random)
    across = torch.where(_chosen(count, 0.5, random), along, torch.full((count,), 0.4))
    angle = _uniform(count, 0, torch.pi, random)[:, None, None]
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    kernel = torch.exp(-((u / along[:, None, None]) ** 2 + (v / across[:, None, None]) ** 2) / 2)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    channels = images[rows].reshape(1, count * 3, *images.shape[2:])
    padded = functional.pad(channels, [size // 2] * 4, mode="replicate")
    blurred = functional.conv2d(padded, kernel.repeat_interleave(3, 0)[:, None], groups=count * 3)
    return images.index_copy(0, rows, blurred.view(count, 3, *images.shape[2:]))


def _erase(images: Tensor, random: torch.Generator) -> Tensor:
    """Cover a rectangle of 2 % to 30 % of the area of half of them with one random colour (Zhong et al. 2020)."""
    count, _, height, width = images.shape
    area = _uniform(count, 0.02, 0.3, random) * _chosen(count, 0.5, random)
    aspect = torch.exp(_uniform(count, -1.0, 1.0, random))
    half_height, half_width = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    y = (torch.arange(height) + 0.5) / height - _uniform(count, 0, 1, random)[:, None]
    x = (torch.arange(width) + 0.5) / width - _uniform(count, 0, 1, random)[:, None]
    covered = (y.abs() < half_height[:, None])[:, None, :, None] & (x.abs() < half_width[:, None])[:, None, None, :]
    colour = _uniform(3 * count, 0, 255, random).view(count, 3, 1, 1)
    return torch.where(covered, colour, images)
