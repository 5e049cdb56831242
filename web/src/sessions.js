// The synthesis transform, in ONNX Runtime Web: one thread, on the processor.

import * as ort from "onnxruntime-web/wasm";

import { breathe } from "./breathe.js";
import { ModelError } from "./errors.js";
import { cut } from "./planes.js";

const TILE = 1024; // pixels along a side of what runs at once, so that memory is bounded
const MOST = 64; // positions to each side that a graph may look at

/**
 * Hand over ONNX Runtime's wasm, before the first picture.
 * @param {ArrayBuffer} wasm
 */
export function useWasm(wasm) {
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
}

/** A model's graphs; a session is made when it is first used. */
export class Transforms {
  /** @param {import("./frozen.js").Tensors} tensors */
  constructor(tensors) {
    this.tensors = tensors;
    /** @type {Map<string, Promise<ort.InferenceSession>>} */
    this.sessions = new Map();
  }

  /**
   * Latents to pixels, the padding cropped away. Large pictures run in tiles, each with as many positions more to
   * each side as the graph looks at, which are cut off again.
   * @param {string} name of the graph
   * @param {import("./planes.js").Planes<Float32Array>} latents
   * @param {{width: number, height: number}} size of the picture
   * @param {number} step pixels to a position, along a side
   * @returns {Promise<ImageData>}
   */
  async toPixels(name, latents, size, step) {
    const image = new ImageData(size.width, size.height);
    const core = TILE / step;
    const large = Math.max(latents.height, latents.width) > core;
    const reach = large ? await this.reach(name, latents.channels, step) : 0;
    for (let top = 0; top < latents.height; top += core) {
      for (let left = 0; left < latents.width; left += core) {
        const rows = around(top, core, reach, latents.height);
        const columns = around(left, core, reach, latents.width);
        const seen = cut(latents, rows, columns);
        const dims = [1, seen.channels, seen.height, seen.width];
        paint(image, await this.run(name, seen.values, dims), {
          top: top * step,
          left: left * step,
          side: TILE,
          above: (top - rows.begin) * step,
          before: (left - columns.begin) * step,
          height: seen.height * step,
          width: seen.width * step,
        });
        await breathe();
      }
    }
    return image;
  }

  /**
   * Positions to each side that a result of a graph depends on: what the model says, or what becomes NaN around a
   * position that is NaN.
   * @param {string} name
   * @param {number} channels
   * @param {number} step
   */
  async reach(name, channels, step) {
    const told = this.tensors[name.replace(/onnx$/, "reach")];
    if (told) return Number(told.values[0]);
    for (const far of [16, MOST + 1]) {
      let found = 0;
      for (const down of [true, false]) {
        const length = 2 * far + 1;
        const values = new Float32Array(channels * length);
        for (let c = 0; c < channels; c++) values[c * length + far] = NaN;
        const dims = [1, channels, down ? length : 1, down ? 1 : length];
        const shown = await this.run(name, values, dims);
        const width = dims[3] * step;
        for (let at = 0; at < shown.length; at++) {
          if (!Number.isNaN(shown[at])) continue;
          const pixel = down ? Math.floor(at / width) % (dims[2] * step) : at % width;
          found = Math.max(found, Math.abs(Math.floor(pixel / step) - far));
        }
      }
      if (found < far) return found;
    }
    throw new ModelError(`the model's ${name} graph looks too far for pictures above ${TILE} pixels`);
  }

  /**
   * @param {string} name
   * @param {Float32Array} values
   * @param {number[]} dims
   */
  async run(name, values, dims) {
    const session = await this.session(name);
    const input = new ort.Tensor("float32", values, dims);
    try {
      const output = (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]];
      const data = /** @type {Float32Array} */ (output.data).slice();
      output.dispose();
      return data;
    } catch (error) {
      throw new ModelError(`the model's ${name} graph does not run: ${error}`);
    } finally {
      input.dispose();
    }
  }

  /** @param {string} name */
  async session(name) {
    const graph = this.tensors[name];
    if (!graph) throw new ModelError(`malformed: it has no ${name}`);
    const made =
      this.sessions.get(name) ??
      ort.InferenceSession.create(/** @type {Uint8Array} */ (graph.values), {
        executionProviders: ["wasm"],
        logSeverityLevel: 3,
      });
    this.sessions.set(name, made);
    try {
      return await made;
    } catch (error) {
      throw new ModelError(`the model's ${name} graph does not load: ${error}`);
    }
  }
}

/**
 * @param {number} start
 * @param {number} core
 * @param {number} reach
 * @param {number} length
 */
const around = (start, core, reach, length) => ({
  begin: Math.max(0, start - reach),
  end: Math.min(length, start + core + reach),
});

/**
 * Put a tile's own part, planes of 0..1, into the picture; storing a number there limits and rounds it.
 * @param {ImageData} image
 * @param {Float32Array} planes
 * @param {{top: number, left: number, side: number, above: number, before: number, height: number, width: number}} tile
 */
function paint(image, planes, tile) {
  const bottom = Math.min(tile.top + tile.side, image.height);
  const right = Math.min(tile.left + tile.side, image.width);
  const plane = tile.height * tile.width;
  for (let y = tile.top; y < bottom; y++) {
    let from = (y - tile.top + tile.above) * tile.width + tile.before;
    let to = 4 * (y * image.width + tile.left);
    for (let x = tile.left; x < right; x++, from++, to += 4) {
      image.data[to] = Math.fround(255 * planes[from]);
      image.data[to + 1] = Math.fround(255 * planes[from + plane]);
      image.data[to + 2] = Math.fround(255 * planes[from + 2 * plane]);
      image.data[to + 3] = 255;
    }
  }
}
