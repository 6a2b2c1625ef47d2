from pathlib import Path

import numpy as np
import pytest
import torch

from reid_tracker.errors import UserError
from reid_tracker.training import offline_mining
from reid_tracker.training.distances import pairwise_distance, row_chunks
from reid_tracker.training.offline_mining import BANDS, load_triplets, mine_offline, save_triplets, triplet_batches

SIZES = [1, 2, 5, 30, 30, 52]


@pytest.fixture
def crops() -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(0)
    identities = random.permutation(np.repeat(np.array([9, 4, 17, 2, 3, 8]), SIZES))
    return torch.from_numpy(random.normal(size=(len(identities), 6))), identities


@pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("band", BANDS)
def test_both_crops_come_from_the_band_of_their_anchor(band: str, metric: str, crops: tuple) -> None:
    embeddings, identities = crops
    distance = pairwise_distance(embeddings, metric).numpy()
    mined = mine_offline(embeddings, identities, band, per_anchor=3, metric=metric)
    several = [row for row in range(len(identities)) if (identities == identities[row]).sum() > 1]
    assert mined.anchor.tolist() == [row for row in several for _ in range(3)]
    for a, p, n, hardness in zip(*mined[:4], strict=True):
        same = identities == identities[a]
        positives = sorted((other for other in np.flatnonzero(same) if other != a), key=lambda row: -distance[a, row])
        negatives = sorted(np.flatnonzero(~same), key=lambda row: distance[a, row])
        for order, chosen in ((positives, p), (negatives, n)):
            first = int(np.floor(BANDS[band][0] * len(order)))
            last = max(int(np.ceil(BANDS[band][1] * len(order))), first + 1)
            assert chosen in order[first:last]
        assert hardness == pytest.approx(distance[a, p] - distance[a, n], abs=1e-4)


def test_bands_differ_in_hardness_and_reach_all_of_their_candidates(crops: tuple) -> None:
    mined = {band: mine_offline(*crops, band, per_anchor=200) for band in BANDS}
    assert mined["hard"].hardness.mean() > mined["semi-hard"].hardness.mean() > mined["easy"].hardness.mean()
    anchor = int(np.flatnonzero(crops[1] == 8)[0])  # 51 positives and 68 negatives
    easy = mined["easy"].anchor == anchor
    assert len(np.unique(mined["easy"].positive[easy])) > 0.9 * 46
    assert len(np.unique(mined["easy"].negative[easy])) > 0.8 * 62
    assert len(np.unique(mined["hard"].positive[mined["hard"].anchor == anchor])) == 1


def test_triplets_repeat_with_their_seed_whatever_the_chunks(crops: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mine_offline(*crops, "easy", per_anchor=2, seed=3)
    assert not np.array_equal(first.negative, mine_offline(*crops, "easy", per_anchor=2, seed=4).negative)
    monkeypatch.setattr(offline_mining, "row_chunks", lambda rows, columns: row_chunks(rows, columns, 500))
    again = mine_offline(*crops, "easy", per_anchor=2, seed=3)
    for one, two in zip(first[:3], again[:3], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("band", BANDS)
def test_identical_embeddings_still_give_valid_triplets(band: str) -> None:
    identities = np.array([1, 1, 2, 2, 2, 3])
    for embeddings in (torch.ones(6, 3), torch.zeros(6, 3)):
        for metric in ("euclidean", "cosine"):
            mined = mine_offline(embeddings, identities, band, metric=metric)
            assert (identities[mined.anchor] == identities[mined.positive]).all()
            assert (mined.anchor != mined.positive).all()
            assert (identities[mined.anchor] != identities[mined.negative]).all()
            assert not mined.hardness.any() and len(mined.anchor) == 5


@pytest.mark.parametrize("identities", [[], [1], [1, 1, 1], [1, 2, 3]])
def test_a_set_without_a_triplet_is_refused(identities: list[int]) -> None:
    with pytest.raises(UserError, match="no triplet"):
        mine_offline(torch.ones(len(identities), 2), np.array(identities, dtype=np.int64))


def test_an_unknown_band_is_refused(crops: tuple) -> None:
    with pytest.raises(UserError, match="'hardest' is no hardness band"):
        mine_offline(*crops, "hardest")


def test_a_file_keeps_everything(tmp_path: Path, crops: tuple) -> None:
    mined = mine_offline(*crops, "semi-hard", seed=7, note={"epoch": 12})
    path = tmp_path / "triplets.npz"
    save_triplets(path, mined)
    loaded = load_triplets(path, crops[1])
    for one, two in zip(mined[:4], loaded[:4], strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    assert loaded.about == mined.about
    assert loaded.about["epoch"] == 12 and loaded.about["band"] == "semi-hard" and loaded.about["seed"] == 7
    assert [file.name for file in tmp_path.iterdir()] == ["triplets.npz"]


def test_files_that_do_not_fit_are_refused(tmp_path: Path, crops: tuple) -> None:
    path = tmp_path / "triplets.npz"
    with pytest.raises(UserError, match="cannot be read"):
        load_triplets(path, crops[1])
    save_triplets(path, mine_offline(*crops))
    with pytest.raises(UserError, match="other crops"):
        load_triplets(path, crops[1][:-1])
    whole = path.read_bytes()
    others = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"anchor,positive,negative\n"}
    for content in others.values():
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a file of mined triplets"):
            load_triplets(path, crops[1])
    np.savez(path, anchor=np.arange(3))
    with pytest.raises(UserError, match="not a file of mined triplets"):
        load_triplets(path, crops[1])


def test_batches_hold_each_triplet_once_and_each_crop_once(crops: tuple) -> None:
    mined = mine_offline(*crops, "easy")
    seen = []
    for rows, triplets in triplet_batches(mined, 16, np.random.default_rng(0)):
        assert len(np.unique(rows)) == len(rows) <= 48 and len(triplets.anchor) <= 16
        assert set(torch.cat(triplets).tolist()) == set(range(len(rows)))
        seen += zip(*(rows[part.numpy()].tolist() for part in triplets), strict=True)
    assert sorted(seen) == sorted(zip(*(part.tolist() for part in mined[:3]), strict=True))
    assert seen != list(zip(*(part.tolist() for part in mined[:3]), strict=True))
