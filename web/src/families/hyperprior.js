// Mean-scale hyperprior: streams "z" and "y" -> symbols -> y_hat. Bands keep memory bounded for pictures of any height.

import { breathe } from "../breathe.js";
import { MAX_QUALITY_BYTE } from "../container.js";
import { Decoder, Tables } from "../entropy.js";
import { ModelError } from "../errors.js";
import { FRACTION, GAIN_FRACTION, rescale } from "../exact.js";
import { tensor } from "../frozen.js";
import { bands, paste } from "../planes.js";
import { Transforms } from "../sessions.js";
import { HyperLatent } from "./hyperlatent.js";

export const STREAMS = ["z", "y"];
export const DOWNSAMPLING = 16; // pixels per position of y
export const BAND = 16; // rows of y coded together
const QUALITIES = MAX_QUALITY_BYTE + 1;

/** @typedef {import("../container.js").Container} Container */
/** @typedef {import("../planes.js").Range} Range */

/**
 * What z says of a band of y: each symbol's table and mean (units of 2^-10) by channel, row and column, and each
 * place's quality byte.
 * @typedef {{tables: Int32Array, means: Float64Array, qualities: Uint8Array}} Prediction
 */

export class Hyperprior {
  /** @param {import("../frozen.js").Tensors} tensors */
  constructor(tensors) {
    this.transforms = new Transforms(tensors);
    this.tables = Tables.of(tensors);
    this.z = new HyperLatent(tensors, this.tables);
    this.gains = gainsOf(tensors);
    this.channels = this.gains.channels;
    this.hasQualityMap = this.z.outputs === 2 * this.channels + 1;
    if (this.z.outputs - Number(this.hasQualityMap) !== 2 * this.channels) {
      throw new ModelError("malformed: the hyper-synthesis has other channels than the gains");
    }
  }

  /** @param {Container} file */
  async symbols(file) {
    const z = this.decodeZ(file);
    const y = this.latents(file, Int32Array);
    const decoder = new Decoder(this.tables, file.streams[1]);
    for (const rows of bands(y.height, BAND)) {
      const { tables } = this.prediction(z, rows, y.width, file.quality);
      paste(y, decoder.band(tables), rows, { begin: 0, end: y.width });
    }
    decoder.finish();
    return { z: z.values, y: y.values };
  }

  /** @param {Container} file */
  async decode(file) {
    const decoder = new Decoder(this.tables, file.streams[1]);
    const read = (/** @type {Prediction} */ { tables }) => decoder.band(tables);
    const yHat = await this.restored(file, this.decodeZ(file), read);
    decoder.finish();
    return this.synthesise(yHat, file);
  }

  /**
   * @param {import("../planes.js").Planes<Float32Array>} yHat
   * @param {Container} file
   */
  synthesise(yHat, file) {
    return this.transforms.toPixels("g_s.onnx", yHat, file, DOWNSAMPLING);
  }

  /**
   * y_hat, band by band, from what `read` gives as a band's symbols.
   * @param {Container} file
   * @param {import("./hyperlatent.js").Symbols} z
   * @param {(band: Prediction, rows: Range) => Int32Array} read
   */
  async restored(file, z, read) {
    const yHat = this.latents(file, Float32Array);
    for (const rows of bands(yHat.height, BAND)) {
      const band = this.prediction(z, rows, yHat.width, file.quality);
      const values = Float32Array.from(read(band, rows), (v, i) => v * 2 ** FRACTION + band.means[i]);
      const places = band.qualities.length;
      for (let i = 0; i < values.length; i++) {
        const place = i % places;
        values[i] *= this.gains.steps[band.qualities[place] * this.channels + (i - place) / places];
      }
      paste(yHat, values, rows, { begin: 0, end: yHat.width });
      await breathe();
    }
    return yHat;
  }

  /** z's symbols. @param {Container} file */
  decodeZ(file) {
    return this.z.decode(file.streams[0], positions(file), file.quality);
  }

  /**
   * Room for the latents of a picture.
   * @template {Int32Array | Float32Array} T
   * @param {Container} file
   * @param {new (length: number) => T} Values
   */
  latents(file, Values) {
    const [height, width] = positions(file);
    return { channels: this.channels, height, width, values: new Values(this.channels * height * width) };
  }

  /**
   * What z says of some rows of y.
   * @param {import("./hyperlatent.js").Symbols} z
   * @param {Range} rows
   * @param {number} width of y
   * @param {number} quality
   * @returns {Prediction}
   */
  prediction(z, rows, width, quality) {
    const { values, height } = this.z.says(z, rows, { begin: 0, end: width }, quality);
    const places = height * width;
    const size = this.channels * places;
    const tables = new Int32Array(size);
    const means = new Float64Array(size);
    const qualities = this.hasQualityMap
      ? shifted(quality, values.subarray(2 * size))
      : new Uint8Array(places).fill(quality);
    for (let c = 0, at = 0; c < this.channels; c++) {
      for (let place = 0; place < places; place++, at++) {
        const gain = qualities[place] * this.channels + c;
        tables[at] = tableOf(values[at] + this.gains.log[gain], this.tables);
        means[at] = rescale(values[size + at], this.gains.gain[gain], GAIN_FRACTION);
      }
    }
    return { tables, means, qualities };
  }
}

/**
 * What y is multiplied by, for each quality byte and channel: the gain, its logarithm for tables, and its inverse in
 * units of 2^-10, which restores y.
 * @param {import("../frozen.js").Tensors} tensors
 */
export function gainsOf(tensors) {
  const log = tensor(tensors, "y_log_gain", QUALITIES, null);
  const channels = log.length / QUALITIES;
  const gain = tensor(tensors, "y_gain", QUALITIES, channels);
  if (!gain.every((g) => g > 0)) throw new ModelError("malformed: a gain is not positive");
  return { channels, log, gain, steps: Float32Array.from(gain, (g) => 2 ** (GAIN_FRACTION - FRACTION) / g) };
}

/** The nearest integer to a number of units of 2^-10. @param {number} value */
const nearest = (value) => Math.floor((value + 2 ** (FRACTION - 1)) / 2 ** FRACTION);

/**
 * The quality byte of each place, from how far from the file's it is, in units of 2^-10.
 * @param {number} quality
 * @param {Float64Array} shifts
 */
export const shifted = (quality, shifts) =>
  Uint8Array.from(shifts, (shift) => Math.min(Math.max(quality + nearest(shift), 0), MAX_QUALITY_BYTE));

/**
 * The table of a scale index in units of 2^-10.
 * @param {number} index
 * @param {Tables} tables
 */
export const tableOf = (index, tables) => Math.min(Math.max(nearest(index), 0), tables.length - 1);

/**
 * Height and width of y.
 * @param {{width: number, height: number}} size
 */
export function positions({ width, height }) {
  return [Math.ceil(height / DOWNSAMPLING), Math.ceil(width / DOWNSAMPLING)];
}

/** @param {import("../frozen.js").Tensors} tensors */
export const build = (tensors) => new Hyperprior(tensors);
