// How networks look on a page: a colour and a mark for each family, as in the figures; and an image with what two networks say.

import { make, percent, thumbnail } from "./page.js";

export const MARKS = { plain: "▲", residual: "●", inception: "■", dense: "◆", other: "✚" };
/** @typedef {keyof typeof MARKS} Look */

/** Of which family a network is. @param {string} name @returns {"plain" | "residual" | "inception" | "dense"} */
export function family(name) {
  if (name.startsWith("plain")) return "plain";
  if (name.startsWith("googlenet")) return "inception";
  return name.startsWith("densenet") ? "dense" : "residual";
}

/** An image, its class, and what some networks take it for. */
export class Picture {
  /** @param {Uint8Array} pixels of a square @param {number} label @param {string[]} classes
   * @param {{name: string, look: Look}[]} networks */
  constructor(pixels, label, classes, networks) {
    this.label = label;
    this.classes = classes;
    this.said = networks.map(() => make("span"));
    const lines = networks.map(({ name, look }, i) => {
      const mark = make("span", { class: `lab-mark-${look}`, "aria-hidden": "true" }, MARKS[look]);
      return make("span", {}, mark, make("span", { class: "visually-hidden" }, `${name}:`), " ", this.said[i]);
    });
    const picture = thumbnail(pixels, Math.sqrt(pixels.length), classes[label]);
    this.element = make("li", {}, picture, make("strong", {}, classes[label]), ...lines);
  }

  /** @param {{best: number, probability: number}[]} answers in the order of the networks */
  show(...answers) {
    answers.forEach(({ best, probability }, i) => {
      const right = best === this.label ? " ✓" : "";
      this.said[i].textContent = best < 0 ? "?" : `${this.classes[best]} ${percent(probability, 0)}${right}`;
      this.said[i].classList.toggle("lab-best", best === this.label);
    });
  }
}
