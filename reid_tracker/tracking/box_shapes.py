"""What shape people's boxes have in this scene, and what a confidence is worth for a box of another shape.

A bag, a sign or half of two people in one box may look like a person to a detector, but seldom has a person's shape.
The detector judges each box alone; how slender people are under this camera only the scene tells.
"""

import numpy as np

# So much wider than usual for its height, as a logarithm, the odds that a box shows what it seems to are halved: at two
# and a half times the width. Beyond that they fall with the square (Cauchy): whoever sits down or pushes a pram is
# doubted a little, and nobody is refused. A narrow box is mostly somebody half hidden.
HALVED_AT = 0.9
# Boxes remembered.
MEMORY = 500
# Odds are taken of confidences up to this one.
SUREST = 1 - 1e-6


class BoxShapes:
    """The shapes of the boxes that a detector was sure of, of each class for itself.

    Attributes
    ----------
    seen : ndarray float64 [MEMORY, 2]
        Logarithm of the height in widths, and class, of the latest of them, the last one below; NaN where there is none
        yet.
    """

    def __init__(self) -> None:
        self.seen = np.full((MEMORY, 2), np.nan)

    def judge(self, xyxy: np.ndarray, confidence: np.ndarray, class_id: np.ndarray, sure: float) -> np.ndarray:
        """Learn the shapes of a frame's sure boxes, and say what the confidence of each box is worth.

        Parameters
        ----------
        xyxy : ndarray float32 [M, 4]
            Boxes in px.
        confidence : ndarray float64 [M]
            The detector's.
        class_id : ndarray int [M]
            What they show.
        sure : float
            From this confidence on a box is learned from.

        Returns
        -------
        ndarray float64 [M]
            Confidences, none above the detector's; those not between 0 and 1 are left as they are.
        """
        size = (xyxy[:, 2:] - xyxy[:, :2]).astype(np.float64)
        shape = np.log(size[:, 1] / size[:, 0])
        learned = np.flatnonzero(confidence >= sure)
        learned = learned[:: len(learned) // MEMORY + 1]
        self.seen = np.concatenate([self.seen[len(learned) :], np.stack([shape, class_id], axis=1)[learned]])
        odds = np.clip(confidence, 0.0, SUREST)
        odds = odds / (1 - odds)
        for kind in set(class_id.tolist()):
            known, rows = self.seen[self.seen[:, 1] == kind, 0], class_id == kind
            if known.size:
                wider = np.maximum(np.median(known) - shape[rows], 0)
                odds[rows] /= 1 + (wider / HALVED_AT) ** 2
        judged: np.ndarray = np.where((confidence > 0) & (confidence < 1), odds / (1 + odds), confidence)
        return judged
