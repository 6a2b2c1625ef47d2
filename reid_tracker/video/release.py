"""Codecs that are done with, given back."""

import gc


def release_codecs() -> None:
    """Free the decoders and encoders that nobody uses any more, with their threads and pictures.

    PyAV's streams and containers refer to each other, and an encoder cannot be closed by itself. So each lives on until
    Python's collector finds it, which for objects as old as a recording may be never: a run that records files all day
    would hold hundreds of threads.
    """
    gc.collect()
