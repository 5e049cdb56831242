// Everything that selects a probability table or shifts a symbol, in integers that doubles hold exactly.

import { ModelError } from "./errors.js";
import { tensor } from "./frozen.js";

export const FRACTION = 10; // bits after the point of activations, means and scale indices
export const GAIN_FRACTION = 16; // bits after the point of the gains
const LIMIT = 2 ** 20; // activations, as integers, are within 0..LIMIT; inputs within -LIMIT..LIMIT

/** Integers in doubles. @typedef {import("./planes.js").Planes<Float64Array>} Planes */

/** @typedef {{weight: Float64Array, bias: Float64Array, kernel: number, depthwise: boolean, upsample: boolean}} Layer */

/** Layers one after the other: (C, h, w) -> (D, h * upsampling, w * upsampling), in units of 2^-10. */
export class IntegerNetwork {
  /**
   * @param {import("./frozen.js").Tensors} tensors
   * @param {string} name
   * @throws {ModelError} where a layer is malformed or a partial sum could reach 2^53
   */
  constructor(tensors, name) {
    const shifts = tensor(tensors, `${name}.shifts`, null);
    const upsample = tensor(tensors, `${name}.upsample`, shifts.length);
    /** @type {Layer[]} */
    this.layers = [];
    this.inputs = this.outputs = 0;
    this.upsampling = 1;
    this.largest = 0; // magnitude that no result exceeds
    let reach = 0;
    for (let i = 0, channels = 0; i < shifts.length; i++) {
      const malformed = new ModelError(`layer ${i} of ${name} is malformed`);
      const weights = tensor(tensors, `${name}.${i}.weight`, null, null, null, null);
      const [outputs, inputs, kernel, other] = tensors[`${name}.${i}.weight`].shape;
      const biases = tensor(tensors, `${name}.${i}.bias`, outputs);
      if (i === 0) this.inputs = channels = inputs;
      const depthwise = channels > 1 && inputs === 1 && kernel === 3 && outputs === channels;
      if (kernel !== other || (kernel !== 1 && kernel !== 3)) throw malformed;
      if (!(depthwise || inputs === channels) || (upsample[i] && outputs % 4)) throw malformed;
      if (!(shifts[i] > 0 && shifts[i] < 53)) throw malformed;
      const scale = 2 ** -shifts[i];
      const taps = inputs * kernel ** 2;
      this.largest = 0;
      for (let o = 0; o < outputs; o++) {
        let largest = Math.abs(biases[o]) + 1 / scale;
        for (let t = 0; t < taps; t++) largest += LIMIT * Math.abs(weights[o * taps + t]);
        if (largest >= 2 ** 53) throw new ModelError(`layer ${i} of ${name} could overflow exact arithmetic`);
        this.largest = Math.max(this.largest, largest * scale);
      }
      // Shifted here once: a power of two changes no digit.
      this.layers.push({
        weight: Float64Array.from(weights, (w) => w * scale),
        bias: Float64Array.from(biases, (b) => b * scale + 0.5),
        kernel,
        depthwise,
        upsample: Boolean(upsample[i]),
      });
      reach += (kernel >> 1) / this.upsampling;
      if (upsample[i]) this.upsampling *= 2;
      channels = upsample[i] ? outputs / 4 : outputs;
      this.outputs = outputs;
    }
    this.margin = Math.ceil(reach); // positions to each side that a result depends on
  }

  /**
   * @param {Planes} input
   * @returns {Planes}
   */
  run(input) {
    /** @type {Planes} */
    let x = { ...input, values: input.values.map((v) => Math.min(Math.max(v, -LIMIT), LIMIT)) };
    this.layers.forEach((layer, i) => {
      x = layer.depthwise ? convolveEach(x, layer) : convolve(x, layer);
      if (i < this.layers.length - 1) {
        for (let at = 0; at < x.values.length; at++) x.values[at] = Math.min(Math.max(x.values[at], 0), LIMIT);
      }
      if (layer.upsample) x = pixelShuffle(x);
    });
    return x;
  }
}

/**
 * Each channel by its own 3x3 weights, zero outside the edges.
 * @param {Planes} x
 * @param {Layer} layer
 * @returns {Planes}
 */
function convolveEach({ channels, height, width, values }, { weight, bias }) {
  const out = new Float64Array(values.length);
  for (let c = 0, to = 0; c < channels; c++) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        let sum = bias[c];
        for (let tap = 0; tap < 9; tap++) {
          const y = row + Math.floor(tap / 3) - 1;
          const x = column + (tap % 3) - 1;
          const inside = y >= 0 && y < height && x >= 0 && x < width;
          if (inside) sum += weight[9 * c + tap] * values[(c * height + y) * width + x];
        }
        out[to++] = Math.floor(sum);
      }
    }
  }
  return { channels, height, width, values: out };
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
