// Compact PNG: the stream "png", a PNG file that holds a network's small picture of the picture.

import { QUALITY_STEPS } from "../container.js";
import { FormatError } from "../errors.js";
import { readPng } from "../png.js";
import { Transforms } from "../sessions.js";

export const STREAMS = ["png"];
// Pixels of the picture to one of the compact image along a side, and bits of each of its values; q = 1, 2 and so on.
const STEPS = [[16, 5], [16, 6], [16, 8], [8, 3], [8, 4], [8, 5], [8, 6], [8, 8]];

/** @typedef {import("../container.js").Container} Container */

class CompactPng {
  /** @param {import("../frozen.js").Tensors} tensors */
  constructor(tensors) {
    this.transforms = new Transforms(tensors);
  }

  /** The compact image as numbers from 0 to 2^bits - 1, by channel, row and column. @param {Container} file */
  async symbols(file) {
    const { height, width, bits } = shape(file);
    const shown = await readPng(file.streams[0], width, height);
    const scale = 255 / (2 ** bits - 1);
    const values = Uint8Array.from({ length: 2 ** bits }, (_, v) => Math.round(v * scale));
    const image = new Int32Array(3 * height * width);
    for (let place = 0; place < height * width; place++) {
      for (let c = 0; c < 3; c++) {
        const value = Math.round(shown[3 * place + c] / scale);
        if (values[value] !== shown[3 * place + c]) {
          throw new FormatError(`its compact image has values that ${bits} bits do not give`);
        }
        image[c * height * width + place] = value;
      }
    }
    return { image };
  }

  /** @param {Container} file */
  async decode(file) {
    const { step, bits, height, width } = shape(file);
    const { image } = await this.symbols(file);
    const values = Float32Array.from(image, (v) => v / (2 ** bits - 1));
    const latents = { channels: 3, height, width, values };
    return this.transforms.toPixels(`g_s${step}.onnx`, latents, file, step);
  }
}

/** What a quality byte chooses. @param {Container} file */
function shape({ quality, width, height }) {
  const nearest = quality / QUALITY_STEPS;
  const even = nearest % 1 === 0.5 ? 2 * Math.round(nearest / 2) : Math.round(nearest);
  const [step, bits] = STEPS[even];
  return { step, bits, height: Math.ceil(height / step), width: Math.ceil(width / step) };
}

/** @param {import("../frozen.js").Tensors} tensors */
export const build = (tensors) => new CompactPng(tensors);
