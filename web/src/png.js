// PNG files of 8-bit RGB, exactly as stored: what a browser shows of an image may be fitted to a screen's colours.

import { crc32 } from "./crc32.js";
import { FormatError } from "./errors.js";

const SIGNATURE = "\x89PNG\r\n\x1a\n";
const BPP = 3; // bytes of a pixel

/**
 * The pixels of a PNG file of a size, three bytes each.
 * @param {Uint8Array} data
 * @param {number} width
 * @param {number} height
 * @returns {Promise<Uint8Array>}
 * @throws {FormatError} for anything else
 */
export async function readPng(data, width, height) {
  const parts = [];
  let header = null;
  for (const { type, body } of chunks(data)) {
    if (type === "IHDR") header = body;
    else if (type === "IDAT") parts.push(body);
    else if (type[0] < "a" && type !== "PLTE" && type !== "IEND") throw damaged(`an unknown ${type} chunk`);
  }
  if (header?.length !== 13) throw damaged("it has no header");
  const view = new DataView(header.buffer, header.byteOffset);
  const [wide, high] = [view.getUint32(0), view.getUint32(4)];
  const kind = header.subarray(8).join(" "); // bit depth, colour type, compression, filter, interlace
  if (wide !== width || high !== height || kind !== "8 2 0 0 0") {
    throw new FormatError(
      `its compact image is ${wide}x${high} of kind ${kind}, not 8-bit RGB of ${width}x${height}`,
    );
  }
  const line = 1 + BPP * width;
  return unfiltered(await inflate(parts, line * height), line, height);
}

/** @param {string} what */
const damaged = (what) => new FormatError(`its compact image is damaged: ${what}`);

/** @param {Uint8Array} data */
function* chunks(data) {
  if (String.fromCharCode(...data.subarray(0, 8)) !== SIGNATURE) throw damaged("it is no PNG file");
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let type = "";
  for (let at = 8; type !== "IEND"; ) {
    const length = at + 12 <= data.length ? view.getUint32(at) : Infinity;
    if (at + 12 + length > data.length) throw damaged("it is cut short");
    type = String.fromCharCode(...data.subarray(at + 4, at + 8));
    if (crc32(data.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) {
      throw damaged(`the checksum of its ${type} chunk does not match`);
    }
    yield { type, body: data.subarray(at + 8, at + 8 + length) };
    at += 12 + length;
  }
}

/**
 * Exactly `size` bytes of a zlib stream; a stream that holds more is left before it fills the memory.
 * @param {Uint8Array[]} parts
 * @param {number} size
 */
async function inflate(parts, size) {
  const out = new Uint8Array(size);
  let at = 0;
  const packed = new Blob(/** @type {BlobPart[]} */ (parts)).stream();
  const reader = packed.pipeThrough(new DecompressionStream("deflate")).getReader();
  try {
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      const bytes = /** @type {Uint8Array} */ (value);
      if (at + bytes.length > size) throw damaged("it has more pixels than it says");
      out.set(bytes, at);
      at += bytes.length;
    }
  } catch (error) {
    await reader.cancel().catch(() => {});
    throw error instanceof FormatError ? error : damaged("its pixels do not unpack");
  }
  if (at < size) throw damaged("it has fewer pixels than it says");
  return out;
}

/**
 * @param {Uint8Array} data lines, each with the number of its filter before it
 * @param {number} line bytes of one
 * @param {number} height
 */
function unfiltered(data, line, height) {
  const stride = line - 1;
  const pixels = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = data[y * line];
    if (filter > 4) throw damaged("an unknown filter");
    for (let x = 0; x < stride; x++) {
      const at = y * stride + x;
      const left = x >= BPP ? pixels[at - BPP] : 0;
      const up = y ? pixels[at - stride] : 0;
      const corner = x >= BPP && y ? pixels[at - stride - BPP] : 0;
      const guess = [0, left, up, (left + up) >> 1, filter === 4 ? paeth(left, up, corner) : 0][filter];
      pixels[at] = data[y * line + 1 + x] + guess;
    }
  }
  return pixels;
}

/**
 * @param {number} left
 * @param {number} up
 * @param {number} corner
 */
function paeth(left, up, corner) {
  const [a, b, c] = [up - corner, left - corner, left + up - 2 * corner].map(Math.abs);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
