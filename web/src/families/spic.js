// Quantised autoencoder: the stream "y" -> symbols, each channel by a table of its own -> y_hat.

import { breathe } from "../breathe.js";
import { MAX_QUALITY_BYTE } from "../container.js";
import { Decoder, Tables } from "../entropy.js";
import { ModelError } from "../errors.js";
import { tensor } from "../frozen.js";
import { bands, paste } from "../planes.js";
import { Transforms } from "../sessions.js";
import { BAND, DOWNSAMPLING, positions } from "./hyperprior.js";

export const STREAMS = ["y"];
const BYTES = MAX_QUALITY_BYTE + 1;

/** @typedef {import("../container.js").Container} Container */

class Spic {
  /** @param {import("../frozen.js").Tensors} tensors */
  constructor(tensors) {
    this.transforms = new Transforms(tensors);
    this.tables = Tables.of(tensors);
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
    return { y: (await this.decodeY(file)).values };
  }

  /** @param {Container} file */
  async decodeY(file) {
    const [height, width] = positions(file);
    const y = { channels: this.channels, height, width, values: new Int32Array(this.channels * height * width) };
    const decoder = new Decoder(this.tables, file.streams[0]);
    for (const rows of bands(height, BAND)) {
      const places = (rows.end - rows.begin) * width;
      const indices = Uint8Array.from(
        { length: this.channels * places },
        (_, i) => this.yTable[file.quality * this.channels + Math.floor(i / places)],
      );
      paste(y, decoder.band(indices), rows, { begin: 0, end: width });
      await breathe();
    }
    decoder.finish();
    return y;
  }

  /** @param {Container} file */
  async decode(file) {
    const y = await this.decodeY(file);
    const step = this.step[file.quality];
    const latents = { ...y, values: Float32Array.from(y.values, (v) => Math.fround(v) * step) };
    return this.transforms.toPixels("g_s.onnx", latents, file, DOWNSAMPLING);
  }
}

/** @param {import("../frozen.js").Tensors} tensors */
export const build = (tensors) => new Spic(tensors);
