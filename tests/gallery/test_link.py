"""Numbers that are one person, found over all videos of a gallery at once."""

import json

import numpy as np
import pytest
from command_world import refused
from test_store import MODEL, WHO, gallery, opened  # noqa: F401 - fixtures: both stores

from reid_tracker.errors import UserError
from reid_tracker.gallery.link import PRIOR_VISITS, apply_links, find_links
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View
from reid_tracker.tracking.calibration import return_cosine


def look(vector, source, time):
    return View((vector / np.linalg.norm(vector)).astype(np.float32), None, source, time)


def enrol(store, visits, noise=0.04, seed=0, class_of=lambda number: 0):
    """Visits (number, who, source, seconds), each of three views, a second apart."""
    random = np.random.default_rng(seed)
    camera = {source: 0.1 * random.standard_normal(WHO.shape[1]) for _, _, source, _ in visits}
    views = {}
    for number, who, source, seconds in visits:
        for step in range(3):
            vector = WHO[who] + camera[source] + noise * random.standard_normal(WHO.shape[1])
            views.setdefault(number, []).append(look(vector, source, seconds + step))
    store.enrol({number: Sighting(each, 100.0, 101.0, class_of(number)) for number, each in views.items()})


def test_whoever_has_several_numbers_is_found_and_strangers_stay_apart(gallery):  # noqa: F811
    numbers = gallery.new_numbers(12)
    visits = [(number, place % 6, f"cam{place // 6}", 10.0 * place) for place, number in enumerate(numbers)]
    enrol(gallery, visits)
    links = find_links(gallery)
    assert [each.numbers for each in links] == [(number, number + 6) for number in numbers[:6]]
    for each in links:
        (join,) = each.joins
        assert (join.into, join.number) == each.numbers and join.cosine > join.asked
    assert find_links(gallery) == links
    apply_links(gallery, links, max(numbers))
    assert [person.number for person in gallery.people()] == numbers[:6] and find_links(gallery) == []


def test_two_who_were_seen_at_once_are_never_one(gallery):  # noqa: F811
    enrol(gallery, [(1, 0, "cam0", 10.0), (2, 0, "cam0", 10.2), (3, 0, "cam1", 50.0), (4, 5, "cam1", 90.0)])
    together = [set(each.numbers) for each in find_links(gallery)]
    assert together in ([{1, 3}], [{2, 3}])  # not {1, 2, 3}, though each is as like the third


def test_a_car_is_no_person(gallery):  # noqa: F811
    enrol(gallery, [(1, 0, "a", 1.0), (2, 0, "b", 9.0), (3, 4, "a", 20.0)], class_of=lambda number: number % 2)
    assert find_links(gallery) == []


def brute_force(vectors, sources, numbers, rate):
    """The same, each likeness worked out anew from all pairs of visits."""
    visits = sorted({(number, source) for number, source in zip(numbers, sources, strict=True)})
    mean = {}
    for visit in visits:
        rows = [row for row, pair in enumerate(zip(numbers, sources, strict=True)) if pair == visit]
        mean[visit] = vectors[rows].mean(axis=0)
    common = np.sum(list(mean.values()), axis=0) / (len(mean) + 1)
    unit = {}
    for number, source in visits:
        own = [mean[each] for each in visits if each[1] == source]
        camera = (np.sum(own, axis=0) + PRIOR_VISITS * common) / (len(own) + PRIOR_VISITS)
        away = mean[number, source] - camera
        unit[number, source] = away / np.linalg.norm(away)
    groups = [{number} for number in sorted(set(numbers))]
    while len(groups) > 1:
        best = (-2.0, 0, 1)
        for one in range(len(groups)):
            for two in range(one + 1, len(groups)):
                pairs = [
                    unit[a] @ unit[b] for a in visits if a[0] in groups[one] for b in visits if b[0] in groups[two]
                ]
                best = max(best, (float(np.mean(pairs)), one, two))
        if best[0] < float(return_cosine(rate, np.array([len(groups)]))[0]):
            break
        groups[best[1]] |= groups.pop(best[2])
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)


@pytest.mark.parametrize("seed", range(5))
def test_random_galleries_are_linked_as_by_comparing_all_pairs(tmp_path, seed):
    store = SqliteGallery(tmp_path / "people", Model("a" * 64, WHO.shape[1]))
    random = np.random.default_rng(seed)
    order = random.permutation(28) + 1
    visits = [(int(n), int(n % 7), f"cam{random.integers(3)}", 40.0 * place) for place, n in enumerate(order)]
    enrol(store, visits, noise=0.3, seed=seed)
    numbers, vectors = store.vectors()
    for rate in (0.5, 0.05):
        expected = brute_force(vectors, store.moments()[0], numbers.tolist(), rate)
        assert [each.numbers for each in find_links(store, rate)] == expected
    assert expected or seed
    store.close()


def test_the_command_lists_and_merges(command, tmp_path):
    store = SqliteGallery(tmp_path / "people", MODEL)
    enrol(store, [(place + 1, place % 4, f"cam{place // 4}", 10.0 * place) for place in range(8)])
    store.close()
    status, out, _ = command("link", tmp_path / "people")
    assert status == 0 and "1 5" in out and "one person" in out
    status, out, _ = command("link", tmp_path / "people", "--json")
    assert [each["numbers"] for each in json.loads(out)] == [[1, 5], [2, 6], [3, 7], [4, 8]]
    status, out, _ = command("link", tmp_path / "people", "--apply")
    assert status == 0 and "merged" in out
    assert command("link", tmp_path / "people")[1].startswith("No one is in it twice")
    refused(command("link", tmp_path / "people", "--rate", "2"), "--rate 2: must lie between 0 and 1")
    refused(command("link", tmp_path / "none"), "none")


def test_a_gallery_of_one_or_nobody_has_nobody_twice(gallery):  # noqa: F811
    assert find_links(gallery) == []
    enrol(gallery, [(1, 0, "a", 1.0)])
    assert find_links(gallery) == []
    with pytest.raises(UserError, match="--rate 0"):
        find_links(gallery, 0.0)
