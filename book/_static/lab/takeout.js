// Take a block out: switches for a network's blocks, and its accuracy without those that are off.

import { describe, load } from "./models.js";
import { draw, explain, labelled, make, percent, select, startButton, withRuntime } from "./page.js";

/** @typedef {{network: string, out: string[], right: number}} Result */
/** @typedef {import("./models.js").Contents} Contents */
/** @typedef {import("./models.js").Network} Network */

/** @param {HTMLElement} place @param {string} first the network at the beginning */
export function takeOut(place, first = "resnet20") {
  return startButton(place, withRuntime(first), async (onProgress) => {
    const contents = await describe();
    const network = await load(first, onProgress);
    return new Bench(contents, network).element;
  });
}

class Bench {
  /** @param {Contents} contents @param {Network} network */
  constructor(contents, network) {
    this.contents = contents;
    this.network = network;
    this.candidates = contents.networks.filter(({ switches }) => switches.length > 0);
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
    this.all = make("button", { type: "button", onclick: () => this.putBack() }, "All back in");
    this.stop = make("button", { type: "button", onclick: () => this.giveUp() }, "Stop");
    this.chart = make("div", { class: "lab-chart" });
    this.list = make("tbody");
    this.element = make(
      "div",
      { class: "lab-takeout" },
      make("div", { class: "lab-choices" }, labelled("Network", this.networks)),
      this.blocks,
      make("div", { class: "lab-tools" }, this.each, this.more, this.all, this.stop, this.bar),
      this.message,
      this.chart,
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
            this.list,
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

  /** Switches for the network's blocks, stage by stage. */
  setUp() {
    const { blocks, switches } = this.network.description;
    /** @type {Map<string, HTMLElement[]>} */
    const stages = new Map();
    this.boxes = switches.map(() => make("input", { type: "checkbox", checked: true, onchange: () => this.measure() }));
    for (const block of blocks) {
      const [stage, i] = block.split(".");
      const box = this.boxes[switches.indexOf(block)];
      const fixed = make("input", { type: "checkbox", checked: true, disabled: true });
      const name = `${stage}, ${Number(i) + 1}`;
      const title = box ? name : `${name} changes the shape: nothing can stand in for it`;
      const label = make("label", { title }, box ?? fixed, ` ${Number(i) + 1}`);
      (box ?? fixed).setAttribute("aria-label", title);
      stages.set(stage, [...(stages.get(stage) ?? []), label]);
    }
    const sets = [...stages].map(([stage, labels]) => make("fieldset", {}, make("legend", {}, stage), ...labels));
    this.blocks.replaceChildren(...sets);
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

  /** How many images are right without the blocks whose switches are off; an earlier measurement is given up. */
  async measure() {
    this.working.abort();
    this.working = new AbortController();
    await this.show(this.working.signal);
  }

  /** Every block alone taken out, one after the other. */
  everyOne() {
    return this.series(this.network.description.switches.map((_, i) => [i]));
  }

  /** One block more each time, until all are out. */
  oneMore() {
    const order = this.network.description.switches.map((_, i) => i);
    for (let i = order.length - 1; i > 0; i -= 1) {
      const j = Math.floor(Math.random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return this.series(order.map((_, i) => order.slice(0, i + 1)));
  }

  /** Measurements one after the other. @param {number[][]} outs the switches that are off in each */
  async series(outs) {
    this.working.abort();
    this.working = new AbortController();
    const { signal } = this.working;
    for (const out of outs) {
      if (signal.aborted) return;
      this.boxes.forEach((box, i) => (box.checked = !out.includes(i)));
      await this.show(signal);
    }
  }

  /** Measure what the switches say, or find it among the results. @param {AbortSignal} signal */
  async show(signal) {
    const { name, title, switches } = this.network.description;
    const stays = this.boxes.map((box) => box.checked);
    const out = switches.filter((_, i) => !stays[i]);
    const without = out.length ? `${title} without ${out.map(readable).join(", ")}` : `${title}, all blocks in`;
    try {
      let right = this.results.find((result) => result.network === name && `${result.out}` === `${out}`)?.right;
      if (right === undefined) {
        this.message.textContent = `${without}: …`;
        right = await this.network.correct(stays, (part) => (this.bar.value = part), signal);
        this.results.push({ network: name, out, right });
        this.drawResults();
      }
      const total = this.contents.labels.length;
      this.message.textContent = `${without}: ${right} of ${total} right, ${percent(right / total)}.`;
    } catch (error) {
      if (!signal.aborted) this.message.textContent = explain(error);
    }
  }

  drawResults() {
    const total = this.contents.labels.length;
    const last = this.results[this.results.length - 1];
    const width = Math.max(280, Math.min(560, this.chart.clientWidth));
    this.chart.replaceChildren(chart(this.results, this.candidates, total, width));
    const title = this.candidates.find(({ name }) => name === last.network)?.title ?? "";
    const cells = [title, last.out.map(readable).join(", ") || "nothing", `${last.right} of ${total}`];
    this.list.prepend(make("tr", {}, ...cells.map((text) => make("td", {}, text))));
  }
}

/** conv2_x.0 as "conv2_x, 1". @param {string} block */
function readable(block) {
  const [stage, i] = block.split(".");
  return `${stage} ${Number(i) + 1}`;
}

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [300, 50, 12, 30, 44];

/** Accuracy by the number of blocks taken out, a point for each measurement and a line through their means.
 * @param {Result[]} results @param {import("./models.js").Description[]} candidates @param {number} total
 * @param {number} width */
function chart(results, candidates, total, width) {
  const most = Math.max(...candidates.map(({ name, switches }) => (results.some((r) => r.network === name) ? switches.length : 0)));
  /** @param {number} count */
  const x = (count) => LEFT + (count / most) * (width - LEFT - RIGHT);
  /** @param {number} part */
  const y = (part) => TOP + (1 - part) * (HEIGHT - TOP - BOTTOM);
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    draw("line", { class: "lab-grid", x1: LEFT, x2: width - RIGHT, y1: y(part), y2: y(part) }),
    draw("text", { x: LEFT - 8, y: y(part) + 4, "text-anchor": "end" }, percent(part, 0)),
  ]);
  const each = most > 10 ? 2 : 1;
  const ticks = Array.from({ length: Math.floor(most / each) + 1 }, (_, i) => i * each).map((count) =>
    draw("text", { x: x(count), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, String(count)),
  );
  const chance = draw("line", { class: "lab-chance", x1: LEFT, x2: width - RIGHT, y1: y(0.1), y2: y(0.1) });
  const shown = candidates.filter(({ name }) => results.some((result) => result.network === name));
  const series = shown.flatMap(({ name, title }, i) => {
    const kind = family(name);
    const mine = results.filter((result) => result.network === name);
    const counts = [...new Set(mine.map(({ out }) => out.length))].sort((a, b) => a - b);
    const means = counts.map((count) => {
      const rights = mine.filter(({ out }) => out.length === count).map(({ right }) => right);
      return `${x(count)},${y(rights.reduce((a, b) => a + b) / rights.length / total)}`;
    });
    const points = mine.map(({ out, right }) => {
      const point = marker(kind, x(out.length), y(right / total));
      point.append(draw("title", {}, `${title} without ${out.map(readable).join(", ") || "nothing"}: ${right} of ${total}`));
      return point;
    });
    const at = LEFT + 8 + (i * (width - LEFT)) / 3;
    return [
      draw("polyline", { class: `lab-${kind} lab-line`, points: means.join(" ") }),
      ...points,
      marker(kind, at, 12),
      draw("text", { x: at + 10, y: 16 }, title),
    ];
  });
  const heading = `Accuracy on ${total} test images by the number of blocks taken out; a point is a measurement, the line their mean.`;
  const svg = draw(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": heading },
    ...grid,
    ...ticks,
    chance,
    draw("text", { x: width - RIGHT, y: y(0.1) - 5, "text-anchor": "end" }, "guessing"),
    draw("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "blocks or layers taken out"),
    ...series,
  );
  return make("figure", {}, svg, make("figcaption", {}, heading));
}

/** As in the figures: of which family a network is. @param {string} name @returns {keyof typeof SHAPES} */
function family(name) {
  if (name.startsWith("plain")) return "plain";
  if (name.startsWith("googlenet")) return "inception";
  return name.startsWith("densenet") ? "dense" : "residual";
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
