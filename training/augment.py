"""Random changes to a batch of crops: what light, cameras, detectors and crowds do to them."""

import math

import cv2
import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.config import AugmentSettings


def augment(crops: Tensor, random: torch.Generator, settings: AugmentSettings | None = None) -> Tensor:
    """Change each image by its own dice, in the order in which the world does it: scene, lens, sensor, file, detector.

    Parameters
    ----------
    crops : Tensor, uint8 [N, H, W, 3]
        BGR.
    random : torch.Generator
        On the crops' device; the same state gives the same result.
    settings : AugmentSettings, optional
        Probability of each change.

    Returns
    -------
    Tensor, float32 [N, H, W, 3]
        0..255.
    """
    settings = settings or AugmentSettings()
    images = crops.permute(0, 3, 1, 2).float()
    images = occlude(images, settings.occlusion, random)
    images = cast_shadow(images, settings.shadow, random)
    images = blur(images, settings.blur, random)
    images = expose(images, settings.light, random)
    images = compress(images, settings.jpeg, random)
    images = jitter(images, settings.mirror, settings.jitter, random)
    images = erase(images, settings.erasing, random)
    return images.permute(0, 2, 3, 1)


def _uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    return torch.empty(count, device=random.device).uniform_(low, high, generator=random)


def _chosen(count: int, probability: float, random: torch.Generator) -> Tensor:
    return torch.rand(count, generator=random, device=random.device) < probability


def _rows(count: int, probability: float, random: torch.Generator) -> Tensor:
    return torch.nonzero(_chosen(count, probability, random)).squeeze(1)


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Centres of the pixels, 0..1: y [H, 1] and x [1, W]."""
    y, x = ((torch.arange(side, device=images.device) + 0.5) / side for side in images.shape[2:])
    return y[:, None], x[None]


def occlude(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    """Put part of another crop of the batch [N, 3, H, W] in front, coming in from a side or from below."""
    rows = _rows(len(images), probability, random)
    if not len(rows):
        return images
    count = len(rows)
    others = images[torch.randint(len(images), (count,), generator=random, device=random.device)]
    side = torch.randint(3, (count,), generator=random, device=random.device)
    share = _uniform(count, 0.15, 0.45, random)
    top = _uniform(count, -0.3, 0.5, random)  # a person at the side is shorter, or nearer
    return images.index_copy(0, rows, cover(images[rows], others, side, share, top))


def cover(images: Tensor, others: Tensor, side: Tensor, share: Tensor, top: Tensor) -> Tensor:
    """Put part of each of the crops ``others`` [N, 3, H, W] in front of each of ``images``.

    Parameters
    ----------
    images : Tensor [N, 3, H, W]
        Who is behind.
    others : Tensor [N, 3, H, W]
        Who is in front.
    side : Tensor, int [N]
        From where: 0 left, 1 right, 2 below.
    share : Tensor [N]
        Of the width, or height, that is covered, 0..1.
    top : Tensor [N]
        Where the one at the side begins, as a share of the height from above.

    Returns
    -------
    Tensor [N, 3, H, W]
    """
    y, x = _grid(images)
    side, share, top = (each[:, None, None] for each in (side, share, top))
    beside = torch.where(side == 0, x < share, x > 1 - share) & (y > top)
    covered = torch.where(side == 2, (y > 1 - share).expand_as(beside), beside)[:, None]
    return torch.where(covered, others, images)


def cast_shadow(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    """Darken one side of a random straight line, with a soft edge."""
    rows = _rows(len(images), probability, random)
    if not len(rows):
        return images
    count = len(rows)
    y, x = _grid(images)
    angle = _uniform(count, 0, 2 * torch.pi, random)[:, None, None]
    offset = _uniform(count, -0.3, 0.3, random)[:, None, None]
    softness = _uniform(count, 0.01, 0.08, random)[:, None, None]
    lit = torch.sigmoid(((x - 0.5) * angle.cos() + (y - 0.5) * angle.sin() - offset) / softness)
    shade = _uniform(count, 0.3, 0.7, random)[:, None, None]
    return images.index_copy(0, rows, images[rows] * (shade + (1 - shade) * lit)[:, None])


def blur(images: Tensor, probability: float, random: torch.Generator, longest: float = 3.5) -> Tensor:
    """Blur along a random line (motion; standard deviation up to `longest` pixels) or round (out of focus)."""
    rows = _rows(len(images), probability, random)
    if not len(rows):
        return images
    count = len(rows)
    # One Gaussian for both, long along the line and narrow across it; out of focus is as wide as long.
    round_ = _chosen(count, 0.5, random)
    along = torch.where(round_, _uniform(count, 0.6, 0.57 * longest, random), _uniform(count, 0.8, longest, random))
    size = 2 * math.ceil(1.1 * longest) + 1
    across = torch.where(round_, along, torch.full_like(along, 0.4))
    angle = _uniform(count, 0, torch.pi, random)[:, None, None]
    y, x = torch.meshgrid(*[torch.arange(size, device=images.device) - (size - 1) / 2] * 2, indexing="ij")
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    kernel = torch.exp(-((u / along[:, None, None]) ** 2 + (v / across[:, None, None]) ** 2) / 2)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    channels = images[rows].reshape(1, count * 3, *images.shape[2:])
    padded = functional.pad(channels, [size // 2] * 4, mode="replicate")
    blurred = functional.conv2d(padded, kernel.repeat_interleave(3, 0)[:, None], groups=count * 3)
    return images.index_copy(0, rows, blurred.view(count, 3, *images.shape[2:]))


def expose(images: Tensor, probability: float, random: torch.Generator, night: float = 1 / 6) -> Tensor:
    """Brightness, contrast and colour temperature; noise rises in the dark, and what is too bright is white.

    Of the changed images this share is at night, a sixth over-exposed, and the others are by day.
    """
    rows = _rows(len(images), probability, random)
    if not len(rows):
        return images
    count, chosen = len(rows), images[rows]
    when = _uniform(count, 0, 1, random)
    day = _uniform(count, -0.6, 0.4, random)
    gain = torch.where(when < night, _uniform(count, -1.8, -0.6, random), day)
    gain = torch.where(when > 5 / 6, _uniform(count, 0.4, 0.9, random), gain).exp()[:, None, None, None]
    warmth = _uniform(count, -0.12, 0.12, random)
    tint = torch.stack([-warmth, _uniform(count, -0.04, 0.04, random), warmth], dim=1).exp()[:, :, None, None]  # BGR
    contrast = _uniform(count, 0.7, 1.3, random)[:, None, None, None]
    mean = chosen.mean((1, 2, 3), keepdim=True)
    noise = torch.randn(chosen.shape, generator=random, device=random.device) * 10 * (1 - gain).clamp_min(0)
    changed = (((chosen - mean) * contrast + mean) * gain * tint + noise).clamp(0, 255)
    return images.index_copy(0, rows, changed)


def compress(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    """Save as JPEG of quality 15 to 70 and read back."""
    rows = _rows(len(images), probability, random)
    qualities = torch.randint(15, 71, (len(rows),), generator=random, device=random.device).tolist()
    if not len(rows):
        return images
    pictures = images[rows].round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    for picture, quality in zip(pictures, qualities, strict=True):
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        picture[:] = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return images.index_copy(0, rows, torch.from_numpy(pictures).permute(0, 3, 1, 2).to(images))


def jitter(images: Tensor, mirrored: float, jittered: float, random: torch.Generator) -> Tensor:
    """Mirror; shift by up to 8 % and scale by up to 12 %, as the edges of a detector's boxes do."""
    count = len(images)
    amount = _chosen(count, jittered, random).float()
    transform = torch.zeros(count, 2, 3, device=random.device)
    sign = torch.where(_chosen(count, mirrored, random), -1.0, 1.0)
    transform[:, 0, 0] = sign * (1 + amount * _uniform(count, -0.12, 0.12, random))
    transform[:, 1, 1] = 1 + amount * _uniform(count, -0.12, 0.12, random)
    # The grid spans -1..1, so 0.16 is 8 % of a side.
    transform[:, 0, 2] = amount * _uniform(count, -0.16, 0.16, random)
    transform[:, 1, 2] = amount * _uniform(count, -0.16, 0.16, random)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    # Beyond the border its pixels go on: the same as padding_mode="border", which MPS lacks.
    last = 1 - 1 / torch.tensor([images.shape[3], images.shape[2]], device=grid.device)
    return functional.grid_sample(images, grid.clamp(-last, last), align_corners=False)


def erase(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    """Cover a rectangle of 2 % to 30 % of the area with one random colour (Zhong et al. 2020)."""
    count = len(images)
    area = _uniform(count, 0.02, 0.3, random) * _chosen(count, probability, random)
    aspect = torch.exp(_uniform(count, -1.0, 1.0, random))
    half_height, half_width = (area * aspect).sqrt() / 2, (area / aspect).sqrt() / 2
    y, x = _grid(images)
    y = y[:, 0] - _uniform(count, 0, 1, random)[:, None]
    x = x[0] - _uniform(count, 0, 1, random)[:, None]
    covered = (y.abs() < half_height[:, None])[:, None, :, None] & (x.abs() < half_width[:, None])[:, None, None, :]
    colour = _uniform(3 * count, 0, 255, random).view(count, 3, 1, 1)
    return torch.where(covered, colour, images)
