// Channel slices, predicted from z and corrected by what the slices before them say: streams "z" and "y"
// -> symbols -> y_hat.

import { breathe } from "../breathe.js";
import { MAX_QUALITY_BYTE, QUALITY_STEPS } from "../container.js";
import { Decoder, Tables } from "../entropy.js";
import { ModelError } from "../errors.js";
import { FRACTION, GAIN_FRACTION, IntegerNetwork, rescale } from "../exact.js";
import { tensor } from "../frozen.js";
import { bands, paste } from "../planes.js";
import { Transforms } from "../sessions.js";
import { HyperLatent } from "./hyperlatent.js";
import { DOWNSAMPLING, gainsOf, positions, shifted, tableOf } from "./hyperprior.js";

export const STREAMS = ["z", "y"];
const [ROWS, COLUMNS] = [16, 64]; // of y, to a block
const QUALITIES = MAX_QUALITY_BYTE + 1;
const LARGEST_VALUE = 2 ** 31; // in units of 2^-10 of a step, of what later slices see; beyond is cut
const UNIT = 2 ** FRACTION / QUALITY_STEPS; // a step of the quality byte in units of 2^-10

/** @typedef {import("../container.js").Container} Container */
/** @typedef {import("../planes.js").Range} Range */

/** A part of y, what z says of it (units of 2^-10): scales, means, features; and the quality byte of its places.
 * @typedef {{rows: Range, columns: Range, said: Float64Array, qualities: Uint8Array}} Block */

/** A slice of a block: the number of its first channel, and its symbols with their means.
 * @typedef {{first: number, symbols: Int32Array, means: Float64Array}} Slice */

class Sliced {
  /** @param {import("../frozen.js").Tensors} tensors */
  constructor(tensors) {
    this.transforms = new Transforms(tensors);
    this.tables = Tables.of(tensors);
    this.z = new HyperLatent(tensors, this.tables);
    this.gains = gainsOf(tensors);
    this.channels = this.gains.channels;
    this.inverseGain = tensor(tensors, "y_inverse_gain", QUALITIES, this.channels);
    if (!this.inverseGain.every((g) => g > 0)) throw new ModelError("malformed: a gain is not positive");
    let largest = 0;
    for (const gain of this.gains.gain) largest = Math.max(largest, gain);
    const features = this.z.outputs - 2 * this.channels - 1;
    if (features < 0) throw new ModelError("malformed: the hyper-synthesis has the wrong number of channels");
    let first = 0;
    this.slices = Array.from(tensor(tensors, "slices", null), (count, i) => {
      const network = i === 0 ? null : new IntegerNetwork(tensors, `slice${i}`);
      const fits =
        network === null ||
        (network.inputs === features + 1 + 2 * count + first &&
          network.outputs === 2 * count &&
          network.upsampling === 1);
      if (!(count > 0) || !fits) throw new ModelError("malformed: a slice's network has the wrong channels");
      const most = this.z.network.largest + (network === null ? 0 : network.largest);
      if (most * largest >= 2 ** 62) throw new ModelError("malformed: a mean could overflow");
      first += count;
      return { network, first: first - count, count };
    });
    if (first !== this.channels) {
      throw new ModelError("malformed: the slices have other channels than the gains");
    }
  }

  /** @param {Container} file */
  async symbols(file) {
    const [height, width] = positions(file);
    const y = { channels: this.channels, height, width, values: new Int32Array(this.channels * height * width) };
    const z = await this.read(file, ({ rows, columns }, { symbols, first }) => paste(y, symbols, rows, columns, first));
    return { z: z.values, y: y.values };
  }

  /** @param {Container} file */
  async decode(file) {
    const [height, width] = positions(file);
    const channels = this.channels + 1; // the last is q - 1 of each place
    const yHat = { channels, height, width, values: new Float32Array(channels * height * width) };
    await this.read(file, ({ rows, columns, qualities }, slice) => {
      paste(yHat, this.restored(slice, qualities), rows, columns, slice.first);
      const q = Float32Array.from(qualities, (quality) => quality / QUALITY_STEPS);
      paste(yHat, q, rows, columns, this.channels);
    });
    return this.transforms.toPixels("g_s.onnx", yHat, file, DOWNSAMPLING);
  }

  /**
   * z's symbols, after every slice of y has been handed over, in the order in which they are coded.
   * @param {Container} file
   * @param {(block: Block, slice: Slice) => void} take
   */
  async read(file, take) {
    const size = positions(file);
    const z = this.z.decode(file.streams[0], size, file.quality);
    const decoder = new Decoder(this.tables, file.streams[1]);
    for (const rows of bands(size[0], ROWS)) {
      for (const columns of bands(size[1], COLUMNS)) {
        const block = this.block(z, rows, columns, file.quality);
        for (const slice of this.slicesOf(block, decoder)) take(block, slice);
        await breathe();
      }
    }
    decoder.finish();
    return z;
  }

  /**
   * What z says of some rows and columns of y.
   * @param {import("./hyperlatent.js").Symbols} z
   * @param {Range} rows
   * @param {Range} columns
   * @param {number} quality
   * @returns {Block}
   */
  block(z, rows, columns, quality) {
    const { values, height, width } = this.z.says(z, rows, columns, quality);
    const last = values.length - height * width;
    return { rows, columns, said: values.subarray(0, last), qualities: shifted(quality, values.subarray(last)) };
  }

  /**
   * The slices of a block, one after the other.
   * @param {Block} block
   * @param {Decoder} decoder
   * @returns {Generator<Slice>}
   */
  *slicesOf({ rows, columns, said, qualities }, decoder) {
    const [height, width] = [rows.end - rows.begin, columns.end - columns.begin];
    const places = height * width;
    const features = said.subarray(2 * this.channels * places);
    const byte = Float64Array.from(qualities, (quality) => quality * UNIT);
    const values = new Float64Array(this.channels * places); // what later slices see
    for (const { network, first, count } of this.slices) {
      const size = count * places;
      const sums = new Float64Array(2 * size);
      sums.set(said.subarray(first * places, (first + count) * places));
      sums.set(said.subarray((this.channels + first) * places, (this.channels + first + count) * places), size);
      if (network !== null) {
        const seen = new Float64Array(network.inputs * places);
        let at = 0;
        for (const part of [features, byte, sums, values.subarray(0, first * places)]) {
          seen.set(part, at);
          at += part.length;
        }
        const added = network.run({ channels: network.inputs, height, width, values: seen }).values;
        for (let i = 0; i < sums.length; i++) sums[i] += added[i];
      }
      const tables = new Int32Array(size);
      const means = new Float64Array(size);
      const gainAt = (/** @type {number} */ i) =>
        qualities[i % places] * this.channels + first + Math.floor(i / places);
      for (let i = 0; i < size; i++) {
        tables[i] = tableOf(sums[i] + this.gains.log[gainAt(i)], this.tables);
        means[i] = rescale(sums[size + i], this.gains.gain[gainAt(i)], GAIN_FRACTION);
      }
      const symbols = decoder.band(tables);
      yield { first, symbols, means };
      for (let i = 0; i < size; i++) {
        const value = symbols[i] * 2 ** FRACTION + means[i];
        const limited = Math.min(Math.max(value, -LARGEST_VALUE), LARGEST_VALUE);
        values[first * places + i] = rescale(limited, this.inverseGain[gainAt(i)], GAIN_FRACTION);
      }
    }
  }

  /**
   * y_hat of a slice.
   * @param {Slice} slice
   * @param {Uint8Array} qualities
   */
  restored({ first, symbols, means }, qualities) {
    const places = qualities.length;
    return Float32Array.from(symbols, (symbol, i) => {
      const value = Math.fround(symbol * 2 ** FRACTION + means[i]);
      return value * this.gains.steps[qualities[i % places] * this.channels + first + Math.floor(i / places)];
    });
  }
}

/** @param {import("../frozen.js").Tensors} tensors */
export const build = (tensors) => new Sliced(tensors);
