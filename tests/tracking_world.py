"""A made-up world of people who walk, with vectors that say who is who."""

import numpy as np
import supervision as sv


def detections(xyxy, confidence=0.9, embedding=None, class_id=None) -> sv.Detections:
    """Detections from plain lists."""
    xyxy = np.asarray(xyxy, dtype=np.float32).reshape(-1, 4)
    return sv.Detections(
        xyxy=xyxy,
        confidence=np.broadcast_to(np.asarray(confidence, dtype=np.float32), len(xyxy)).copy(),
        class_id=None if class_id is None else np.asarray(class_id),
        data={} if embedding is None else {"embedding": np.asarray(embedding, dtype=np.float32)},
    )


def person(x: float, y: float = 100.0, width: float = 40.0, height: float = 100.0) -> list[float]:
    """A box whose top left corner is (x, y)."""
    return [x, y, x + width, y + height]


def unit_vectors(count: int, dimension: int = 32, seed: int = 0) -> np.ndarray:
    """Vectors of ``count`` different people, [count, dimension]."""
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seen(identity: np.ndarray, rng: np.random.Generator, noise: float = 0.05) -> np.ndarray:
    """How people's vectors [N, D] come out of one frame's crops."""
    noisy = identity + rng.normal(0, noise, identity.shape)
    return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
