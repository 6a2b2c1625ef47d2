import torch

from reid_tracker.training.augment import augment


def crops(count: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(40, 200, (count, 3, 8, 4), generator=generator).float()
    large = torch.nn.functional.interpolate(small, (64, 32), mode="bilinear")
    return large.permute(0, 2, 3, 1).to(torch.uint8)


def test_results_are_pictures_of_the_same_shape() -> None:
    images = augment(crops(), torch.Generator().manual_seed(1))
    assert images.shape == (32, 64, 32, 3) and images.dtype == torch.float32
    assert torch.isfinite(images).all() and images.min() >= 0 and images.max() <= 255.01


def test_each_image_has_its_own_dice_and_the_dice_decide() -> None:
    same = crops(1).repeat(16, 1, 1, 1)
    first, again = (augment(same, torch.Generator().manual_seed(2)) for _ in range(2))
    other = augment(same, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    distances = torch.cdist(first.flatten(1), first.flatten(1)) + torch.eye(16) * 1e6
    assert distances.min() > 0


def test_the_person_remains_to_be_seen() -> None:
    # On average over many draws the picture, or its mirror, still shows through.
    original = crops(1)
    mean = augment(original.repeat(256, 1, 1, 1), torch.Generator().manual_seed(4)).mean(0)
    both = (original[0].float() + original[0].flip(1).float()) / 2
    assert torch.corrcoef(torch.stack([mean.flatten(), both.flatten()]))[0, 1] > 0.8


def test_the_original_is_left_alone() -> None:
    original = crops()
    before = original.clone()
    augment(original, torch.Generator().manual_seed(5))
    assert torch.equal(original, before)
