// Finds and classifies faces beside the page, so that the page stays responsive. All files come
// from the page's own folder.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { adapted, frame, frameWhole } from "./framing.js";
import { Mtcnn } from "./mtcnn.js";
import { fromRgba, toRgba } from "./pixels.js";

const BATCH = 32;

// Threads would need headers that many static hosts cannot send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };

const engine = start();

async function start() {
  const read = async (name) => {
    const answer = await fetch(new URL(name, import.meta.url));
    if (!answer.ok) throw new Error(`expected the file ${name} beside the page, found none`);
    return answer;
  };
  const open = async (name) =>
    ort.InferenceSession.create(new Uint8Array(await (await read(name)).arrayBuffer()), {
      executionProviders: ["wasm"],
    });
  const model = await (await read("model.json")).json();
  const classifier = await open("model.onnx");
  const networks = {};
  for (const name of ["pnet", "rnet", "onet"]) networks[name] = await open(`mtcnn/${name}.onnx`);
  const run = async (name, pixels, dims) => {
    const session = networks[name];
    const inputs = { [session.inputNames[0]]: new ort.Tensor("float32", pixels, dims) };
    return (await session.run(inputs))[session.outputNames[0]];
  };
  return { model, classifier, detector: new Mtcnn(run, model.min_share) };
}

async function locate({ model, detector }, image, choice, wholeImage) {
  const box = [0, 0, image.width, image.height];
  const framing = model.faces;
  if (choice === "whole") {
    return [{ box, found: "given", pixels: frameWhole(framing, image) }];
  }
  let faces = (await detector.find(image)).map((face) =>
    adapted(framing, { ...face, found: "mtcnn" }, image.width, image.height),
  );
  if (!faces.length && wholeImage) faces = [{ box, found: "whole", landmarks: null }];
  if (choice === "largest") faces = faces.slice(0, 1);
  return faces.map((face) => ({ ...face, pixels: frame(framing, image, face) }));
}

async function classify({ model, classifier }, faces) {
  const { size } = model.input;
  const rows = [];
  for (let start = 0; start < faces.length; start += BATCH) {
    const batch = faces.slice(start, start + BATCH);
    const pixels = new Uint8Array(batch.length * size * size * 3);
    batch.forEach((face, at) => pixels.set(face.pixels.data, at * size * size * 3));
    const input = new ort.Tensor("uint8", pixels, [batch.length, size, size, 3]);
    const { data } = (await classifier.run({ [model.input.name]: input }))[model.output.name];
    const count = model.labels.length;
    batch.forEach((_, at) => rows.push(Array.from(data.slice(at * count, (at + 1) * count))));
  }
  return rows;
}

async function predict({ data, width, height, choice, wholeImage }) {
  const parts = await engine;
  const located = await locate(parts, fromRgba(data, width, height), choice, wholeImage);
  const rows = await classify(parts, located);
  return located.map(({ box, found, pixels }, at) => ({
    box, found, probabilities: rows[at], crop: toRgba(pixels), size: pixels.width,
  }));
}

engine.then(
  ({ model }) => postMessage({ model }),
  (error) => postMessage({ error: String(error.message ?? error) }),
);

onmessage = async ({ data: { id, image } }) => {
  try {
    postMessage({ id, faces: await predict(image) });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error) });
  }
};
