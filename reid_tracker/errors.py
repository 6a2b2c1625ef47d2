"""The one exception whose message is meant for the user."""


class UserError(Exception):
    """Something the user gave cannot be used; the message names the thing and the fix in one sentence.

    The command line prints it without a traceback and exits with status 2. From Python it is an ordinary exception.
    """
