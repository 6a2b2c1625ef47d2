"""Vehicles instead of people: a synthetic set to train the appearance network on, and a road on which they come back.

    python scripts/vehicles.py vehicles
    reid-tracker evaluate reid --data vehicles/test.csv                        # the bundled network, made for people
    reid-tracker train vehicles/train -o runs/vehicles --start bundled --set network.input_size=[72,144] \
        --set schedule.epochs=24 --set batch.people=8
    reid-tracker evaluate reid --data vehicles/test.csv --model runs/vehicles/appearance.safetensors
    reid-tracker track vehicles/road.mp4 --detections vehicles/road.npz -o runs/road --mot \
        --embedder runs/vehicles/appearance.safetensors
    reid-tracker evaluate mot --truth vehicles --results runs/road

`vehicles/train` holds one folder for each of 120 vehicles, `test.csv` names queries and a gallery of 40 others. On the
road twelve vehicles that are in neither drive by, and come back the other way 16 to 24 s later, most in other light.
`road.npz` holds their boxes as a detector would give them (class 2, COCO's car), `road/gt` the truth.
"""

import argparse
import csv
from pathlib import Path

import av
import cv2
import numpy as np

from reid_tracker.motchallenge import format_row
from reid_tracker.tracking.costs import coverage

TRAIN, TEST, ROAD = 120, 40, 12
CROPS = 12  # of each vehicle
CANVAS = (240, 110)  # width and height of a drawn vehicle, px
WIDTH, HEIGHT, RATE, SECONDS = 960, 360, 12, 64.0
AWAY = (16.0, 24.0)  # s from one drive to the next
DUSK = 20.0  # s, from which it is darker


class Vehicle:
    """What makes a vehicle itself: form, colours and marks."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(1000 + number)
        self.form = rng.integers(4)  # saloon, hatchback, van, lorry
        self.paint, self.second = _colour(rng), _colour(rng)
        self.stripe = rng.random() < 0.4
        self.rack = rng.random() < 0.3
        self.glass = int(rng.integers(40, 120))
        self.rims = int(rng.integers(60, 220))
        self.marks = [(rng.uniform(0.2, 0.75), rng.uniform(0.5, 0.62), _colour(rng)) for _ in range(rng.integers(4))]
        self.length = rng.uniform(0.8, 1.0)

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """The vehicle driving to the right, uint8 [110, 240, 3], and its mask, bool [110, 240]."""
        width, height = CANVAS
        image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        right = round(width * self.length) - 4

        def shape(points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
            corners = np.array([(4 + x * (right - 4), y * height) for x, y in points]).round().astype(np.int32)
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
            cv2.fillPoly(mask, [corners], 255)

        glass = (self.glass + 20, self.glass + 10, self.glass)
        if self.form == 3:
            shape([(0, 0.08), (0.68, 0.08), (0.68, 0.8), (0, 0.8)], self.second)
            shape([(0.7, 0.25), (0.9, 0.25), (1, 0.5), (1, 0.82), (0.7, 0.82)], self.paint)
            shape([(0.8, 0.3), (0.89, 0.3), (0.96, 0.5), (0.8, 0.5)], glass)
        else:
            roof = [(0.2, 0.2), (0.62, 0.2)] if self.form == 0 else [(0.02, 0.2), (0.6, 0.2)]
            if self.form == 2:
                roof = [(0.0, 0.08), (0.74, 0.08)]
            back = [(0.02, 0.48)] if self.form == 0 else []
            shape([*roof, (0.8, 0.46), (1, 0.54), (1, 0.82), (0, 0.82), *back], self.paint)
            top = roof[0][1] + 0.05
            shape([(roof[0][0] + 0.05, top), (0.38, top), (0.38, 0.46), (roof[0][0] + 0.02, 0.46)], glass)
            shape([(0.42, top), (roof[1][0], top), (0.76, 0.46), (0.42, 0.46)], glass)
        if self.stripe:
            shape([(0, 0.6), (1, 0.62), (1, 0.68), (0, 0.66)], self.second)
        if self.rack and self.form < 2:
            shape([(0.25, 0.1), (0.55, 0.1), (0.55, 0.16), (0.25, 0.16)], (40, 40, 40))
        for x, y, colour in self.marks:
            shape([(x, y), (x + 0.1, y), (x + 0.1, y + 0.12), (x, y + 0.12)], colour)
        for x in (0.2, 0.8):
            centre = (round(4 + x * (right - 4)), round(0.82 * height))
            for radius, shade in ((15, 25), (8, self.rims)):
                cv2.circle(image, centre, radius, (shade,) * 3, -1, cv2.LINE_AA)
            cv2.circle(mask, centre, 15, 255, -1)
        return image, mask > 0


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    hue, saturation, value = rng.integers(180), rng.choice([20, 90, 200]), rng.integers(50, 245)
    pixel = np.array([[[hue, saturation, value]]], dtype=np.uint8)
    blue, green, red = (int(each) for each in cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0])
    return blue, green, red


def scenery(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Something like trees over a road, uint8 [height, width, 3]."""
    coarse = rng.normal(0, 1, (max(height // 12, 2), max(width // 12, 2), 3))
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 18
    image += np.where(np.arange(height)[:, None, None] > 0.55 * height, 105, (70, 110, 90))
    return np.clip(image, 0, 255).astype(np.uint8)


def light(image: np.ndarray, gain: float, cast: np.ndarray) -> np.ndarray:
    """The same in other light: a gain, and one for each channel."""
    return np.clip(image * (gain * cast), 0, 255).astype(np.uint8)


def place(image: np.ndarray, vehicle: Vehicle, left: float, bottom: float, scale: float, mirrored: bool) -> np.ndarray:
    """Put a vehicle into a picture; its box, xyxy."""
    drawn, mask = vehicle.draw()
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    if mirrored:
        drawn, mask = drawn[:, ::-1], mask[:, ::-1]
        box[[0, 2]] = CANVAS[0] - box[[2, 0]]
    move = np.array([[scale, 0, left - scale * box[0]], [0, scale, bottom - scale * box[3]]])
    size = image.shape[1::-1]
    drawn = cv2.warpAffine(np.ascontiguousarray(drawn), move, size, flags=cv2.INTER_AREA)
    share = cv2.warpAffine(np.ascontiguousarray(mask).astype(np.float32), move, size)[:, :, None]
    image[:] = (image * (1 - share) + drawn * share).astype(np.uint8)
    return (box.reshape(2, 2) * scale + move[:, 2]).reshape(4)


def crop(vehicle: Vehicle, camera: int, rng: np.random.Generator) -> np.ndarray:
    """What a camera, 0 or 1, sees of a vehicle."""
    scale = rng.uniform(0.35, 1.0) * (1.0, 0.7)[camera]
    image = scenery(rng, 300, 150)
    box = place(image, vehicle, 30 + rng.uniform(-4, 4), 130 + rng.uniform(-4, 4), scale, rng.random() < 0.5)
    image = light(image, rng.uniform(0.5, 1.3), np.exp(rng.normal(0, 0.08, 3)) * ((1, 1, 1), (1.15, 1, 0.85))[camera])
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6))
    image = np.clip(image + rng.normal(0, rng.uniform(1, 8), image.shape), 0, 255).astype(np.uint8)
    box += rng.normal(0, 0.03, 4) * (box[2] - box[0])
    left, top, right, bottom = np.clip(box, 0, (300, 150, 300, 150)).round().astype(int)
    return image[top:bottom, left:right]


def write_crops(folder: Path) -> None:
    """Write `train/<vehicle>/*.jpg`, and `test/` with `test.csv`."""
    rows = [("path", "identity", "camera", "split")]
    for number in range(TRAIN + TEST):
        vehicle, rng = Vehicle(number), np.random.default_rng(number)
        home = folder / ("train" if number < TRAIN else "test") / f"{number:03d}"
        home.mkdir(parents=True, exist_ok=True)
        for shot in range(CROPS):
            file = home / f"{shot:02d}.jpg"
            cv2.imwrite(str(file), crop(vehicle, shot % 2, rng))
            if number >= TRAIN:
                split = "query" if shot < 2 else "gallery"
                rows.append((str(file.relative_to(folder)), str(number), str(shot % 2), split))
    with (folder / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_road(folder: Path) -> None:
    """Write the road's video, what a detector would see in it, and the truth."""
    rng = np.random.default_rng(7)
    background = scenery(rng, WIDTH, HEIGHT)
    drives = []  # number, vehicle, start, speed px/s, to the right, bottom, scale
    for each in range(ROAD):
        vehicle, start = Vehicle(TRAIN + TEST + each), 2.6 * each + rng.uniform(0, 1)
        drives.append((each + 1, vehicle, start, rng.uniform(130, 160), True, rng.uniform(255, 300), 0.75))
        start += rng.uniform(*AWAY)
        drives.append((each + 1, vehicle, start, rng.uniform(130, 160), False, rng.uniform(315, 350), 0.95))
    sequence = folder / "road"
    (sequence / "gt").mkdir(parents=True, exist_ok=True)
    truth, seen = [], []
    with av.open(str(folder / "road.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in range(round(SECONDS * RATE)):
            now, image, boxes = frame / RATE, background.copy(), []
            for number, vehicle, start, speed, rightwards, bottom, scale in sorted(drives, key=lambda each: each[5]):
                way = (now - start) * speed
                if 0 <= way < WIDTH + 240:
                    box = place(image, vehicle, way - 240 if rightwards else WIDTH - way, bottom, scale, not rightwards)
                    boxes.append((number, np.clip(box, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))))
            image = light(image, 1.0 if now < DUSK else 0.6, np.array([1, 1, 1] if now < DUSK else [1.2, 1, 0.85]))
            image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            covered = coverage(np.array([box for _, box in boxes]).reshape(-1, 4))
            for (number, box), share in zip(boxes, covered, strict=True):
                if box[2] - box[0] > 12 and share < 0.7:
                    truth.append(format_row(frame + 1, number, box, 1.0))
                    jittered = np.clip(box + rng.normal(0, 2, 4), 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
                    seen.append((frame + 1, jittered, rng.uniform(0.7, 0.95)))
        container.mux(stream.encode(None))
    (sequence / "gt" / "gt.txt").write_text("".join(truth))
    about = {
        "name": "road",
        "frameRate": RATE,
        "seqLength": round(SECONDS * RATE),
        "imWidth": WIDTH,
        "imHeight": HEIGHT,
    }
    (sequence / "seqinfo.ini").write_text("[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in about.items()))
    frames, boxes, confidence = zip(*seen, strict=True)
    np.savez(
        folder / "road.npz",
        frame=np.array(frames),
        xyxy=np.array(boxes, dtype=np.float32),
        confidence=np.array(confidence, dtype=np.float32),
        class_id=np.full(len(frames), 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    folder = parser.parse_args().folder
    if folder.exists():
        parser.error(f"{folder} is there already; name a new folder.")
    write_crops(folder)
    write_road(folder)
    print(folder)


if __name__ == "__main__":
    main()
