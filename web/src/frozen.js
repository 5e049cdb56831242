// Frozen models: a safetensors file, and whether it is what it says.

import { sha256 } from "@noble/hashes/sha2.js";

import { ModelError } from "./errors.js";

const FORMAT = "facecodec-1";
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
    const digest = sha256.create().update(utf8(family));
    /** @type {Tensors} */
    const tensors = Object.create(null); // whose names a stranger may have chosen
    for (const name of Object.keys(header).sort()) {
      if (ENCODER_ONLY.test(name)) continue;
      const { dtype, shape, data_offsets: [begin, end] } = header[name];
      const [type, Type] = TYPES[dtype];
      const raw = data.slice(start + begin, start + end);
      if (raw.length !== shape.reduce(times, Type.BYTES_PER_ELEMENT)) throw new RangeError(name);
      digest.update(utf8(`\0${name}\0${type}\0${tuple(shape)}\0`)).update(raw);
      const values = new Type(raw.buffer);
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
