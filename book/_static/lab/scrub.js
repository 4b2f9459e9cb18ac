// Scrub: a recorded training, moved through epoch by epoch, and what two networks took twenty images for at that time.

import { MARKS, Picture, family } from "./families.js";
import { describe, loadScrub } from "./models.js";
import { draw, labelled, make, percent, select, startButton } from "./page.js";

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [220, 44, 8, 10, 34];
const WHOLE = 2500; // milliseconds that a whole training plays at least
const PACE = 120; // and one epoch

/** @typedef {import("./models.js").Scrub} Scrub */
/** @typedef {Scrub["networks"][number] & {look: import("./families.js").Look}} Recorded */
/**
 * What is particular to an experiment: of which images the line speaks, what the curves are, and how to choose two networks.
 * @typedef {object} Experiment
 * @property {"train" | "validation"} error
 * @property {string} of
 * @property {string} caption
 * @property {(names: string[], onChange: () => void) => {fields: HTMLElement[], chosen: () => string[]}} choice
 */

/** @type {Record<"degradation" | "networks", Experiment>} */
const EXPERIMENTS = {
  degradation: {
    error: "train",
    of: "the training images",
    caption: "Error on the training images; dashed, on images kept apart",
    choice: (names, onChange) => {
      const depths = [...new Set(names.map((name) => name.replace(/\D/g, "")))];
      const depth = select(depths.map((each) => /** @type {[string, string]} */ ([each, `${each} layers`])), "56", onChange);
      return { fields: [labelled("Depth", depth)], chosen: () => [`plain${depth.value}-thin`, `resnet${depth.value}-thin`] };
    },
  },
  networks: {
    error: "validation",
    of: "the 5,000 validation images",
    caption: "Error on the training images, mirrored at random, while the network learns from them; dashed, on the validation images",
    choice: (names, onChange) => {
      const options = names.map((name) => /** @type {[string, string]} */ ([name, name]));
      const pair = [select(options, "plain56", onChange), select(options, "resnet56", onChange)];
      return {
        fields: [labelled("One network", pair[0]), labelled("Another", pair[1])],
        chosen: () => pair.map(({ value }) => value),
      };
    },
  },
};

/** @param {HTMLElement} place @param {string} experiment */
export function scrub(place, experiment = "degradation") {
  const which = experiment === "networks" ? "networks" : "degradation";
  return startButton(place, (contents) => contents.scrub[which].bytes, async (onProgress) => {
    const { classes } = await describe();
    return bench(await loadScrub(which, onProgress), EXPERIMENTS[which], classes);
  });
}

/** @param {Scrub} recorded @param {Experiment} experiment @param {string[]} classes */
function bench({ labels, images, networks }, { error, of, caption, choice }, classes) {
  const pixels = bytes(images);
  const each = pixels.length / labels.length;
  const answers = new Map(networks.map(({ name, watched }) => [name, bytes(watched)]));
  const epochs = networks[0].train.length;
  const epoch = make("input", { type: "range", min: 1, max: epochs, value: 1, oninput: show });
  const counted = make("span", {}, "");
  const { fields, chosen } = choice(networks.map(({ name }) => name), change);
  const verdict = make("p", { class: "lab-verdict", role: "status" });
  const chart = make("div", {});
  const named = make("p", {});
  const list = make("ul", { class: "lab-answers" });
  const play = make("button", { type: "button", onclick: () => run(timer === undefined) }, "Play");
  /** @type {Recorded[]} */
  let twins = [];
  /** @type {Picture[]} */
  let pictures = [];
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;

  /** @param {boolean} running */
  function run(running) {
    clearInterval(timer);
    timer = undefined;
    play.textContent = running ? "Pause" : "Play";
    if (!running) return;
    if (epoch.valueAsNumber === epochs) epoch.valueAsNumber = 1;
    timer = setInterval(() => {
      epoch.valueAsNumber += 1;
      show();
      if (epoch.valueAsNumber === epochs) run(false);
    }, Math.max(PACE, WHOLE / epochs));
    show();
  }

  /** Two other networks. */
  function change() {
    twins = chosen().map((name, i, names) => {
      const network = /** @type {Scrub["networks"][number]} */ (networks.find((one) => one.name === name));
      return { ...network, look: i && family(name) === family(names[0]) ? "other" : family(name) };
    });
    pictures = labels.map((label, i) => new Picture(pixels.subarray(i * each, (i + 1) * each), label, classes, twins));
    list.replaceChildren(...pictures.map((picture) => picture.element));
    const [one, other] = twins.map(({ name, look }) => make("span", {}, make("span", { class: `lab-mark-${look}` }, MARKS[look]), ` ${name}`));
    named.replaceChildren(`${labels.length} of the images kept apart, two of each class, and what `, one, " and ", other, " take them for:");
    show();
  }

  function show() {
    const at = epoch.valueAsNumber - 1;
    counted.textContent = `Epoch: ${at + 1}`;
    const parts = twins.map((twin) => {
      const wrong = labels.filter((label, i) => answer(twin, at, i).best !== label).length;
      return `${twin.name} is wrong on ${percent(twin[error][at])} of ${of} and on ${wrong} of these ${labels.length}`;
    });
    verdict.textContent = `After epoch ${at + 1}: ${parts.join("; ")}.`;
    chart.replaceChildren(curves(twins, at, Math.max(280, Math.min(640, chart.clientWidth))));
    pictures.forEach((picture, i) => picture.show(...twins.map((twin) => answer(twin, at, i))));
  }

  /** @param {Recorded} network @param {number} at @param {number} image */
  function answer({ name }, at, image) {
    const from = (at * labels.length + image) * classes.length;
    const mine = /** @type {Uint8Array} */ (answers.get(name)).subarray(from, from + classes.length);
    const best = mine.indexOf(Math.max(...mine));
    return { best, probability: mine[best] / 255 };
  }

  change();
  requestAnimationFrame(show); // once it has its place
  addEventListener("resize", show);
  return make(
    "div",
    { class: "lab-race" },
    make("div", { class: "lab-settings" }, make("label", { class: "lab-field" }, counted, epoch), ...fields),
    make("div", { class: "lab-tools" }, play),
    verdict,
    make("figure", {}, make("figcaption", {}, caption), chart),
    named,
    list,
  );
}

/** Base 64. @param {string} text */
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Both networks over all epochs, and a line where we are. @param {Recorded[]} twins @param {number} at @param {number} width */
function curves(twins, at, width) {
  const count = twins[0].train.length;
  const worst = Math.max(...twins.flatMap(({ train, validation }) => [...train, ...validation]));
  const top = [0.2, 0.4, 0.6].find((each) => each >= worst) ?? 1;
  /** @param {number} i */
  const x = (i) => LEFT + (i / (count - 1)) * (width - LEFT - RIGHT);
  /** @param {number} error */
  const y = (error) => TOP + (1 - error / top) * (HEIGHT - TOP - BOTTOM);
  /** @param {number[]} errors */
  const points = (errors) => errors.map((error, i) => `${x(i).toFixed(1)},${y(error).toFixed(1)}`).join(" ");
  /** @param {number} px @param {number} py @param {string} text @param {string} anchor */
  const words = (px, py, text, anchor) => draw("text", { x: px, y: py, "text-anchor": anchor }, text);
  const across = { class: "lab-grid", x1: LEFT, x2: width - RIGHT };
  return draw(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `Errors of ${twins.map(({ name }) => name).join(" and ")} over ${count} epochs` },
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
      draw("line", { ...across, y1: y(part * top), y2: y(part * top) }),
      words(LEFT - 6, y(part * top) + 4, percent(part * top, 0), "end"),
    ]),
    ...[1, count / 2, count].map((mark) => words(x(mark - 1), HEIGHT - 16, String(mark), mark === count ? "end" : "middle")),
    words(x((3 * (count - 1)) / 4), HEIGHT - 16, "epoch", "middle"),
    draw("line", { class: "lab-now", x1: x(at), x2: x(at), y1: TOP, y2: y(0) }),
    ...twins.flatMap(({ look, train, validation }) => [
      draw("polyline", { class: `lab-${look} lab-line lab-kept`, points: points(validation) }),
      draw("polyline", { class: `lab-${look} lab-line`, points: points(train) }),
    ]),
  );
}
