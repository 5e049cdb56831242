// Integer probability tables, escapes, and the rANS decoder: constriction's AnsCoder with its default settings.

import { FormatError, ModelError } from "./errors.js";
import { tensor } from "./frozen.js";

const TOTAL = 2 ** 24;
const MAX_EXPONENT = 20;

/** Probability tables: the sums of the counts before each entry, and the total, one table after the other. */
export class Tables {
  /**
   * @param {ArrayLike<number>} counts
   * @param {ArrayLike<number>} starts where each table begins among the counts and, last, where they end
   * @throws {ModelError}
   */
  constructor(counts, starts) {
    const bad = new ModelError("the probability tables are malformed");
    if (starts.length < 2 || starts[0] !== 0 || starts[starts.length - 1] !== counts.length) throw bad;
    /** @type {Int32Array[]} */
    this.sums = [];
    for (let t = 0; t + 1 < starts.length; t++) {
      const length = starts[t + 1] - starts[t];
      if (length < 2 || length % 2) throw bad;
      const sums = new Int32Array(length + 1);
      for (let k = 0; k < length; k++) {
        const count = counts[starts[t] + k];
        if (!(count > 0) || sums[k] + count > TOTAL) throw bad;
        sums[k + 1] = sums[k] + count;
      }
      if (sums[length] !== TOTAL) throw bad;
      this.sums.push(sums);
    }
  }

  get length() {
    return this.sums.length;
  }

  /** The tables of a model. @param {import("./frozen.js").Tensors} tensors */
  static of(tensors) {
    return new Tables(tensor(tensors, "table_counts", null), tensor(tensors, "table_starts", null));
  }
}

/** @param {number} n */
function uniform(n) {
  const sums = Int32Array.from({ length: n + 1 }, (_, k) => k * Math.floor(TOTAL / n));
  sums[n] = TOTAL;
  return sums;
}

const EXPONENTS = uniform(MAX_EXPONENT);
const BITS = uniform(2);

/** Reads back, band by band, the symbols of a stream. */
export class Decoder {
  /**
   * @param {Tables} tables
   * @param {Uint8Array} data
   * @throws {FormatError}
   */
  constructor(tables, data) {
    if (data.length && data[data.length - 1] === 0) throw new FormatError("a stream ends in a zero byte");
    this.tables = tables;
    this.escapes = 0; // symbols so far that lay beyond their table
    const padded = new Uint8Array(Math.ceil(data.length / 4) * 4);
    padded.set(data);
    const view = new DataView(padded.buffer);
    this.words = Uint32Array.from({ length: padded.length / 4 }, (_, i) => view.getUint32(4 * i, true));
    this.left = this.words.length;
    // The state of 64 bits, in two halves that are doubles.
    this.high = 0;
    this.low = 0;
    this.refill();
    this.refill();
  }

  refill() {
    if (this.high === 0 && this.left > 0) {
      this.high = this.low;
      this.low = this.words[--this.left];
    }
  }

  /**
   * One entry of a distribution.
   * @param {Int32Array} sums
   * @returns {number}
   */
  entry(sums) {
    const u = this.low % TOTAL;
    let [k, end] = [0, sums.length - 1];
    while (end - k > 1) {
      const middle = (k + end) >> 1;
      if (sums[middle] <= u) k = middle;
      else end = middle;
    }
    // state = floor(state / 2^24) * count + u - start, in parts that stay below 2^53.
    const count = sums[k + 1] - sums[k];
    const top = Math.floor(this.high / 2 ** 16) * count; // times 2^24
    const middle = (this.high % 2 ** 16) * count * 2 ** 8;
    const bottom = Math.floor(this.low / TOTAL) * count + u - sums[k];
    const lower = (top % 2 ** 8) * TOTAL + middle + bottom;
    this.low = lower % 2 ** 32;
    this.high = Math.floor(top / 2 ** 8) + Math.floor(lower / 2 ** 32);
    this.refill();
    return k;
  }

  /**
   * The symbols of one band, given the table of each.
   * @param {ArrayLike<number>} indices
   * @returns {Int32Array}
   */
  band(indices) {
    const { sums } = this.tables;
    // Places sorted by table, their order kept within one.
    const begins = new Int32Array(sums.length + 1);
    for (let i = 0; i < indices.length; i++) begins[indices[i] + 1]++;
    for (let t = 0; t < sums.length; t++) begins[t + 1] += begins[t];
    const order = new Int32Array(indices.length);
    const next = begins.slice();
    for (let i = 0; i < indices.length; i++) order[next[indices[i]]++] = i;

    const symbols = new Int32Array(indices.length);
    /** @type {number[]} */
    const beyond = [];
    for (let t = 0; t < sums.length; t++) {
      const last = sums[t].length - 2;
      const reach = (last - 1) / 2;
      for (let at = begins[t]; at < begins[t + 1]; at++) {
        const k = this.entry(sums[t]);
        symbols[order[at]] = k < last ? k - reach : reach; // what is beyond keeps its reach until it is read
        if (k === last) beyond.push(order[at]);
      }
    }
    if (beyond.length) this.readBeyond(symbols, Int32Array.from(beyond).sort());
    return symbols;
  }

  /**
   * What lies beyond the tables: its excess as its bit length, its lower bits, its sign.
   * @param {Int32Array} symbols
   * @param {Int32Array} places ascending
   */
  readBeyond(symbols, places) {
    this.escapes += places.length;
    const exponents = places.map(() => this.entry(EXPONENTS));
    const excess = new Int32Array(places.length).fill(1);
    for (let bit = exponents.reduce((a, b) => Math.max(a, b)) - 1; bit >= 0; bit--) {
      for (let i = 0; i < excess.length; i++) {
        if (exponents[i] > bit) excess[i] = 2 * excess[i] + this.entry(BITS);
      }
    }
    places.forEach((place, i) => {
      const magnitude = symbols[place] + excess[i];
      symbols[place] = this.entry(BITS) ? -magnitude : magnitude;
    });
  }

  /**
   * Check that the stream held what was read and nothing more.
   * @throws {FormatError}
   */
  finish() {
    if (this.left || this.high || this.low) {
      throw new FormatError("a stream does not end where its symbols do");
    }
  }
}
