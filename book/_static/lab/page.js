// Small helpers to build parts of a page, and the frame that all benches share.

import { LoadError, describe } from "./models.js";

/**
 * An element with attributes and contents; a property whose name begins with "on" is a listener.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Record<string, any>} attributes @param {(Node | string)[]} inside
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  put(element, attributes);
  element.append(...inside);
  return element;
}

/** @param {string} tag @param {Record<string, any>} attributes @param {(Node | string)[]} inside @returns {SVGElement} */
export function draw(tag, attributes = {}, ...inside) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  put(element, attributes);
  element.append(...inside);
  return element;
}

/** @param {Element} element @param {Record<string, any>} attributes */
function put(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value));
  }
}

/** Names of elements have to differ on a page with several benches. */
let made = 0;
export const unique = () => `lab-${(made += 1)}`;

/** A label with its control below or, for a switch, behind it. @param {string} text @param {HTMLElement} control */
export function labelled(text, control) {
  return make("label", { class: "lab-field" }, make("span", {}, text), control);
}

/** @param {[string, string][]} options value and label @param {string} chosen @param {() => void} onchange */
export function select(options, chosen, onchange) {
  const items = options.map(([value, text]) => make("option", { value, selected: value === chosen }, text));
  return make("select", { onchange }, ...items);
}

/** A small picture. @param {Uint8Array | Float32Array} pixels from 0 to 255 @param {number} size @param {string} name */
export function thumbnail(pixels, size, name) {
  const canvas = make("canvas", { width: size, height: size, role: "img", "aria-label": name });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(size, size);
  pixels.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** @param {number} part */
export const percent = (part, digits = 1) => `${(100 * part).toFixed(digits)} %`;

/** As one reads it. @param {number} bytes */
const weight = (bytes) => (bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

/**
 * Put a button into a bench's place that loads what is needed, shows how far it is, and then builds the bench; what goes
 * wrong is said there, with a button for another try.
 * @param {HTMLElement} place
 * @param {(contents: import("./models.js").Contents) => number} weigh how many bytes the bench needs
 * @param {(onProgress: (part: number) => void) => Promise<HTMLElement>} build
 */
export async function startButton(place, weigh, build) {
  const message = make("p", { role: "status" });
  const bar = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "loaded" });
  const button = make("button", { type: "button", class: "lab-start" }, "Start the bench");
  button.addEventListener("click", async () => {
    button.disabled = true;
    bar.hidden = false;
    message.textContent = "Loading …";
    try {
      const bench = await build((part) => (bar.value = part));
      place.replaceChildren(bench);
      /** @type {HTMLElement | null} */ (bench.querySelector("select, input, button"))?.focus();
    } catch (error) {
      message.textContent = explain(error);
      button.textContent = "Try again";
      button.disabled = false;
      bar.hidden = true;
    }
  });
  place.replaceChildren(button, bar, message);
  try {
    const bytes = weigh(await describe());
    if (!message.textContent) message.textContent = `Loads ${weight(bytes)}, once. Everything is computed on your device; nothing leaves it.`;
  } catch (error) {
    if (!message.textContent) message.textContent = explain(error);
  }
}

/** The bytes of ONNX Runtime and a network. @param {string} network @returns {(contents: import("./models.js").Contents) => number} */
export const withRuntime = (network) => ({ networks, runtime_bytes }) =>
  runtime_bytes + (networks.find(({ name }) => name === network)?.bytes ?? 0);

/** @param {unknown} error */
export function explain(error) {
  if (error instanceof LoadError) return error.message;
  console.error(error);
  return `This bench does not work in this browser (${error}). The rest of the page does.`;
}
