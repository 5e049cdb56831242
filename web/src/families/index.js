// Streams -> symbols -> pixels, one module a codec family; the frozen model's family tag chooses.

import { ModelError } from "../errors.js";
import * as compactPng from "./compact_png.js";
import * as hyperprior from "./hyperprior.js";
import * as lfic from "./lfic.js";
import * as sliced from "./sliced.js";
import * as spic from "./spic.js";

/** @typedef {import("../container.js").Container} Container */

/**
 * What codec.js asks of a family. What reads streams raises FormatError for those that no encoder writes.
 * @typedef {object} Family
 * @property {(file: Container) => Promise<Record<string, ArrayLike<number>>>} symbols what the streams hold, by
 *     name, as docs/format.md describes it, before any floating point
 * @property {(file: Container) => Promise<ImageData>} decode the picture
 */

/** @typedef {{STREAMS: string[], build: (tensors: import("../frozen.js").Tensors) => Family}} FamilyModule */

/** @type {Record<string, FamilyModule>} */
const FAMILIES = { hyperprior, "compact-png": compactPng, spic, lfic, sliced };

/**
 * The module of a family tag.
 * @param {string} tag
 * @throws {ModelError}
 */
export function familyModule(tag) {
  if (!Object.hasOwn(FAMILIES, tag)) throw new ModelError(`of an unknown family: '${tag}'`);
  return FAMILIES[tag];
}
