// Everything that selects a probability table or shifts a symbol, in integers that doubles hold exactly.

import { tensor } from "./checkpoint.js";
import { ModelError } from "./errors.js";

export const FRACTION = 10; // bits after the point of activations, means and scale indices
export const GAIN_FRACTION = 16; // bits after the point of the gains
const LIMIT = 2 ** 20; // activations, as integers, are within 0..LIMIT; inputs within -LIMIT..LIMIT

/**
 * Integers by channel, row and column, in doubles.
 * @typedef {{channels: number, height: number, width: number, values: Float64Array}} Planes
 */

/** @typedef {{weight: Float64Array, bias: Float64Array, inputs: number, kernel: number, upsample: boolean}} Layer */

/** z_hat (C, h, w) -> scale and mean of y before its gain, and a quality map, (2M or 2M + 1, 4h, 4w). */
export class HyperSynthesis {
  /**
   * @param {import("./checkpoint.js").Tensors} tensors
   * @throws {ModelError} where a layer is malformed or a partial sum could reach 2^53
   */
  constructor(tensors) {
    const shifts = tensor(tensors, "h_s.shifts", null);
    const upsample = tensor(tensors, "h_s.upsample", shifts.length);
    /** @type {Layer[]} */
    this.layers = [];
    let [resolution, reach] = [1, 0];
    for (let i = 0; i < shifts.length; i++) {
      const malformed = new ModelError(`layer ${i} of the hyper-synthesis is malformed`);
      const weights = tensor(tensors, `h_s.${i}.weight`, null, null, null, null);
      const [outputs, inputs, kernel, other] = tensors[`h_s.${i}.weight`].shape;
      const biases = tensor(tensors, `h_s.${i}.bias`, outputs);
      if (kernel !== other || (kernel !== 1 && kernel !== 3)) throw malformed;
      const scale = 2 ** -shifts[i];
      if (!(shifts[i] > 0 && shifts[i] < 53)) throw malformed;
      const taps = inputs * kernel ** 2;
      for (let o = 0; o < outputs; o++) {
        let largest = Math.abs(biases[o]) + 1 / scale;
        for (let t = 0; t < taps; t++) largest += LIMIT * Math.abs(weights[o * taps + t]);
        if (largest >= 2 ** 53) {
          throw new ModelError(`layer ${i} of the hyper-synthesis could overflow exact arithmetic`);
        }
      }
      // Shifted here once: a power of two changes no digit.
      this.layers.push({
        weight: Float64Array.from(weights, (w) => w * scale),
        bias: Float64Array.from(biases, (b) => b * scale + 0.5),
        inputs,
        kernel,
        upsample: Boolean(upsample[i]),
      });
      reach += (kernel >> 1) / resolution;
      if (upsample[i]) resolution *= 2;
    }
    if (resolution !== 4) throw new ModelError("the hyper-synthesis does not upsample four times");
    this.margin = Math.ceil(reach); // rows of z beyond its own that a row of the result depends on
    this.inputs = this.layers[0].inputs;
    this.outputs = this.layers[this.layers.length - 1].bias.length;
  }

  /**
   * @param {Planes} z
   * @returns {Planes}
   */
  run(z) {
    /** @type {Planes} */
    let x = { ...z, values: z.values.map((v) => Math.min(Math.max(v, -LIMIT), LIMIT)) };
    this.layers.forEach((layer, i) => {
      x = convolve(x, layer);
      if (i < this.layers.length - 1) {
        for (let at = 0; at < x.values.length; at++) x.values[at] = Math.min(Math.max(x.values[at], 0), LIMIT);
      }
      if (layer.upsample) x = pixelShuffle(x);
    });
    return x;
  }
}

/**
 * @param {Planes} x
 * @param {Layer} layer
 * @returns {Planes}
 */
function convolve({ channels, height, width, values }, { weight, bias, kernel }) {
  const taps = channels * kernel ** 2;
  const out = new Float64Array(bias.length * height * width);
  const seen = new Float64Array(taps); // by one place
  const reach = kernel >> 1;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      let t = 0;
      for (let c = 0; c < channels; c++) {
        for (let y = row - reach; y <= row + reach; y++) {
          for (let x = column - reach; x <= column + reach; x++) {
            const inside = y >= 0 && y < height && x >= 0 && x < width;
            seen[t++] = inside ? values[(c * height + y) * width + x] : 0;
          }
        }
      }
      for (let o = 0, w = 0; o < bias.length; o++) {
        let sum = bias[o];
        for (t = 0; t < taps; t++) sum += weight[w++] * seen[t];
        out[(o * height + row) * width + column] = Math.floor(sum);
      }
    }
  }
  return { channels: bias.length, height, width, values: out };
}

/**
 * @param {Planes} x
 * @returns {Planes}
 */
function pixelShuffle({ channels, height, width, values }) {
  const out = new Float64Array(values.length);
  for (let c = 0, at = 0; c < channels; c++) {
    for (let i = 0; i < height; i++) {
      for (let j = 0; j < width; j++) {
        const row = 2 * i + ((c >> 1) & 1);
        out[((c >> 2) * 2 * height + row) * 2 * width + 2 * j + (c & 1)] = values[at++];
      }
    }
  }
  return { channels: channels / 4, height: 2 * height, width: 2 * width, values: out };
}

/**
 * floor((value * factor + 2^(bits-1)) / 2^bits), exact where the product, at most 2^62, is more than a double holds.
 * @param {number} value below 2^53 in magnitude
 * @param {number} factor 1 to 2^31
 * @param {number} bits at most 16
 */
export function rescale(value, factor, bits) {
  const whole = Math.floor(value / 2 ** bits);
  const rest = value - whole * 2 ** bits;
  return whole * factor + Math.floor((rest * factor + 2 ** (bits - 1)) / 2 ** bits);
}
