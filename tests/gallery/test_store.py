"""Both stores do the same: enrol, search, name, merge, split, forget."""

import itertools
import json

import numpy as np
import pytest
from tracking_world import unit_vectors

from reid_tracker.errors import UserError
from reid_tracker.gallery.link import find_links
from reid_tracker.gallery.opening import export, forget_unseen, open_gallery
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View
from reid_tracker.gallery.views import choose_varied, find_doubts, likeness, statistics_of, verify
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.memory import VIEWS

WHO = unit_vectors(8)
CALIBRATION = {"all": {"same_mean": 0.7, "same_std": 0.1, "stranger_mean": 0.1, "stranger_std": 0.1}}
MODEL = Model("a" * 64, WHO.shape[1], CALIBRATION)


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request, tmp_path):
    """Opens one gallery, again and again."""
    if request.param == "sqlite":
        yield lambda model=MODEL: SqliteGallery(tmp_path / "gallery", model)
        return
    url, made = request.getfixturevalue("postgres_gallery"), []

    def make(model=MODEL):
        made.append(open_gallery(url, model))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def gallery(opened):
    return opened()


def looks(who, count=4, noise=0.05, seed=0):
    """Views of person ``who`` with a crop each."""
    rng = np.random.default_rng(seed)
    rows = WHO[who] + noise * rng.standard_normal((count, WHO.shape[1]))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return [View(row.astype(np.float32), f"jpeg {who} {seed} {n}".encode(), "clip", n) for n, row in enumerate(rows)]


def sighting(who, at=100.0, **how):
    return Sighting(looks(who, **how), at, at + 1)


def test_who_was_enrolled_is_found_first_and_whole(gallery):
    numbers = gallery.new_numbers(3)
    gallery.enrol({number: sighting(who) for who, number in enumerate(numbers)})
    (best, *others), (third, *_) = gallery.search(WHO[[1, 2]])
    assert (best.number, third.number) == (numbers[1], numbers[2])
    assert len(others) == 2
    assert best.cosine > 0.9 > others[0].cosine
    cosine = np.sort(np.stack([view.vector for view in looks(1)]) @ WHO[1])[-3:].mean()
    assert best.cosine == pytest.approx(cosine, abs=1e-5)
    for known, given in zip(gallery.views(numbers[1]), looks(1), strict=True):
        np.testing.assert_allclose(known.vector, given.vector, atol=1e-6)
        assert (known.crop, known.source, known.time) == (given.crop, given.source, given.time)


def test_numbers_are_never_given_twice(opened):
    gallery = opened()
    assert gallery.new_numbers(2) == [1, 2]
    gallery.enrol({7: sighting(0)})
    assert opened().new_numbers() == [8]
    gallery.forget([7])
    assert opened().new_numbers() == [9]


def test_an_update_keeps_few_and_varied_views_and_the_times(gallery):
    gallery.enrol({1: sighting(0, at=100)})
    for seed in range(1, 5):
        gallery.enrol({1: sighting(0, at=100 + seed, seed=seed)})
    turned = Sighting([View(WHO[1], b"from behind")], 50, 60)
    gallery.enrol({1: turned})
    person = gallery.person(1)
    assert (person.views, person.first_seen, person.last_seen) == (VIEWS, 50, 105)
    assert b"from behind" in {view.crop for view in gallery.views(1)}
    numbers, matrix = gallery.vectors()
    assert numbers.tolist() == [1] * VIEWS
    assert matrix.shape == (VIEWS, WHO.shape[1])


def test_a_video_whose_name_is_no_text_is_a_source_all_the_same(gallery):
    gallery.enrol({1: Sighting([View(WHO[0], None, "yard\udcff")], 1, 2)})
    assert gallery.views(1)[0].source == "yard?"


def test_names(gallery):
    gallery.enrol({1: sighting(0)})
    gallery.name(1, " Anna  Lee ")
    assert gallery.people()[0].name == "Anna Lee"
    assert gallery.search(WHO[:1])[0][0].name == "Anna Lee"
    gallery.enrol({1: sighting(0, seed=1)})
    assert gallery.person(1).name == "Anna Lee"
    gallery.name(1, "")
    assert gallery.person(1).name is None


def test_merged_people_are_one_also_for_a_run_that_has_not_heard_of_it(gallery):
    gallery.enrol({1: sighting(0), 2: sighting(1, at=50), 3: sighting(2)})
    gallery.name(2, "Anna")
    gallery.merge(1, 2)
    merged = gallery.person(1)
    assert (merged.name, merged.views, merged.first_seen, merged.last_seen) == ("Anna", 8, 50, 101)
    assert gallery.search(WHO[[1]])[0][0].number == 1
    gallery.merge(3, 1)
    assert gallery.gone([1, 2, 3]) == {1: 3, 2: 3}
    gallery.enrol({2: sighting(4, at=500)})
    assert [each.number for each in gallery.people()] == [3]
    assert gallery.person(3).last_seen == 501
    with pytest.raises(UserError, match="part of 3 now"):
        gallery.person(2)


def test_split_takes_views_to_a_new_number(gallery):
    gallery.enrol({1: Sighting([*looks(0, 2), *looks(1, 2)], 1, 2)})
    new = gallery.split(1, [2, 3])
    assert [each.views for each in gallery.people()] == [2, 2]
    assert gallery.search(WHO[[1]])[0][0].number == new
    assert gallery.search(WHO[[0]])[0][0].number == 1
    assert [view.crop for view in gallery.views(new)] == [view.crop for view in looks(1, 2)]
    with pytest.raises(UserError, match="has 2 views"):
        gallery.split(1, [0, 1])


def test_the_forgotten_stay_forgotten(gallery):
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    gallery.forget([1])
    assert [match.number for match in gallery.search(WHO[:1])[0]] == [2]
    gallery.enrol({1: sighting(0)})  # by a run that still sees that person
    assert [each.number for each in gallery.people()] == [2]
    assert gallery.gone([1, 2]) == {1: None}


def test_retention_forgets_who_was_long_unseen(gallery):
    import time

    now = time.time()
    gallery.enrol({1: sighting(0, at=now - 31 * 86_400), 2: sighting(1, at=now - 29 * 86_400)})
    assert forget_unseen(gallery, 30) == [1]
    assert [each.number for each in gallery.people()] == [2]


def test_vectors_of_another_model_are_refused(opened):
    opened().enrol({1: sighting(0)})
    with pytest.raises(UserError, match="cannot be compared"):
        opened(Model("b" * 64, WHO.shape[1]))
    assert opened(None).model == MODEL
    with pytest.raises(UserError, match="numbers are needed"):
        opened().enrol({2: Sighting([View(np.ones(3, np.float32))], 1, 2)})


def test_crops_are_described_anew_and_nothing_else_changes(opened):
    """Also what another run enrolled meanwhile, if it is let; who goes on with the old vectors is refused."""
    gallery, running = opened(), opened()
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    gallery.name(2, "Ada")
    gallery.enrol({3: Sighting([View(WHO[2])], 5, 6)})  # without a crop
    gallery.merge(1, 3)
    if not isinstance(running, SqliteGallery):
        gallery.enrol({4: sighting(3)})
    before, other = gallery.people(), Model("b" * 64, WHO.shape[1], CALIBRATION)
    calls = []

    def describe(crops):
        if not calls and isinstance(running, SqliteGallery):
            running.enrol({4: sighting(3)})
        calls.append(len(crops))
        return np.stack([WHO[7 - int(crop.split()[1])] for crop in crops])

    assert gallery.describe_anew(other, describe) == 1
    assert sum(calls) == 12 and gallery.model == other == opened(None).model
    assert [each.number for each in gallery.people()] == [1, 2, 4] and gallery.person(2).name == "Ada"
    assert gallery.person(1).first_seen == before[0].first_seen and gallery.gone([3]) == {3: 1}
    for number, who in ((1, 0), (2, 1), (4, 3)):
        np.testing.assert_allclose(
            np.stack([view.vector for view in gallery.views(number)]), WHO[[7 - who] * 4], atol=1e-6
        )
        assert all(view.crop.split()[1] == str(who).encode() for view in gallery.views(number))
        assert gallery.search(WHO[[7 - who]], 1)[0][0].number == number
    with pytest.raises(UserError, match="re-describe"):
        running.enrol({5: sighting(4)})
    with pytest.raises(UserError, match="re-describe"):
        opened(MODEL)


def test_a_failure_while_describing_leaves_the_gallery_as_it_was(opened):
    gallery = opened()
    gallery.enrol({1: sighting(0)})

    def fails(crops):
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        gallery.describe_anew(Model("b" * 64, WHO.shape[1]), fails)
    assert opened().views(1)[0].vector @ WHO[0] > 0.5


def test_a_gallery_that_is_not_there_is_not_made_by_looking(opened):
    with pytest.raises(UserError, match="no gallery is there"):
        opened(None)


@pytest.mark.parametrize("action", [lambda g: g.views(9), lambda g: g.name(9, "x"), lambda g: g.merge(1, 9)])
def test_an_unknown_number_is_an_error(gallery, action):
    gallery.enrol({1: sighting(0)})
    with pytest.raises(UserError, match="there is no number 9"):
        action(gallery)
    with pytest.raises(UserError, match="there is no number 9"):
        gallery.forget([1, 9])
    assert gallery.people()


@pytest.mark.parametrize("number", [10**23, -(10**23), 1 << 63])
def test_a_number_beyond_what_the_database_holds_is_nobodys(gallery, number):
    gallery.enrol({1: sighting(0)})
    actions = (
        gallery.person,
        gallery.views,
        lambda number: gallery.name(number, "x"),
        lambda number: gallery.merge(1, number),
        lambda number: gallery.merge(number, 1),
        lambda number: gallery.split(number, [0]),
        lambda number: gallery.forget([1, number]),
    )
    for action in actions:
        with pytest.raises(UserError, match=f"there is no number {number}; see"):
            action(number)
    with pytest.raises(UserError, match=f"{number} was not merged"):
        gallery.unmerge(number)
    assert gallery.gone([number]) == {}
    assert [each.number for each in gallery.people()] == [1]


def test_export_writes_everything(gallery, tmp_path):
    gallery.enrol({1: sighting(0), 5: sighting(1)})
    gallery.name(5, "Änne")
    folder = tmp_path / "export"
    assert export(gallery, folder) == 2
    written = json.loads((folder / "gallery.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in written["people"]] == [None, "Änne"]
    crop = written["people"][1]["views"][2]["crop"]
    assert (folder / crop).read_bytes() == looks(1)[2].crop
    with np.load(folder / "vectors.npz") as arrays:
        assert arrays["number"].tolist() == [1] * 4 + [5] * 4
        np.testing.assert_allclose(arrays["vector"][4], looks(1)[0].vector, atol=1e-6)
    with pytest.raises(UserError, match="there already"):
        export(gallery, folder)


def test_of_alike_views_the_worse_goes():
    vectors = np.stack([WHO[0], WHO[0], WHO[1], WHO[2]])
    assert choose_varied(vectors, np.array([0.6, 0.9, 0.5, 0.5]), 3).tolist() == [1, 2, 3]
    # A bad view is special, too: for no good reason.
    assert choose_varied(vectors, np.array([0.6, 0.9, 0.5, 0.1]), 3).tolist() == [0, 1, 2]


def test_verify_tells_same_from_different_with_its_odds():
    def pair(cosine):
        other = WHO[1] - (WHO[1] @ WHO[0]) * WHO[0]
        other /= np.linalg.norm(other)
        return WHO[:1], (cosine * WHO[0] + np.sqrt(1 - cosine**2) * other)[None]

    known = CosineStatistics(**CALIBRATION["all"])
    same, unsure, different = (verify(known, *pair(cosine)) for cosine in (0.6, 0.4, 0.2))
    assert (same.same, different.same) == (True, False)
    assert unsure.likelihood_ratio == pytest.approx(1)
    # exp(-(.6-.7)^2/.02 + (.6-.1)^2/.02)
    assert same.likelihood_ratio == pytest.approx(np.exp(12), rel=1e-3)
    assert same.distance == pytest.approx(1 / 6, abs=1e-6)
    assert same.false_match_rate == pytest.approx(0.00135, rel=0.01)  # three standard deviations
    assert likeness(np.stack([WHO[0]] * 3 + [WHO[1]]), WHO[:1]) == pytest.approx(1)


def test_a_gallery_of_many_says_itself_how_alike_strangers_are(gallery):
    gallery.enrol({1: sighting(0, count=8), 2: sighting(1, count=8)})
    assert statistics_of(gallery) == (CosineStatistics(**CALIBRATION["all"]), "the model's header")
    # People in one uniform: half of what is seen of each is the same.
    alike = [WHO[0] + each for each in unit_vectors(12)]
    alike = [each / np.linalg.norm(each) for each in alike]
    gallery.enrol({n: Sighting([View(each.astype(np.float32))] * 8, 1, 2) for n, each in enumerate(alike, 3)})
    known, origin = statistics_of(gallery)
    assert origin == "the gallery's own 14 people"
    assert known.stranger_mean > 0.3
    assert known.same_mean == pytest.approx(1, abs=0.05)
    assert not verify(known, alike[0][None], alike[1][None]).same
    with pytest.raises(UserError, match="how alike strangers are"):
        empty = type(
            "Empty", (), {"model": Model("a", 4), "vectors": lambda self: (np.zeros(0, int), np.zeros((0, 4)))}
        )
        statistics_of(empty())


MOMENTS = itertools.count()


def looks_at(rows):
    """Views of unit length, each of a moment of its own: people who are seen at once are two."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return [View(row.astype(np.float32), time=float(next(MOMENTS))) for row in rows]


def test_doubles_and_mixtures_are_found_and_nobody_else_is_doubted(opened):
    """Twelve people; one of them under two numbers, and two of them under one."""
    people, rng = unit_vectors(14, 64), np.random.default_rng(0)
    gallery = opened(Model("a" * 64, 64, CALIBRATION))

    def views(who, count=8):
        return looks_at(people[who] + 0.08 * rng.standard_normal((count, 64)))

    for number in range(1, 12):
        gallery.enrol({number: Sighting(views(number), 1, 2)})
    assert find_doubts(gallery) == []
    gallery.enrol({20: Sighting(views(3), 3, 4), 21: Sighting([*views(12, 5), *views(13, 3)], 3, 4)})
    doubts = {doubt.kind: doubt for doubt in find_doubts(gallery)}
    assert len(doubts) == len(find_doubts(gallery)) == 2
    assert doubts["double"].numbers == (3, 20) and doubts["double"].odds > 20
    assert doubts["mixture"].numbers == (21,) and doubts["mixture"].views == (6, 7, 8)
    gallery.merge(3, 20)
    gallery.split(21, [view - 1 for view in doubts["mixture"].views])
    assert find_doubts(gallery) == []


def test_people_who_only_have_their_camera_in_common_are_no_doubles(opened):
    """Six people under one lamp: most of what is seen of each is the same."""
    gallery = opened(Model("a" * 64, 64, CALIBRATION))
    rng = np.random.default_rng(2)
    rows = unit_vectors(7, 64)

    def views(who):
        return looks_at(1.3 * rows[0] + rows[who] + 0.08 * rng.standard_normal((8, 64)))

    looks = {number: views(number) for number in range(1, 7)}
    for number, each in looks.items():
        gallery.enrol({number: Sighting(each, 1, 2)})
    one, other = (np.stack([view.vector for view in looks[number]]) for number in (1, 2))
    assert verify(statistics_of(gallery)[0], one, other).likelihood_ratio > 40
    assert find_doubts(gallery) == []
    gallery.enrol({9: Sighting(views(3), 3, 4)})
    assert [doubt.numbers for doubt in find_doubts(gallery)] == [(3, 9)]


def test_doubles_are_those_of_looking_at_every_pair(tmp_path):
    """Beside the plain definition, on people some of whom are alike; and `link` joins them, too."""
    rng = np.random.default_rng(1)
    gallery = SqliteGallery(tmp_path / "gallery", Model("a" * 64, 32, CALIBRATION))
    for number in range(1, 41):
        centre = unit_vectors(25, 32)[number % 25]
        rows = centre + rng.uniform(0.05, 0.25) * rng.standard_normal((rng.integers(1, 9), 32))
        gallery.enrol({number: Sighting(looks_at(rows), 1, 2)})
    known, views = (
        statistics_of(gallery)[0],
        {each.number: np.stack([view.vector for view in gallery.views(each.number)]) for each in gallery.people()},
    )
    pairs = itertools.combinations(views, 2)
    expected = {pair for pair in pairs if verify(known, *(views[each] for each in pair)).likelihood_ratio > 40}
    together = [set(linked.numbers) for linked in find_links(gallery)]
    expected = {pair for pair in expected if any(group.issuperset(pair) for group in together)}
    assert {doubt.numbers for doubt in find_doubts(gallery) if doubt.kind == "double"} == expected
    assert len(expected) > 3
