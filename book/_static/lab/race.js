// Race: a plain network and its residual twin learn side by side, on this device.

import { MARKS, Picture } from "./families.js";
import { LoadError, SIZE, describe, loadRace } from "./models.js";
import { explain, labelled, make, percent, select, startButton } from "./page.js";
import { bars, curves, powers } from "./racecharts.js";
import { CHOICES, FIRST, HELD, LAST, MOST, ROWS, TRIES, WINDOW, address, like, read, told, whole } from "./settings.js";

/** @typedef {import("./racecharts.js").Kind} Kind */
/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {import("./worker.js").Report} Report */

/** @typedef {"gradients" | "sizes"} Quantity */
/** @typedef {Record<Quantity, [number, number]>} Scales least and highest power of ten */

const QUANTITIES = /** @type {Quantity[]} */ (["gradients", "sizes"]);
const KINDS = /** @type {Kind[]} */ (["plain", "residual"]);
const TWINS = KINDS.map((kind) => ({ name: kind, look: kind }));
const HALF = SIZE / 2; // pixels, height and width of an image here
const NOTE = `Error and loss are means over the last ${WINDOW} batches of ${ROWS}, each measured before the step that learns from it. The two networks see the same batches, and start from the same weights; only branches can be zero, so there the plain network keeps He's. A branch is what a shortcut goes around; its output is added to what the shortcut carries. He's weights keep the size of the activations from layer to layer where nothing is added; PyTorch's are smaller. A question mark, or ✗ on a curve: the numbers are too large to go on.`;
const KEPT = 6; // earlier races
const TOP = { losses: [0, 1, 2, 3], errors: [0, 0.25, 0.5, 0.75, 1] };

/** @param {HTMLElement} place @param {string} first settings, as in an address; those of the page's own address go before */
export async function race(place, first = "") {
  const shared = new URLSearchParams(location.search);
  const settings = read(shared.has("depth") ? shared : new URLSearchParams(first));
  place.id ||= "race";
  if (shared.has("depth")) {
    for (let fold = place.closest("details"); fold; fold = fold.parentElement?.closest("details") ?? null) fold.open = true;
  }
  const button = startButton(place, (contents) => contents.race.bytes, async (onProgress) => {
    const contents = await describe();
    const { mean, deviation, bytes } = contents.race;
    const file = await loadRace(onProgress);
    const count = bytes / (HALF ** 2 + 1);
    const images = { labels: file.slice(0, count), pixels: file.slice(count), mean, deviation };
    const bench = new Bench(place, contents.classes, images, { ...settings });
    await bench.ready;
    return bench.element;
  });
  await button;
  if (!shared.has("depth")) return;
  if (document.readyState !== "complete") await new Promise((resolve) => addEventListener("load", resolve));
  // The other benches have their buttons by then; and once more, if what stands above has moved it meanwhile.
  for (const delay of [0, 500]) setTimeout(() => place.scrollIntoView({ behavior: "instant" }), delay);
}

class Bench {
  /**
   * @param {HTMLElement} place @param {string[]} classes @param {import("./worker.js").Images} images
   * @param {Settings} settings
   */
  constructor(place, classes, images, settings) {
    this.place = place;
    this.classes = classes;
    this.settings = settings;
    this.number = 0; // of the race
    this.running = false;
    this.drawing = false;
    /** @type {Report | undefined} */
    this.latest = undefined;
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.ready = new Promise((resolve, reject) => {
      this.worker.addEventListener("message", resolve, { once: true });
      const failed = new LoadError("The program of the race could not be loaded. Look at your connection, and try again.");
      this.worker.addEventListener("error", () => reject(failed), { once: true });
    });
    this.message = make("p", { role: "status" });
    this.spoken = make("p", { role: "status", class: "visually-hidden" });
    this.at = make("p", { class: "lab-verdict" });
    this.start = make("button", { type: "button", class: "lab-start", onclick: () => this.run(!this.running) }, "Start");
    this.one = make("button", { type: "button", onclick: () => this.worker.postMessage({ step: true }) }, "One step");
    this.curves = { losses: make("div", { class: "lab-curve" }), errors: make("div", { class: "lab-curve" }) };
    this.twins = { plain: new Twin("plain"), residual: new Twin("residual") };
    this.pictures = Array.from({ length: HELD }, (_, i) => {
      const image = images.labels.length - HELD + i;
      return new Picture(images.pixels.subarray(image * HALF ** 2, (image + 1) * HALF ** 2), images.labels[image], classes, TWINS);
    });
    this.series = { losses: pair(), errors: pair() };
    this.scales = scales();
    /** @type {HTMLElement[]} */
    this.past = []; // a row for each earlier race, the last first
    this.name = told(settings);
    this.log = make("div", { class: "lab-scroll" });
    this.choices = make("div", { class: "lab-settings" }, ...this.controls());
    this.element = this.build();
    this.worker.addEventListener("message", ({ data }) => this.take(data));
    this.worker.addEventListener("error", ({ message }) => (this.message.textContent = explain(message)));
    this.worker.postMessage({ images });
    this.reset();
  }

  build() {
    const tries = TRIES.map(([name, settings]) =>
      make("button", { type: "button", onclick: () => this.attempt(settings) }, name),
    );
    const reset = make("button", { type: "button", onclick: () => this.reset() }, "Reset");
    const copy = make("button", { type: "button", onclick: () => this.copy() }, "Copy link");
    /** @param {string} caption @param {HTMLElement} inside */
    const figure = (caption, inside) => make("figure", {}, make("figcaption", {}, caption), inside);
    return make(
      "div",
      { class: "lab-race" },
      this.choices,
      make("div", { class: "lab-tools" }, make("span", {}, "Try:"), ...tries),
      make("div", { class: "lab-tools" }, this.start, this.one, reset, copy),
      this.message,
      this.spoken,
      this.at,
      make(
        "div",
        { class: "lab-columns" },
        figure(`Training error, the last ${WINDOW * ROWS} images`, this.curves.errors),
        figure("Training loss on them, in nats", this.curves.losses),
      ),
      this.log,
      make("div", { class: "lab-twins" }, this.twins.plain.element, this.twins.residual.element),
      make("p", {}, `${HELD} test images, which are not trained on, and what the two take them for:`),
      make("ul", { class: "lab-answers" }, ...this.pictures.map((picture) => picture.element)),
      make("p", { class: "lab-note" }, NOTE),
    );
  }

  controls() {
    const { settings } = this;
    const said = make("span", {}, "");
    const tell = () => (said.textContent = `Depth: ${depth.value} layers`);
    const depth = make("input", { type: "range", min: 2, max: MOST.depth, step: 2, value: settings.depth, oninput: tell });
    depth.addEventListener("change", () => this.change("depth", depth.valueAsNumber));
    tell();
    const seed = make("input", { type: "number", min: 0, max: MOST.seed, step: 1, value: settings.seed });
    seed.addEventListener("change", () => {
      seed.value = String(whole(seed.value, 0, MOST.seed) ?? FIRST.seed);
      this.change("seed", seed.valueAsNumber);
    });
    /** @param {keyof typeof CHOICES} name @param {string} label */
    const choice = (name, label) => {
      const control = select(CHOICES[name], String(settings[name]), () => this.change(name, like(FIRST[name], control.value)));
      return labelled(label, control);
    };
    return [
      make("label", { class: "lab-field" }, said, depth),
      choice("norm", "Batch norm"),
      choice("weights", "Initial weights"),
      choice("span", "A shortcut goes around"),
      choice("rate", "Learning rate"),
      labelled("Seed", seed),
    ];
  }

  /** @param {keyof Settings} name @param {string | number} value */
  change(name, value) {
    const running = this.running;
    Object.assign(this.settings, { [name]: value });
    history.replaceState(history.state, "", this.link());
    this.reset();
    this.run(running);
  }

  /** A race from the beginning, with settings as at first but for these. @param {Partial<Settings>} settings */
  attempt(settings) {
    Object.assign(this.settings, FIRST, settings);
    this.choices.replaceChildren(...this.controls());
    history.replaceState(history.state, "", this.link());
    this.reset();
    this.run(true);
  }

  link() {
    return address(new URL(location.href), this.settings, this.place.id);
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.link().href);
      this.message.textContent = "The address of this race is copied.";
    } catch {
      history.replaceState(history.state, "", this.link());
      this.message.textContent = "This browser does not let a page copy. The address of this race is in the address bar: copy it from there.";
    }
  }

  /** Back to the first weights, and the same batches again. */
  reset() {
    this.run(false);
    this.keep();
    this.number += 1;
    this.series = { losses: pair(), errors: pair() };
    this.scales = scales();
    this.name = told(this.settings);
    this.label();
    this.worker.postMessage({ settings: this.settings, race: this.number });
  }

  /** Write down the race that ends, if it was one. */
  keep() {
    const { plain, residual } = this.series.errors;
    if (!plain.length) return;
    const ends = [plain, residual].map((each) => make("td", {}, stands(each)));
    this.past.unshift(make("tr", {}, make("td", {}, this.name), make("td", {}, String(plain.length)), ...ends));
    this.past.length = Math.min(this.past.length, KEPT);
    const heads = ["Earlier races", "steps", "plain", "residual"].map((head) => make("th", { scope: "col" }, head));
    this.log.tabIndex = 0; // to scroll by keyboard
    this.log.replaceChildren(
      make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...this.past)),
    );
  }

  label() {
    this.start.textContent = this.running ? "Pause" : this.series.errors.plain.length ? "Go on" : "Start";
  }

  /** @param {boolean} running */
  run(running) {
    this.running = running;
    this.label();
    this.one.disabled = running;
    this.message.textContent = "";
    this.spoken.textContent = running ? "The race is on." : this.sum();
    this.worker.postMessage({ run: running });
  }

  /** How it stands, for those who do not see the curves. */
  sum() {
    const { plain, residual } = this.series.errors;
    if (!plain.length) return "";
    return `Step ${plain.length}: the plain network's error is ${stands(plain)}, the residual one's ${stands(residual)}.`;
  }

  /** @param {Report} report */
  take(report) {
    if (report.race !== this.number) return;
    this.latest = report;
    for (const kind of KINDS) {
      this.series.losses[kind].push(...report[kind].losses);
      const { losses, errors } = report[kind];
      this.series.errors[kind].push(...errors.map((error, i) => (Number.isFinite(losses[i]) ? error : NaN)));
    }
    this.label();
    if (report.finished && this.running) this.run(false);
    if (!this.running) this.spoken.textContent = this.sum();
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.show();
    });
  }

  show() {
    const { latest, series } = this;
    if (!latest) return;
    this.at.textContent = `Step ${latest.step} of ${LAST}`;
    const width = this.curves.errors.clientWidth; // asked for before anything changes: then it costs nothing
    const narrow = this.twins.plain.places.sizes.clientWidth;
    this.curves.errors.replaceChildren(curves("Training error by step", series.errors, width, TOP.errors, (mark) => percent(mark, 0), 0.9));
    this.curves.losses.replaceChildren(curves("Loss by step", series.losses, width, TOP.losses, (mark) => (mark < 3 ? String(mark) : "≥ 3"), Math.log(10)));
    for (const quantity of QUANTITIES) {
      this.scales[quantity] = powers(this.scales[quantity], KINDS.flatMap((kind) => (lost(series.losses[kind]) ? [] : latest[kind][quantity])));
    }
    for (const kind of KINDS) {
      const [loss, error] = [series.losses[kind].at(-1), series.errors[kind].at(-1)];
      this.twins[kind].show(latest[kind], this.scales, narrow, loss, error);
    }
    this.pictures.forEach((picture, i) => picture.show(latest.plain.answers[i], latest.residual.answers[i]));
  }
}

/** @returns {import("./racecharts.js").Pair} */
const pair = () => ({ plain: [], residual: [] });

/** @param {number[]} losses so far */
const lost = (losses) => losses.length > 0 && !Number.isFinite(losses[losses.length - 1]);

/** @param {number[]} errors so far, not empty */
const stands = (errors) => (lost(errors) ? "overflowed" : percent(errors[errors.length - 1]));

/** @returns {Scales} */
const scales = () => ({ gradients: [-4, 2], sizes: [-2, 2] });

/** What is shown of one of the networks. */
class Twin {
  /** @param {Kind} kind */
  constructor(kind) {
    this.kind = kind;
    this.score = make("p", { class: "lab-score" });
    this.places = { gradients: make("div", { class: "lab-layers" }), sizes: make("div", { class: "lab-layers" }) };
    this.element = make(
      "div",
      {},
      make("p", { class: "lab-verdict" }, make("span", { class: `lab-mark-${kind}` }, MARKS[kind]), ` ${kind}`),
      this.score,
      make("figure", {}, make("figcaption", {}, "Gradient: its norm, by layer"), this.places.gradients),
      make("figure", {}, make("figcaption", {}, "Activations: their root mean square"), this.places.sizes),
    );
  }

  /**
   * @param {import("./worker.js").Progress} progress @param {Scales} scales @param {number} width
   * @param {number} [loss] @param {number} [error]
   */
  show(progress, scales, width, loss, error) {
    const { kind, places } = this;
    const dead = loss !== undefined && !Number.isFinite(loss);
    if (loss === undefined || error === undefined) this.score.textContent = "not trained yet";
    else this.score.textContent = dead ? "its numbers have overflowed" : `error ${percent(error)}, loss ${loss.toFixed(2)}`;
    const label = { gradients: `Norm of the gradient in each layer, ${kind}`, sizes: `Size of the activations of each layer, ${kind}` };
    for (const quantity of QUANTITIES) {
      if (dead) places[quantity].replaceChildren(make("p", { class: "lab-note" }, "no numbers any more"));
      else places[quantity].replaceChildren(bars(label[quantity], kind, progress[quantity], scales[quantity], width));
    }
  }
}
