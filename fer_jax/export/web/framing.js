// Frames a face for the network: fer_jax/faces/framing.py, crop.py and align.py, line by line.
// `framing` is the JSON of `Framing`, stored in model.json.

import { cropSquare, resizeArea, resizeCubic, round, scaleArea, warpAffine } from "./pixels.js";

const ELLIPSE = { center: [0.5, 0.5], axes: [0.36, 0.46] };
const EYES_TO_CENTER = 0.5;
const LANDMARK_AXES = [1.15, 1.25];
const WHOLE_SIDE = 4096;

const ALIGNED_SIDE = 112;
const ALIGNED = [
  [38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
  [70.7299, 92.2041],
];

/** Clips a box [x, y, width, height] to an image, in whole pixels; changes it to the data set's. */
export function adapted(framing, face, width, height) {
  const box = clip(face.box, width, height);
  const change = framing.box_changes[face.found];
  if (!change) return { ...face, box };
  const [right, down, share] = change;
  const [x, y, wide, high] = box;
  const longer = Math.max(wide, high);
  const side = Math.max(1, round(share * longer));
  const left = round(x + wide / 2 + right * longer - side / 2);
  const top = round(y + high / 2 + down * longer - side / 2);
  return { ...face, box: clip([left, top, side, side], width, height) };
}

function clip([left, top, wide, high], width, height) {
  const x = Math.min(Math.max(0, round(left)), width - 1);
  const y = Math.min(Math.max(0, round(top)), height - 1);
  const right = Math.min(width, round(left + wide));
  const bottom = Math.min(height, round(top + high));
  return [x, y, Math.max(1, right - x), Math.max(1, bottom - y)];
}

/** The network's input of a face {box, landmarks or null}. */
export function frame(framing, image, face) {
  if (face.found === "whole" && Math.max(image.width, image.height) > WHOLE_SIDE) {
    image = shrink(image, WHOLE_SIDE);
    face = { ...face, box: [0, 0, image.width, image.height] };
  }
  if (framing.margin === null) {
    const [stored, landmarks] = storeFace(image, face, framing.crop);
    return fitFace(stored, framing.size, framing.mask, landmarks);
  }
  const [left, top, side] = cropOrigin(face.box, framing.margin);
  const landmarks = shares(face.landmarks, [left, top], side);
  return fitFace(cropSquare(image, left, top, side), framing.size, framing.mask, landmarks);
}

/** The network's input of an image that is one face already. */
export function frameWhole(framing, image) {
  if (framing.margin !== null) return fitFace(image, framing.size, framing.mask, null);
  let stored = shrink(image, framing.crop.longest_side);
  if (framing.crop.method === "pad" && stored.width !== stored.height) {
    stored = cropSquare(stored, ...cropOrigin([0, 0, stored.width, stored.height], 0));
  }
  return fitFace(stored, framing.size, framing.mask, null);
}

function storeFace(image, face, crop) {
  const side = crop.longest_side;
  if (crop.method === "align" && face.landmarks && areDistinct(face.landmarks)) {
    const matrix = alignment(face.landmarks, side);
    const landmarks = face.landmarks.map((point) =>
      matrix.map(([a, b, c]) => (a * point[0] + b * point[1] + c + 0.5) / side),
    );
    return [align(image, face.landmarks, side), landmarks];
  }
  const [left, top, length] = cropOrigin(face.box, crop.margin);
  const square = cropSquare(image, left, top, length);
  const landmarks = shares(face.landmarks, [left, top], length);
  if (crop.method === "align") return [fitFace(square, side, "none", null), landmarks];
  return [shrink(square, side), landmarks];
}

/** Left, top and side of the square around a box. */
function cropOrigin([x, y, width, height], margin) {
  const side = Math.max(1, round(Math.max(width, height) * (1 + 2 * margin)));
  return [round(x + width / 2 - side / 2), round(y + height / 2 - side / 2), side];
}

/** Resizes to at most `longest` pixels; never enlarges. */
function shrink(image, longest) {
  const scale = longest / Math.max(image.width, image.height);
  if (scale >= 1) return image;
  const size = [image.width, image.height].map((side) => Math.max(1, round(side * scale)));
  return resizeArea(image, ...size);
}

function fitFace(image, size, mask, landmarks) {
  if (image.width !== size || image.height !== size) {
    const resize = Math.min(image.width, image.height) > size ? resizeArea : resizeCubic;
    image = resize(image, size, size);
  }
  if (mask === "none") return image;
  const isInside = ellipse(mask === "landmarks" ? landmarks : null);
  const masked = { ...image, data: image.data.slice() };
  for (let at = 0; at < size * size; at++) {
    const x = ((at % size) + 0.5) / size;
    const y = (Math.floor(at / size) + 0.5) / size;
    if (!isInside(x, y)) masked.data.fill(0, 3 * at, 3 * at + 3);
  }
  return masked;
}

/** Whether a point, in shares of the side, is inside the ellipse of the face. */
function ellipse(landmarks) {
  let { center, axes } = ELLIPSE;
  let down = [0, 1];
  if (landmarks) {
    const middle = (one, other) => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
    const eyes = middle(landmarks[0], landmarks[1]);
    const mouth = middle(landmarks[3], landmarks[4]);
    const line = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
    const length = Math.hypot(...line);
    if (length > 0) {
      down = [line[0] / length, line[1] / length];
      center = [eyes[0] + EYES_TO_CENTER * line[0], eyes[1] + EYES_TO_CENTER * line[1]];
      axes = LANDMARK_AXES.map((axis) => length * axis);
    }
  }
  return (x, y) => {
    const dx = x - center[0];
    const dy = y - center[1];
    const along = dx * down[0] + dy * down[1];
    const across = dx * down[1] - dy * down[0];
    return (across / axes[0]) ** 2 + (along / axes[1]) ** 2 <= 1;
  };
}

function shares(landmarks, [left, top], side) {
  if (!landmarks) return null;
  return landmarks.map(([x, y]) => [(x + 0.5 - left) / side, (y + 0.5 - top) / side]);
}

function areDistinct(points) {
  return [0, 1].every((axis) => {
    const values = points.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values) >= 2;
  });
}

/** The similarity that puts the landmarks at insightface's points: [[a, -b, x], [b, a, y]]. */
function alignment(points, side) {
  const targets = ALIGNED.map((point) =>
    point.map((value) => ((value + 0.5) * side) / ALIGNED_SIDE - 0.5),
  );
  const mean = (rows, axis) => rows.reduce((sum, row) => sum + row[axis], 0) / rows.length;
  const from = [mean(points, 0), mean(points, 1)];
  const to = [mean(targets, 0), mean(targets, 1)];
  let [real, imaginary, spread] = [0, 0, 0];
  points.forEach(([x, y], at) => {
    const [dx, dy] = [x - from[0], y - from[1]];
    const [tx, ty] = [targets[at][0] - to[0], targets[at][1] - to[1]];
    real += dx * tx + dy * ty;
    imaginary += dx * ty - dy * tx;
    spread += dx * dx + dy * dy;
  });
  const [a, b] = [real / spread, imaginary / spread];
  return [
    [a, -b, to[0] - (a * from[0] - b * from[1])],
    [b, a, to[1] - (b * from[0] + a * from[1])],
  ];
}

/** Warps a face to a square with level eyes; a large one is averaged first. */
function align(image, landmarks, side) {
  let matrix = alignment(landmarks, side);
  const scale = Math.hypot(matrix[0][0], matrix[1][0]);
  if (scale < 0.5) {
    const smaller = scaleArea(image, scale);
    const factors = [smaller.width / image.width, smaller.height / image.height];
    const points = landmarks.map((point) =>
      point.map((value, axis) => (value + 0.5) * factors[axis] - 0.5),
    );
    image = smaller;
    matrix = alignment(points, side);
  }
  return warpAffine(image, matrix, side);
}
