// Where it looks: the class activation maps, exact since global average pooling and a linear layer make the logits.

import { draw, make } from "./page.js";

/** The ten maps of one answer, as buttons; the chosen one lies over the drawing, and a line says what it adds up to. */
export class Where {
  /** @param {string[]} classes @param {HTMLElement} over what the chosen map lies upon */
  constructor(classes, over) {
    this.classes = classes;
    /** @type {number | undefined} The class that the reader chose; the answer, as long as none. */
    this.chosen = undefined;
    this.canvases = classes.map(() => make("canvas", { "aria-hidden": "true" }));
    this.values = classes.map(() => make("span", { class: "lab-value" }));
    this.buttons = classes.map((name, k) =>
      make("button", { type: "button", onclick: () => this.choose(k) }, this.canvases[k], name, this.values[k]),
    );
    this.shown = make("input", { type: "checkbox", checked: true });
    this.shown.addEventListener("change", () => this.refresh());
    this.upon = make("canvas", { class: "lab-upon", "aria-hidden": "true" });
    over.append(this.upon);
    this.words = make("p", { role: "status" });
    this.element = make(
      "section",
      { class: "lab-where", "aria-label": "Where it looks" },
      make("p", { class: "lab-title" }, "Where it looks"),
      make("div", { class: "lab-maps" }, ...this.buttons),
      this.words,
      make("label", {}, this.shown, " over the image"),
    );
    /** @type {{maps: Float32Array[], logits: number[]}} */
    this.latest = { maps: [], logits: [] };
  }

  /** Once more, and the answer is followed again. @param {number} k */
  choose(k) {
    this.chosen = this.chosen === k ? undefined : k;
    this.refresh();
  }

  /** @param {Float32Array} classMaps class after class, of equal size */
  show(classMaps) {
    const each = classMaps.length / this.classes.length;
    const maps = this.classes.map((_, k) => classMaps.subarray(k * each, (k + 1) * each));
    this.latest = { maps, logits: maps.map((map) => map.reduce((sum, value) => sum + value, 0) / each) };
    this.refresh();
  }

  refresh() {
    const { maps, logits } = this.latest;
    const most = Math.max(...maps.map((map) => map.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)));
    const [best, next] = logits.map((_, k) => k).sort((a, b) => logits[b] - logits[a]);
    const k = this.chosen ?? best;
    maps.forEach((map, i) => {
      paint(this.canvases[i], map, most, 1);
      this.values[i].textContent = signed(logits[i]);
      this.buttons[i].setAttribute("aria-pressed", String(i === k));
      this.buttons[i].classList.toggle("lab-best", i === best);
    });
    paint(this.upon, maps[k], most, 0.6);
    this.upon.hidden = !this.shown.checked;
    const parts = [1, -1].map((sign) => maps[k].reduce((sum, value) => sum + (value * sign > 0 ? value : 0), 0) / maps[k].length);
    const other = k === best ? next : best;
    const [more, name] = [logits[k] - logits[other], this.classes[other]];
    const compared = `${Math.abs(more).toFixed(1)} ${more > 0 ? "more" : "less"} than ${name}, ${k === best ? "the next" : "the answer"}`;
    this.words.replaceChildren(
      make("strong", {}, this.classes[k]),
      ` gets ${signed(parts[0])} from the `, key("for"), ` places and ${signed(parts[1])} from the `, key("against"),
      ` ones: a logit of ${signed(logits[k])}, ${compared}.`,
    );
  }
}

/** A square in a map's colour. @param {"for" | "against"} side */
function key(side) {
  const name = side === "for" ? "blue" : "orange";
  return make("span", { class: "lab-key" }, draw("svg", { viewBox: "0 0 1 1" }, draw("rect", { width: 1, height: 1, class: `lab-${side}` })), name);
}

/** With a sign that is as wide as a digit. @param {number} value */
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;

/**
 * A square map: blue where it speaks for its class, orange where against, the stronger the less you see through.
 * @param {HTMLCanvasElement} canvas @param {Float32Array} map @param {number} most @param {number} opacity
 */
function paint(canvas, map, most, opacity) {
  const size = Math.sqrt(map.length);
  if (canvas.width !== size) Object.assign(canvas, { width: size, height: size });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const style = getComputedStyle(canvas);
  const [blue, orange] = ["--blue", "--orange"].map((name) => style.getPropertyValue(name));
  context.clearRect(0, 0, size, size);
  map.forEach((value, i) => {
    context.globalAlpha = most > 0 ? (opacity * Math.abs(value)) / most : 0;
    context.fillStyle = value > 0 ? blue : orange;
    context.fillRect(i % size, Math.floor(i / size), 1, 1);
  });
}
