// Small pictures, which are coded at twice their size.

/**
 * A picture of half the width and height: the mean of each 2x2 pixels, a half rounded up.
 * @param {ImageData} image
 */
export function halved(image) {
  const half = new ImageData(image.width / 2, image.height / 2);
  const row = 4 * image.width;
  for (let to = 0, y = 0; y < half.height; y++) {
    for (let from = 2 * y * row; from < 2 * y * row + row; from += 4) {
      for (let colour = 0; colour < 4; colour++, from++, to++) {
        const sum = image.data[from] + image.data[from + 4] + image.data[from + row] + image.data[from + row + 4];
        half.data[to] = (sum + 2) >> 2;
      }
    }
  }
  return half;
}
