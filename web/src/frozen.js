// Frozen models: a safetensors file, and whether it is what it says.

import { sha256 } from "@noble/hashes/sha2.js";

import { ModelError } from "./errors.js";

const FORMAT = "facecodec-2";
const [FIRST, STEPS] = [".first", ".steps"]; // ends of the names of a table's two parts
const ENCODER_ONLY = /^(g_a|h_a)/; // names of tensors that decoding does without

/** safetensors' types: NumPy's type string, and what reads them.
 * @type {Record<string, [string, {new (buffer: ArrayBuffer): Values, BYTES_PER_ELEMENT: number}]>} */
const TYPES = {
  U8: ["|u1", Uint8Array],
  I16: ["<i2", Int16Array],
  I32: ["<i4", Int32Array],
  I64: ["<i8", BigInt64Array],
  F32: ["<f4", Float32Array],
};

/** @typedef {Uint8Array | Int16Array | Int32Array | BigInt64Array | Float32Array} Values */

/**
 * A tensor's numbers in C order. Those of int64 are read as doubles, which hold all that a sound model has.
 * @typedef {object} Tensor
 * @property {number[]} shape
 * @property {Uint8Array | Int16Array | Int32Array | Float64Array | Float32Array} values
 */

/** @typedef {Record<string, Tensor>} Tensors */

/** A tensor as the file has it. @typedef {{type: string, shape: number[], values: Values}} Stored */

/**
 * Family tag, fingerprint and tensors of a model file, after checking the fingerprint.
 * @param {Uint8Array} data
 * @returns {{family: string, fingerprint: string, tensors: Tensors}}
 * @throws {ModelError}
 */
export function load(data) {
  /** @type {any} */
  let header;
  let start = 8;
  try {
    start += Number(new DataView(data.buffer, data.byteOffset).getBigUint64(0, true));
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(8, start)));
    Object.keys(header); // there are none of null
  } catch (error) {
    throw new ModelError(`not a model file that freeze has made (${error})`);
  }
  const metadata = header.__metadata__ ?? {};
  delete header.__metadata__;
  if (metadata.format !== FORMAT) {
    throw new ModelError(`not a frozen facecodec model of format ${FORMAT}`);
  }
  try {
    const family = JSON.parse(metadata.card).family;
    /** @type {Record<string, Stored>} */
    const stored = Object.create(null); // whose names a stranger may have chosen
    for (const name of Object.keys(header)) {
      if (ENCODER_ONLY.test(name)) continue;
      const { dtype, shape, data_offsets: [begin, end] } = header[name];
      const [type, Type] = TYPES[dtype];
      const raw = data.slice(start + begin, start + end);
      if (raw.length !== shape.reduce(times, Type.BYTES_PER_ELEMENT)) throw new RangeError(name);
      stored[name] = { type, shape, values: new Type(raw.buffer) };
    }
    unpack(stored);
    const digest = sha256.create().update(utf8(family));
    /** @type {Tensors} */
    const tensors = Object.create(null);
    for (const name of Object.keys(stored).sort()) {
      const { type, shape, values } = stored[name];
      digest.update(utf8(`\0${name}\0${type}\0${tuple(shape)}\0`)).update(new Uint8Array(values.buffer));
      tensors[name] = {
        shape,
        values: values instanceof BigInt64Array ? Float64Array.from(values, Number) : values,
      };
    }
    const mark = [...digest.digest().subarray(0, 4)].map((b) => b.toString(16).padStart(2, "0")).join("");
    if (mark !== metadata.fingerprint) {
      throw new ModelError("its fingerprint does not match its content: the model file is damaged");
    }
    return { family, fingerprint: mark, tensors };
  } catch (error) {
    if (error instanceof ModelError) throw error;
    throw new ModelError(`the model file is malformed: ${error}`);
  }
}

/**
 * Put each table in the place of its first row and its steps, as docs/format.md has it.
 * @param {Record<string, Stored>} stored
 * @throws {RangeError}
 */
function unpack(stored) {
  const tables = Object.keys(stored).filter((each) => each.endsWith(STEPS)).map((each) => each.slice(0, -STEPS.length));
  for (const name of tables) {
    const [first, steps] = [stored[name + FIRST], stored[name + STEPS]];
    const [rows, ...row] = steps.shape;
    const fits = first && !(name in stored) && String(first.shape) === String([1, ...row]);
    if (!fits || !(first.values instanceof Int32Array) || !(steps.values instanceof Int16Array)) {
      throw new RangeError(name);
    }
    const width = first.values.length;
    const values = new Int32Array((rows + 1) * width);
    values.set(first.values);
    for (let i = width; i < values.length; i++) {
      const value = values[i - width] + steps.values[i - width];
      values[i] = value;
      if (values[i] !== value) throw new RangeError(name);
    }
    stored[name] = { type: first.type, shape: [rows + 1, ...row], values };
    delete stored[name + FIRST];
    delete stored[name + STEPS];
  }
}

/**
 * Raise ModelError unless a tensor is there and has a shape.
 * @param {Tensors} tensors
 * @param {string} name
 * @param {(number | null)[]} shape null for any size
 * @returns {Tensor["values"]}
 */
export function tensor(tensors, name, ...shape) {
  const found = tensors[name];
  if (!found) throw new ModelError(`malformed: it has no ${name}`);
  const fits =
    found.shape.length === shape.length && shape.every((n, i) => n === null || n === found.shape[i]);
  if (!fits) throw new ModelError(`malformed: ${name} has the wrong shape`);
  return found.values;
}

/** @param {string} text */
const utf8 = (text) => new TextEncoder().encode(text);

/**
 * @param {number} a
 * @param {number} b
 */
const times = (a, b) => a * b;

/** A shape as Python prints it. @param {number[]} shape */
const tuple = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);
