"""Stages side by side: order, bounded lead, errors where they belong, and no thread left behind."""

import threading
import time

import pytest

from reid_tracker.stages import Behind, ahead


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_items_come_in_order_through_several_stages():
    doubled = ahead(2 * item for item in ahead(range(500), size=3))
    assert list(doubled) == [2 * item for item in range(500)]


def test_it_is_ahead_but_not_far():
    taken = []

    def source():
        for item in range(100):
            taken.append(item)
            yield item

    items = ahead(source(), size=2)
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while len(taken) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert taken == [0, 1, 2, 3]  # one taken by us, two waiting, one in hand
    items.close()


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_comes_after_the_items_before_it(error):
    def source():
        yield from range(3)
        raise error

    got = []
    with pytest.raises(type(error)):
        for item in ahead(source()):
            got.append(item)
    assert got == [0, 1, 2]


def test_closing_closes_the_source():
    closed = []

    def source():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    items = ahead(source())
    next(items)
    items.close()
    assert closed == [True]


def test_a_writer_does_all_in_order_before_it_finishes():
    done = []
    writer = Behind(lambda item: (time.sleep(0.001), done.append(item)))
    for item in range(50):
        writer.put(item)
    writer.finish()
    assert done == list(range(50))


def test_a_writers_error_comes_out_of_put_and_of_finish():
    done = []

    def work(item):
        if item == 3:
            raise OSError("full")
        done.append(item)

    writer = Behind(work)
    with pytest.raises(OSError, match="full"):
        for item in range(1000):
            writer.put(item)
    with pytest.raises(OSError, match="full"):
        writer.finish()
    assert done == [0, 1, 2]


def test_an_error_in_the_last_item_is_not_lost():
    def work(item):
        time.sleep(0.02)
        raise OSError("full")

    writer = Behind(work)
    writer.put(0)
    with pytest.raises(OSError, match="full"):
        writer.finish()
