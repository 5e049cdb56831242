// The hyper-latent z: the stream "z" -> symbols, each channel by one table a quality, and what z says of y.

import { MAX_QUALITY_BYTE } from "../container.js";
import { Decoder } from "../entropy.js";
import { ModelError } from "../errors.js";
import { FRACTION, GAIN_FRACTION, IntegerNetwork, rescale } from "../exact.js";
import { tensor } from "../frozen.js";
import { bands, cut, paste } from "../planes.js";

export const HYPER = 4; // positions of y per position of z, along a side
const BAND = 4; // rows of z coded together
const QUALITIES = MAX_QUALITY_BYTE + 1;

/** @typedef {import("../planes.js").Planes<Int32Array>} Symbols */
/** @typedef {import("../planes.js").Range} Range */

export class HyperLatent {
  /**
   * @param {import("../frozen.js").Tensors} tensors
   * @param {import("../entropy.js").Tables} tables
   * @throws {ModelError}
   */
  constructor(tensors, tables) {
    this.tables = tables;
    this.network = new IntegerNetwork(tensors, "h_s");
    if (this.network.upsampling !== HYPER) {
      throw new ModelError("malformed: the hyper-synthesis does not upsample four times");
    }
    this.channels = this.network.inputs;
    this.outputs = this.network.outputs;
    this.inverseGain = tensor(tensors, "z_inverse_gain", QUALITIES, this.channels);
    this.table = tensor(tensors, "z_table", QUALITIES, this.channels);
    if (!this.inverseGain.every((g) => g > 0)) throw new ModelError("malformed: a gain is not positive");
    if (!this.table.every((t) => t < tables.length)) {
      throw new ModelError("malformed: a table index is out of range");
    }
  }

  /**
   * z's symbols.
   * @param {Uint8Array} stream
   * @param {number[]} size height and width of y
   * @param {number} quality
   * @returns {Symbols}
   */
  decode(stream, size, quality) {
    const [height, width] = size.map((side) => Math.ceil(side / HYPER));
    const z = { channels: this.channels, height, width, values: new Int32Array(this.channels * height * width) };
    const decoder = new Decoder(this.tables, stream);
    for (const rows of bands(height, BAND)) {
      const places = (rows.end - rows.begin) * width;
      const indices = Uint8Array.from(
        { length: this.channels * places },
        (_, i) => this.table[quality * this.channels + Math.floor(i / places)],
      );
      paste(z, decoder.band(indices), rows, { begin: 0, end: width });
    }
    decoder.finish();
    return z;
  }

  /**
   * What the hyper-synthesis gives for some rows and columns of y, which begin at multiples of HYPER.
   * @param {Symbols} z
   * @param {Range} rows
   * @param {Range} columns
   * @param {number} quality
   */
  says(z, rows, columns, quality) {
    const down = this.around(rows, z.height);
    const across = this.around(columns, z.width);
    const seen = cut(z, down, across);
    const places = seen.height * seen.width;
    const values = Float64Array.from(seen.values, (symbol, i) => {
      const gain = this.inverseGain[quality * this.channels + Math.floor(i / places)];
      return rescale(symbol, gain, GAIN_FRACTION - FRACTION);
    });
    const moved = (/** @type {Range} */ { begin, end }, /** @type {Range} */ from) => ({
      begin: begin - HYPER * from.begin,
      end: end - HYPER * from.begin,
    });
    return cut(this.network.run({ ...seen, values }), moved(rows, down), moved(columns, across));
  }

  /**
   * The places of z that say something of a range of y.
   * @param {Range} range
   * @param {number} length
   */
  around({ begin, end }, length) {
    const { margin } = this.network;
    return {
      begin: Math.max(0, Math.floor(begin / HYPER) - margin),
      end: Math.min(length, Math.ceil(end / HYPER) + margin),
    };
  }
}
