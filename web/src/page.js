// The page: drop .fic files on it and see them. Everything that it needs is in it, and it sends nothing anywhere.

import { breathe } from "./breathe.js";
import { draw } from "./drawing.js";
import { FacecodecError } from "./errors.js";
import { embedded } from "./library.js";

/** @param {HTMLElement} list where the pictures go */
export function startPage(list) {
  /** @type {Promise<unknown>} */
  let line = Promise.resolve();
  let waiting = 0;

  /** @param {{name: string, bytes: () => Promise<Uint8Array>}[]} files */
  const add = (files) => {
    for (const file of files) {
      const entry = document.createElement("li");
      entry.append(text("strong", file.name), text("p", "reading"));
      list.append(entry);
      list.dataset.waiting = String(++waiting);
      line = line
        .then(() => fill(entry, file))
        .then(breathe)
        .then(() => (list.dataset.waiting = String(--waiting)));
    }
  };

  /** @param {FileList | null | undefined} files */
  const addFiles = (files) =>
    add([...(files ?? [])].map((file) => ({ name: file.name, bytes: () => bytesOf(file) })));

  const input = /** @type {HTMLInputElement} */ (document.getElementById("files"));
  input.addEventListener("change", () => {
    addFiles(input.files);
    input.value = ""; // so that the same file may be chosen again
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    addFiles(event.dataTransfer?.files);
  });

  list.dataset.waiting = "0";
  add(
    [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("script[data-file]"))].map(
      (element) => ({ name: element.dataset.file ?? "", bytes: async () => embedded(element) }),
    ),
  );
  // Of a page that `facecodec view` serves: as long as this stands open, the server stays.
  const alive = document.querySelector("link[rel=alive]")?.getAttribute("href");
  if (alive) new EventSource(alive);
}

/** @param {File} file */
const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());

/**
 * @param {HTMLElement} entry
 * @param {{name: string, bytes: () => Promise<Uint8Array>}} file
 */
async function fill(entry, { name, bytes }) {
  try {
    const data = await bytes();
    const { codec, file, canvas } = await draw(data);
    canvas.setAttribute("role", "img");
    canvas.ariaLabel = name;
    const pixels = file.width * file.height;
    const facts = [
      `${file.width}x${file.height}, quality ${1 + file.quality / 32}`,
      `${data.length} bytes, ${((8 * data.length) / pixels).toFixed(3)} bits per pixel`,
      `${Math.round((3 * pixels) / data.length)} times smaller than its pixels`,
      `model ${codec.name} (${file.fingerprint})`,
      ...file.chunks.map((chunk) => `${chunk.type}: ${chunk.data.length} bytes`),
    ];
    const save = text("button", "Save PNG");
    save.addEventListener("click", () => savePng(canvas, name.replace(/\.fic$/i, "") + ".png"));
    entry.replaceChildren(canvas, text("strong", name), ...facts.map((fact) => text("p", fact)), save);
  } catch (error) {
    const reason =
      error instanceof FacecodecError ? error.message : `internal error, please report it: ${error}`;
    const told = text("p", reason);
    told.className = "error";
    entry.replaceChildren(text("strong", name), told);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {string} name
 */
function savePng(canvas, name) {
  canvas.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}

/**
 * @param {string} tag
 * @param {string} content
 */
function text(tag, content) {
  const element = document.createElement(tag);
  element.textContent = content;
  return element;
}
