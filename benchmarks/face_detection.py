"""Speed of the face detectors on scenes of two rendered people, and the faces found.

    python -m benchmarks.face_detection [--rounds 9]

Detectors alternate, so that their ratio holds on a busy machine. `fer-jax predict` as a whole is
measured by `benchmarks.prediction`.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2

from benchmarks.prediction import scenes
from fer_jax.faces.crop import FaceCrop
from fer_jax.faces.detect import HAAR, HAAR_FRONTAL, MTCNN

_SIZES = ((640, 360), (1920, 1080), (4000, 2250))
_MIN_SHARE = 0.1


def main() -> None:
    """Prints faces found, faces per second and CPU time of an image, by size and detector."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds over all images")
    options = parser.parse_args()
    images = scenes()
    detectors = {
        name: FaceCrop(detector=name, min_share=_MIN_SHARE).make_detector()
        for name in (MTCNN, HAAR, HAAR_FRONTAL)
    }
    print("| size | detector | faces of all | faces/s | CPU ms/image |\n|---|---|---|---|---|")
    for size in _SIZES:
        sized = [cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) for image in images]
        found = dict.fromkeys(detectors, 0)
        wall: dict[str, list[float]] = {name: [] for name in detectors}
        cpu: dict[str, list[float]] = {name: [] for name in detectors}
        for _ in range(options.rounds):
            for name, detector in detectors.items():
                start, start_cpu = time.perf_counter(), time.process_time()
                found[name] = sum(len(detector.detect(image)) for image in sized)
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)
        for name in detectors:
            seconds, work = statistics.median(wall[name]), statistics.median(cpu[name])
            print(
                f"| {size[0]} x {size[1]} | {name} | {found[name]} of {2 * len(images)} "
                f"| {found[name] / seconds:.1f} | {1000 * work / len(images):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
