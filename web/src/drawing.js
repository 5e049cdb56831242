// A file on a canvas.

import { openContainer } from "./codec.js";
import { ImageError } from "./errors.js";
import { show } from "./library.js";

/**
 * The picture in the bytes of a .fic file, on a canvas of its size.
 * @param {Uint8Array} data
 * @throws {FacecodecError}
 */
export async function draw(data) {
  const { width, height } = openContainer(data);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  // Browsers have limits of their own, beyond which a canvas stays blank without a word.
  context?.fillRect(0, 0, 1, 1);
  if (!context || context.getImageData(0, 0, 1, 1).data[3] === 0) {
    throw new ImageError(
      `${width}x${height} is more than this browser can show: decode it with facecodec decode`,
    );
  }
  const { codec, file, image } = await show(data);
  context.putImageData(image, 0, 0);
  return { codec, file, canvas };
}
