// <fic-image src="face.fic" alt="...">: a .fic file shown as <img> shows others. `width` and `height` are CSS's.

import { show } from "./library.js";

/** One picture after the other, so that each is there as soon as it can be.
 * @type {Promise<unknown>} */
let line = Promise.resolve();

const style = new CSSStyleSheet();
style.replaceSync(
  ":host { display: inline-block } canvas { display: block; width: 100%; height: auto }",
);

class FicImage extends HTMLElement {
  static observedAttributes = ["src", "alt"];

  constructor() {
    super();
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = 0;
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [style];
    root.append(this.canvas);
  }

  connectedCallback() {
    this.setAttribute("role", "img");
  }

  /**
   * @param {string} name
   * @param {string | null} _
   * @param {string | null} value
   */
  attributeChangedCallback(name, _, value) {
    if (name === "alt") this.ariaLabel = value;
    else if (value !== null) line = line.then(() => this.load(value));
  }

  /** Fires `load`, or `error` with the reason in `detail`. @param {string} source */
  async load(source) {
    if (source !== this.getAttribute("src")) return; // it has another one by now
    try {
      const response = await fetch(new URL(source, document.baseURI));
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      const { image } = await show(new Uint8Array(await response.arrayBuffer()));
      this.canvas.width = image.width;
      this.canvas.height = image.height;
      this.canvas.getContext("2d")?.putImageData(image, 0, 0);
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.title = `${source}: ${reason}`;
      this.shadowRoot?.append(this.getAttribute("alt") ?? "");
      this.dispatchEvent(new CustomEvent("error", { detail: reason }));
    }
  }
}

customElements.define("fic-image", FicImage);
