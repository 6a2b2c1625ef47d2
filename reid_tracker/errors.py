"""The one exception whose message is meant for the user."""

from reid_tracker.urls import without_secrets


class UserError(Exception):
    """Something the user gave cannot be used; the message names the thing and the fix in one sentence.

    The command line prints it without a traceback and exits with status 2. From Python it is an ordinary exception.
    A URL in the message is told without what may be secret, whatever it was given as.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))
