// Quantised autoencoder: the stream "y" -> symbols, each channel by a table of its own -> y_hat.

import { tensor } from "../checkpoint.js";
import { MAX_QUALITY_BYTE } from "../container.js";
import { Decoder, Tables } from "../entropy.js";
import { ModelError } from "../errors.js";
import { Transforms } from "../transforms.js";
import { BAND, DOWNSAMPLING, positions, REACH, scatter } from "./hyperprior.js";

export const STREAMS = ["y"];
const BYTES = MAX_QUALITY_BYTE + 1;

/** @typedef {import("../container.js").Container} Container */

class Spic {
  /** @param {import("../checkpoint.js").Tensors} tensors */
  constructor(tensors) {
    this.transforms = new Transforms(tensors);
    this.tables = new Tables(
      tensor(tensors, "table_counts", null),
      tensor(tensors, "table_starts", null),
    );
    this.yTable = tensor(tensors, "y_table", BYTES, null);
    this.channels = this.yTable.length / BYTES;
    this.step = tensor(tensors, "step", BYTES);
    if (!this.channels || !this.yTable.every((t) => t < this.tables.length)) {
      throw new ModelError("malformed: a table index is out of range");
    }
    if (!this.step.every((s) => Number.isFinite(s) && s > 0)) {
      throw new ModelError("malformed: a step is not positive");
    }
  }

  /** @param {Container} file */
  async symbols(file) {
    const [h, w] = positions(file);
    const y = new Int32Array(this.channels * h * w);
    const decoder = new Decoder(this.tables, file.streams[0]);
    for (let top = 0; top < h; top += BAND) {
      const rows = Math.min(BAND, h - top);
      const indices = Uint8Array.from(
        { length: this.channels * rows * w },
        (_, i) => this.yTable[file.quality * this.channels + Math.floor(i / (rows * w))],
      );
      scatter(y, decoder.band(indices), this.channels, h, w, top, rows);
    }
    decoder.finish();
    return { y };
  }

  /** @param {Container} file */
  async decode(file) {
    const [height, width] = positions(file);
    const step = this.step[file.quality];
    const values = Float32Array.from((await this.symbols(file)).y, (v) => Math.fround(v) * step);
    const latents = { channels: this.channels, height, width, values };
    return this.transforms.toPixels("g_s.onnx", latents, file, DOWNSAMPLING, REACH);
  }
}

/** @param {import("../checkpoint.js").Tensors} tensors */
export const build = (tensors) => new Spic(tensors);
