// The bytes of a .fic file: header, streams, chunks and checksum. docs/format.md is the specification.

import { crc32 } from "./crc32.js";
import { FormatError, ImageError } from "./errors.js";

export const QUALITY_STEPS = 32; // per whole quality: q = 1 + byte / 32
export const MAX_QUALITY_BYTE = 7 * QUALITY_STEPS;
export const DEFAULT_MAX_PIXELS = 2 ** 25;
const VERSION = 1;
const DOUBLED_STEPS = 48; // so much finer is the quality of a picture that is coded at twice its size
const MAX_DOUBLED_SIDE = 256;
const FIXED = 12; // bytes of the header before its varints
const MAX_SIDE = 2 ** 24;
const THINNEST = 64; // what a narrow side is padded to, at most, on its way through the transforms

/**
 * One parsed file. `quality` is the stored byte, 0..224; sides are in pixels. If `doubled`, the streams hold the
 * picture at twice its size.
 * @typedef {object} Container
 * @property {string} fingerprint eight hexadecimal digits
 * @property {number} quality
 * @property {number} width
 * @property {number} height
 * @property {boolean} doubled
 * @property {Uint8Array[]} streams
 * @property {{type: string, data: Uint8Array}[]} chunks
 */

/**
 * Parse a whole file.
 * @param {Uint8Array} data
 * @returns {Container}
 * @throws {FormatError}
 */
export function unpack(data) {
  if (data.length === 0) throw new FormatError("the file is empty: fetch or copy it again");
  if (data[0] !== 0xf1 || (data.length > 1 && data[1] >> 4 !== 0xc)) {
    throw new FormatError("not a .fic file: give one that encode has made");
  }
  if (data.length < FIXED) {
    throw new FormatError("the file is cut short inside its header: fetch or copy it again");
  }
  if ((data[1] & 15) !== VERSION) {
    throw new FormatError(
      `format version ${data[1] & 15}; this program reads version ${VERSION}: update it`,
    );
  }
  const flags = data[2];
  const quality = data[7];
  if (flags & 0xe0) {
    throw new FormatError(
      `unknown flags 0x${(flags & 0xe0).toString(16).padStart(2, "0")}: update this program`,
    );
  }
  const stored = new DataView(data.buffer, data.byteOffset).getUint32(8, true);
  if (crc32(data.subarray(FIXED), crc32(data.subarray(0, 8))) !== stored) {
    throw new FormatError(
      "the checksum does not match, the file is damaged or cut short: fetch or copy it again",
    );
  }
  // From here on the bytes are those that some writer meant, yet that writer may be hostile.
  if (quality > MAX_QUALITY_BYTE) {
    throw new FormatError(`quality byte ${quality} is above ${MAX_QUALITY_BYTE}`);
  }
  const reader = new Reader(data, FIXED);
  const [width, height] = [reader.varint(), reader.varint()];
  if (!(width > 0 && width <= MAX_SIDE && height > 0 && height <= MAX_SIDE)) {
    throw new FormatError(`impossible size ${width}x${height}`);
  }
  const doubled = (flags & 0x10) !== 0;
  if (doubled && (quality < DOUBLED_STEPS || Math.max(width, height) > MAX_DOUBLED_SIDE)) {
    throw new FormatError(`${width}x${height} at quality byte ${quality} cannot be doubled`);
  }
  const count = (flags >> 1) & 7;
  if (count === 0) throw new FormatError("the file declares no streams");
  const hasChunks = (flags & 1) === 1;
  const lengths = Array.from({ length: hasChunks ? count : count - 1 }, () => reader.varint());
  const streams = lengths.map((length) => reader.take(length));
  const chunks = [];
  if (hasChunks) {
    while (!reader.atEnd()) {
      const type = String.fromCharCode(...reader.take(4));
      if (!/^[A-Za-z]{4}$/.test(type)) throw new FormatError("a chunk's type is not four letters");
      chunks.push({ type, data: reader.take(reader.varint()) });
    }
    if (chunks.length === 0) throw new FormatError("the file declares chunks and holds none");
  } else {
    streams.push(reader.rest());
  }
  const fingerprint = [...data.subarray(3, 7)].map((b) => b.toString(16).padStart(2, "0")).join("");
  return { fingerprint, quality, width, height, doubled, streams, chunks };
}

/**
 * What a family decodes for a file: the picture in the streams, and its quality.
 * @param {Container} file
 * @returns {Container}
 */
export function coded(file) {
  if (!file.doubled) return file;
  const { width, height, quality } = file;
  return { ...file, width: 2 * width, height: 2 * height, quality: quality - DOUBLED_STEPS };
}

/**
 * Refuse more pixels than allowed, thin pictures counted as wide as they are padded.
 * @param {number} width
 * @param {number} height
 * @param {number} maxPixels
 * @throws {ImageError}
 */
export function checkSize(width, height, maxPixels) {
  if (width * height > maxPixels || Math.max(width, height) * THINNEST > Math.max(maxPixels, 2 ** 20)) {
    throw new ImageError(
      `${width}x${height} is more than ${maxPixels} pixels: decode it with the command's --max-pixels if you trust it`,
    );
  }
}

class Reader {
  /**
   * @param {Uint8Array} data
   * @param {number} position
   */
  constructor(data, position) {
    this.data = data;
    this.position = position;
  }

  atEnd() {
    return this.position === this.data.length;
  }

  /** @param {number} length */
  take(length) {
    const end = this.position + length;
    if (end > this.data.length) throw new FormatError("a length in the file reaches past its end");
    const part = this.data.subarray(this.position, end);
    this.position = end;
    return part;
  }

  rest() {
    return this.take(this.data.length - this.position);
  }

  varint() {
    let value = 0;
    for (let scale = 1; scale < 2 ** 35; scale *= 128) {
      const byte = this.take(1)[0];
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (byte === 0 && scale > 1) {
          throw new FormatError("a number in the header is not in its shortest form");
        }
        return value;
      }
    }
    throw new FormatError("a number in the header is too long");
  }
}
