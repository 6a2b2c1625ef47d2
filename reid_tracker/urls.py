"""URLs, and what of them may be shown: a user, a password, a key or a token may stand in any."""

import re
from pathlib import Path

_SCHEME = r"[\w+.-]{2,}:/"  # one letter is a drive; a Path takes one of two slashes
# In their paths, too, some cameras take a password; elsewhere day=1 is a folder, and me@home too.
_STREAMS = ("", "rtsp", "rtsps", "rtmp", "http", "https")
_CLOSING = "\"')]}>,;:.?!"


def is_url(given: str | Path) -> bool:
    """Whether this is a URL and not the path of a file that is there."""
    if not re.match(_SCHEME, str(given)):
        return False
    try:
        return not Path(given).exists()
    except OSError:  # too long for a file's name
        return True


def masked(url: str) -> str:
    """Give a URL without what may be secret: it may be shown to others.

    That is all up to the last @, even where a password holds a / or ? that was not written as %2F or %3F, and all
    behind a ?, # or ; and of a stream every part of the path that sets something.
    """
    scheme, place = re.match(r"(?:([\w+.-]+):/{1,2})?(.*)", url, re.DOTALL).groups()  # type: ignore[union-attr]  # always matches
    is_stream = (scheme or "").lower() in _STREAMS
    user, _, rest = place.rpartition("@")
    if is_stream or ":" in user or "/" not in user:
        place = rest
    host, *path = re.split(r"[?#;]", place)[0].split("/")
    told = [host.partition("=")[0] if "=" in host else host]
    for part in path:
        if is_stream and ("=" in part or "&" in part):
            break
        told.append(part)
    shown = "".join(each for each in "/".join(told) if each.isprintable())
    return f"{scheme}://{shown}" if scheme else shown


def without_secrets(text: str) -> str:
    """A sentence in which every URL is `masked`."""

    def mask(found: re.Match[str]) -> str:
        url = found[0].rstrip(_CLOSING)
        return masked(url) + found[0][len(url) :]

    return re.sub(rf"(?<![\w+.-]){_SCHEME}\S*[@?]\S*", mask, text)
