"""``reid-tracker gallery``, as a user calls it."""

import json
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_store import looks

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.cli import main
from reid_tracker.errors import UserError
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.gallery.sqlite_file import FILE
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View


def picture(seed):
    """What passes for a person."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 3, 3), dtype=np.uint8)
    return cv2.resize(coarse, (64, 128), interpolation=cv2.INTER_NEAREST)


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, embedder):
    """Call the command line on a gallery of three; its exit status, output and errors."""
    model = Model(embedder.hash, embedder.dimension, embedder.header["calibration"])
    gallery = SqliteGallery(tmp_path / "gallery", model)
    box, now = np.array([[0, 0, 64, 128]], np.float32), time.time()
    for number in (1, 2, 3):
        image = picture(number)
        view = View(embedder.embed(image, box)[0], cv2.imencode(".jpg", image)[1].tobytes(), "door", 1.5)
        gallery.enrol({number: Sighting([view, view], now - 40 * 86_400 * (number == 3), now - 3e6 * (number == 3))})
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    gallery.close()

    def call(*arguments, folder="gallery"):
        words = ["reid-tracker", "gallery", *map(str, arguments), "--gallery", str(tmp_path / folder)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


def listed(run):
    return {each["number"]: each for each in json.loads(run("list", "--json")[1])}


def test_list_and_name(run):
    assert run("name", 2, "Anna [bold]")[0] == 0
    status, out, _ = run("list")
    assert status == 0
    assert "Anna [bold]" in out
    assert {number: each["name"] for number, each in listed(run).items()} == {1: None, 2: "Anna [bold]", 3: None}


def test_show_tells_the_views_and_who_looks_alike(run):
    shown = json.loads(run("show", 1, "--json")[1])
    assert [view["source"] for view in shown["views"]] == ["door", "door"]
    assert {each["number"] for each in shown["alike"]} == {2, 3}
    assert "door" in run("show", 1)[1]


def test_search_finds_the_person_of_a_picture(run, tmp_path):
    found = json.loads(run("search", tmp_path / "2.png", "--json")[1])
    assert found[0]["number"] == 2
    assert found[0]["cosine"] > 0.99
    assert "#2" in run("search", tmp_path / "2.png", "--limit", 1)[1]


def test_verify_people_and_pictures(run, tmp_path):
    same = json.loads(run("verify", 1, tmp_path / "1.png", "--json")[1])
    assert same["same"] and same["distance"] < 0.05 and same["likelihood_ratio"] > 10
    assert run("verify", 1, tmp_path / "1.png")[1].startswith("same\n")
    other = json.loads(run("verify", 1, tmp_path / "2.png", "--json")[1])
    assert other["cosine"] < same["cosine"]


def test_merge_split_and_forget(run, tmp_path):
    assert run("merge", 1, 2)[0] == 0
    assert listed(run)[1]["views"] == 4
    new = int(run("split", 1, 3, 4)[1])
    assert {number: each["views"] for number, each in listed(run).items()} == {1: 2, 3: 2, new: 2}
    assert "Forgotten: 1, 3." in run("forget", 1, "--retention", 30)[1]
    assert list(listed(run)) == [new]
    assert run("export", "-o", tmp_path / "out")[0] == 0
    assert len(list((tmp_path / "out" / "crops").glob("*/*.jpg"))) == 2
    made = [tmp_path / "out", *(tmp_path / "out").rglob("*")]  # vectors that recognise people are theirs alone
    assert {each.name for each in made if each.stat().st_mode & 0o077} == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", 9), "there is no number 9"),
        (("show", 10**23), "there is no number 1"),
        (("verify", 1, "9" * 5000), "there is no number 9"),
        (("forget",), "name numbers, or --retention"),
        (("search", "nowhere.jpg"), "nowhere.jpg: no such picture"),
        (("search", __file__), "not a picture"),
        (("split", 1, 7), "has 2 views"),
        (("merge", 1, 1), "are one already"),
    ],
)
def test_a_mistake_is_one_sentence(run, arguments, words):
    status, _, err = run(*arguments)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_pictures_need_the_gallerys_model(run, tmp_path):
    gallery = SqliteGallery(tmp_path / "other", Model("f" * 64, 16))
    gallery.enrol({1: Sighting([View(looks(0)[0].vector[:16])], 1, 2)})
    gallery.close()
    status, _, err = run("search", tmp_path / "1.png", folder="other")
    assert status == 2
    assert "cannot be compared" in err and f"{tmp_path / 'other'}: its vectors" in err and "--embedder" in err


@pytest.mark.parametrize("make", [None, Model("f" * 64, 16)])
def test_a_file_is_no_gallery(tmp_path, make):
    (tmp_path / "text.mp4").touch()
    with pytest.raises(UserError, match=r"text\.mp4: a gallery is a folder, and this is none; name another place"):
        open_gallery(tmp_path / "text.mp4", make)


def test_a_gallery_that_is_not_writable_is_told_with_what_mends_it(run, monkeypatch):
    connect = sqlite3.connect  # a file's rights do not bind root
    monkeypatch.setattr(sqlite3, "connect", lambda path, **given: connect(f"file:{path}?mode=ro", uri=True, **given))
    status, _, err = run("name", 1, "Anna")
    assert status == 2 and "make it and its folder writable" in err and "Traceback" not in err


def test_track_takes_the_gallery_and_the_retention(tmp_path, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(
        "reid_tracker.cli.track.run_track", lambda sources, config, timings: given.append(config.gallery)
    )
    words = ["track", "walk.mp4", "--gallery", "people", "--retention", "30"]
    monkeypatch.setattr(sys, "argv", ["reid-tracker", *words])
    with pytest.raises(SystemExit):
        main()
    assert (given[0].where, given[0].retention_days) == ("people", 30)


def test_a_long_source_is_shown_whole(run, tmp_path):
    """And what moves a terminal's cursor is not."""
    gallery = SqliteGallery(tmp_path / "gallery")
    view = gallery.views(1)[0]
    name = "cam  \x1b[31m" + "x" * 100
    gallery.enrol({1: Sighting([View(view.vector, view.crop, name, 1.0, 1.0)], 1.0, 2.0)})
    gallery.close()
    out = "".join(run("show", "1")[1].split())
    assert "x" * 100 in out and "\x1b" not in out


def test_check_names_what_is_doubtful_and_what_mends_it(run, tmp_path, embedder):
    assert run("forget", 1, 3)[0] == 0
    status, out, _ = run("check")
    assert status == 0 and out == "Nothing is doubtful.\n"
    with closing(SqliteGallery(tmp_path / "gallery")) as opened:
        twice = [replace(view, time=view.time + 100) for view in opened.views(2)]  # nobody is there twice at once
        opened.enrol({8: Sighting(twice, 1, 2)})
    status, out, _ = run("check")
    assert status == 0 and "2 8 are one" in out and "gallery merge 2 8" in out
    assert json.loads(run("check", "--json")[1])[0]["numbers"] == [2, 8]


def test_re_describe_lets_an_old_gallery_go_on_with_another_network(run, tmp_path, embedder):
    status, out, _ = run("re-describe")
    assert status == 0 and "already" in out
    with closing(SqliteGallery(tmp_path / "old", Model("a" * 64, 5))) as old_gallery:
        for number in (1, 2):
            crop = cv2.imencode(".jpg", picture(number), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            old_gallery.enrol({number: Sighting([View(np.ones(5, np.float32), crop, "door", 1.5)], 1, 2)})
    status, _, error = run("search", tmp_path / "2.png", folder="old")
    assert status == 2 and "re-describe" in error
    status, out, _ = run("re-describe", folder="old")
    assert status == 0 and out == "2 views are described anew.\n"
    found = json.loads(run("search", tmp_path / "2.png", "--json", folder="old")[1])
    assert found[0]["number"] == 2 and found[0]["cosine"] > 0.6  # by its JPEG
    folder = next((tmp_path / "old" / "crops" / "000002").iterdir())
    folder.write_bytes(b"no picture")
    with closing(sqlite3.connect(tmp_path / "old" / FILE, isolation_level=None)) as changed:
        changed.execute("UPDATE header SET value = json_replace(value, '$.hash', 'x') WHERE key = 'model'")
    status, _, error = run("re-describe", folder="old")
    assert status == 2 and "not a picture any more" in error
