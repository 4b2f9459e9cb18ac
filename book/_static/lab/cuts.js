// What can be taken out of a network: blocks, the links of dense blocks, the paths of Inception blocks; and its switches on the page.

import { draw, make } from "./page.js";

/** @typedef {import("./models.js").Description} Description */
/**
 * A kind of parts that can be taken out.
 * @typedef {object} Kind
 * @property {RegExp} pattern of the switches of this kind
 * @property {string} many what these parts are called
 * @property {string} axis
 * @property {(name: string) => string} readable a part in few words
 * @property {(description: Description, box: (name: string) => HTMLInputElement | undefined) => HTMLElement[]} layout
 * @property {{title: string, outs: (names: string[]) => string[][]}} [series] measurements that teach something, one by one
 */

/** conv2_x.0 as "conv2_x 1". @param {string} name */
function readableBlock(name) {
  const [stage, i] = name.split(".");
  return `${stage} ${Number(i) + 1}`;
}

/** dense1.2.source1 as ["dense1", 3, 1]: layer 3 reads layer 1; 0 is the block's input.
 * @param {string} name @returns {[string, number, number]} */
function link(name) {
  const [block, layer, source] = name.split(".");
  return [block, Number(layer) + 1, Number(source.slice("source".length))];
}

/** @param {number} source */
const reads = (source) => (source ? String(source) : "input");

const PATHS = ["1×1", "3×3", "5×5", "pool"];

/** inception_3.inception_3a.path1 as ["inception_3", "3a", 0]. @param {string} name @returns {[string, string, number]} */
function path(name) {
  const [stage, block, number] = name.split(".");
  return [stage, block.slice("inception_".length), Number(number.slice("path".length)) - 1];
}

/** Switches stage by stage; a block without one has a box that stays as it is. @type {Kind["layout"]} */
function row({ blocks }, box) {
  return grouped(blocks, (name) => name.split(".")[0]).map(([stage, names]) => {
    const labels = names.map((name) => {
      const number = Number(name.split(".")[1]) + 1;
      const mine = box(name);
      const title = `${stage}, ${number}${mine ? "" : " changes the shape: nothing can stand in for it"}`;
      const shown = mine ?? make("input", { type: "checkbox", checked: true, disabled: true });
      shown.setAttribute("aria-label", title);
      return make("label", { title }, shown, ` ${number}`);
    });
    return make("fieldset", {}, make("legend", {}, stage), ...labels);
  });
}

/** A table of switches for each group: a line for each reader, a column for what it reads.
 * @param {string} group @param {(Node | string)[]} head @param {[string, (HTMLElement | undefined)[]][]} lines */
function grid(group, head, lines) {
  const top = make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)));
  const body = lines.map(([title, boxes]) =>
    make("tr", {}, make("th", { scope: "row" }, title), ...boxes.map((box) => make("td", {}, ...(box ? [make("label", {}, box)] : [])))),
  );
  const table = make("table", {}, make("thead", {}, top), make("tbody", {}, ...body));
  return make("fieldset", {}, make("legend", {}, group), table);
}

/** @template T @param {T[]} items @param {(item: T) => string} key @returns {[string, T[]][]} */
function grouped(items, key) {
  /** @type {Map<string, T[]>} */
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return [...groups];
}

/** @param {HTMLInputElement | undefined} box @param {string} name */
function named(box, name) {
  box?.setAttribute("aria-label", name);
  return box;
}

/** @type {Record<"blocks" | "links" | "paths", Kind>} */
export const KINDS = {
  blocks: {
    pattern: /^\w+\.\d+$/,
    many: "blocks",
    axis: "blocks or layers taken out",
    readable: readableBlock,
    layout: row,
  },
  links: {
    pattern: /\.source\d+$/,
    many: "links",
    axis: "links taken out",
    readable: (name) => {
      const [block, layer, source] = link(name);
      return `${block} ${layer} ← ${reads(source)}`;
    },
    layout: ({ switches }, box) =>
      grouped(switches.filter((name) => KINDS.links.pattern.test(name)), (name) => link(name)[0]).map(([block, names]) => {
        const layers = grouped(names, (name) => String(link(name)[1]));
        const head = ["layer", ...layers.map((_, source) => reads(source))];
        const lines = layers.map(([layer, mine]) => /** @type {[string, (HTMLElement | undefined)[]]} */ ([
          layer,
          layers.map((_, source) => {
            const name = mine[source];
            const read = source ? `layer ${source}` : "the block's input";
            return name ? named(box(name), `${block}, layer ${layer} reads ${read}`) : undefined;
          }),
        ]));
        return grid(block, head, lines);
      }),
    series: {
      title: "Only the nearest, block by block",
      outs: (names) => {
        const long = names.filter((name) => link(name)[2] < link(name)[1] - 1);
        return [...grouped(long, (name) => link(name)[0]).map(([, each]) => each), long];
      },
    },
  },
  paths: {
    pattern: /\.path\d$/,
    many: "paths",
    axis: "paths taken out",
    readable: (name) => `${path(name)[1]} ${PATHS[path(name)[2]]}`,
    layout: ({ switches }, box) =>
      grouped(switches.filter((name) => KINDS.paths.pattern.test(name)), (name) => path(name)[0]).map(([stage, names]) => {
        const head = PATHS.map((window, i) => {
          const key = draw("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, draw("rect", { width: 1, height: 1, class: `lab-path${i + 1}` }));
          return make("span", { class: "lab-key" }, key, window);
        });
        const lines = grouped(names, (name) => path(name)[1]).map(([block, mine]) => /** @type {[string, (HTMLElement | undefined)[]]} */ ([
          block,
          mine.map((name) => named(box(name), `${block}, the ${PATHS[path(name)[2]]} path`)),
        ]));
        return grid(stage, ["block", ...head], lines);
      }),
    series: {
      title: "One kind of path in all blocks, in turn",
      outs: (names) => PATHS.map((_, kind) => names.filter((name) => path(name)[2] === kind)),
    },
  },
};
