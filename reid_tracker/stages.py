"""Stages of a pipeline side by side: each in a thread of its own, in order, never more than a few items apart."""

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL = 0.1  # s between two checks of a waiting thread whether its item is still wanted


class _End:
    """Stands behind the last item, with the error that ended it, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterable[T], size: int = 2) -> Generator[T, None, None]:
    """Take the items in a thread, up to a few ahead of the consumer.

    Parameters
    ----------
    items : iterable
        Its error, whatever it is, is raised here, after the items before it.
    size : int
        Items that may wait.

    Yields
    ------
    item
        In their order. Closing the generator ends the thread, and closes `items` if that is a generator.
    """
    waiting: Queue[T | _End] = Queue(size)
    given_up = Event()

    def put(item: T | _End) -> None:
        while not given_up.is_set():
            with suppress(Full):
                waiting.put(item, timeout=_POLL)
                return

    def work() -> None:
        end = _End()
        try:
            for item in items:
                put(item)
                if given_up.is_set():
                    break
            if isinstance(items, Generator):
                items.close()
        except BaseException as error:  # also a KeyboardInterrupt: it ends the run, not this thread alone
            end = _End(error)
        put(end)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        given_up.set()
        thread.join()


class Behind(Generic[T]):
    """Do something with each item in a thread, in order, while the caller goes on.

    Parameters
    ----------
    work : callable
        Called with each item. After its first error it is not called again.
    size : int
        Items that may wait; `put` blocks when there are more.
    """

    def __init__(self, work: Callable[[T], None], size: int = 2) -> None:
        self._work = work
        self._waiting: Queue[T | _End] = Queue(size)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; raises the error of an earlier one."""
        while self._error is None:
            with suppress(Full):
                self._waiting.put(item, timeout=_POLL)
                return
        raise self._error

    def finish(self) -> None:
        """Wait until all items are done; raises the error of one of them."""
        while self._thread.is_alive():
            with suppress(Full):
                self._waiting.put(_End(), timeout=_POLL)
                break
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not isinstance(item := self._waiting.get(), _End):
                self._work(item)
        except BaseException as error:
            self._error = error
            with suppress(Empty):  # let a waiting producer find the error
                while True:
                    self._waiting.get_nowait()
