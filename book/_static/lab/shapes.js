// Shapes, parameters, multiply-adds and receptive fields of the book's networks, counted as d2lnets.trace_shapes does.

/**
 * What comes out of a layer, and what it took to get there.
 * @typedef {object} Maps
 * @property {number} channels
 * @property {number} size height and width, in positions
 * @property {number} field side of the input square that one position sees, in pixels
 * @property {number} step distance of neighbouring positions, in pixels
 * @property {number} parameters so far
 * @property {number} multiplyAdds so far, for one image
 */
/** @typedef {(x: Maps) => Maps} Layer */
/** @typedef {{name: string, shape: number[], parameters: number, multiplyAdds: number, field: number}} Stage */
/** @typedef {{input: number[], stages: Stage[], parameters: number, multiplyAdds: number}} Trace */

/** A setting that no network can have; the message says why. */
export class Impossible extends Error {}

class TooSmall extends Error {}

/** @param {Maps} x @param {number} kernel @param {number} stride @param {number} padding @returns {Maps} */
function slide(x, kernel, stride, padding) {
  const size = Math.floor((x.size + 2 * padding - kernel) / stride) + 1;
  if (size < 1) throw new TooSmall();
  return { ...x, size, field: x.field + (kernel - 1) * x.step, step: x.step * stride };
}

/** @param {number} channels @param {number} kernel @returns {Layer} */
export function conv(channels, kernel, stride = 1, bias = true) {
  return (x) => {
    const y = slide(x, kernel, stride, kernel >> 1);
    const weights = x.channels * channels * kernel ** 2;
    return {
      ...y,
      channels,
      parameters: x.parameters + weights + (bias ? channels : 0),
      multiplyAdds: x.multiplyAdds + weights * y.size ** 2,
    };
  };
}

/** @param {number} kernel @param {number} stride @param {number} padding @returns {Layer} */
const pool = (kernel, stride, padding) => (x) => slide(x, kernel, stride, padding);

/** @type {Layer} Batch norm: a scale and a shift for every channel. */
export const norm = (x) => ({ ...x, parameters: x.parameters + 2 * x.channels });

/** @type {Layer} */
const same = (x) => x;

/** @param {Layer[]} layers @returns {Layer} */
const chain = (...layers) => (x) => layers.reduce((y, layer) => layer(y), x);

/** @param {number} count @param {(i: number) => Layer} layer @returns {Layer} */
const repeat = (count, layer) => chain(...Array.from({ length: count }, (_, i) => layer(i)));

/** Paths with one input, whose outputs are added or put together; the widest receptive field counts.
 * @param {"add" | "concatenate"} how @param {Layer[]} branches @returns {Layer} */
function paths(how, ...branches) {
  return (x) => {
    const ends = branches.map((branch) => branch({ ...x, parameters: 0, multiplyAdds: 0 }));
    const widest = ends.reduce((a, b) => (b.field > a.field ? b : a));
    return {
      ...widest,
      channels: how === "add" ? ends[0].channels : sum(ends.map((end) => end.channels)),
      parameters: x.parameters + sum(ends.map((end) => end.parameters)),
      multiplyAdds: x.multiplyAdds + sum(ends.map((end) => end.multiplyAdds)),
    };
  };
}

/** @param {number[]} numbers */
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** @param {number} channels @returns {Layer} */
const largeStem = (channels, padding = 1) => chain(conv(channels, 7, 2), norm, pool(3, 2, padding));

/** @param {number} channels @returns {Layer} */
const smallStem = (channels) => chain(conv(channels, 3), norm);

/** @param {number} classes @returns {Layer} */
const head = (classes) => (x) => ({
  ...conv(classes, 1)({ ...x, size: 1 }),
  field: Infinity,
});

/** @param {number} channels @param {number} stride @returns {Layer} */
const residual = (channels, stride) => (x) =>
  paths(
    "add",
    chain(conv(channels, 3, stride), norm, conv(channels, 3), norm),
    x.channels === channels && stride === 1 ? same : conv(channels, 1, stride),
  )(x);

/** @param {number} channels @param {number} stride @returns {Layer} Its shortcut, if any, has no parameters. */
const cifarBlock = (channels, stride) =>
  chain(conv(channels, 3, stride, false), norm, conv(channels, 3, 1, false), norm);

/** @param {number} width @param {number} stride @param {boolean} first @param {boolean} v15 @returns {Layer} */
const bottleneck = (width, stride, first, v15) =>
  paths(
    "add",
    chain(
      conv(width, 1, v15 ? 1 : stride), norm,
      conv(width, 3, v15 ? stride : 1), norm,
      conv(4 * width, 1), norm,
    ),
    first ? chain(conv(4 * width, 1, stride), norm) : same,
  ); // prettier-ignore

/** @param {number} growth @param {boolean} reduce @returns {Layer} */
const denseLayer = (growth, reduce) =>
  paths("concatenate", same, chain(reduce ? chain(norm, conv(4 * growth, 1)) : same, norm, conv(growth, 3)));

/** @param {number} divisor @returns {Layer} */
const transition = (divisor) => (x) => {
  const channels = Math.floor(x.channels / divisor);
  if (channels < 1) throw new Impossible(`A transition cannot make ${x.channels} channels ${divisor} times fewer.`);
  return chain(norm, conv(channels, 1), pool(2, 2, 0))(x);
};

/** @typedef {[number, [number, number], [number, number], number]} Widths of an Inception block's four paths */
/** @type {[string, [string, Widths][]][]} Szegedy et al. 2015, Table 1 */
const GOOGLENET = [
  ["inception_3", [["3a", [64, [96, 128], [16, 32], 32]], ["3b", [128, [128, 192], [32, 96], 64]]]],
  [
    "inception_4",
    [
      ["4a", [192, [96, 208], [16, 48], 64]],
      ["4b", [160, [112, 224], [24, 64], 64]],
      ["4c", [128, [128, 256], [24, 64], 64]],
      ["4d", [112, [144, 288], [32, 64], 64]],
      ["4e", [256, [160, 320], [32, 128], 128]],
    ],
  ],
  ["inception_5", [["5a", [256, [160, 320], [32, 128], 128]], ["5b", [384, [192, 384], [48, 128], 128]]]],
];

/** @param {number} channels @param {number} kernel @param {boolean} batchNorm @returns {Layer} */
const convolution = (channels, kernel, batchNorm, stride = 1) =>
  chain(conv(channels, kernel, stride), batchNorm ? norm : same);

/** @param {Widths} widths @param {boolean} batchNorm @returns {Layer} */
function inception([c1, c2, c3, c4], batchNorm) {
  /** @type {(channels: number, kernel: number) => Layer} */
  const to = (channels, kernel) => convolution(channels, kernel, batchNorm);
  return paths(
    "concatenate",
    to(c1, 1),
    chain(to(c2[0], 1), to(c2[1], 3)),
    chain(to(c3[0], 1), to(c3[1], 5)),
    chain(pool(3, 1, 1), to(c4, 1)),
  );
}

const STAGES = ["conv2_x", "conv3_x", "conv4_x", "conv5_x"];

/**
 * A setting of a network. `list` is some whole numbers with commas between them.
 * @typedef {object} Field
 * @property {string} key
 * @property {string} label
 * @property {"number" | "list" | "choice" | "switch"} kind
 * @property {any} value at first
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [length] of a list, at most
 * @property {[string, string][]} [options] of a choice: value and label
 */
/** @typedef {Record<string, any>} Settings by the keys of the fields */
/** @typedef {{title: string, fields: Field[], layers: (settings: Settings) => [string, Layer][]}} Family */

/** @type {Field} */
const SIZE = { key: "size", label: "Height and width of the image, pixels", kind: "number", value: 28, min: 1, max: 512 };
/** @type {Field} */
const CHANNELS = { key: "channels", label: "Channels of the image", kind: "number", value: 1, min: 1, max: 16 };
/** @type {Field} */
const CLASSES = { key: "classes", label: "Classes", kind: "number", value: 10, min: 1, max: 10000 };
/** @type {Field} */
const STEM = {
  key: "stem",
  label: "Stem",
  kind: "choice",
  value: "large",
  options: [["large", "7×7, max-pool: a quarter"], ["small", "3×3: the whole size"]],
};
const COMMON = [{ ...SIZE, value: 96 }, CHANNELS, CLASSES, STEM];

/** @param {string} label @param {number} value @returns {Field} */
const width = (label, value = 64) => ({ key: "width", label, kind: "number", value, min: 1, max: 512 });
/** @param {string} label @param {number[]} value @returns {Field} */
const blockCounts = (label, value, length = 4) => ({ key: "blocks", label, kind: "list", value, min: 1, max: 100, length });

/** @type {Record<string, Family>} */
export const FAMILIES = {
  resnet: {
    title: "ResNet, blocks of two 3×3",
    fields: [
      ...COMMON,
      width("Width: channels of conv2_x, doubled from stage to stage"),
      blockCounts("Blocks in each stage", [2, 2, 2, 2]),
    ],
    layers: ({ stem, width, blocks, classes }) => [
      ["stem", (stem === "large" ? largeStem : smallStem)(width)],
      ...stages(blocks, (i, j) => residual(width * 2 ** i, i > 0 && j === 0 ? 2 : 1)),
      ["head", head(classes)],
    ],
  },
  bottleneck: {
    title: "ResNet, bottleneck blocks",
    fields: [
      ...COMMON,
      width("Width: channels of the 3×3 in conv2_x, doubled from stage to stage"),
      blockCounts("Blocks in each stage", [3, 4, 6, 3]),
      { key: "v15", label: "Stride on the 3×3 (v1.5), not on the first 1×1", kind: "switch", value: false },
    ],
    layers: ({ stem, width, blocks, v15, classes }) => [
      ["stem", stem === "large" ? largeStem(width, 0) : smallStem(width)],
      ...stages(blocks, (i, j) => bottleneck(width * 2 ** i, i > 0 && j === 0 ? 2 : 1, j === 0, v15)),
      ["head", head(classes)],
    ],
  },
  cifar: {
    title: "ResNet-20, -32, … and plain twins",
    fields: [
      SIZE,
      CHANNELS,
      CLASSES,
      { key: "depth", label: "Layers with weights, 6n + 2", kind: "number", value: 20, min: 1, max: 1202 },
      width("Width: channels of conv2_x, doubled from stage to stage", 16),
    ],
    layers({ depth, width, classes }) {
      const n = (depth - 2) / 6;
      if (n < 1 || n % 1) {
        const below = Math.max(8, 6 * Math.floor(n) + 2);
        throw new Impossible(
          `Three stages of n blocks with two convolutions, a first convolution and a linear layer make 6n + 2 layers, ` +
            `and ${depth} is not such a number. Try ${below} or ${below + 6}.`,
        );
      }
      return [
        ["stem", smallStem(width)],
        ...stages([n, n, n], (i, j) => cifarBlock(width * 2 ** i, i > 0 && j === 0 ? 2 : 1)),
        ["head", head(classes)],
      ];
    },
  },
  googlenet: {
    title: "GoogLeNet",
    fields: [
      ...COMMON,
      { key: "part", label: "Channels", kind: "choice", value: "1", options: [["1", "as published"], ["2", "a half"], ["4", "a quarter"]] },
      { key: "reduction", label: "Channels after the 1×1 that reduces, in percent of the published", kind: "number", value: 100, min: 1, max: 800 },
      { key: "batchNorm", label: "Batch norm after every convolution", kind: "switch", value: false },
    ],
    layers({ stem, part, reduction, batchNorm, classes }) {
      /** @type {(channels: number) => number} */
      const reduced = (channels) => Math.max(1, Math.floor((Math.floor(channels / part) * reduction) / 100));
      /** @type {(pair: [number, number]) => [number, number]} */
      const pair = ([first, second]) => [reduced(first), Math.floor(second / part)];
      /** @type {[string, Layer][]} */
      const first =
        stem === "large"
          ? [
              ["conv1", chain(convolution(64, 7, batchNorm, 2), pool(3, 2, 1))],
              ["conv2", chain(convolution(64, 1, batchNorm), convolution(192 / part, 3, batchNorm), pool(3, 2, 1))],
            ]
          : [["stem", convolution(192 / part, 3, batchNorm)], ["max_pool", pool(3, 2, 1)]];
      return [
        ...first,
        ...GOOGLENET.map(([name, blocks]) => /** @type {[string, Layer]} */ ([
          name,
          chain(
            ...blocks.map(([, [c1, c2, c3, c4]]) =>
              inception([Math.floor(c1 / part), pair(c2), pair(c3), Math.floor(c4 / part)], batchNorm)),
            name === "inception_5" ? same : pool(3, 2, 1),
          ),
        ])),
        ["head", head(classes)],
      ];
    },
  },
  densenet: {
    title: "DenseNet",
    fields: [
      ...COMMON,
      width("Channels of the stem"),
      { key: "growth", label: "Growth rate: maps that a layer appends", kind: "number", value: 32, min: 1, max: 256 },
      blockCounts("Layers in each dense block", [4, 4, 4, 4], 6),
      { key: "divisor", label: "A transition", kind: "choice", value: "2", options: [["1", "keeps the channels"], ["2", "halves the channels"], ["4", "quarters the channels"]] },
      { key: "reduce", label: "A 1×1 first reduces to 4 × growth rate (DenseNet-B)", kind: "switch", value: false },
    ],
    layers: ({ stem, width, growth, blocks, divisor, reduce, classes }) => [
      ["stem", (stem === "large" ? largeStem : smallStem)(width)],
      ...blocks.flatMap((/** @type {number} */ count, /** @type {number} */ i) => [
        [`dense${i + 1}`, repeat(count, () => denseLayer(growth, reduce))],
        ...(i + 1 < blocks.length ? [[`transition${i + 1}`, transition(divisor)]] : []),
      ]),
      ["head", chain(norm, head(classes))],
    ],
  },
};

/** @param {number[]} blocks @param {(i: number, j: number) => Layer} block @returns {[string, Layer][]} */
function stages(blocks, block) {
  return blocks.map((count, i) => [STAGES[i], repeat(count, (j) => block(i, j))]);
}

/**
 * The trace of a network, row by row as `trace_shapes` has it.
 * @param {string} family a key of FAMILIES
 * @param {Settings} settings one value for each of the family's fields
 * @returns {Trace}
 * @throws {Impossible} the message says which setting, and why
 */
export function trace(family, settings) {
  const { fields, layers } = FAMILIES[family];
  fields.forEach((field) => check(field, settings[field.key]));
  const parts = layers(settings);
  try {
    return walk(parts, settings.channels, settings.size);
  } catch (error) {
    if (!(error instanceof TooSmall)) throw error;
    let enough = settings.size;
    while (!fits(parts, settings.channels, enough)) enough += 1;
    throw new Impossible(
      `On the way through the network, an image of ${settings.size}×${settings.size} shrinks to nothing. ` +
        `The smallest that works here is ${enough}×${enough}; a smaller stem or fewer stages help too.`,
    );
  }
}

/** @param {Field} field @param {any} value */
function check({ label, kind, min = 1, max = Infinity, length = 1 }, value) {
  const numbers = kind === "list" ? value : kind === "number" ? [value] : [];
  if (numbers.every((/** @type {number} */ n) => Number.isInteger(n) && n >= min && n <= max)) {
    if (kind !== "list" || (numbers.length >= 1 && numbers.length <= length)) return;
  }
  const which = kind === "list" ? `1 to ${length} whole numbers with commas between them, each` : "a whole number";
  throw new Impossible(`“${label}” must be ${which} from ${min} to ${max}.`);
}

/** @param {[string, Layer][]} parts @param {number} channels @param {number} size @returns {Trace} */
function walk(parts, channels, size) {
  /** @type {Maps} */
  let x = { channels, size, field: 1, step: 1, parameters: 0, multiplyAdds: 0 };
  const rows = parts.map(([name, layer]) => {
    const y = layer(x);
    const row = {
      name,
      shape: y.field === Infinity ? [y.channels] : [y.channels, y.size, y.size],
      parameters: y.parameters - x.parameters,
      multiplyAdds: y.multiplyAdds - x.multiplyAdds,
      field: y.field,
    };
    x = y;
    return row;
  });
  return { input: [channels, size, size], stages: rows, parameters: x.parameters, multiplyAdds: x.multiplyAdds };
}

/** @param {[string, Layer][]} parts @param {number} channels @param {number} size */
function fits(parts, channels, size) {
  try {
    return walk(parts, channels, size);
  } catch (error) {
    if (error instanceof TooSmall) return null;
    throw error;
  }
}
