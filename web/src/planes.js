// Numbers by channel, row and column, and their parts.

/**
 * @template {Int32Array | Float32Array | Float64Array} T
 * @typedef {{channels: number, height: number, width: number, values: T}} Planes
 */

/**
 * Rows or columns from `begin` to before `end`.
 * @typedef {{begin: number, end: number}} Range
 */

/**
 * A length in parts of a size, the last maybe shorter.
 * @param {number} length
 * @param {number} size
 * @returns {Range[]}
 */
export function bands(length, size) {
  const parts = [];
  for (let begin = 0; begin < length; begin += size) parts.push({ begin, end: Math.min(begin + size, length) });
  return parts;
}

/**
 * Some rows and columns of all channels, copied.
 * @template {Int32Array | Float32Array | Float64Array} T
 * @param {Planes<T>} whole
 * @param {Range} rows
 * @param {Range} columns
 * @returns {Planes<T>}
 */
export function cut({ channels, height, width, values }, rows, columns) {
  const [high, wide] = [rows.end - rows.begin, columns.end - columns.begin];
  const part = /** @type {T} */ (values.slice(0, channels * high * wide));
  for (let c = 0, to = 0; c < channels; c++) {
    for (let i = rows.begin; i < rows.end; i++, to += wide) {
      const line = (c * height + i) * width;
      part.set(values.subarray(line + columns.begin, line + columns.end), to);
    }
  }
  return { channels, height: high, width: wide, values: part };
}

/**
 * Put a part, as `cut` gives it, into the whole, whose channels from `first` on become the part's.
 * @param {Planes<Int32Array | Float32Array | Float64Array>} whole
 * @param {ArrayLike<number>} part
 * @param {Range} rows
 * @param {Range} columns
 * @param {number} first
 */
export function paste({ height, width, values }, part, rows, columns, first = 0) {
  const [high, wide] = [rows.end - rows.begin, columns.end - columns.begin];
  for (let from = 0, c = first; from < part.length; c++) {
    for (let i = rows.begin; i < rows.end; i++) {
      const line = (c * height + i) * width;
      for (let j = columns.begin; j < columns.end; j++) values[line + j] = part[from++];
    }
  }
}
