// Take out, put in: switches for a network's blocks, links or paths, and its accuracy without those that are off.

import { KINDS } from "./cuts.js";
import { family } from "./families.js";
import { SIZE, describe, load } from "./models.js";
import { draw, explain, labelled, make, percent, select, startButton, thumbnail, withRuntime } from "./page.js";

/** @typedef {{network: string, out: string[], answers: number[], right: number}} Result */
/** @typedef {import("./cuts.js").Kind} Kind */
/** @typedef {import("./models.js").Contents} Contents */
/** @typedef {import("./models.js").Network} Network */

/** @param {HTMLElement} place @param {string} first the network at the beginning @param {keyof typeof KINDS} kind what is taken out */
export function takeOut(place, first = "resnet20", kind = "blocks") {
  return startButton(place, withRuntime(first), async (onProgress) => {
    const contents = await describe();
    const network = await load(first, onProgress);
    return new Bench(contents, network, KINDS[kind]).element;
  });
}

class Bench {
  /** @param {Contents} contents @param {Network} network @param {Kind} kind */
  constructor(contents, network, kind) {
    this.contents = contents;
    this.network = network;
    this.kind = kind;
    this.candidates = contents.networks.filter(({ switches }) => switches.some((name) => kind.pattern.test(name)));
    /** @type {string[]} What can be taken out of the network here. */
    this.parts = [];
    /** @type {Result[]} */
    this.results = [];
    this.working = new AbortController();
    /** @type {HTMLInputElement[]} */
    this.boxes = [];

    this.networks = select(
      this.candidates.map(({ name, title }) => [name, title]),
      network.description.name,
      () => this.change(),
    );
    this.blocks = make("div", { class: "lab-blocks" });
    this.message = make("p", { class: "lab-verdict", role: "status" });
    this.bar = make("progress", { max: 1, value: 0, "aria-label": "images tried" });
    this.each = make("button", { type: "button", onclick: () => this.everyOne() }, "Each alone, in turn");
    this.more = make("button", { type: "button", onclick: () => this.oneMore() }, "One more each time, at random");
    const { series } = kind;
    this.telling = series ? [make("button", { type: "button", onclick: () => this.series(series.outs(this.parts)) }, series.title)] : [];
    this.all = make("button", { type: "button", onclick: () => this.putBack() }, "All back in");
    this.stop = make("button", { type: "button", onclick: () => this.giveUp() }, "Stop");
    this.chart = make("div", { class: "lab-chart" });
    this.changed = make("div", {});
    this.rows = make("tbody");
    this.element = make(
      "div",
      { class: "lab-takeout" },
      ...(this.candidates.length > 1 ? [make("div", { class: "lab-choices" }, labelled("Network", this.networks))] : []),
      this.blocks,
      make("div", { class: "lab-tools" }, ...this.telling, this.each, this.more, this.all, this.stop, this.bar),
      this.message,
      this.chart,
      this.changed,
      make(
        "details",
        {},
        make("summary", {}, "The measurements as a table"),
        make(
          "div",
          { class: "lab-scroll", tabindex: 0, role: "region", "aria-label": "The measurements" },
          make(
            "table",
            {},
            make("thead", {}, make("tr", {}, ...["network", "taken out", "right"].map((text) => make("th", {}, text)))),
            this.rows,
          ),
        ),
      ),
    );
    this.setUp();
  }

  /** Another network. */
  async change() {
    this.working.abort();
    this.message.textContent = "Loading …";
    try {
      this.network = await load(this.networks.value, (part) => (this.bar.value = part));
      this.setUp();
    } catch (error) {
      this.message.textContent = explain(error);
      this.networks.value = this.network.description.name;
    }
  }

  /** Switches for the network's parts. */
  setUp() {
    const { description } = this.network;
    this.parts = description.switches.filter((name) => this.kind.pattern.test(name));
    this.boxes = this.parts.map(() => make("input", { type: "checkbox", checked: true, onchange: () => this.measure() }));
    this.blocks.replaceChildren(...this.kind.layout(description, (name) => this.boxes[this.parts.indexOf(name)]));
    this.measure();
  }

  giveUp() {
    if (!this.message.textContent?.endsWith("…")) return; // nothing is being measured
    this.working.abort();
    this.message.textContent = "Stopped.";
  }

  putBack() {
    this.boxes.forEach((box) => (box.checked = true));
    this.measure();
  }

  /** How many images are right without what is switched off; an earlier measurement is given up. */
  async measure() {
    this.working.abort();
    this.working = new AbortController();
    await this.show(this.working.signal);
  }

  /** Every part alone taken out, one after the other. */
  everyOne() {
    return this.series(this.parts.map((name) => [name]));
  }

  /** One part more each time, until all are out. */
  oneMore() {
    const order = [...this.parts];
    for (let i = order.length - 1; i > 0; i -= 1) {
      const j = Math.floor(Math.random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return this.series(order.map((_, i) => order.slice(0, i + 1)));
  }

  /** Measurements one after the other. @param {string[][]} outs what is out in each */
  async series(outs) {
    this.working.abort();
    this.working = new AbortController();
    const { signal } = this.working;
    for (const out of outs) {
      if (signal.aborted) return;
      this.boxes.forEach((box, i) => (box.checked = !out.includes(this.parts[i])));
      await this.show(signal);
    }
  }

  /** Measure what the switches say, or find it among the results. @param {AbortSignal} signal */
  async show(signal) {
    const { name, title, switches } = this.network.description;
    const out = this.parts.filter((_, i) => !this.boxes[i].checked);
    const without = out.length ? `${title} without ${this.list(out)}` : `${title}, all ${this.kind.many} in`;
    try {
      let result = this.found(name, out);
      if (!result) {
        this.message.textContent = `${without}: …`;
        const answers = await this.network.answers(switches.map((each) => !out.includes(each)), (part) => (this.bar.value = part), signal);
        const right = answers.filter((answer, i) => answer === this.contents.labels[i]).length;
        result = { network: name, out, answers, right };
        this.results.push(result);
        this.drawResults();
      }
      const total = this.contents.labels.length;
      this.message.textContent = `${without}: ${result.right} of ${total} right, ${percent(result.right / total)}.`;
      this.drawChanged(result, this.found(name, []) ?? result);
    } catch (error) {
      if (!signal.aborted) this.message.textContent = explain(error);
    }
  }

  /** An earlier result. @param {string} network @param {string[]} out */
  found(network, out) {
    return this.results.find((result) => result.network === network && `${result.out}` === `${out}`);
  }

  /** What is out, as long as one can read it. @param {string[]} out */
  list(out) {
    return out.length > 8 ? `${out.length} of ${this.parts.length} ${this.kind.many}` : out.map(this.kind.readable).join(", ");
  }

  drawResults() {
    const total = this.contents.labels.length;
    const last = this.results[this.results.length - 1];
    const width = Math.max(280, Math.min(560, this.chart.clientWidth));
    this.chart.replaceChildren(chart(this.results, this.candidates, this.kind, total, width));
    const title = this.candidates.find(({ name }) => name === last.network)?.title ?? "";
    const cells = [title, last.out.map(this.kind.readable).join(", ") || "nothing", `${last.right} of ${total}`];
    this.rows.prepend(make("tr", {}, ...cells.map((text) => make("td", {}, text))));
  }

  /** The first images that are answered in another way than by the whole network. @param {Result} result @param {Result} whole */
  drawChanged({ answers }, whole) {
    const { labels, classes } = this.contents;
    const changed = labels.map((_, i) => i).filter((i) => answers[i] !== whole.answers[i]);
    if (!changed.length) return this.changed.replaceChildren();
    const lost = changed.filter((i) => whole.answers[i] === labels[i]).length;
    const won = changed.filter((i) => answers[i] === labels[i]).length;
    const count = `${changed.length} answers have changed: ${lost} that were right, and ${won} are right now.`;
    const items = changed.slice(0, SHOWN).map((i) => {
      const picture = thumbnail(this.network.pixels(i), SIZE, classes[labels[i]]);
      const words = [`${classes[whole.answers[i]]} →`, `${classes[answers[i]]}${answers[i] === labels[i] ? " ✓" : ""}`];
      return make("li", {}, picture, make("strong", {}, classes[labels[i]]), ...words.map((text) => make("span", {}, text)));
    });
    const first = changed.length > SHOWN ? ` The first ${SHOWN}:` : "";
    this.changed.replaceChildren(make("p", {}, count + first), make("ul", { class: "lab-answers" }, ...items));
  }
}

const SHOWN = 10;
const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [300, 50, 12, 30, 44];

/** Accuracy by the number of parts taken out, a point for each measurement and a line through their means.
 * @param {Result[]} results @param {import("./models.js").Description[]} candidates @param {Kind} kind @param {number} total
 * @param {number} width */
function chart(results, candidates, { pattern, many, axis, readable }, total, width) {
  const shown = candidates.filter(({ name }) => results.some((result) => result.network === name));
  const most = Math.max(...shown.map(({ switches }) => switches.filter((each) => pattern.test(each)).length));
  /** @param {number} count */
  const x = (count) => LEFT + (count / most) * (width - LEFT - RIGHT);
  /** @param {number} part */
  const y = (part) => TOP + (1 - part) * (HEIGHT - TOP - BOTTOM);
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    draw("line", { class: "lab-grid", x1: LEFT, x2: width - RIGHT, y1: y(part), y2: y(part) }),
    draw("text", { x: LEFT - 8, y: y(part) + 4, "text-anchor": "end" }, percent(part, 0)),
  ]);
  const each = most > 20 ? 5 : most > 10 ? 2 : 1;
  const ticks = Array.from({ length: Math.floor(most / each) + 1 }, (_, i) => i * each).map((count) =>
    draw("text", { x: x(count), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, String(count)),
  );
  const chance = draw("line", { class: "lab-chance", x1: LEFT, x2: width - RIGHT, y1: y(0.1), y2: y(0.1) });
  const series = shown.flatMap(({ name, title }, i) => {
    const look = family(name);
    const mine = results.filter((result) => result.network === name);
    const counts = [...new Set(mine.map(({ out }) => out.length))].sort((a, b) => a - b);
    const means = counts.map((count) => {
      const rights = mine.filter(({ out }) => out.length === count).map(({ right }) => right);
      return `${x(count)},${y(rights.reduce((a, b) => a + b) / rights.length / total)}`;
    });
    const points = mine.map(({ out, right }) => {
      const point = marker(look, x(out.length), y(right / total));
      point.append(draw("title", {}, `${title} without ${out.map(readable).join(", ") || "nothing"}: ${right} of ${total}`));
      return point;
    });
    const at = LEFT + 8 + (i * (width - LEFT)) / 3;
    return [
      draw("polyline", { class: `lab-${look} lab-line`, points: means.join(" ") }),
      ...points,
      marker(look, at, 12),
      draw("text", { x: at + 10, y: 16 }, title),
    ];
  });
  const heading = `Accuracy on ${total} test images by the number of ${many} taken out; a point is a measurement, the line their mean.`;
  const svg = draw(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": heading },
    ...grid,
    ...ticks,
    chance,
    draw("text", { x: width - RIGHT, y: y(0.1) - 5, "text-anchor": "end" }, "guessing"),
    draw("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, axis),
    ...series,
  );
  return make("figure", {}, svg, make("figcaption", {}, heading));
}

const SHAPES = {
  plain: "M0-6.5L6.5 5H-6.5Z",
  residual: "M-5.5 0A5.5 5.5 0 1 0 5.5 0A5.5 5.5 0 1 0-5.5 0Z",
  inception: "M-5-5H5V5H-5Z",
  dense: "M0-6.5L6.5 0L0 6.5L-6.5 0Z",
};

/** Another shape and colour for every family. @param {keyof typeof SHAPES} kind @param {number} x @param {number} y */
function marker(kind, x, y) {
  const shape = SHAPES[kind];
  return draw("path", { class: `lab-point lab-${kind}`, d: shape, transform: `translate(${x} ${y})` });
}
