"""Merges that are taken back, in both stores; and `link`, which can be, too."""

import json
import sqlite3

import numpy as np
import psycopg
import pytest
from command_world import refused
from test_link import enrol
from test_store import MODEL, WHO, gallery, looks, opened, sighting  # noqa: F401 - fixtures: both stores

from reid_tracker.errors import UserError
from reid_tracker.gallery.link import apply_links, find_links, undo_links
from reid_tracker.gallery.sqlite_file import FILE
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Sighting
from reid_tracker.gallery.views import a_few
from reid_tracker.tracking.memory import VIEWS


def everything(store):
    """All that can be asked of people, but for the order of views."""
    return {
        person: sorted(
            (view.crop, view.source, view.time, view.vector.tobytes()) for view in store.views(person.number)
        )
        for person in store.people()
    }


def test_what_was_merged_comes_back_as_it_was(gallery):  # noqa: F811
    gallery.enrol({1: sighting(0, at=50, count=8), 2: sighting(1, at=40, count=8), 3: sighting(2, at=90, count=8)})
    gallery.name(3, "Ada")
    before = everything(gallery)
    gallery.merge(2, 3)
    between = everything(gallery)
    gallery.merge(1, 2)
    (person,) = gallery.people()
    assert (person.name, person.views, person.first_seen, person.last_seen) == ("Ada", 24, 40, 91)
    assert {(each.number, each.into) for each in gallery.merges()} == {(2, 1), (3, 2)}
    with pytest.raises(UserError, match=r"3 became part of 2, which is part of 1 now; first: .* unmerge 2"):
        gallery.unmerge(3)
    assert gallery.unmerge(2) == 1 and everything(gallery) == between
    assert gallery.gone([1, 2, 3]) == {3: 2}
    assert gallery.unmerge(3) == 2 and everything(gallery) == before
    assert gallery.merges() == [] and gallery.gone([1, 2, 3]) == {}
    assert gallery.search(WHO[[2]])[0][0].number == 3


def test_what_came_since_stays(gallery):  # noqa: F811
    gallery.enrol({1: sighting(0, at=50), 2: sighting(1, at=40)})
    gallery.merge(1, 2)
    for seed in range(1, 4):
        gallery.enrol({2: sighting(4, at=500 + seed, seed=seed)})  # a run that has not heard of it
    gallery.name(1, "Bo")
    assert gallery.person(1).views == VIEWS + 4  # of its own as many as ever, and those merged
    gallery.unmerge(2)
    assert [each.views for each in gallery.people()] == [VIEWS, 4]
    assert gallery.person(1).name == "Bo" and gallery.person(1).last_seen == 504
    assert gallery.person(1).first_seen == 50  # 40 came with the merge
    assert gallery.search(WHO[[4]])[0][0].number == 1


def test_what_cannot_be_taken_back_says_so(gallery):  # noqa: F811
    gallery.enrol({number: sighting(number) for number in range(1, 6)})
    gallery.merge(2, 3)
    gallery.merge(1, 2, for_good=True)
    gallery.merge(4, 5)
    gallery.forget([4])
    for number in (2, 3, 4, 5, 9):
        with pytest.raises(UserError, match=f"{number} was not merged, or for good"):
            gallery.unmerge(number)
    assert gallery.person(1).views == VIEWS
    assert gallery.merges() == [] and gallery.gone([2, 3, 5]) == {2: 1, 3: 1, 5: None}


def test_nothing_of_the_forgotten_is_left_in_a_merge(tmp_path):
    folder = tmp_path / "people"
    store = SqliteGallery(folder, MODEL)
    store.enrol({1: sighting(0), 2: sighting(1)})
    store.name(2, "Esmeralda")
    store.merge(1, 2)
    store.forget([1])
    store.close()
    assert b"Esmeralda" not in b"".join(each.read_bytes() for each in folder.rglob("*") if each.is_file())


@pytest.mark.parametrize("seed", range(4))
def test_random_merges_are_taken_back_as_a_plain_model_says(opened, seed):  # noqa: F811
    """Beside a model that remembers who stood under whom, and nothing else."""
    store, random, under = opened(), np.random.default_rng(seed), {number: number for number in range(1, 8)}
    store.enrol({number: Sighting(looks(number, 2, seed=number), number, number) for number in under})
    crops = {number: {view.crop for view in store.views(number)} for number in under}

    def whole(number):
        return number if under[number] == number else whole(under[number])

    for _ in range(25):
        heads = [number for number in under if under[number] == number]
        direct = [number for number in under if under[number] != number and whole(number) == under[number]]
        if len(heads) > 1 and (not direct or random.random() < 0.55):
            one, two = (int(each) for each in random.choice(heads, 2, replace=False))
            store.merge(one, two)
            under[two] = one
        elif direct:
            number = int(random.choice(direct))
            store.unmerge(number)
            under[number] = number
        expected = {}
        for number in under:
            expected.setdefault(whole(number), set()).update(crops[number])
        assert {each.number: {view.crop for view in store.views(each.number)} for each in store.people()} == expected


def test_a_failure_around_a_merge_takes_no_crop_along(tmp_path):
    store = SqliteGallery(tmp_path / "people", MODEL)
    store.enrol({1: sighting(0, count=8), 2: sighting(1)})
    before = everything(store)
    with pytest.raises(RuntimeError), store.alone():
        store.merge(1, 2)
        store.enrol({1: sighting(3, count=8)})
        raise RuntimeError
    assert everything(store) == before and all(view.crop for view in store.views(2))


def test_of_somebody_merged_of_many_a_run_takes_a_few_varied_views():
    random = np.random.default_rng(0)
    views = np.concatenate([WHO[[0]].repeat(300, axis=0), WHO[[1, 2]]]).astype(np.float32)
    views += 0.01 * random.standard_normal(views.shape).astype(np.float32)
    few = a_few(views)
    assert len(few) == VIEWS and (few @ WHO[0] > 0.9).any() and (few @ WHO[2] > 0.9).any()
    assert a_few(views[:3]) is not None and len(a_few(views[:3])) == 3


def test_a_folder_of_an_older_version_is_brought_up(tmp_path):
    store = SqliteGallery(tmp_path / "people", MODEL)
    store.enrol({1: sighting(0), 2: sighting(1)})
    store.close()
    with sqlite3.connect(tmp_path / "people" / FILE) as old:
        old.execute("ALTER TABLE views DROP COLUMN origin")
        old.execute("ALTER TABLE gone DROP COLUMN merge")
        old.execute("DELETE FROM header WHERE key = 'linked'")
        old.execute("INSERT INTO gone VALUES (3, 1)")
        old.execute("PRAGMA user_version = 1")
    old.close()
    store = SqliteGallery(tmp_path / "people")
    assert (store.linked(), store.merges(), store.gone([3])) == (0, [], {3: 1})
    store.merge(1, 2)
    store.unmerge(2)
    assert [each.views for each in SqliteGallery(tmp_path / "people").people()] == [4, 4]


def test_a_database_of_an_older_version_is_brought_up(postgres, postgres_gallery):
    from reid_tracker.gallery.opening import open_gallery

    store = open_gallery(postgres_gallery, MODEL)
    store.enrol({1: sighting(0), 2: sighting(1)})
    store.close()
    name = postgres_gallery.partition("gallery=")[2]
    with psycopg.connect(postgres) as old:
        for change in (
            "views DROP COLUMN origin",
            "gone DROP COLUMN merge",
            "header DROP COLUMN linked",
        ):
            old.execute(f'ALTER TABLE "{name}".{change}')
        old.execute(f'UPDATE "{name}".header SET schema = 1')
    store = open_gallery(postgres_gallery)
    store.merge(1, 2)
    store.unmerge(2)
    assert [each.views for each in store.people()] == [4, 4] and store.linked() == 0
    store.close()


def test_links_are_undone_together(gallery):  # noqa: F811
    enrol(gallery, [(place + 1, place % 4, f"cam{place // 4}", 10.0 * place) for place in range(8)])
    before = everything(gallery)
    gallery.merge(3, 4)  # by hand: stays
    apply_links(gallery, find_links(gallery), 8)
    assert len(gallery.people()) < 5 and gallery.linked() == 8
    undone = undo_links(gallery)
    assert gallery.gone(range(1, 9)) == {4: 3} and {each for each, _ in undone} <= {5, 6, 7, 8}
    gallery.unmerge(4)
    assert everything(gallery) == before and gallery.linked() == 0
    with pytest.raises(UserError, match="No link --apply"):
        undo_links(gallery)


def test_an_undo_that_cannot_be_whole_changes_nothing(gallery):  # noqa: F811
    enrol(gallery, [(place + 1, place % 4, f"cam{place // 4}", 10.0 * place) for place in range(8)])
    apply_links(gallery, find_links(gallery), 8)
    gallery.merge(2, 1)
    before = everything(gallery)
    with pytest.raises(UserError, match=r"5 became part of 1, which is part of 2 now; first: .* unmerge 1"):
        undo_links(gallery)
    assert everything(gallery) == before


def test_of_new_numbers_only_joins_with_them(gallery):  # noqa: F811
    enrol(gallery, [(1, 0, "a", 1.0), (2, 1, "a", 20.0), (3, 0, "b", 1.0), (4, 5, "b", 60.0)])
    enrol(gallery, [(5, 1, "c", 1.0), (6, 6, "c", 30.0)], seed=1)
    assert [each.numbers for each in find_links(gallery)] == [(1, 3), (2, 5)]
    assert [each.numbers for each in find_links(gallery, since=4)] == [(2, 5)]
    assert find_links(gallery, since=6) == []


def test_the_command_applies_what_is_new_and_takes_it_back(command, tmp_path):
    folder = tmp_path / "people"
    store = SqliteGallery(folder, MODEL)
    enrol(store, [(place + 1, place % 4, f"cam{place // 4}", 10.0 * place) for place in range(8)])
    assert command("link", folder, "--apply", "--new")[0] == 0
    assert [each.number for each in store.people()] == [1, 2, 3, 4] and store.linked() == 8
    assert command("link", folder, "--new")[1].startswith("No one is in it twice")
    enrol(store, [(9, 1, "cam2", 5.0), (10, 7, "cam2", 50.0)], seed=3)
    status, out, _ = command("link", folder, "--new", "--json")
    (found,) = json.loads(out)
    assert status == 0 and found["numbers"] == [2, 9] and 0 <= found["joins"][0]["chance"] < 0.05
    out = command("link", folder, "--new", "--apply")[1]
    assert "2 9" in out and " %" in out and "e-" not in out
    shown = command("gallery", "show", "2", "--gallery", folder)[1]
    assert "merged with 6, 9" in shown
    assert "9 is no longer part of 2." in command("link", folder, "--undo")[1]
    assert command("link", folder, "--undo")[1].count("no longer part of") == 4
    refused(command("link", folder, "--undo"), "No link --apply is there")
    refused(command("link", folder, "--undo", "--apply"), "leave out")
    assert len(store.people()) == 10
    assert command("gallery", "merge", "1", "5", "--gallery", folder)[0] == 0
    assert command("gallery", "unmerge", "5", "--gallery", folder)[1] == "5 is no longer part of 1.\n"
    refused(command("gallery", "unmerge", "5", "--gallery", folder), "was not merged")
    store.close()
