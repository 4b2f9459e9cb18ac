// What a race draws: curves by step, and a bar for every layer.

import { draw } from "./page.js";
import { LAST } from "./settings.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [44, 8, 10, 22];
const POINTS = 300; // of a curve, at most
const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** @typedef {"plain" | "residual"} Kind */
/** @typedef {Record<Kind, number[]>} Pair */

/** @param {string} label @param {number} width @param {number} height @param {(Node | string)[]} inside */
function frame(label, width, height, ...inside) {
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...inside);
}

/** @param {number} x @param {number} y @param {string} text @param {"start" | "middle" | "end"} anchor */
const words = (x, y, text, anchor) => draw("text", { x, y, "text-anchor": anchor }, text);

/**
 * Both networks by step.
 * @param {string} label @param {Pair} series from step 1 on @param {number} width
 * @param {number[]} marks on the axis, the last the highest that is shown
 * @param {(value: number) => string} print a mark
 * @param {number} chance what guessing has
 */
export function curves(label, series, width, marks, print, chance) {
  const height = 200;
  const steps = series.plain.length;
  const most = [100, 200, 500, 1000].find((end) => end >= steps) ?? LAST;
  const top = marks[marks.length - 1];
  /** @param {number} step */
  const x = (step) => LEFT + (step / most) * (width - LEFT - RIGHT);
  /** @param {number} value */
  const y = (value) => TOP + (1 - Math.min(value, top) / top) * (height - TOP - BOTTOM);
  const stride = Math.ceil(steps / POINTS);
  const lines = /** @type {Kind[]} */ (["plain", "residual"]).map((kind) => {
    const points = series[kind].flatMap((value, i) =>
      Number.isFinite(value) && ((i + 1) % stride === 0 || i === steps - 1) ? [`${x(i + 1).toFixed(1)},${y(value).toFixed(1)}`] : [],
    );
    return draw("polyline", { class: `lab-${kind} lab-line`, points: points.join(" ") });
  });
  const ends = /** @type {Kind[]} */ (["plain", "residual"]).flatMap((kind) => {
    const lost = series[kind].findIndex((value) => !Number.isFinite(value));
    return lost > 0 ? [words(x(lost), y(series[kind][lost - 1]) + 4, "✗", "middle")] : [];
  });
  const across = { x1: LEFT, x2: width - RIGHT };
  return frame(
    label,
    width,
    height,
    ...marks.flatMap((mark) => [
      draw("line", { class: "lab-grid", ...across, y1: y(mark), y2: y(mark) }),
      words(LEFT - 6, y(mark) + 4, print(mark), "end"),
    ]),
    draw("line", { class: "lab-chance", ...across, y1: y(chance), y2: y(chance) }),
    words(width - RIGHT, y(chance) - 4, "guessing", "end"),
    words(LEFT, height - 5, "0", "middle"),
    words(x(most / 2), height - 5, "step", "middle"),
    words(width - RIGHT, height - 5, String(most), "end"),
    ...lines,
    ...ends,
  );
}

/**
 * A bar for every layer, on a scale of powers of ten.
 * @param {string} label @param {Kind} kind @param {number[]} values @param {[number, number]} powers least and highest
 * @param {number} width
 */
export function bars(label, kind, values, [least, highest], width) {
  const height = 120;
  /** @param {number} power */
  const y = (power) => TOP + ((highest - power) / (highest - least)) * (height - TOP - BOTTOM);
  const each = (width - LEFT - RIGHT) / values.length;
  const wide = Math.max(0.5, each - Math.min(2, each / 4));
  const outlines = values.map((value, i) => {
    const power = Number.isFinite(value) ? Math.log10(value) : highest;
    const up = y(Math.min(highest, Math.max(least, power)));
    return `M${(LEFT + i * each).toFixed(1)} ${y(least)}V${up.toFixed(1)}h${wide.toFixed(1)}V${y(least)}z`;
  });
  const across = { class: "lab-grid", x1: LEFT, x2: width - RIGHT };
  return frame(
    label,
    width,
    height,
    ...[least, (least + highest) / 2, highest].flatMap((power) => [
      draw("line", { ...across, y1: y(power), y2: y(power) }),
      words(LEFT - 6, y(power) + 4, `10${superscript(power)}`, "end"),
    ]),
    draw("path", { class: `lab-${kind} lab-bar`, d: outlines.join("") }),
    words(LEFT + each / 2, height - 5, "1", "middle"),
    words(LEFT + (width - LEFT - RIGHT) / 2, height - 5, "layer", "middle"),
    words(width - RIGHT, height - 5, String(values.length), "end"),
  );
}

/** @param {number} power */
function superscript(power) {
  return `${power < 0 ? "⁻" : ""}${String(Math.abs(power)).replace(/\d/g, (digit) => DIGITS[Number(digit)])}`;
}

/** Powers of ten, even, that have the values of both networks between them, and the earlier ones; within what leaves the other bars readable.
 * @param {[number, number]} earlier @param {number[]} values @returns {[number, number]} */
export function powers(earlier, values) {
  const found = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  const least = Math.min(earlier[0], 2 * Math.floor(Math.min(...found) / 2));
  const highest = Math.max(earlier[1], 2 * Math.ceil(Math.max(...found) / 2));
  return [Math.max(-24, least), Math.min(8, highest)];
}
