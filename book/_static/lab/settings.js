// What can be chosen for a race, and how an address says it.

/**
 * @typedef {object} Settings
 * @property {number} depth layers with weights, the first and the last among them
 * @property {import("./engine.js").Norm} norm
 * @property {import("./engine.js").Weights} weights
 * @property {number} span how many layers a shortcut of the residual twin goes around
 * @property {number} rate
 * @property {number} seed
 */

export const [ROWS, HELD] = [64, 10]; // images in a batch; images kept apart
export const WINDOW = 16; // steps that loss and error are averaged over
export const LAST = 2000; // the step that ends a race
export const MOST = { depth: 100, seed: 9999 };

/** @type {Settings} */
export const FIRST = { depth: 56, norm: "batch", weights: "he", span: 2, rate: 0.05, seed: 0 };

/** @type {Record<"norm" | "weights" | "span" | "rate", [string, string][]>} value and label */
export const CHOICES = {
  norm: [["batch", "yes"], ["none", "no"]],
  weights: [["default", "PyTorch's default"], ["he", "He's"], ["zero", "He's, each branch zero"]],
  span: [["1", "1 layer"], ["2", "2 layers"], ["4", "4 layers"]],
  rate: ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5"].map((rate) => [rate, rate]),
};

/** Races to begin with. @type {[string, Partial<Settings>][]} */
export const TRIES = [
  ["8 layers", { depth: 8 }],
  ["56 layers", {}],
  ["56, no batch norm", { norm: "none" }],
  ["56, no batch norm, branches zero", { norm: "none", weights: "zero", rate: 0.01 }],
];

/** @param {Settings} settings */
export function told({ depth, norm, weights, span, rate, seed }) {
  const start = CHOICES.weights.find(([value]) => value === weights)?.[1];
  return `${depth} layers, batch norm: ${norm === "batch" ? "yes" : "no"}, ${start}, around ${span}, rate ${rate}, seed ${seed}`;
}

/** The settings that an address names; what it does not name, or names wrongly, is as at first. @param {URLSearchParams} query */
export function read(query) {
  const settings = { ...FIRST };
  for (const name of /** @type {(keyof typeof CHOICES)[]} */ (Object.keys(CHOICES))) {
    const value = query.get(name) ?? "";
    if (CHOICES[name].some(([choice]) => choice === value)) Object.assign(settings, { [name]: like(FIRST[name], value) });
  }
  settings.depth = whole(query.get("depth"), 2, MOST.depth) ?? FIRST.depth;
  settings.depth -= settings.depth % 2;
  settings.seed = whole(query.get("seed"), 0, MOST.seed) ?? FIRST.seed;
  return settings;
}

/** @param {string | number} example @param {string} text */
export const like = (example, text) => (typeof example === "number" ? Number(text) : text);

/** @param {string | null} text @param {number} least @param {number} most */
export function whole(text, least, most) {
  const value = Number(text || NaN);
  return Number.isInteger(value) && value >= least && value <= most ? value : undefined;
}

/** An address of the same page that names the settings. @param {URL} page @param {Settings} settings @param {string} place */
export function address(page, settings, place) {
  const url = new URL(page);
  for (const [name, value] of Object.entries(settings)) url.searchParams.set(name, String(value));
  url.hash = place;
  return url;
}
