// Build it: a network's settings, and its shapes, parameters and multiply-adds. Needs nothing but this page.

import { draw, labelled, make, select } from "./page.js";
import { FAMILIES, Impossible, trace } from "./shapes.js";

/** @typedef {import("./shapes.js").Field} Field */
/** @typedef {import("./shapes.js").Trace} Trace */

/** @param {HTMLElement} place @param {string} first the family at the beginning */
export function build(place, first = "resnet") {
  const families = select(
    Object.entries(FAMILIES).map(([key, { title }]) => [key, title]),
    first,
    () => change(),
  );
  const form = make("div", { class: "lab-settings" });
  const message = make("p", { class: "lab-verdict", role: "status" });
  const result = make("div", { class: "lab-result" });
  /** @type {Record<string, () => any>} */
  let values = {};

  function change() {
    const entries = FAMILIES[families.value].fields.map((field) => /** @type {const} */ ([field.key, control(field, show)]));
    values = Object.fromEntries(entries.map(([key, { value }]) => [key, value]));
    form.replaceChildren(...entries.map(([, { element }]) => element));
    show();
  }

  function show() {
    const settings = Object.fromEntries(Object.entries(values).map(([key, value]) => [key, value()]));
    try {
      const traced = trace(families.value, settings);
      const { parameters, multiplyAdds, stages } = traced;
      const [, size] = stages[stages.length - 2].shape.slice(-2);
      message.textContent =
        `${parameters.toLocaleString("en")} parameters, ${multiplyAdds.toLocaleString("en")} multiply-adds an image; ` +
        `the head averages maps of ${size}×${size}.`;
      result.replaceChildren(picture(traced), table(traced));
      result.classList.remove("lab-stale");
    } catch (error) {
      if (!(error instanceof Impossible)) throw error;
      message.textContent = error.message;
      result.classList.add("lab-stale");
    }
    message.classList.toggle("lab-impossible", result.classList.contains("lab-stale"));
  }

  place.replaceChildren(
    make("div", { class: "lab-build" }, make("div", { class: "lab-choices" }, labelled("Network", families)), form, message, result),
  );
  change();
}

/** A control for a setting, and how to read it. @param {Field} field @param {() => void} onChange */
function control(field, onChange) {
  const { label, kind, value, options, min, max } = field;
  if (kind === "choice") {
    const element = select(options ?? [], value, onChange);
    return { element: labelled(label, element), value: () => element.value };
  }
  if (kind === "switch") {
    const box = make("input", { type: "checkbox", checked: value, onchange: onChange });
    return { element: make("label", { class: "lab-field lab-switch" }, box, ` ${label}`), value: () => box.checked };
  }
  if (kind === "number") {
    const element = make("input", { type: "number", value, min, max, step: 1, oninput: onChange });
    return { element: labelled(label, element), value: () => element.valueAsNumber };
  }
  const element = make("input", { type: "text", value: value.join(", "), inputmode: "numeric", oninput: onChange });
  return {
    element: labelled(label, element),
    value: () => element.value.split(",").map((text) => (text.trim() ? Number(text) : NaN)),
  };
}

/** @param {number[]} shape */
const times = (shape) => shape.join("×");

/** The trace as in the chapters. @param {Trace} trace */
function table({ input, stages, parameters, multiplyAdds }) {
  const count = (/** @type {number} */ number) => number.toLocaleString("en");
  const rows = [
    ["input", times(input), "", "", ""],
    ...stages.map(({ name, shape, parameters, multiplyAdds, field }) => [
      name,
      times(shape),
      count(parameters),
      count(multiplyAdds),
      field === Infinity ? "all" : String(field),
    ]),
    ["total", "", count(parameters), count(multiplyAdds), ""],
  ];
  const head = ["stage", "output", "parameters", "multiply-adds", "receptive field"];
  return make(
    "div",
    { class: "lab-scroll", tabindex: 0, role: "region", "aria-label": "Trace of the network" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows.map(([name, ...cells]) =>
        make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((text) => make("td", {}, text))))),
    ),
  );
}

const [HIGH, GAP] = [150, 14];

/** Every stage's output as a box: as high as the maps, on a scale of logarithms, and as wide as there are channels.
 * @param {Trace} trace */
function picture({ input, stages }) {
  const shapes = [{ name: "input", shape: input }, ...stages];
  const largest = Math.log2(input[1] + 1);
  let left = 4;
  const boxes = shapes.map(({ name, shape: [channels, size = 1] }) => {
    const height = 6 + (HIGH - 6) * (Math.log2(size + 1) / largest);
    const width = 6 + 5 * Math.log2(channels);
    const middle = left + Math.max(width, 34) / 2;
    const top = 24 + (HIGH - height) / 2;
    left += Math.max(width, 34) + GAP;
    return draw(
      "g",
      {},
      draw("rect", { class: "lab-box", x: middle - width / 2, y: top, width, height, rx: 2 }),
      draw("text", { x: middle, y: top - 6, "text-anchor": "middle" }, String(channels)),
      draw("text", { x: middle, y: top + height + 14, "text-anchor": "middle" }, size > 1 || name !== "head" ? `${size}²` : ""),
      draw("text", { transform: `translate(${middle + 3} ${HIGH + 112}) rotate(-90)` }, name),
    );
  });
  const label = `The network as a row of boxes: ${shapes.map(({ name, shape }) => `${name} ${times(shape)}`).join(", ")}.`;
  const [width, height] = [left, HIGH + 122];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...boxes);
  return make("div", { class: "lab-scroll", tabindex: 0, role: "region", "aria-label": "Drawing of the network" }, svg);
}
