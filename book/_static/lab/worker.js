// A race off the page: two networks learn from the same batches, and tell how far they are.

import { Network, generator, softmax } from "./engine.js";
import { HELD, LAST, ROWS, WINDOW } from "./settings.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {{pixels: Uint8Array, labels: Uint8Array, mean: number, deviation: number}} Images the last ten are kept apart */
/**
 * How far a network is.
 * @typedef {object} Progress
 * @property {number[]} losses after each step since the last report, the mean over the last steps
 * @property {number[]} errors likewise
 * @property {number[]} gradients for each layer, the norm
 * @property {number[]} sizes for each layer, the root mean square of what left it
 * @property {{best: number, probability: number}[]} answers for each image kept apart
 */
/** @typedef {{race: number, step: number, plain: Progress, residual: Progress, finished: boolean}} Report */

const [WIDTH, CLASSES] = [32, 10];
const [TURN, MOST] = [50, 5]; // milliseconds from report to report, and steps between them: a shallow race can be watched too

class Runner {
  /** @param {Network} network */
  constructor(network) {
    this.network = network;
    /** @type {{loss: number, error: number}[]} */
    this.recent = [];
    /** @type {Pick<Progress, "losses" | "errors">} */
    this.news = { losses: [], errors: [] };
  }

  /** @param {Float32Array} x @param {Uint8Array} labels @param {number} rate */
  learn(x, labels, rate) {
    this.recent.push(this.network.learn(x, labels, rate));
    if (this.recent.length > WINDOW) this.recent.shift();
    this.news.losses.push(this.recent.reduce((sum, { loss }) => sum + loss, 0) / this.recent.length);
    this.news.errors.push(this.recent.reduce((sum, { error }) => sum + error, 0) / this.recent.length);
  }

  /** @param {Float32Array} held @returns {Progress} */
  report(held) {
    const [gradients, sizes] = [this.network.gradients(), this.network.sizes()]; // before other images go through
    const { probabilities } = softmax(this.network.forward(held, HELD, false), HELD);
    const answers = Array.from({ length: HELD }, (_, i) => {
      const mine = probabilities.subarray(i * CLASSES, (i + 1) * CLASSES);
      const probability = Math.max(...mine);
      return { best: mine.indexOf(probability), probability };
    });
    const { losses, errors } = this.news;
    this.news = { losses: [], errors: [] };
    return { losses, errors, gradients, sizes, answers };
  }
}

/** A plain network and its residual twin, from the same weights, on the same batches. */
class Race {
  /** @param {Settings} settings @param {Images} images */
  constructor({ depth, norm, weights, span, rate, seed }, { pixels, labels, mean, deviation }) {
    this.rate = rate;
    this.labels = labels;
    this.inputs = pixels.length / labels.length;
    this.pixels = Float32Array.from(pixels, (value) => (value - mean) / deviation);
    this.held = this.pixels.subarray(-HELD * this.inputs);
    this.step = 0;
    this.random = generator(seed);
    const first = this.random() * 2 ** 32;
    const widths = [this.inputs, ...Array(depth - 1).fill(WIDTH), CLASSES];
    const twin = (/** @type {number} */ around) => {
      const network = new Network({ widths, norm, span: around }, ROWS);
      network.begin(weights, generator(first));
      return new Runner(network);
    };
    this.plain = twin(0);
    this.residual = twin(span);
    this.order = Array.from({ length: labels.length - HELD }, (_, i) => i);
    this.next = this.order.length; // place in this order; none is left, so the first batch shuffles
  }

  learn() {
    const { order, inputs, pixels } = this;
    if (this.next + ROWS > order.length) {
      for (let i = order.length - 1; i > 0; i -= 1) {
        const j = Math.floor(this.random() * (i + 1));
        [order[i], order[j]] = [order[j], order[i]];
      }
      this.next = 0;
    }
    const batch = order.slice(this.next, this.next + ROWS);
    const x = new Float32Array(ROWS * inputs);
    batch.forEach((image, row) => x.set(pixels.subarray(image * inputs, (image + 1) * inputs), row * inputs));
    const labels = Uint8Array.from(batch, (image) => this.labels[image]);
    this.plain.learn(x, labels, this.rate);
    this.residual.learn(x, labels, this.rate);
    this.next += ROWS;
    this.step += 1;
  }
}

/** @type {Images} */
let images;
/** @type {Race} */
let race;
let number = 0; // of the race: what is reported of an earlier one comes too late
let running = false;
let timer = 0; // of the next turn

function report() {
  const finished = race.step >= LAST;
  const [plain, residual] = [race.plain.report(race.held), race.residual.report(race.held)];
  self.postMessage(/** @type {Report} */ ({ race: number, step: race.step, plain, residual, finished }));
}

/** Some steps, a report, and time to listen. */
function turn() {
  if (!running) return;
  const began = performance.now();
  for (let i = 0; i < MOST && race.step < LAST && performance.now() - began < TURN; i += 1) race.learn();
  running = race.step < LAST;
  report();
  timer = setTimeout(turn, Math.max(0, TURN - (performance.now() - began)));
}

/** @typedef {{images: Images} | {settings: Settings, race: number} | {run: boolean} | {step: true}} Order */

self.onmessage = (/** @type {MessageEvent<Order>} */ { data }) => {
  if ("images" in data) {
    images = data.images;
  } else if ("settings" in data) {
    race = new Race(data.settings, images);
    number = data.race;
    report();
  } else if ("step" in data) {
    if (race.step < LAST) race.learn();
    report();
  } else if (data.run !== running) {
    running = data.run;
    clearTimeout(timer);
    turn();
  }
};
