"""Ultralytics and its runtimes, kept from using the network and from changing the process for everyone.

Left alone, ultralytics looks up two hosts when it is imported, writes a settings file into the user's configuration
folder, reports usage to an analytics service, installs missing packages with pip while it runs, looks for newer
versions and fetches fonts. It also takes torch and OpenCV down to fewer threads, for the whole process. OpenVINO
(2026.4) reports its import to an analytics service, and ONNX Runtime (1.31) what it runs to its maker. Whatever needs
ultralytics takes it from `import_ultralytics`; whatever imports a runtime calls `silence_runtimes` first.
"""

import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import cv2
import numpy as np

# Read once, when ultralytics is imported. ULTRALYTICS_SAFE_LOAD lets a checkpoint hold known network layers only, where
# a plain unpickling would run any code in the file; a user who trusts a refused file can set it to 0.
IMPORT_ENVIRONMENT = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "0"}
OVERRIDABLE_ENVIRONMENT = {"ULTRALYTICS_SAFE_LOAD": "1"}
REPORTING_SETTINGS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


@functools.cache
def import_ultralytics() -> ModuleType:
    """Import ultralytics with its analytics, synchronisation, installer, update check and fonts switched off.

    Works also where ultralytics was imported before; the switches then hold for that process from here on.
    The user's own ultralytics settings are neither read nor written.

    Returns
    -------
    module
        The package `ultralytics`.
    """
    silence_runtimes()
    with process_unchanged():
        settings_folder = tempfile.TemporaryDirectory(prefix="reid-tracker-")
        os.environ.update(IMPORT_ENVIRONMENT, YOLO_CONFIG_DIR=settings_folder.name)
        for name, value in OVERRIDABLE_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ultralytics
        from ultralytics.utils import SETTINGS, checks, events

    ultralytics._settings_folder = settings_folder  # lives as long as the module that was told of it
    checks.ONLINE = checks.AUTOINSTALL = events.events.enabled = False
    checks.check_font = lambda *_, **__: None  # asks the network even with YOLO_OFFLINE
    # dict.update: SETTINGS' own would write the change to its file, which is the user's if they imported ultralytics.
    dict.update(SETTINGS, dict.fromkeys(REPORTING_SETTINGS, False))
    return ultralytics


def silence_runtimes() -> None:
    """Switch off the telemetry of OpenVINO and ONNX Runtime, if they are not imported yet, for the whole process."""
    # OpenVINO does without the package that reports, if importing it fails as where it is not installed.
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def own_cache() -> Path:
    """The folder in which this package may keep what it made; not made here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reid_tracker"


@contextmanager
def own_matplotlib() -> Iterator[None]:
    """While it lasts, matplotlib keeps what it keeps where it was told to, or in this package's cache."""
    told = os.environ.get("MPLCONFIGDIR")
    os.environ.setdefault("MPLCONFIGDIR", str(own_cache() / "matplotlib"))
    try:
        yield
    finally:
        if told is None:
            del os.environ["MPLCONFIGDIR"]


def import_ft2font() -> ModuleType:
    """Import matplotlib's font renderer."""
    with own_matplotlib():
        from matplotlib import ft2font
    return ft2font


@contextmanager
def process_unchanged() -> Iterator[None]:
    """Put back what ultralytics changes for everyone when it is imported or sets up a model.

    These are the environment, the threads of torch (one core fewer than there are) and of OpenCV (one), NumPy's print
    options, and `torch.save`, which it makes wait and retry.
    """
    import torch  # before ultralytics, which sets OMP_NUM_THREADS=1: torch would start with one thread

    environment, torch_save = dict(os.environ), torch.save
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        with np.printoptions():
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        torch.save = torch_save
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)
