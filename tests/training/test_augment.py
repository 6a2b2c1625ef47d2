from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reid_tracker.config import AugmentSettings
from reid_tracker.training.augment import augment, blur, cast_shadow, compress, erase, expose, jitter, occlude

Change = Callable[[Tensor, float, torch.Generator], Tensor]
CHANGES: list[Change] = [
    occlude,
    cast_shadow,
    blur,
    expose,
    compress,
    erase,
    lambda images, probability, random: jitter(images, 0, probability, random),
    lambda images, probability, random: jitter(images, probability, 0, random),
]
NEVER = AugmentSettings(**dict.fromkeys(AugmentSettings.model_fields, 0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(count: int = 32) -> Tensor:
    small = torch.randint(40, 200, (count, 3, 8, 4), generator=generator()).float()
    large = torch.nn.functional.interpolate(small, (64, 32), mode="bilinear")
    return large.permute(0, 2, 3, 1).to(torch.uint8)


def planes(count: int = 32) -> Tensor:
    return crops(count).permute(0, 3, 1, 2).float()


def test_results_are_pictures_of_the_same_shape() -> None:
    images = augment(crops(), generator(1))
    assert images.shape == (32, 64, 32, 3) and images.dtype == torch.float32
    assert torch.isfinite(images).all() and images.min() >= -0.01 and images.max() <= 255.01


def test_each_image_has_its_own_dice_and_the_dice_decide() -> None:
    same = crops(1).repeat(16, 1, 1, 1)
    first, again = (augment(same, generator(2)) for _ in range(2))
    other = augment(same, generator(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    distances = torch.cdist(first.flatten(1), first.flatten(1)) + torch.eye(16) * 1e6
    assert distances.min() > 0


def test_the_person_remains_to_be_seen() -> None:
    # On average over many draws the picture, or its mirror, still shows through.
    original = crops(1)
    mean = augment(original.repeat(256, 1, 1, 1), generator(4)).mean(0)
    both = (original[0].float() + original[0].flip(1).float()) / 2
    assert torch.corrcoef(torch.stack([mean.flatten(), both.flatten()]))[0, 1] > 0.8


def test_the_original_is_left_alone_and_so_is_everything_without_a_probability() -> None:
    original = crops()
    before = original.clone()
    augment(original, generator(5))
    assert torch.equal(original, before)
    torch.testing.assert_close(augment(original, generator(6), NEVER), original.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("change", CHANGES)
def test_a_probability_is_the_share_of_images_changed(change: Change) -> None:
    images = planes(400)
    for probability, low, high in [(0.0, 0, 0), (0.5, 0.35, 0.65), (1.0, 0.9, 1)]:
        changed = (change(images, probability, generator(7)) - images).abs().amax((1, 2, 3)) > 0.5
        assert low <= changed.float().mean() <= high


def test_blur_softens_edges_and_keeps_brightness() -> None:
    images = planes() + torch.randn(32, 3, 64, 32, generator=generator()) * 30
    blurred = blur(images, 1, generator(8))
    torch.testing.assert_close(blurred.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=2, rtol=0)
    roughness = [x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean() for x in (images, blurred)]
    assert roughness[1] < 0.5 * roughness[0]


def test_exposure_reaches_from_night_to_white() -> None:
    bright = expose(planes(400), 1, generator(9)).mean((1, 2, 3)) / planes(400).mean((1, 2, 3))
    assert bright.min() < 0.3 and bright.max() > 1.6 and 0.3 < (bright < 1).float().mean() < 0.8
    assert (expose(planes(400), 1, generator(9)) == 255).flatten(1).float().mean(1).max() > 0.3


def test_occlusion_shows_another_crop_of_the_batch() -> None:
    shades = torch.arange(1, 41).float()[:, None, None, None].expand(40, 3, 64, 32)
    occluded = occlude(shades, 1, generator(10))
    assert all(set(picture.unique().tolist()) <= set(range(1, 41)) for picture in occluded)
    kept = (occluded == shades).float().mean((1, 2, 3))
    assert kept.min() > 0.5 and kept.mean() < 0.95


def test_a_shadow_darkens_one_side() -> None:
    shaded = cast_shadow(torch.full((40, 3, 64, 32), 100.0), 1, generator(11))
    assert shaded.max() <= 100.001 and shaded.min() > 25
    assert ((shaded.amax((1, 2, 3)) - shaded.amin((1, 2, 3))) > 15).all()
