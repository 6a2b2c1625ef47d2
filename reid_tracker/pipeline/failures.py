"""What failed in a run of several sources."""

from reid_tracker.errors import UserError
from reid_tracker.results import RunSummary


class BatchError(UserError):
    """Some sources of a batch failed; the others are done.

    Attributes
    ----------
    summaries : list of RunSummary
        One per source; those that failed have an ``error``.
    """

    def __init__(self, summaries: list[RunSummary]) -> None:
        failed = [each for each in summaries if each.error]
        lines = (f"  {_told(each.source, str(each.error))}" for each in failed)
        super().__init__("\n".join([f"{len(failed)} of {len(summaries)} sources failed.", *lines]))
        self.summaries = summaries


def _told(source: str, error: str) -> str:
    """An error with its source; most begin with the source's own path."""
    place, colon, _ = error.partition(": ")
    return error if colon and source in place else f"{source}: {error}"


def raise_failures(summaries: list[RunSummary]) -> None:
    """Raise what failed: a `BatchError`, or one cause for all, such as a model that is not there or a full disk."""
    errors = {each.error for each in summaries}
    if errors == {summaries[0].error} and summaries[0].error is not None:
        raise UserError(summaries[0].error)
    if errors != {None}:
        raise BatchError(summaries)
