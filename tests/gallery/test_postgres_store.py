"""What is PostgreSQL's alone; what both stores do is in test_store.py."""

import threading

import numpy as np
import psycopg
import pytest
from tracking_world import unit_vectors

from reid_tracker.errors import UserError
from reid_tracker.gallery import postgres_store
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.gallery.store import Model, Sighting, View

WHO = unit_vectors(40, 32)
MODEL = Model("a" * 64, 32)


def sighting(who, count=3, at=1.0):
    rows = WHO[who] + 0.05 * np.random.default_rng(who).standard_normal((count, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Sighting([View(row.astype(np.float32), b"\xff\xd8 crop", "a\0b \ud800") for row in rows], at, at)


def test_a_server_that_does_not_answer_is_one_sentence_without_the_password():
    with pytest.raises(UserError) as told:
        open_gallery("postgresql://me:secret@127.0.0.1:9/people?connect_timeout=2", MODEL)
    assert str(told.value).startswith("postgresql://127.0.0.1:9/people: cannot be used (")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@[", "postgresql:///x?gallery=", "postgresql:///x?secret=1&gallery=" + 64 * "n"]
)
def test_an_address_that_is_none(url):
    with pytest.raises(UserError) as told:
        open_gallery(url, MODEL)
    assert "secret" not in str(told.value)


def test_a_name_may_hold_any_letter(postgres_gallery):
    where = postgres_gallery + """'s "x"; DROP SCHEMA public --ä"""
    gallery = open_gallery(where, MODEL)
    gallery.enrol({1: sighting(0)})
    gallery.close()
    gallery = open_gallery(where)
    assert [person.number for person in gallery.people()] == [1]
    gallery.close()


def test_addresses_of_other_servers_are_refused_and_no_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="http:// is neither"):
        open_gallery("http://me:secret@localhost:6333/people", MODEL)
    assert not list(tmp_path.iterdir())


def test_without_a_model_nothing_is_made(postgres_gallery):
    for _ in range(2):
        with pytest.raises(UserError, match="no gallery is there"):
            open_gallery(postgres_gallery)


def test_a_gallery_of_a_newer_version_is_refused(postgres, postgres_gallery):
    open_gallery(postgres_gallery, MODEL).close()
    name = postgres_gallery.partition("gallery=")[2]
    with psycopg.connect(postgres) as connection:
        connection.execute(f'UPDATE "{name}".header SET schema = 99')
    with pytest.raises(UserError, match="newer version"):
        open_gallery(postgres_gallery)


def test_tables_of_others_are_left_alone(postgres, postgres_gallery):
    """A schema that is there already, with a table of the same name elsewhere."""
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.people (mine text)")
        connection.execute("INSERT INTO public.people VALUES ('kept')")
    gallery = open_gallery(postgres_gallery, MODEL)
    gallery.enrol({1: sighting(0)})
    gallery.forget([1])
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT mine FROM public.people").fetchall()[0] == ("kept",)
        connection.execute("DROP TABLE public.people")
    gallery.close()


def test_ten_programs_make_it_at_once_and_get_numbers_of_their_own(postgres_gallery):
    found, failed = [], []

    def run():
        try:
            gallery = open_gallery(postgres_gallery, MODEL)
            for _ in range(10):
                numbers = gallery.new_numbers(3)
                found.extend(numbers)
                gallery.enrol({number: sighting(number % 40) for number in numbers})
            gallery.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert failed == []
    assert sorted(found) == list(range(1, 301))
    gallery = open_gallery(postgres_gallery)
    assert [person.number for person in gallery.people()] == sorted(found)
    gallery.close()


def test_a_connection_that_was_cut_is_made_again_and_what_was_under_way_is_not_there(postgres, postgres_gallery):
    gallery = open_gallery(postgres_gallery, MODEL)
    gallery.enrol({1: sighting(0)})

    def cut():
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid = %s",
                (gallery._connection.info.backend_pid,),
            )

    with pytest.raises(UserError, match="cannot be used"), gallery.alone():
        gallery.enrol({2: sighting(1)})
        cut()
        gallery.enrol({3: sighting(2)})
    assert [person.number for person in gallery.people()] == [1]
    cut()
    with pytest.raises(UserError, match="cannot be used"):
        gallery.people()
    gallery.enrol({2: sighting(1)})
    assert len(gallery.people()) == 2
    gallery.close()


def test_who_is_held_up_for_too_long_is_told(postgres_gallery, monkeypatch):
    monkeypatch.setattr(postgres_store, "WAIT_SECONDS", 1)
    one, two = open_gallery(postgres_gallery, MODEL), open_gallery(postgres_gallery, MODEL)
    with one.alone():
        assert two.new_numbers() == [1]  # newcomers do not wait
        with pytest.raises(UserError, match="in use by another program"):
            two.enrol({1: sighting(0)})
    two.enrol({1: sighting(0)})
    one.close(), two.close()


def test_the_forgotten_are_not_in_the_tables_files(postgres, postgres_gallery):
    gallery = open_gallery(postgres_gallery, MODEL)
    secret = np.full(32, 0.5, np.float32) / np.sqrt(8)
    gallery.enrol({1: Sighting([View(secret, b"\xff\xd8" + b"SECRETCROP" * 40)], 1, 1), 2: sighting(1)})
    gallery.forget([1])
    name = postgres_gallery.partition("gallery=")[2]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        for table in ("views", "people"):
            path = connection.execute(f"""SELECT pg_relation_filepath('"{name}".{table}')""").fetchone()[0]
            content = connection.execute("SELECT pg_read_binary_file(%s)", (path,)).fetchone()[0]
            assert b"SECRETCROP" not in content
            assert secret.tobytes() not in content
    gallery.close()


def test_a_kill_while_forgetting_is_made_good(postgres, postgres_gallery, monkeypatch):
    gallery = open_gallery(postgres_gallery, MODEL)
    gallery.enrol({1: sighting(0), 2: sighting(1)})
    with monkeypatch.context() as patched:
        patched.setattr(postgres_store.PostgresGallery, "_wipe", lambda self: None)
        gallery.forget([1])
    assert gallery._run("SELECT forgetting FROM header") == [(True,)]
    gallery.close()
    gallery = open_gallery(postgres_gallery)
    assert gallery._run("SELECT forgetting FROM header") == [(False,)]
    gallery.close()


def test_the_index_finds_whom_comparing_all_finds(postgres_gallery, monkeypatch):
    gallery = open_gallery(postgres_gallery, MODEL)
    gallery.enrol({number + 1: sighting(number) for number in range(40)})
    exact = gallery.search(WHO[:10], 3)
    gallery._run("ANALYZE views")
    monkeypatch.setattr(postgres_store, "APPROXIMATE_FROM", 10)
    near = gallery.search(WHO[:10], 3)
    assert [[match.number for match in row] for row in near] == [[match.number for match in row] for row in exact]
    assert [row[0].number for row in near] == list(range(1, 11))
    gallery.close()


def test_another_model_with_longer_vectors_describes_the_crops_anew(postgres_gallery):
    gallery = open_gallery(postgres_gallery, MODEL)
    gallery.enrol({1: sighting(0), 2: Sighting([View(WHO[1])], 1, 1)})
    longer = Model("b" * 64, 48)
    assert gallery.describe_anew(longer, lambda crops: unit_vectors(len(crops), 48)) == 1
    gallery.enrol({3: Sighting([View(unit_vectors(1, 48)[0])], 1, 1)})
    assert gallery.vectors()[1].shape == (4, 48)
    assert gallery.search(unit_vectors(1, 48))[0][0].cosine == pytest.approx(1, abs=1e-5)
    gallery.close()
    open_gallery(postgres_gallery, longer).close()
