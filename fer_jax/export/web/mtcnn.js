// Detects faces and five landmarks with MTCNN: fer_jax/faces/mtcnn.py, line by line, with
// ONNX Runtime instead of OpenCV. `tests/export/test_web.py` compares the boxes.

import { resizeArea, round } from "./pixels.js";

const THRESHOLDS = { pnet: 0.6, rnet: 0.7, onet: 0.7 };
const SCALE_STEP = 0.709;
const SAME_FACE = 0.7;
const MAX_SHARED = 0.4;
const PNET_SIDE = 12;
const PNET_STRIDE = 2;
const SIDES = { rnet: 24, onet: 48 };
const WORK_SIDE = 96;
const MIN_SIDE = 20;
const MAX_LEVEL_SIDE = 1500;
const BATCH = 128;

export class Mtcnn {
  /**
   * @param run - (network, Float32Array, dimensions) to {data, dims} of its output, a promise
   * @param minShare - smallest face side, as a share of the image's shorter side
   */
  constructor(run, minShare) {
    this.run = run;
    this.minShare = minShare;
  }

  /** Faces of an image, the largest first: {box: [x, y, width, height], landmarks: 5 x [x, y]}. */
  async find(image) {
    const { width, height } = image;
    const required = this.minShare * Math.min(height, width);
    const smallest = Math.max(
      MIN_SIDE, required, (Math.max(height, width) * PNET_SIDE) / MAX_LEVEL_SIDE,
    );
    const scale = Math.min(1, WORK_SIDE / smallest);
    const small =
      scale < 1
        ? resizeArea(image, Math.max(1, round(width * scale)), Math.max(1, round(height * scale)))
        : image;
    const across = width / small.width;
    const down = height / small.height;
    const found = await this.findIn(small, smallest * scale);
    return found
      .map(({ box: [left, top, right, bottom], landmarks }) => ({
        box: [left * across, top * down, (right - left) * across, (bottom - top) * down],
        landmarks: landmarks.map(([x, y]) => [
          (x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5,
        ]),
      }))
      .sort((one, other) => other.box[2] * other.box[3] - one.box[2] * one.box[3])
      .filter(({ box }) => Math.max(box[2], box[3]) >= required);
  }

  async findIn(image, smallest) {
    const sums = integral(image);
    const proposed = await this.propose(sums, smallest);
    let faces = await this.refine("rnet", sums, proposed.map(square));
    faces = suppress(faces, SAME_FACE).map((face) => ({ ...face, box: moved(face) }));
    faces = await this.refine("onet", sums, faces.map(({ box }) => square(box)));
    faces = faces.map((face) => {
      const [left, top, right, bottom] = face.box;
      const landmarks = [0, 1, 2, 3, 4].map((point) => [
        left + face.outputs[4 + point] * (right - left),
        top + face.outputs[9 + point] * (bottom - top),
      ]);
      return { ...face, box: moved(face), landmarks };
    });
    return suppress(faces, MAX_SHARED, true);
  }

  /** Runs PNet on an image pyramid; returns boxes [left, top, right, bottom]. */
  async propose(sums, smallest) {
    const { width, height } = sums;
    let every = [];
    let scale = PNET_SIDE / smallest;
    while (Math.min(height, width) * scale >= PNET_SIDE) {
      const size = [Math.trunc(height * scale + 1), Math.trunc(width * scale + 1)];
      const { data, dims } = await this.apply("pnet", sums, [[0, 0, width, height]], size);
      const windows = [];
      const count = dims[2] * dims[3];
      for (let at = 0; at < count; at++) {
        const score = probability(data[at], data[count + at]);
        if (score < Math.fround(THRESHOLDS.pnet)) continue;
        const x = (at % dims[3]) * PNET_STRIDE;
        const y = Math.floor(at / dims[3]) * PNET_STRIDE;
        const box = [x + 1, y + 1, x + PNET_SIDE, y + PNET_SIDE].map((edge) =>
          floorDivide(edge, scale),
        );
        windows.push({ box, score, outputs: [2, 3, 4, 5].map((o) => data[o * count + at]) });
      }
      every = every.concat(suppress(windows, 0.5));
      scale *= SCALE_STEP;
    }
    return suppress(every, SAME_FACE).map(moved);
  }

  /** Scores square boxes with RNet or ONet; returns the accepted ones. */
  async refine(network, sums, boxes) {
    const accepted = [];
    for (let start = 0; start < boxes.length; start += BATCH) {
      const batch = boxes.slice(start, start + BATCH);
      const corners = batch.map(([left, top, right, bottom]) => [
        Math.trunc(left) - 1, Math.trunc(top) - 1, Math.trunc(right), Math.trunc(bottom),
      ]);
      const size = [SIDES[network], SIDES[network]];
      const { data, dims } = await this.apply(network, sums, corners, size);
      batch.forEach((box, at) => {
        const outputs = data.slice(at * dims[1], (at + 1) * dims[1]);
        const score = probability(outputs[0], outputs[1]);
        if (score > Math.fround(THRESHOLDS[network])) {
          accepted.push({ box, score, outputs: outputs.slice(2) });
        }
      });
    }
    return accepted;
  }

  async apply(network, sums, boxes, [rows, columns]) {
    const pixels = new Float32Array(boxes.length * 3 * rows * columns);
    boxes.forEach((box, at) => {
      resizeInto(pixels.subarray(at * 3 * rows * columns), sums, box, rows, columns);
    });
    return this.run(network, pixels, [boxes.length, 3, rows, columns]);
  }
}

/** The integral image; it may overflow, because no window does. */
function integral(image) {
  const { width, height, data } = image;
  const sums = new Int32Array(3 * (width + 1) * (height + 1));
  const line = 3 * (width + 1);
  for (let y = 0; y < height; y++) {
    const row = [0, 0, 0];
    for (let x = 0; x < width; x++) {
      const to = line * (y + 1) + 3 * (x + 1);
      for (let channel = 0; channel < 3; channel++) {
        row[channel] += data[3 * (y * width + x) + channel];
        sums[to + channel] = sums[to - line + channel] + row[channel];
      }
    }
  }
  return { sums, width, height };
}

/** Averages whole pixels of a box and scales them for a network, in the order of planes. */
function resizeInto(pixels, { sums, width, height }, [left, top, right, bottom], rows, columns) {
  const xs = edges(left, right - left, columns, width);
  const ys = edges(top, bottom - top, rows, height);
  const line = 3 * (width + 1);
  const plane = rows * columns;
  for (let y = 0; y < rows; y++) {
    const [above, below, high] = ys[y];
    for (let x = 0; x < columns; x++) {
      const [before, after, wide] = xs[x];
      for (let channel = 0; channel < 3; channel++) {
        const total =
          (sums[line * below + 3 * after + channel] - sums[line * below + 3 * before + channel] +
            sums[line * above + 3 * before + channel] - sums[line * above + 3 * after + channel]) | 0;
        const mean = Math.fround(Math.fround(total) / (high * wide));
        pixels[channel * plane + y * columns + x] = Math.fround(mean - 127.5) / 128;
      }
    }
  }
}

/** First and last edge, inside the image, and the length of each pixel of a resized line. */
function edges(start, length, count, limit) {
  const size = Math.max(1, length);
  return Array.from({ length: count }, (_, at) => {
    const first = Math.floor((at * size) / count);
    const last = Math.ceil(((at + 1) * size) / count);
    const inside = (edge) => Math.min(Math.max(start + edge, 0), limit);
    return [inside(first), inside(last), last - first];
  });
}

/** Non-maximum suppression: drops boxes that overlap a box of a higher score. */
export function suppress(faces, limit, ofSmaller = false) {
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  const kept = [];
  for (const face of [...faces].sort((one, other) => other.score - one.score)) {
    const overlaps = kept.some((best) => {
      const wide = Math.min(face.box[2], best.box[2]) - Math.max(face.box[0], best.box[0]);
      const high = Math.min(face.box[3], best.box[3]) - Math.max(face.box[1], best.box[1]);
      const shared = Math.max(0, wide) * Math.max(0, high);
      const areas = [area(face.box), area(best.box)];
      const whole = ofSmaller ? Math.min(...areas) : areas[0] + areas[1] - shared;
      return !(shared <= limit * whole);
    });
    if (!overlaps) kept.push(face);
  }
  return kept;
}

/** Softmax over the logits of "no face" and "face". */
function probability(none, face) {
  return Math.fround(1 / (1 + Math.exp(none - face)));
}

/** Python's a // b of floats. */
function floorDivide(a, b) {
  const quotient = (a - (a % b)) / b;
  const floor = Math.floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

/** Moves each side of a box by a share of the width or height. */
function moved({ box: [left, top, right, bottom], outputs }) {
  const wide = right - left;
  const high = bottom - top;
  return [
    left + outputs[0] * wide, top + outputs[1] * high,
    right + outputs[2] * wide, bottom + outputs[3] * high,
  ];
}

/** Widens a box to a square with the same center. */
function square([left, top, right, bottom]) {
  const x = (left + right) / 2;
  const y = (top + bottom) / 2;
  const half = Math.max(right - left, bottom - top) / 2;
  return [x - half, y - half, x + half, y + half];
}
