// <fic-image src="face.fic" alt="...">: a .fic file shown as <img> shows others. `width` and `height` are CSS's.

import { draw } from "./drawing.js";

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
    this.told = ""; // the title that is ours
    this.root = this.attachShadow({ mode: "open" });
    this.root.adoptedStyleSheets = [style];
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
    else if (value !== null) this.load(value);
  }

  /** Fires `load`, or `error` with the reason in `detail`. @param {string} source */
  async load(source) {
    const wanted = () => source === this.getAttribute("src"); // it may have another one by now
    try {
      // Outside the line: a server that never answers holds up its own picture alone.
      const response = await fetch(new URL(source, document.baseURI));
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      const data = new Uint8Array(await response.arrayBuffer());
      const drawn = line.then(() => (wanted() ? draw(data) : undefined));
      line = drawn.catch(() => {});
      const canvas = (await drawn)?.canvas;
      if (!canvas || !wanted()) return;
      if (this.told) this.removeAttribute("title");
      this.root.replaceChildren(canvas);
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      if (!wanted()) return;
      const reason = error instanceof Error ? error.message : String(error);
      this.title = this.told = `${source}: ${reason}`;
      this.root.replaceChildren(this.getAttribute("alt") ?? "");
      this.dispatchEvent(new CustomEvent("error", { detail: reason }));
    }
  }
}

customElements.define("fic-image", FicImage);
