"""Synthetic people for a teacher to describe: the student then copies the teacher instead of memorising some crops.

A teacher can describe any picture, so pictures need not show a real person: two people's crops cut together at the
waist or laid over each other, in other colours ("function matching", Beyer et al. 2022, "Knowledge distillation: a good
teacher is patient and consistent").
"""

import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.training.augment import expose, jitter

# Shares of the pictures: one's top with another's legs, both at once; and those in other colours.
OUTFIT, OVERLAY, RECOLOUR = 0.6, 0.15, 0.3


def mix_crops(crops: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Make pictures of people that do not exist.

    Parameters
    ----------
    crops : Tensor, uint8 [N, H, W, 3]
        BGR, of whole people, on any device.
    count : int
        How many to make.
    random : torch.Generator
        Source of chance, on the crops' device.

    Returns
    -------
    Tensor, uint8 [count, H, W, 3]
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1, device=crops.device).uniform_(low, high, generator=random)

    one, other = crops[torch.randint(len(crops), (2, count), generator=random, device=crops.device)].float()
    heights = ((torch.arange(crops.shape[1], device=crops.device) + 0.5) / crops.shape[1])[:, None, None]
    kind, waist, softness = uniform(0, 1), uniform(0.35, 0.6), 0.02
    share = torch.where(kind < OUTFIT + OVERLAY, uniform(0.3, 0.7), torch.ones_like(kind))
    share = torch.where(kind < OUTFIT, torch.sigmoid((waist - heights) / softness), share)
    pictures = share * one + (1 - share) * other
    recoloured = _recolour(pictures, uniform(0, 2 * torch.pi), uniform(0.3, 1.5))
    return torch.where(uniform(0, 1) < RECOLOUR, recoloured, pictures).clamp(0, 255).to(torch.uint8)


def _recolour(pictures: Tensor, angle: Tensor, colourful: Tensor) -> Tensor:
    """Turn all colours about the grey axis and make them stronger or weaker; what is grey stays."""
    grey = pictures.mean(-1, keepdim=True)
    colour = pictures - grey
    across = (colour.roll(1, -1) - colour.roll(-1, -1)) / 3**0.5  # a quarter turn on
    return grey + colourful * (colour * angle.cos() + across * angle.sin())


# Of synthetic people: this share has a colour cast of its own, in other light, or comes from a small picture.
CAST, LIT, SMALL = 0.4, 0.6, 0.5
_CAST = 0.2  # logarithm of the strongest gain of one channel
_HEIGHTS = (32, 48, 64, 96)  # px, of people far away


def film(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Show pictures as another camera would: light, colours, few pixels, a box that does not fit.

    A teacher sees them so, too: what it says of them is what holds under other cameras. (What should make no difference
    at all, such as blur, is added afterwards, for the student alone.)

    Parameters
    ----------
    pictures : Tensor, uint8 [N, H, W, 3]
        BGR, on any device.
    random : torch.Generator
        Source of chance, on the same device.

    Returns
    -------
    Tensor, uint8 [N, H, W, 3]
    """
    count = len(pictures)

    def chosen(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=random, device=pictures.device) < share

    images = jitter(pictures.permute(0, 3, 1, 2).float(), 0.5, 1.0, random)
    cast = torch.empty(count, 3, 1, 1, device=pictures.device).uniform_(-_CAST, _CAST, generator=random).exp()
    images = torch.where(chosen(CAST), images * cast, images).clamp(0, 255)
    images = expose(images, LIT, random, night=0.1)
    small = chosen(SMALL).flatten()
    kinds = torch.randint(len(_HEIGHTS), (count,), generator=random, device=pictures.device)
    for kind, height in enumerate(_HEIGHTS):
        rows = torch.nonzero(small & (kinds == kind)).squeeze(1)
        if len(rows) and height < images.shape[2]:
            few = (height, max(round(height * images.shape[3] / images.shape[2]), 1))
            shrunk = functional.interpolate(images[rows], few, mode="bilinear", antialias=True, align_corners=False)
            images[rows] = functional.interpolate(shrunk, images.shape[2:], mode="bilinear", align_corners=False)
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
