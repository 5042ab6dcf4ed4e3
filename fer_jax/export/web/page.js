// The page: photos and the webcam in, boxes and bars out. The work is done in worker.js.

const MAX_PIXELS = 50e6; // of a photo; a canvas of more fails on many phones
const MAX_FACES = 12; // listed; all are marked

const find = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
const pending = new Map();
const canvas = find("picture");
const context = canvas.getContext("2d");
const source = document.createElement("canvas"); // the image as it is read, without marks
const pixelsOf = source.getContext("2d", { willReadFrequently: true });
const video = document.createElement("video");
video.muted = true;
video.playsInline = true;
let labels = [];
let shown = null; // the last photo, an ImageBitmap
let stream = null;
let asked = 0;

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function say(text, isWrong = false) {
  find("status").textContent = text;
  find("status").classList.toggle("wrong", isWrong);
}

worker.onmessage = ({ data }) => {
  if (data.model) return introduce(data.model);
  if (data.id === undefined) return say(`The model cannot be loaded: ${data.error}.`, true);
  const { resolve, reject } = pending.get(data.id);
  pending.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data.faces);
};
worker.onerror = () => say("The model cannot be loaded; serve this folder over http.", true);

function predict(pixels, choice, wholeImage) {
  const id = asked++;
  const image = {
    data: pixels.data, width: pixels.width, height: pixels.height, choice, wholeImage,
  };
  return new Promise((resolve, reject) => {
    pending.set(id, { resolve, reject });
    worker.postMessage({ id, image }, [pixels.data.buffer]);
  });
}

function introduce(model) {
  const { card, input } = model;
  labels = model.labels;
  document.title = `fer_jax: ${card.run}`;
  find("name").textContent = card.run;
  for (const line of card.warnings) find("warnings").append(element("p", line));
  find("about").textContent =
    `${card.network} at ${input.size} pixels, trained on ${card.trained_on}; ` +
    `classes: ${labels.join(", ")}.`;
  find("given").checked = model.faces.takes_whole;
  const { split, count, ...scores } = card.figures;
  const figures = Object.entries(scores).map(([name, value]) => [
    `${name.replace("_", " ")} on ${split}`, `${value.toFixed(4)} (${count} images)`,
  ]);
  const rows = [
    ["network", card.network], ["input", model.input.type], ["classes", labels.join(", ")],
    ["trained on", card.trained_on], ["protocol", card.protocol], ...figures,
    ["number format", model.variant], ["face finder", "MTCNN"], ["made by", `fer_jax ${card.fer_jax}`],
  ];
  for (const [name, value] of rows) {
    if (value === "") continue;
    const row = element("tr");
    row.append(element("th", name, { scope: "row" }), element("td", value));
    find("figures").append(row);
  }
  for (const id of ["file", "camera"]) find(id).disabled = false;
  say("Choose a photo, drop one here, or start the webcam.");
}

function choice() {
  return find("given").checked ? "whole" : find("every").checked ? "all" : "largest";
}

/** Returns the pixels of a photo or of the webcam's frame. */
function read(image, width, height) {
  source.width = width;
  source.height = height;
  pixelsOf.fillStyle = "white"; // behind transparent pixels, as `fer-jax predict` reads them
  pixelsOf.fillRect(0, 0, width, height);
  pixelsOf.drawImage(image, 0, 0);
  return pixelsOf.getImageData(0, 0, width, height);
}

function show(faces) {
  canvas.width = source.width;
  canvas.height = source.height;
  canvas.hidden = false;
  context.drawImage(source, 0, 0);
  mark(faces);
  list(faces);
}

async function showPhoto(file) {
  stop();
  let photo;
  try {
    photo = await createImageBitmap(file, {
      colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image",
    });
  } catch {
    return say(`${file.name || "This file"} cannot be read as an image.`, true);
  }
  if (photo.width * photo.height > MAX_PIXELS) {
    return say(`Expected at most ${MAX_PIXELS / 1e6} megapixels; make the photo smaller.`, true);
  }
  shown = photo;
  return readPhoto();
}

async function readPhoto() {
  if (!shown) return;
  const photo = shown;
  say("Reading the photo ...");
  const pixels = read(photo, photo.width, photo.height);
  show([]);
  const begin = performance.now();
  try {
    const faces = await predict(pixels, choice(), true);
    if (photo !== shown) return; // another one was chosen meanwhile
    show(faces);
    const time = `${Math.round(performance.now() - begin)} ms`;
    if (faces[0].found === "whole") {
      say("No face was found, so the whole image was classified.", true);
    } else say(`${faces.length} ${faces.length === 1 ? "face" : "faces"} in ${time}.`);
  } catch (error) {
    say(`The photo cannot be read: ${error.message}.`, true);
  }
}

async function start() {
  shown = null;
  find("camera").disabled = true; // until the user has answered
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" },
    });
  } catch (error) {
    return say(`The webcam cannot be used: ${error.message || error.name}.`, true);
  } finally {
    find("camera").disabled = false;
  }
  find("camera").textContent = "Stop the webcam";
  video.srcObject = stream;
  await video.play();
  return watch(stream);
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  find("camera").textContent = "Start the webcam";
}

async function watch(own) {
  const times = [];
  try {
    while (stream === own) {
      const pixels = read(video, video.videoWidth, video.videoHeight);
      const faces = await predict(pixels, choice(), false);
      if (stream !== own) return;
      show(faces);
      times.push(performance.now());
      if (times.length > 20) times.shift();
      const rate = (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
      say(times.length > 1 ? `${faces.length ? "" : "No face; "}${rate.toFixed(1)} frames/s.` : "");
      // A hidden page pauses here.
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  } catch (error) {
    if (stream === own) stop();
    say(`The webcam cannot be read: ${error.message}.`, true);
  }
}

const best = (face) => face.probabilities.indexOf(Math.max(...face.probabilities));

function mark(faces) {
  const unit = Math.max(canvas.width, canvas.height) / 640;
  context.lineWidth = Math.max(2, 3 * unit);
  context.font = `${Math.max(12, Math.round(16 * unit))}px system-ui, sans-serif`;
  for (const face of faces.filter(({ found }) => found === "mtcnn")) {
    const [x, y, width, height] = face.box;
    const text = ` ${labels[best(face)]} `;
    const high = 22 * Math.max(1, unit);
    const top = y >= high ? y - high : y;
    context.strokeStyle = context.fillStyle = "#0072b2";
    context.strokeRect(x, y, width, height);
    context.fillRect(x - context.lineWidth / 2, top, context.measureText(text).width, high);
    context.fillStyle = "white";
    context.textBaseline = "middle";
    context.fillText(text, x - context.lineWidth / 2, top + high / 2);
  }
}

function list(faces) {
  const fromLeft = faces.slice(0, MAX_FACES).sort((one, other) => one.box[0] - other.box[0]);
  const blocks = fromLeft.map((face, at) => block(face, at + 1));
  if (faces.length > MAX_FACES) {
    blocks.push(element("p", `${faces.length - MAX_FACES} more faces are marked.`));
  }
  find("faces").replaceChildren(...blocks);
}

function block(face, number) {
  const label = labels[best(face)];
  const section = element("section", "", {
    class: "face", "data-box": face.box.join(","), "data-found": face.found, "data-label": label,
  });
  const crop = element("canvas", "", { width: face.size, height: face.size, role: "img",
    "aria-label": `What the network sees of face ${number}` });
  crop.getContext("2d").putImageData(new ImageData(face.crop, face.size), 0, 0);
  const table = element("table");
  face.probabilities.forEach((value, at) => {
    const row = element("tr", "", labels[at] === label ? { class: "best" } : {});
    const track = element("td", "", { class: "track" });
    const bar = element("div");
    bar.style.width = `${100 * value}%`;
    track.append(bar);
    const amount = element("td", "", { class: "number" });
    amount.append(element("data", `${(100 * value).toFixed(1)}%`, { value }));
    row.append(element("th", labels[at], { scope: "row" }), track, amount);
    table.append(row);
  });
  const body = element("div", "", { class: "row" });
  body.append(crop, table);
  section.append(element("h2", `Face ${number}: ${label}`), body);
  return section;
}

find("file").addEventListener("change", ({ target }) => {
  if (target.files.length) showPhoto(target.files[0]);
  target.value = ""; // the same file may be chosen again
});
find("camera").addEventListener("click", () => {
  if (!stream) return start();
  stop();
  return say("The webcam is off.");
});
for (const id of ["every", "given"]) find(id).addEventListener("change", readPhoto);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (labels.length && event.dataTransfer.files.length) showPhoto(event.dataTransfer.files[0]);
});
document.addEventListener("paste", ({ clipboardData }) => {
  if (labels.length && clipboardData.files.length) showPhoto(clipboardData.files[0]);
});
window.addEventListener("pagehide", stop);
