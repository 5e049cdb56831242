// What a page gets: `decode` and `show` to call, the element <fic-image>, and the page where it is one.

import "./element.js";
import { startPage } from "./page.js";

export { Codec, decode } from "./codec.js";
export { FacecodecError } from "./errors.js";
export { open, show } from "./library.js";

const list = document.getElementById("facecodec-pictures");
if (list) startPage(list);
