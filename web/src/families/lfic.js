// Regionally adaptive pooling: regions of y keep all their samples, or their mean, or none; streams "z", "levels", "y".

import { MAX_QUALITY_BYTE } from "../container.js";
import { Decoder, Tables } from "../entropy.js";
import { FormatError } from "../errors.js";
import { tensor } from "../frozen.js";
import { paste } from "../planes.js";
import { Hyperprior, positions } from "./hyperprior.js";

export const STREAMS = ["z", "levels", "y"];
const REGION = 2; // positions of y along each side of a region
const [KEEP, POOL] = [0, 1]; // levels; at the third, nothing is kept
const NONE_ABOVE = 3; // what the topmost regions have above them
const ENTRIES = 4; // of a table of levels

/** @typedef {import("../container.js").Container} Container */

class Lfic {
  /** @param {import("../frozen.js").Tensors} tensors */
  constructor(tensors) {
    this.base = new Hyperprior(tensors);
    const counts = tensor(tensors, "level_counts", MAX_QUALITY_BYTE + 1, NONE_ABOVE + 1, ENTRIES);
    const starts = Array.from({ length: counts.length / ENTRIES + 1 }, (_, i) => ENTRIES * i);
    this.tables = new Tables(counts, starts);
  }

  /** @param {Container} file */
  async symbols(file) {
    const { z, levels, read, finish } = this.open(file);
    const y = this.base.latents(file, Int32Array);
    await this.base.restored(file, z, (band, rows) => {
      const symbols = read(band, rows);
      paste(y, symbols, rows, { begin: 0, end: y.width });
      return symbols;
    });
    finish();
    return { z: z.values, levels, y: y.values };
  }

  /** @param {Container} file */
  async decode(file) {
    const { z, read, finish } = this.open(file);
    const yHat = await this.base.restored(file, z, read);
    finish();
    return this.base.synthesise(yHat, file);
  }

  /** z, the levels, and what reads a band of y. @param {Container} file */
  open(file) {
    const width = positions(file)[1];
    const across = Math.ceil(width / REGION);
    const z = this.base.decodeZ(file);
    const levels = this.decodeLevels(file);
    const decoder = new Decoder(this.base.tables, file.streams[2]);

    /**
     * A band's symbols, pooled regions with theirs everywhere.
     * @param {import("./hyperprior.js").Prediction} band
     * @param {import("../planes.js").Range} rows
     */
    const read = ({ tables }, { begin, end }) => {
      const rows = end - begin;
      const level = (/** @type {number} */ i, /** @type {number} */ j) =>
        levels[((begin + i) >> 1) * across + (j >> 1)];
      /** @type {number[]} */
      const places = [];
      for (let at = 0; at < tables.length; at++) {
        const [i, j] = [Math.floor(at / width) % rows, at % width];
        const kind = level(i, j);
        if (kind === KEEP || (kind === POOL && i % REGION === 0 && j % REGION === 0)) places.push(at);
      }
      const coded = decoder.band(Int32Array.from(places, (at) => tables[at]));
      const symbols = new Int32Array(tables.length);
      places.forEach((at, k) => (symbols[at] = coded[k]));
      for (let at = 0; at < symbols.length; at++) {
        const [i, j] = [Math.floor(at / width) % rows, at % width];
        if (level(i, j) === POOL) symbols[at] = symbols[at - (i % REGION) * width - (j % REGION)];
      }
      return symbols;
    };
    return { z, levels, read, finish: () => decoder.finish() };
  }

  /** The level of each region. @param {Container} file */
  decodeLevels(file) {
    const [height, width] = positions(file).map((side) => Math.ceil(side / REGION));
    const decoder = new Decoder(this.tables, file.streams[1]);
    const levels = new Int32Array(height * width);
    for (let row = 0; row < height; row++) {
      const contexts = Int32Array.from({ length: width }, (_, j) => {
        const above = row ? levels[(row - 1) * width + j] : NONE_ABOVE;
        return file.quality * (NONE_ABOVE + 1) + above;
      });
      levels.set(decoder.band(contexts).map((symbol) => symbol + POOL), row * width);
      if (decoder.escapes) throw new FormatError("a region has a level that there is not");
    }
    decoder.finish();
    return levels;
  }
}

/** @param {import("../frozen.js").Tensors} tensors */
export const build = (tensors) => new Lfic(tensors);
