"""What the file must withstand: kills, readers beside a writer, damage; and that nothing of the forgotten is left."""

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from test_store import MODEL, WHO, looks, sighting

from reid_tracker.errors import UserError
from reid_tracker.gallery.opening import export, open_gallery
from reid_tracker.gallery.sqlite_file import FILE
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Sighting, View

WRITER = """
import sys
import numpy as np
from pathlib import Path
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View

gallery = SqliteGallery(Path(sys.argv[1]), Model("a", 16))
for number in range(1, 100_000):
    view = View(np.full(16, 0.25, np.float32), b"jpeg of %d" % number)
    gallery.enrol({number: Sighting([view], number, number)})
    print(number, flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "gallery"


@pytest.fixture
def gallery(folder):
    opened = SqliteGallery(folder, MODEL)
    yield opened
    opened.close()


def bytes_on_disk(folder):
    """Every file of a folder: name and content."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def find(folder, wanted):
    return [path for path, content in bytes_on_disk(folder).items() if wanted in content]


def test_nothing_of_the_forgotten_is_left_in_any_file(folder, gallery):
    rng = np.random.default_rng(0)
    crops = [rng.bytes(2000) for _ in range(3)]
    views = [View(view.vector, crop, "kitchen camera") for view, crop in zip(looks(0, 3), crops, strict=True)]
    gallery.enrol({number: sighting(number, count=8) for number in range(2, 7)})
    gallery.enrol({1: Sighting(views[:2], 1, 2)})
    gallery.enrol({1: Sighting(views[2:], 1, 2), 7: sighting(7)})
    gallery.name(1, "Annabella")
    stranger = views[0]
    traces = [part for view in views for part in (view.vector.tobytes(), view.crop)] + [b"Annabella", b"kitchen camera"]
    assert all(find(folder, trace) for trace in traces)
    elsewhere = SqliteGallery(folder)  # that it is open there hinders nothing
    assert len(elsewhere.vectors()[0]) == 8 * 5 + 4 + 3
    gallery.forget([1])
    assert not any(find(folder, trace) for trace in traces)
    assert not list(folder.glob("crops/000001"))
    # What is left is whole, and the one forgotten is nobody's likeness.
    assert len(gallery.vectors()[0]) == 8 * 5 + 4
    assert gallery.search(stranger.vector[None])[0][0].cosine < 0.6
    assert all(view.crop for number in range(2, 7) for view in gallery.views(number))


def test_a_reader_that_goes_on_and_on_is_named_and_the_next_opening_finishes(folder, monkeypatch):
    monkeypatch.setattr("reid_tracker.gallery.sqlite_file.WAIT_SECONDS", 0.2)
    gallery = SqliteGallery(folder, MODEL)
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    trace = looks(0)[0].vector.tobytes()
    reader = sqlite3.connect(folder / FILE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM views").fetchone()
    with pytest.raises(UserError, match="another program reads so long"):
        gallery.forget([1])
    assert find(folder, trace)
    assert [each.number for each in gallery.people()] == [2]
    reader.close()
    SqliteGallery(folder).close()
    assert not find(folder, trace)


def test_crops_that_a_kill_left_behind_go_with_the_next_forgetting(folder, gallery):
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    (folder / "crops/000001/0123456789abcdef0123456789abcdef.jpg").write_bytes(b"left behind")
    gallery.forget([2])
    assert not find(folder, b"left behind")
    assert all(view.crop for view in gallery.views(1))


def test_views_that_are_replaced_take_their_crops_along(folder, gallery):
    for seed in range(6):
        gallery.enrol({1: sighting(0, seed=seed)})
    gallery.enrol({2: sighting(0, seed=9)})
    gallery.merge(1, 2, for_good=True)
    assert len(list(folder.glob("crops/*/*"))) == gallery.person(1).views == 8
    assert all(view.crop for view in gallery.views(1))


def test_a_killed_writer_loses_nothing_committed(folder):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    committed = 0
    while committed < 40:
        committed = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0].split()
    committed = int(rest[-1]) if rest else committed
    gallery = open_gallery(folder)
    numbers = [each.number for each in gallery.people()]
    assert numbers[:committed] == list(range(1, committed + 1))
    assert len(numbers) <= committed + 1  # the last one may not have been told of yet
    assert all(gallery.views(number)[0].crop == b"jpeg of %d" % number for number in numbers)
    gallery.enrol({})
    gallery.forget(numbers[:1])


def test_readers_see_whole_transactions_while_a_writer_writes(folder, gallery):
    gallery.enrol({1: sighting(0)})
    failures, stop = [], threading.Event()

    def read():
        reader = SqliteGallery(folder)
        try:
            last = 0
            while not stop.is_set():
                numbers, matrix = reader.vectors()
                people = len(np.unique(numbers))
                # Two people of four views each come with each transaction.
                assert len(matrix) == 4 * people and people % 2 == 1 and people >= last
                assert reader.search(WHO[:1], 1)[0][0].number == 1
                last = people
        except BaseException as error:
            failures.append(error)
        finally:
            reader.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    for number in range(2, 62, 2):
        gallery.enrol({number: sighting(1), number + 1: sighting(2)})
    stop.set()
    for each in readers:
        each.join()
    assert not failures
    assert len(gallery.people()) == 61


def test_two_who_write_at_once_get_numbers_of_their_own(folder, gallery):
    given = []

    def number():
        other = SqliteGallery(folder, MODEL)
        for _ in range(20):
            given.extend(other.new_numbers(2))
        other.close()

    threads = [threading.Thread(target=number) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(given) == list(range(1, 121))


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_a_foreign_file_is_named_and_left_alone(folder, content):
    folder.mkdir()
    (folder / FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"gallery\.sqlite: not a gallery"):
        open_gallery(folder)
    assert (folder / FILE).read_bytes() == content


def test_another_programs_database_is_no_gallery(folder):
    folder.mkdir()
    other = sqlite3.connect(folder / FILE)
    other.execute("CREATE TABLE people (name)")
    other.commit()
    other.close()
    with pytest.raises(UserError, match="not a gallery of reid-tracker"):
        open_gallery(folder, MODEL)


def test_a_damaged_gallery_is_one_sentence(folder, gallery):
    gallery.enrol({number: sighting(number % 8, count=8) for number in range(1, 60)})
    gallery.close()
    content = bytearray((folder / FILE).read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    (folder / FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"damaged|not a gallery"):
        SqliteGallery(folder).people()


def test_a_newer_gallery_is_refused(folder, gallery):
    gallery.close()
    newer = sqlite3.connect(folder / FILE)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(UserError, match="newer version"):
        open_gallery(folder)


@pytest.mark.parametrize("crop", ["../../victim.jpg", "/tmp/../{victim}", "{victim}", "sub/a.jpg", "..", "x.jpg"])
def test_nothing_outside_of_the_folder_is_read_or_removed(folder, gallery, tmp_path, crop):
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"SECRET")
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    with sqlite3.connect(folder / FILE) as database:
        database.execute("UPDATE views SET crop = ? WHERE number = 2", (crop.format(victim=victim),))
    for step in (
        lambda: export(gallery, tmp_path / "exported"),
        lambda: gallery.views(2),
        lambda: gallery.merge(1, 2),
        lambda: gallery.split(2, [0]),
    ):
        with pytest.raises(UserError, match=r"none of this gallery's.*Forget 2|has 1 views"):
            step()
    gallery.forget([2])
    assert victim.read_bytes() == b"SECRET"
    assert [each.number for each in gallery.people()] == [1]
    assert not any(b"SECRET" in each.read_bytes() for each in tmp_path.rglob("exported/**/*.jpg"))


def test_links_in_the_folder_are_not_followed(folder, gallery, tmp_path):
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    documents = tmp_path / "documents"
    documents.mkdir()
    names = ("thesis.doc", "photo.jpg", "0123456789abcdef0123456789abcdef.jpg")
    for name in names:
        (documents / name).write_bytes(b"mine")
    (folder / "crops/000099").symlink_to(documents)
    gallery.forget([2])
    gallery.close()
    assert {each.name for each in documents.iterdir()} == set(names)
    (folder / "crops/000099").unlink()
    (folder / "crops").rename(tmp_path / "moved")
    (folder / "crops").symlink_to(documents)
    with pytest.raises(UserError, match="crops: a symbolic link"):
        SqliteGallery(folder)
    assert {each.name for each in documents.iterdir()} == set(names)


def test_foreign_entries_are_left_alone_and_stop_nothing(folder, gallery):
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    foreign = [folder / "crops" / name for name in (".DS_Store", "Thumbs.db", "000001/._a.jpg", "000001/sub/a.txt")]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"foreign")
    trace = gallery.views(1)[0].vector.tobytes()
    gallery.forget([1])
    assert not find(folder, trace)
    assert all(path.read_bytes() == b"foreign" for path in foreign)
    assert not list((folder / "crops/000001").glob("[0-9a-f]*.jpg"))
    SqliteGallery(folder).close()


def test_all_of_it_is_its_owners_alone(tmp_path):
    folder = tmp_path / "people"
    folder.mkdir(mode=0o755)
    gallery = SqliteGallery(folder, MODEL)
    gallery.enrol({1: sighting(0)})
    modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    assert set(modes.values()) == {0o700, 0o600}, modes
    gallery.close()
    (folder / FILE).chmod(0o644)
    folder.chmod(0o755)
    SqliteGallery(folder).close()
    assert ((folder / FILE).stat().st_mode | folder.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE header SET value = 'x' WHERE key = 'model'",
        'UPDATE header SET value = \'{"hash": "a", "dimension": -1}\' WHERE key = \'model\'',
        'UPDATE header SET value = \'{"hash": "a", "dimension": 4, "calibration": {"all": 3}}\' WHERE key = \'model\'',
        "DELETE FROM header",
        "UPDATE header SET value = 'many' WHERE key = 'last_number'",
        "UPDATE people SET first_seen = 'noon'",
        "UPDATE people SET last_seen = 9e999",
        "UPDATE people SET class_id = NULL",
        "UPDATE views SET vector = 'text'",
        "UPDATE views SET vector = zeroblob(7)",
        "UPDATE views SET vector = NULL",
        "UPDATE views SET quality = 'good'",
        "UPDATE views SET time = x'00'",
        "UPDATE views SET crop = 5",
        "DROP TABLE views",
        "ALTER TABLE people DROP COLUMN class_id",
    ],
)
def test_values_that_are_not_what_they_should_be_are_one_sentence(folder, gallery, statement):
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    gallery.close()
    with sqlite3.connect(folder / FILE) as database:
        database.execute(statement)
    with pytest.raises(UserError, match=r"damaged|cannot be used|none of this gallery's"):
        opened = SqliteGallery(folder)
        opened.people()
        opened.vectors()
        opened.views(1)


def test_a_name_is_one_line_that_can_be_shown(gallery):
    gallery.enrol({1: sighting(0)})
    for given, kept in (
        ("\x1b[31mAda\n\x9b0m", "[31mAda 0m"),
        ("\u202eeve", "eve"),
        ("\ud800", None),
        ("x" * 99, "x" * 80),
    ):
        gallery.name(1, given)
        assert gallery.person(1).name == kept


def test_many_programs_may_make_one_gallery_at_once(tmp_path):
    program = """
import sys
from pathlib import Path
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model
print(SqliteGallery(Path(sys.argv[1]), Model("a", 16)).new_numbers()[0])
"""
    for turn in range(3):
        running = [
            subprocess.Popen([sys.executable, "-c", program, str(tmp_path / str(turn))], stdout=subprocess.PIPE)
            for _ in range(4)
        ]
        assert sorted(int(each.communicate()[0]) for each in running) == [1, 2, 3, 4]
