// Images as {data: Uint8Array of RGB, width, height}: the resizing, cropping and warping of OpenCV
// that fer_jax/faces uses, with its rounding.

/** Rounds to the nearest integer, halves to the even one, as Python and OpenCV do. */
export function round(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function create(width, height) {
  return { data: new Uint8Array(3 * width * height), width, height };
}

/** Drops the alpha channel of a canvas's pixels. */
export function fromRgba(data, width, height) {
  const image = create(width, height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    image.data[to] = data[from];
    image.data[to + 1] = data[from + 1];
    image.data[to + 2] = data[from + 2];
  }
  return image;
}

/** Adds an opaque alpha channel. */
export function toRgba(image) {
  const data = new Uint8ClampedArray(4 * image.width * image.height).fill(255);
  for (let from = 0, to = 0; to < data.length; from += 3, to += 4) {
    data[to] = image.data[from];
    data[to + 1] = image.data[from + 1];
    data[to + 2] = image.data[from + 2];
  }
  return data;
}

/** Crops a square; pixels outside the image repeat its edge. */
export function cropSquare(image, left, top, side) {
  const square = create(side, side);
  let to = 0;
  for (let y = 0; y < side; y++) {
    const row = clamp(top + y, 0, image.height - 1) * image.width;
    for (let x = 0; x < side; x++) {
      const from = 3 * (row + clamp(left + x, 0, image.width - 1));
      square.data[to++] = image.data[from];
      square.data[to++] = image.data[from + 1];
      square.data[to++] = image.data[from + 2];
    }
  }
  return square;
}

/** cv2.resize with INTER_AREA, to a size that is not larger. */
export function resizeArea(image, width, height) {
  if (width === image.width && height === image.height) return image;
  return average(image, width, height, image.width / width, image.height / height);
}

/** cv2.resize with INTER_AREA by a factor, which OpenCV keeps where it rounds the size. */
export function scaleArea(image, factor) {
  const size = [round(image.width * factor), round(image.height * factor)];
  return average(image, ...size, 1 / factor, 1 / factor);
}

function average(image, width, height, across, down) {
  const isWhole = Number.isInteger(across) && Number.isInteger(down);
  return (isWhole ? averageBlocks : averageAreas)(image, width, height, across, down);
}

function averageBlocks(image, width, height, across, down) {
  const result = create(width, height);
  const factor = Math.fround(1 / (across * down));
  const isQuarter = across === 2 && down === 2;
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let row = y * down; row < (y + 1) * down; row++) {
          let from = 3 * (row * image.width + x * across) + channel;
          for (let column = 0; column < across; column++, from += 3) sum += image.data[from];
        }
        result.data[to++] = isQuarter ? (sum + 2) >> 2 : round(Math.fround(sum * factor));
      }
    }
  }
  return result;
}

function averageAreas(image, width, height, across, down) {
  const columns = shares(image.width, width, across);
  const rows = shares(image.height, height, down);
  const result = create(width, height);
  const line = new Float32Array(3 * width);
  const sums = new Float32Array(3 * width);
  let current = -1;
  const store = () => {
    for (let at = 0; at < sums.length; at++) {
      result.data[3 * width * current + at] = clamp(round(sums[at]), 0, 255);
    }
  };
  for (const row of rows) {
    line.fill(0);
    for (const column of columns) {
      const from = 3 * (row.from * image.width + column.from);
      const to = 3 * column.to;
      for (let channel = 0; channel < 3; channel++) {
        line[to + channel] += Math.fround(image.data[from + channel] * column.share);
      }
    }
    if (row.to !== current) {
      if (current >= 0) store();
      current = row.to;
      sums.fill(0);
    }
    for (let at = 0; at < sums.length; at++) sums[at] += Math.fround(line[at] * row.share);
  }
  store();
  return result;
}

/** The pixels of a line that each pixel of a shorter one covers, and which share of it they are. */
function shares(length, count, scale) {
  const found = [];
  for (let to = 0; to < count; to++) {
    const start = to * scale;
    const end = start + scale;
    const size = Math.min(scale, length - start);
    const last = Math.min(Math.floor(end), length - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) {
      found.push({ to, from: first - 1, share: Math.fround((first - start) / size) });
    }
    for (let from = first; from < last; from++) {
      found.push({ to, from, share: Math.fround(1 / size) });
    }
    if (end - last > 1e-3) {
      const share = Math.fround(Math.min(end - last, 1, size) / size);
      found.push({ to, from: last, share });
    }
  }
  return found;
}

/** cv2.resize with INTER_CUBIC. */
export function resizeCubic(image, width, height) {
  const columns = cubicTaps(image.width, width);
  const rows = cubicTaps(image.height, height);
  const lines = new Int32Array(3 * width * image.height);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (const [from, weight] of columns[x]) {
          sum += weight * image.data[3 * (y * image.width + from) + channel];
        }
        lines[3 * (y * width + x) + channel] = sum;
      }
    }
  }
  const result = create(width, height);
  for (let y = 0; y < height; y++) {
    for (let at = 0; at < 3 * width; at++) {
      let sum = 0;
      for (const [from, weight] of rows[y]) sum += weight * lines[3 * width * from + at];
      result.data[3 * width * y + at] = clamp(round(sum / (1 << 22)), 0, 255);
    }
  }
  return result;
}

/** Four pixels and their weights, in 2048ths, for each pixel of the resized line. */
function cubicTaps(length, count) {
  const scale = length / count;
  return Array.from({ length: count }, (_, to) => {
    let part = Math.fround((to + 0.5) * scale - 0.5);
    const first = Math.floor(part);
    part = Math.fround(part - first);
    const a = -0.75;
    const outer = (x) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    const inner = (x) => ((a + 2) * x - (a + 3)) * x * x + 1;
    const weights = [outer(part + 1), inner(part), inner(1 - part)];
    weights.push(1 - weights[0] - weights[1] - weights[2]);
    return weights.map((weight, at) => [
      clamp(first - 1 + at, 0, length - 1), round(Math.fround(weight) * 2048),
    ]);
  });
}

/** cv2.warpAffine with INTER_LINEAR and BORDER_REPLICATE; `matrix` maps the image to the result. */
export function warpAffine(image, matrix, side) {
  const [[a, b, c], [d, e, f]] = matrix;
  const determinant = a * e - b * d;
  const result = create(side, side);
  let to = 0;
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const column = (e * (x - c) - b * (y - f)) / determinant;
      const row = (a * (y - f) - d * (x - c)) / determinant;
      const left = Math.floor(column);
      const top = Math.floor(row);
      for (let channel = 0; channel < 3; channel++) {
        const pixel = (dx, dy) => {
          const at = clamp(left + dx, 0, image.width - 1);
          return image.data[3 * (clamp(top + dy, 0, image.height - 1) * image.width + at) + channel];
        };
        const above = pixel(0, 0) + (column - left) * (pixel(1, 0) - pixel(0, 0));
        const below = pixel(0, 1) + (column - left) * (pixel(1, 1) - pixel(0, 1));
        result.data[to++] = clamp(round(above + (row - top) * (below - above)), 0, 255);
      }
    }
  }
  return result;
}
