// Scrub: a recorded training, moved through epoch by epoch, and what the networks took twenty images for at that time.

import { describe, loadScrub } from "./models.js";
import { draw, labelled, make, percent, select, startButton } from "./page.js";
import { Picture } from "./race.js";

const KINDS = /** @type {("plain" | "residual")[]} */ (["plain", "residual"]);
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [640, 220, 44, 8, 10, 34];
const PACE = 120; // milliseconds from one epoch to the next

/** @typedef {import("./models.js").Scrub} Scrub */
/** @typedef {Scrub["networks"][number]} Recorded */

/** @param {HTMLElement} place */
export function scrub(place) {
  return startButton(place, (contents) => contents.scrub.bytes, async (onProgress) => {
    const { classes } = await describe();
    return bench(await loadScrub(onProgress), classes);
  });
}

/** @param {Scrub} recorded @param {string[]} classes */
function bench({ labels, images, networks }, classes) {
  const pixels = bytes(images);
  const each = pixels.length / labels.length;
  const pictures = labels.map((label, i) => new Picture(pixels.subarray(i * each, (i + 1) * each), label, classes));
  const answers = new Map(networks.map((network) => [network, bytes(network.watched)]));
  const epochs = networks[0].train.length;
  const epoch = make("input", { type: "range", min: 1, max: epochs, value: 1, oninput: show });
  const counted = make("span", {}, "");
  const depths = [...new Set(networks.map(({ depth }) => depth))].map((depth) => /** @type {[string, string]} */ ([String(depth), `${depth} layers`]));
  const depth = select(depths, "56", show);
  const verdict = make("p", { class: "lab-verdict", role: "status" });
  const chart = make("div", {});
  const play = make("button", { type: "button", onclick: () => run(timer === undefined) }, "Play");
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
    }, PACE);
    show();
  }

  function show() {
    const at = epoch.valueAsNumber - 1;
    const twins = KINDS.map((kind) => /** @type {Recorded} */ (networks.find((one) => one.kind === kind && String(one.depth) === depth.value)));
    counted.textContent = `Epoch: ${at + 1}`;
    const parts = twins.map((twin) => {
      const wrong = labels.filter((label, i) => answer(twin, at, i).best !== label).length;
      return `${twin.name} is wrong on ${percent(twin.train[at])} of the training images and on ${wrong} of these ${labels.length}`;
    });
    verdict.textContent = `After epoch ${at + 1}: ${parts.join("; ")}.`;
    chart.replaceChildren(curves(twins, at));
    pictures.forEach((picture, i) => picture.show(answer(twins[0], at, i), answer(twins[1], at, i)));
  }

  /** @param {Recorded} network @param {number} at @param {number} image */
  function answer(network, at, image) {
    const from = (at * labels.length + image) * classes.length;
    const mine = /** @type {Uint8Array} */ (answers.get(network)).subarray(from, from + classes.length);
    const best = mine.indexOf(Math.max(...mine));
    return { best, probability: mine[best] / 255 };
  }

  show();
  return make(
    "div",
    { class: "lab-race" },
    make("div", { class: "lab-settings" }, make("label", { class: "lab-field" }, counted, epoch), labelled("Depth", depth)),
    make("div", { class: "lab-tools" }, play),
    verdict,
    make("figure", {}, make("figcaption", {}, "Error on the training images; dashed, on images kept apart"), chart),
    make("p", {}, `${labels.length} of the images kept apart, two of each class, and what the two take them for:`),
    make("ul", { class: "lab-answers" }, ...pictures.map((picture) => picture.element)),
  );
}

/** Base 64. @param {string} text */
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Both networks over all epochs, and a line where we are. @param {Recorded[]} twins @param {number} at */
function curves(twins, at) {
  const count = twins[0].train.length;
  /** @param {number} i */
  const x = (i) => LEFT + (i / (count - 1)) * (WIDTH - LEFT - RIGHT);
  /** @param {number} error */
  const y = (error) => TOP + (1 - Math.min(error, 1)) * (HEIGHT - TOP - BOTTOM);
  /** @param {number[]} errors */
  const points = (errors) => errors.map((error, i) => `${x(i).toFixed(1)},${y(error).toFixed(1)}`).join(" ");
  /** @param {number} px @param {number} py @param {string} text @param {string} anchor */
  const words = (px, py, text, anchor) => draw("text", { x: px, y: py, "text-anchor": anchor }, text);
  const across = { class: "lab-grid", x1: LEFT, x2: WIDTH - RIGHT };
  return draw(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Errors of ${twins.map(({ name }) => name).join(" and ")} over ${count} epochs` },
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((mark) => [
      draw("line", { ...across, y1: y(mark), y2: y(mark) }),
      words(LEFT - 6, y(mark) + 4, percent(mark, 0), "end"),
    ]),
    ...[1, count / 2, count].map((mark) => words(x(mark - 1), HEIGHT - 16, String(mark), "middle")),
    words(x((count - 1) / 4), HEIGHT - 16, "epoch", "middle"),
    draw("line", { class: "lab-now", x1: x(at), x2: x(at), y1: TOP, y2: y(0) }),
    ...twins.flatMap(({ kind, train, validation }) => [
      draw("polyline", { class: `lab-${kind} lab-line lab-kept`, points: points(validation) }),
      draw("polyline", { class: `lab-${kind} lab-line`, points: points(train) }),
    ]),
  );
}
