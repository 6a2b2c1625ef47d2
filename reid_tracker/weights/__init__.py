"""The models that ship with the package, each with a model card, and what tells one model from another."""

import hashlib
from pathlib import Path

from reid_tracker.errors import UserError

DETECTOR = Path(__file__).parent / "detector.pt"
APPEARANCE = Path(__file__).parent / "appearance.safetensors"
# Forms for other runtimes. 8-bit whole numbers where they cost no accuracy, else float16 (model cards).
BUNDLED_FORMS = {
    (DETECTOR, "openvino"): DETECTOR.with_name("detector_openvino_model"),
    (APPEARANCE, "openvino"): APPEARANCE.with_name("appearance_int8.xml"),
}
# What runs instead where the processor multiplies 8-bit whole numbers in one go (AVX-512 VNNI): faster there.
EIGHT_BIT_FORMS = {(DETECTOR, "openvino"): DETECTOR.with_name("detector_int8_openvino_model")}


def model_hash(path: Path) -> str:
    """SHA-256 of the file in hexadecimal: vectors of two models are comparable only if their hashes are equal."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: the model file cannot be read ({error.strerror}).") from error
