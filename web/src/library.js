// Where ONNX Runtime's wasm and the models are: in the page itself, or beside this script.

import { Codec, openContainer } from "./codec.js";
import { FacecodecError, ModelError } from "./errors.js";
import { useWasm } from "./sessions.js";

/** @typedef {{codec: Codec, file: import("./container.js").Container}} Opened */

/** @type {Promise<void> | undefined} */
let started;
/** @type {Map<string, Promise<Codec>>} */
const codecs = new Map();
/** @type {Promise<Record<string, string>> | undefined} */
let listed;

/**
 * The picture in the bytes of a .fic file, by the model that it names, and what it says of itself.
 * @param {Uint8Array} data
 * @param {number} [maxPixels]
 * @returns {Promise<Opened & {image: ImageData}>}
 * @throws {FacecodecError}
 */
export async function show(data, maxPixels) {
  const { codec, file } = await open(data, maxPixels);
  started ??= start();
  await started;
  return { codec, file, image: await codec.decode(file) };
}

/**
 * A parsed file and the codec of the model that it names.
 * @param {Uint8Array} data
 * @param {number} [maxPixels]
 * @returns {Promise<Opened>}
 */
export async function open(data, maxPixels) {
  const file = openContainer(data, maxPixels);
  const codec = codecs.get(file.fingerprint) ?? openCodec(file.fingerprint);
  codecs.set(file.fingerprint, codec);
  return { codec: await codec, file };
}

/** The bytes in an element that holds them in base 64. @param {Element} element */
export function embedded(element) {
  const text = atob(element.textContent ?? "");
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i); // megabytes: `from` takes ten times as long
  return bytes;
}

async function start() {
  const inside = document.getElementById("ort-wasm");
  const packed = inside ? embedded(inside) : await fetched("ort.wasm.gz");
  const stream = new Blob([/** @type {BlobPart} */ (packed)]).stream();
  useWasm(await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

/** @param {string} fingerprint */
async function openCodec(fingerprint) {
  const missing = new ModelError(`made with model ${fingerprint}, which this page does not have`);
  const inside = document.querySelector(`script[data-model][data-fingerprint="${fingerprint}"]`);
  if (inside instanceof HTMLElement) return new Codec(embedded(inside), inside.dataset.model);
  if (document.getElementById("ort-wasm")) throw missing; // a page that holds all that it has
  listed ??= fetched("models.json").then((data) => JSON.parse(new TextDecoder().decode(data)));
  const name = (await listed)[fingerprint];
  if (!name) throw missing;
  return new Codec(await fetched(`${encodeURIComponent(name)}.safetensors`), name);
}

/** @param {string} name of a file beside this script */
async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new FacecodecError(`${response.url}: ${response.status}, put it beside facecodec.js`);
  return new Uint8Array(await response.arrayBuffer());
}
