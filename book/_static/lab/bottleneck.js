// The bottleneck to scale: what its three convolutions cost beside two 3×3, while one drags the width between them.

import { draw, labelled, make, percent, select } from "./page.js";
import { conv, norm } from "./shapes.js";

const STAGES = [ // of ResNet-50, for images of 224×224: channels between the blocks; height and width
  { name: "conv2_x", channels: 256, size: 56 },
  { name: "conv3_x", channels: 512, size: 28 },
  { name: "conv4_x", channels: 1024, size: 14 },
  { name: "conv5_x", channels: 2048, size: 7 },
];
const PARTS = 64; // of the channels outside: so finely the width can be chosen
const [ROW, BAR, FUNNEL, HEAD] = [40, 16, 74, 26];

/** @typedef {{kernel: number, before: number, after: number, parameters: number, multiplyAdds: number}} Cost */

/** A convolution with its batch norm, as d2lnets counts them. @returns {Cost}
 * @param {number} kernel @param {number} before channels @param {number} after channels @param {number} size */
export function cost(kernel, before, after, size) {
  const x = { channels: before, size, field: 1, step: 1, parameters: 0, multiplyAdds: 0 };
  const { parameters, multiplyAdds } = norm(conv(after, kernel)(x));
  return { kernel, before, after, parameters, multiplyAdds };
}

/** The block and the two convolutions that it stands for. @param {number} channels @param {number} width @param {number} size */
export function costs(channels, width, size) {
  return {
    bottleneck: [cost(1, channels, width, size), cost(3, width, width, size), cost(1, width, channels, size)],
    plain: [cost(3, channels, channels, size), cost(3, channels, channels, size)],
  };
}

/** @param {HTMLElement} place */
export function bottleneck(place) {
  const stage = select(STAGES.map(({ name, channels, size }, i) => [String(i), `${name}: ${channels} channels, ${size}×${size}`]), "0", show);
  const width = make("input", { type: "range", min: 1, max: PARTS, value: PARTS / 4, oninput: show });
  const chosen = make("span", {}, "");
  const verdict = make("p", { class: "lab-verdict", role: "status" });
  const picture = make("div", { class: "lab-costs" });

  function show() {
    const { channels, size } = STAGES[Number(stage.value)];
    const inside = (channels / PARTS) * width.valueAsNumber;
    chosen.textContent = `Channels inside: ${inside} of ${channels}`;
    const { bottleneck, plain } = costs(channels, inside, size);
    const [mine, theirs] = [total(bottleneck), total(plain)];
    const alike = Math.sqrt(mine.multiplyAdds / 18) / size;
    verdict.textContent =
      `Two 3×3 on ${channels} channels have ${(theirs.parameters / mine.parameters).toFixed(1)} times the parameters of the bottleneck ` +
      `and do ${(theirs.multiplyAdds / mine.multiplyAdds).toFixed(1)} times its work. Of the bottleneck's work its 3×3 does ` +
      `${percent(bottleneck[1].multiplyAdds / mine.multiplyAdds, 0)}; all of it is that of two 3×3 on ${alike.toFixed(0)} channels.`;
    const wide = Math.max(270, Math.min(680, picture.clientWidth));
    picture.replaceChildren(bars([["Bottleneck", bottleneck], ["Two 3×3", plain]], channels, wide));
  }

  place.replaceChildren(
    make("div", { class: "lab-settings" }, make("label", { class: "lab-field" }, chosen, width), labelled("Stage of ResNet-50", stage)),
    verdict,
    picture,
  );
  addEventListener("resize", show);
  show();
}

/** @param {Cost[]} layers */
function total(layers) {
  const parameters = layers.reduce((sum, layer) => sum + layer.parameters, 0);
  return { parameters, multiplyAdds: layers.reduce((sum, layer) => sum + layer.multiplyAdds, 0) };
}

/** 1,234, 70.4 k, 3.7 G. @param {number} count */
function short(count) {
  const [unit, name] = count >= 1e9 ? [1e9, " G"] : count >= 1e6 ? [1e6, " M"] : count >= 1e4 ? [1e3, " k"] : [1, ""];
  return unit > 1 ? `${(count / unit).toFixed(1)}${name}` : count.toLocaleString("en");
}

/** Layer by layer, parameters to the left and multiply-adds to the right of the channels, each side to one scale.
 * @param {[string, Cost[]][]} blocks @param {number} channels of the widest @param {number} width */
function bars(blocks, channels, width) {
  const [left, right] = [(width - FUNNEL) / 2 - 6, (width + FUNNEL) / 2 + 6];
  const most = { parameters: 0, multiplyAdds: 0 };
  for (const [, layers] of blocks) {
    const sum = total(layers);
    most.parameters = Math.max(most.parameters, sum.parameters);
    most.multiplyAdds = Math.max(most.multiplyAdds, sum.multiplyAdds);
  }
  /** @param {number} x @param {number} y @param {string} text @param {string} anchor */
  const words = (x, y, text, anchor, bold = false) => draw("text", { x, y, "text-anchor": anchor, "font-weight": bold && 700 }, text);
  const parts = [words(left, 14, "parameters", "end"), words(width / 2, 14, "channels", "middle"), words(right, 14, "multiply-adds", "start")];
  let y = HEAD;
  /** @param {{parameters: number, multiplyAdds: number}} layer @param {string} look @param {boolean} bold */
  const sides = ({ parameters, multiplyAdds }, look, bold) => {
    const [long, much] = [(parameters / most.parameters) * left, (multiplyAdds / most.multiplyAdds) * left];
    return [
      words(left, y + 12, short(parameters), "end", bold),
      words(right, y + 12, short(multiplyAdds), "start", bold),
      draw("rect", { class: look, x: left - long, y: y + 18, width: long, height: BAR }),
      draw("rect", { class: look, x: right, y: y + 18, width: much, height: BAR }),
    ];
  };
  for (const [name, layers] of blocks) {
    for (const layer of layers) {
      const [a, b] = [layer.before, layer.after].map((count) => (count / channels) * (FUNNEL / 2));
      const [top, bottom, middle] = [y + 18, y + 18 + BAR, width / 2];
      parts.push(
        words(middle, y + 12, `${layer.kernel}×${layer.kernel}`, "middle"),
        draw("path", { class: "lab-funnel", d: `M${middle - a} ${top}H${middle + a}L${middle + b} ${bottom}H${middle - b}Z` }),
        ...sides(layer, layer.kernel > 1 ? "lab-window" : "lab-mixing", false),
      );
      y += ROW;
    }
    parts.push(words(width / 2, y + 30, name, "middle", true), ...sides(total(layers), "lab-sum", true));
    y += ROW + 12;
  }
  const said = blocks.map(([name, layers]) => {
    const each = layers.map(({ kernel, before, after, parameters, multiplyAdds }) =>
      `${kernel}×${kernel} from ${before} to ${after} channels, ${short(parameters)} parameters, ${short(multiplyAdds)} multiply-adds`);
    return `${name}: ${each.join("; ")}`;
  });
  const label = `Parameters to the left and multiply-adds to the right. ${said.join(". ")}.`;
  return draw("svg", { viewBox: `0 0 ${width} ${y}`, width, height: y, role: "img", "aria-label": label }, ...parts);
}
