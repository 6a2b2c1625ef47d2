"""How the camera moved between two frames, from points that stand still in the world."""

import cv2
import numpy as np

from reid_tracker.tracking.fading import FAR, FadingMean

# Points are sought on a picture no wider than this: enough for half a pixel at a tenth of the cost of full HD.
WORKING_WIDTH = 480
MINIMUM_POINTS = 12
# The camera moves all that stands: so many of the points must agree. In noise a quarter do; depth spoils it for some.
AGREEING = 0.35
# Below this shift (px of the working picture) and change of scale the camera is taken to stand still.
STILL_SHIFT, STILL_SCALE = 0.3, 0.002
# After so many frames without motion the camera is looked at in every so-manieth frame only (the map found then is from
# the last look), or as soon as many of a few hundred sampled pixels change more than a still picture's noise.
STILL_FRAMES, LOOK_EVERY = 20, 10  # a slow pan, too, adds up over so many
SAMPLE_STEP, CHANGED, NOISE = 32, 0.25, 12  # px between samples; share of them; grey levels


class CameraMotion:
    """Sparse optical flow outside the boxes, fitted by a similarity (shift, rotation, zoom) with RANSAC."""

    def __init__(self) -> None:
        self._previous: np.ndarray | None = None
        self._points: np.ndarray | None = None
        self._samples = np.zeros((0, 0, 3), dtype=np.int16)  # of the last frame that was looked at
        self._counts = np.zeros(2, dtype=np.int64)  # looks in which the camera stood still, frames since the last look
        self._age = np.ones(
            2, dtype=np.int64
        )  # frames since the picture that motion is measured from; of the last motion

    @property
    def stands(self) -> bool:
        """Whether it has long been seen to stand still."""
        return bool(self._counts[0] >= STILL_FRAMES)

    @property
    def steps(self) -> int:
        """Over how many frames the motion that `estimate` gave last is spread, as far as can be told."""
        return int(self._age[1])

    def estimate(self, image: np.ndarray, xyxy: np.ndarray) -> np.ndarray | None:
        """Affine map from the pixels of an earlier frame, `steps` before, to this one's.

        That frame is the last one; in a long stand the last that was looked at; in a slow pan the one from which it has
        come far enough to be told from none.

        Parameters
        ----------
        image : ndarray uint8 [H, W, 3]
            The frame, BGR.
        xyxy : ndarray [N, 4]
            Boxes of what may move by itself; no points are taken there.

        Returns
        -------
        ndarray float64 [2, 3] or None
            None where there is no previous frame, the camera stood still, or too few points agree; and for most frames
            of a camera that has long been still.
        """
        samples = image[::SAMPLE_STEP, ::SAMPLE_STEP].astype(np.int16)
        if self._counts[0] >= STILL_FRAMES and samples.shape == self._samples.shape:
            self._counts[1] += 1
            changed = np.abs(samples - self._samples).max(axis=2) > NOISE
            if self._counts[1] < LOOK_EVERY and changed.mean() < CHANGED:
                self._age[0] += 1
                return None
            if self._counts[1] < LOOK_EVERY:
                self._age[0] = 1  # a jolt: it came with this frame
        self._samples = samples
        self._counts[1] = 0
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        scale = 1 / -(-image.shape[1] // WORKING_WIDTH)  # shrinking by whole numbers is far quicker
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = self._fit(grey)
        is_still = matrix is not None and _is_still(matrix)
        if is_still and self._counts[0] < STILL_FRAMES and self._age[0] < LOOK_EVERY:
            self._counts[0] += 1
            self._age[0] += 1  # from here a slow pan adds up
            return None
        mask = np.full_like(grey, 255)
        for x1, y1, x2, y2 in np.clip(xyxy * scale, 0, max(grey.shape)).astype(int):
            mask[y1 : y2 + 1, x1 : x2 + 1] = 0
        self._previous = grey
        self._points = cv2.goodFeaturesToTrack(grey, maxCorners=300, qualityLevel=0.01, minDistance=8, mask=mask)
        self._age[:] = 1, self._age[0]
        if matrix is None or is_still:
            self._counts[0] = self._counts[0] + 1 if is_still else 0
            return None
        self._counts[0] = 0
        matrix[:, 2] /= scale
        return matrix

    def _fit(self, grey: np.ndarray) -> np.ndarray | None:
        if self._previous is None or self._previous.shape != grey.shape:
            return None
        if self._points is None or len(self._points) < MINIMUM_POINTS:
            return None
        moved, found, _ = cv2.calcOpticalFlowPyrLK(self._previous, grey, self._points, np.empty(0))
        found = found.ravel().astype(bool)
        if found.sum() < MINIMUM_POINTS:
            return None
        matrix, inliers = cv2.estimateAffinePartial2D(
            self._points[found], moved[found], method=cv2.RANSAC, ransacReprojThreshold=1.0
        )
        if matrix is None or inliers.sum() < max(MINIMUM_POINTS, AGREEING * len(self._points)):
            return None
        return matrix


def _is_still(matrix: np.ndarray) -> bool:
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return bool(np.abs(matrix[:, 2]).max() < STILL_SHIFT and abs(zoom - 1) < STILL_SCALE)


class FollowingGain(FadingMean):
    """Whether following the picture's motion is worth it: do people then appear more nearly where they are expected?

    Trembling light, crowds and compression feign small motions of a camera that stands. They carry the tracks away from
    the boxes; a true motion brings them there. The mean is, over frames, of how much following lowers the sum of
    squared normalised distances.
    """

    MEMORY = 50.0  # frames: a camera that stands may be taken up

    def __init__(self) -> None:
        super().__init__(0.0)

    @property
    def worth(self) -> bool:
        """Whether to follow; yes until something was seen."""
        return bool(self.mean[0] >= 0)

    def learn(self, stay: np.ndarray, follow: np.ndarray, variance: np.ndarray, measured: np.ndarray) -> None:
        """Compare two expectations with a frame's boxes.

        Parameters
        ----------
        stay, follow : ndarray [N, 2]
            Where people are expected before a standing and before a moving camera, centres in px.
        variance : ndarray [N, 2]
            Of the place where each would be measured, px^2.
        measured : ndarray [M, 2]
            Centres of the sure detections, px.
        """
        if not len(stay) or not len(measured):
            return
        apart = [
            np.minimum(((measured[None] - expected[:, None]) ** 2 / variance[:, None]).sum(axis=2).min(axis=1), FAR**2)
            for expected in (stay, follow)
        ]
        self.add((apart[0] - apart[1]).sum(), 1)


def warp(mean: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move means [N, 2, 4] of `kalman` with the camera: centres and velocities by the map, sizes by its zoom.

    ``matrix`` [2, 3] is a similarity from the previous frame to this one.
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    warped = mean.copy()
    warped[:, :, :2] = mean[:, :, :2] @ linear.T
    warped[:, 0, :2] += shift
    warped[:, :, 2:] *= zoom(matrix)
    return warped


def share_of(matrix: np.ndarray, share: float) -> np.ndarray:
    """The map [2, 3] of a share of a motion, for motions as small as between frames."""
    still = np.eye(2, 3)
    return still + share * (matrix - still)


def zoom(matrix: np.ndarray) -> float:
    """By how much a similarity [2, 3] enlarges."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
