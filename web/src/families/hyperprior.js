// Mean-scale hyperprior: streams "z" and "y" -> symbols -> y_hat. Bands keep memory bounded for pictures of any height.

import { tensor } from "../checkpoint.js";
import { MAX_QUALITY_BYTE } from "../container.js";
import { Decoder, Tables } from "../entropy.js";
import { ModelError } from "../errors.js";
import { FRACTION, GAIN_FRACTION, HyperSynthesis, rescale } from "../exact.js";
import { Transforms } from "../transforms.js";

export const STREAMS = ["z", "y"];
export const DOWNSAMPLING = 16; // pixels per position of y
export const REACH = 5; // positions of y to each side that the synthesis looks at
export const BAND = 16; // rows of y coded together
const HYPER = 4; // positions of y per position of z
const BYTES = MAX_QUALITY_BYTE + 1;

/** @typedef {import("../container.js").Container} Container */

/**
 * What z says of a band of y: each symbol's table and mean (units of 2^-10) by channel, row and column, and each
 * place's quality byte.
 * @typedef {{tables: Int32Array, means: Float64Array, qualities: Uint8Array}} Prediction
 */

export class Hyperprior {
  /** @param {import("../checkpoint.js").Tensors} tensors */
  constructor(tensors) {
    this.transforms = new Transforms(tensors);
    this.tables = new Tables(
      tensor(tensors, "table_counts", null),
      tensor(tensors, "table_starts", null),
    );
    this.hyperSynthesis = new HyperSynthesis(tensors);
    this.logGain = tensor(tensors, "y_log_gain", BYTES, null);
    this.channels = this.logGain.length / BYTES;
    this.gain = tensor(tensors, "y_gain", BYTES, this.channels);
    this.hyperChannels = this.hyperSynthesis.inputs;
    this.inverseGain = tensor(tensors, "z_inverse_gain", BYTES, this.hyperChannels);
    this.zTable = tensor(tensors, "z_table", BYTES, this.hyperChannels);
    this.hasQualityMap = this.hyperSynthesis.outputs === 2 * this.channels + 1;
    if (this.hyperSynthesis.outputs - Number(this.hasQualityMap) !== 2 * this.channels) {
      throw new ModelError("malformed: the hyper-synthesis has other channels than the gains");
    }
    if (!this.gain.every((g) => g > 0) || !this.inverseGain.every((g) => g > 0)) {
      throw new ModelError("malformed: a gain is not positive");
    }
    if (!this.zTable.every((t) => t < this.tables.length)) {
      throw new ModelError("malformed: a table index is out of range");
    }
    this.steps = Float32Array.from(this.gain, (g) => 2 ** (GAIN_FRACTION - FRACTION) / g);
  }

  /** @param {Container} file */
  async symbols(file) {
    const [h, w] = positions(file);
    const z = this.decodeZ(file);
    const y = new Int32Array(this.channels * h * w);
    const decoder = new Decoder(this.tables, file.streams[1]);
    for (let top = 0; top < h; top += BAND) {
      const rows = Math.min(BAND, h - top);
      const { tables } = this.prediction(z, top, rows, w, file.quality);
      scatter(y, decoder.band(tables), this.channels, h, w, top, rows);
    }
    decoder.finish();
    return { z: z.symbols, y };
  }

  /** @param {Container} file */
  async decode(file) {
    const decoder = new Decoder(this.tables, file.streams[1]);
    const read = (/** @type {Prediction} */ { tables }) => decoder.band(tables);
    const yHat = this.restored(file, this.decodeZ(file), read);
    decoder.finish();
    return this.synthesise(yHat, file);
  }

  /**
   * @param {Float32Array} values y_hat
   * @param {Container} file
   */
  synthesise(values, file) {
    const [height, width] = positions(file);
    const latents = { channels: this.channels, height, width, values };
    return this.transforms.toPixels("g_s.onnx", latents, file, DOWNSAMPLING, REACH);
  }

  /**
   * y_hat, band by band, from what `read` gives as a band's symbols.
   * @param {Container} file
   * @param {Hyper} z
   * @param {(band: Prediction, top: number, rows: number) => Int32Array} read
   */
  restored(file, z, read) {
    const [h, w] = positions(file);
    const yHat = new Float32Array(this.channels * h * w);
    for (let top = 0; top < h; top += BAND) {
      const rows = Math.min(BAND, h - top);
      const band = this.prediction(z, top, rows, w, file.quality);
      const values = Float32Array.from(read(band, top, rows), (v, i) => v * 2 ** FRACTION + band.means[i]);
      for (let i = 0; i < values.length; i++) {
        const place = i % (rows * w);
        values[i] *= this.steps[band.qualities[place] * this.channels + (i - place) / (rows * w)];
      }
      scatter(yHat, values, this.channels, h, w, top, rows);
    }
    return yHat;
  }

  /**
   * z's symbols.
   * @param {Container} file
   * @returns {Hyper}
   */
  decodeZ(file) {
    const [height, width] = positions(file).map((side) => Math.ceil(side / HYPER));
    const symbols = new Int32Array(this.hyperChannels * height * width);
    const decoder = new Decoder(this.tables, file.streams[0]);
    for (let top = 0; top < height; top += BAND / HYPER) {
      const rows = Math.min(BAND / HYPER, height - top);
      const indices = Uint8Array.from(
        { length: this.hyperChannels * rows * width },
        (_, i) => this.zTable[file.quality * this.hyperChannels + Math.floor(i / (rows * width))],
      );
      scatter(symbols, decoder.band(indices), this.hyperChannels, height, width, top, rows);
    }
    decoder.finish();
    return { symbols, height, width };
  }

  /**
   * What z says of some rows of y.
   * @param {Hyper} z
   * @param {number} top
   * @param {number} rows
   * @param {number} width of y
   * @param {number} quality
   * @returns {Prediction}
   */
  prediction(z, top, rows, width, quality) {
    const first = top / HYPER;
    const above = Math.max(0, first - this.hyperSynthesis.margin);
    const below = Math.min(z.height, Math.ceil((top + rows) / HYPER) + this.hyperSynthesis.margin);
    const values = new Float64Array(this.hyperChannels * (below - above) * z.width);
    for (let c = 0, at = 0; c < this.hyperChannels; c++) {
      const gain = this.inverseGain[quality * this.hyperChannels + c];
      for (let i = (c * z.height + above) * z.width; i < (c * z.height + below) * z.width; i++) {
        values[at++] = rescale(z.symbols[i], gain, GAIN_FRACTION - FRACTION);
      }
    }
    const shape = { channels: this.hyperChannels, height: below - above, width: z.width };
    const out = this.hyperSynthesis.run({ ...shape, values });
    const skip = HYPER * (first - above);
    const at = (/** @type {number} */ c, /** @type {number} */ i, /** @type {number} */ j) =>
      out.values[(c * out.height + skip + i) * out.width + j];

    const size = this.channels * rows * width;
    const band = {
      tables: new Int32Array(size),
      means: new Float64Array(size),
      qualities: new Uint8Array(rows * width).fill(quality),
    };
    const half = 2 ** (FRACTION - 1);
    const index = (/** @type {number} */ v) => Math.floor((v + half) / 2 ** FRACTION);
    for (let i = 0, place = 0; this.hasQualityMap && i < rows; i++) {
      for (let j = 0; j < width; j++) {
        const there = quality + index(at(2 * this.channels, i, j));
        band.qualities[place++] = Math.min(Math.max(there, 0), MAX_QUALITY_BYTE);
      }
    }
    for (let c = 0, to = 0; c < this.channels; c++) {
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < width; j++, to++) {
          const gain = band.qualities[i * width + j] * this.channels + c;
          const table = index(at(c, i, j) + this.logGain[gain]);
          band.tables[to] = Math.min(Math.max(table, 0), this.tables.length - 1);
          band.means[to] = rescale(at(this.channels + c, i, j), this.gain[gain], GAIN_FRACTION);
        }
      }
    }
    return band;
  }
}

/** @typedef {{symbols: Int32Array, height: number, width: number}} Hyper */

/**
 * Height and width of y.
 * @param {{width: number, height: number}} size
 */
export function positions({ width, height }) {
  return [Math.ceil(height / DOWNSAMPLING), Math.ceil(width / DOWNSAMPLING)];
}

/**
 * Put the rows of a band into the planes of the whole.
 * @template {Int32Array | Float32Array} T
 * @param {T} whole
 * @param {T} band
 * @param {number} channels
 * @param {number} height
 * @param {number} width
 * @param {number} top
 * @param {number} rows
 */
export function scatter(whole, band, channels, height, width, top, rows) {
  for (let c = 0; c < channels; c++) {
    whole.set(band.subarray(c * rows * width, (c + 1) * rows * width), (c * height + top) * width);
  }
}

/** @param {import("../checkpoint.js").Tensors} tensors */
export const build = (tensors) => new Hyperprior(tensors);
