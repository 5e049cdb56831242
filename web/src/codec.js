// The whole way from the bytes of a .fic file to its picture.

import { load } from "./frozen.js";
import { checkSize, coded, DEFAULT_MAX_PIXELS, unpack } from "./container.js";
import { halved } from "./doubling.js";
import { FormatError, ModelError } from "./errors.js";
import { familyModule } from "./families/index.js";

/** @typedef {import("./container.js").Container} Container */

/** A loaded model. Keep one for many files. */
export class Codec {
  /**
   * @param {Uint8Array} model the bytes of its .safetensors file
   * @param {string} name
   * @throws {ModelError}
   */
  constructor(model, name = "") {
    const { family, fingerprint, tensors } = load(model);
    const module = familyModule(family);
    this.name = name;
    this.familyTag = family;
    this.fingerprint = fingerprint;
    this.streamNames = module.STREAMS;
    this.family = module.build(tensors);
  }

  /**
   * The picture in a file.
   * @param {Container} file
   * @returns {Promise<ImageData>}
   */
  async decode(file) {
    this.check(file);
    const image = await this.family.decode(coded(file));
    return file.doubled ? halved(image) : image;
  }

  /**
   * What a file's streams hold, by name, in integers, before any floating point.
   * @param {Container} file
   */
  async symbols(file) {
    this.check(file);
    return this.family.symbols(coded(file));
  }

  /** @param {Container} file */
  check(file) {
    if (file.fingerprint !== this.fingerprint) {
      throw new ModelError(`made with model ${file.fingerprint}, not with ${this.name || this.fingerprint}`);
    }
    if (file.streams.length !== this.streamNames.length) {
      throw new FormatError(
        `${file.streams.length} streams where a ${this.familyTag} file has ${this.streamNames.length}`,
      );
    }
  }
}

/**
 * Parse a file and refuse a picture larger than the limit before anything is allocated for it.
 * @param {Uint8Array} data
 * @param {number} maxPixels
 */
export function openContainer(data, maxPixels = DEFAULT_MAX_PIXELS) {
  const file = unpack(data);
  checkSize(file.width, file.height, maxPixels);
  return file;
}

/** @type {WeakMap<Uint8Array, Codec>} */
const loaded = new WeakMap();

/**
 * The picture in the bytes of a .fic file, by the bytes of the .safetensors file of its model, which is loaded once.
 * @param {Uint8Array} data
 * @param {Uint8Array} model
 * @returns {Promise<ImageData>}
 */
export async function decode(data, model) {
  const file = openContainer(data);
  const codec = loaded.get(model) ?? new Codec(model);
  loaded.set(model, codec);
  return codec.decode(file);
}
