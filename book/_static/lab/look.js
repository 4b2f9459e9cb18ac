// Look inside: an image that can be drawn on, what a network takes it for, and the maps behind every stage.

import { SIZE, describe, load } from "./models.js";
import { explain, labelled, make, percent, select, startButton, unique, withRuntime } from "./page.js";
import { Where } from "./where.js";

const SCALE = 10; // of the canvas, pixels for each of the image's

/** @param {HTMLElement} place @param {string} first the network at the beginning */
export function look(place, first = "resnet20") {
  return startButton(place, withRuntime(first), async (onProgress) => {
    const contents = await describe();
    const network = await load(first, onProgress);
    return bench(contents, network);
  });
}

/** @param {import("./models.js").Contents} contents @param {import("./models.js").Network} network */
function bench(contents, network) {
  const chosen = { network, image: contents.gallery[0] };
  const drawing = new Drawing(() => show());
  const verdict = make("p", { class: "lab-verdict", role: "status" });
  const bars = contents.classes.map((name) => new Bar(name));
  const stages = make("div", { class: "lab-stages" });
  const where = new Where(contents.classes, drawing.frame);

  const networks = select(
    contents.networks.map(({ name, title }) => [name, title]),
    network.description.name,
    async () => {
      verdict.textContent = "Loading …";
      try {
        chosen.network = await load(networks.value);
        await show();
      } catch (error) {
        verdict.textContent = explain(error);
        networks.value = chosen.network.description.name;
      }
    },
  );

  let showing = false;
  let again = false;
  /** Compute and show; what changes meanwhile is shown right after. */
  async function show() {
    if (showing) {
      again = true;
      return;
    }
    showing = true;
    try {
      await showLatest();
    } finally {
      showing = false;
    }
  }

  async function showLatest() {
    do {
      again = false;
      const { probabilities, maps, classMaps } = await chosen.network.look(drawing.pixels);
      const best = probabilities.indexOf(Math.max(...probabilities));
      bars.forEach((bar, i) => bar.show(probabilities[i], i === best));
      const truth = contents.classes[contents.labels[chosen.image]];
      const said = `${chosen.network.description.title}: ${contents.classes[best]}, ${percent(probabilities[best])}.`;
      verdict.textContent = `${said} ${drawing.touched ? `Drawn on; it was labelled ${truth}.` : `The label: ${truth}.`}`;
      showMaps(stages, chosen.network.description, maps);
      where.show(classMaps);
    } while (again);
  }

  /** @param {number} image */
  function choose(image) {
    chosen.image = image;
    drawing.take(network.pixels(image));
    return show();
  }

  const element = make(
    "div",
    { class: "lab-look" },
    make("div", { class: "lab-choices" }, labelled("Network", networks), pictures(contents, network, choose)),
    make(
      "div",
      { class: "lab-columns" },
      drawing.element,
      make("div", {}, verdict, make("ul", { class: "lab-bars" }, ...bars.map((bar) => bar.element))),
    ),
    where.element,
    make("p", { class: "lab-title" }, "What the stages see"),
    stages,
  );
  choose(chosen.image);
  return element;
}

/** The images to choose from, one radio button each.
 * @param {import("./models.js").Contents} contents
 * @param {import("./models.js").Network} network
 * @param {(image: number) => void} choose */
function pictures({ gallery, labels, classes }, network, choose) {
  const group = unique();
  const items = gallery.map((image, i) => {
    const canvas = make("canvas", { width: SIZE, height: SIZE });
    paint(canvas, [network.pixels(image)], SIZE, [0, 255]);
    const name = `Test image ${image}, ${classes[labels[image]]}`;
    const radio = make("input", { type: "radio", name: group, checked: i === 0, "aria-label": name });
    radio.addEventListener("change", () => choose(image));
    return make("label", { title: name }, radio, canvas);
  });
  return make("fieldset", { class: "lab-gallery" }, make("legend", {}, "Test image"), ...items);
}

/** The image, large, to draw on with a pointer or with keys. */
class Drawing {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    /** @type {Float32Array} */
    this.original = new Float32Array(SIZE ** 2);
    this.pixels = this.original.slice();
    this.touched = false;
    this.at = [SIZE / 2, SIZE / 2]; // of the brush moved by keys: column, row
    this.canvas = make("canvas", {
      width: SIZE * SCALE,
      height: SIZE * SCALE,
      tabindex: 0,
      role: "application",
      "aria-label": "The image, 28×28 pixels. Draw with a pointer; or move with the arrow keys and press space.",
    });
    this.frame = make("div", { class: "lab-frame" }, this.canvas);
    const tool = unique();
    const draw = make("input", { type: "radio", name: tool, checked: true });
    this.erase = make("input", { type: "radio", name: tool });
    this.element = make(
      "div",
      { class: "lab-drawing" },
      this.frame,
      make(
        "div",
        { class: "lab-tools" },
        make("label", {}, draw, " draw"),
        make("label", {}, this.erase, " erase"),
        make("button", { type: "button", onclick: () => this.change(() => this.pixels.fill(0)) }, "Empty"),
        make("button", { type: "button", onclick: () => this.take(this.original, true) }, "As it was"),
      ),
    );
    this.listen();
  }

  listen() {
    const { canvas } = this;
    /** @param {PointerEvent} event */
    const place = (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      return [((event.clientX - left) / width) * SIZE, ((event.clientY - top) / height) * SIZE];
    };
    /** @type {number[] | undefined} */
    let last;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      this.stroke(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = place(event);
      this.stroke(last, next);
      last = next;
    });
    const end = () => (last = undefined);
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step && event.key !== " ") return;
      event.preventDefault();
      if (step) this.at = this.at.map((each, i) => Math.min(SIZE - 0.5, Math.max(0.5, each + step[i])));
      else this.stroke(this.at, this.at);
      this.show();
    });
    canvas.addEventListener("focus", () => this.show());
    canvas.addEventListener("blur", () => this.show());
  }

  /** A soft line of about two pixels. @param {number[]} from @param {number[]} to */
  stroke(from, to) {
    const ink = this.erase.checked ? 0 : 255;
    const steps = Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])) + 1;
    this.change(() => {
      for (let s = 1; s <= steps; s += 1) {
        const [x, y] = from.map((each, i) => each + ((to[i] - each) * s) / steps);
        for (let row = Math.max(0, Math.floor(y - 2)); row < Math.min(SIZE, y + 2); row += 1) {
          for (let column = Math.max(0, Math.floor(x - 2)); column < Math.min(SIZE, x + 2); column += 1) {
            const cover = Math.min(1, Math.max(0, 1.7 - Math.hypot(column + 0.5 - x, row + 0.5 - y)));
            const i = row * SIZE + column;
            const goal = cover * ink + (1 - cover) * this.pixels[i];
            this.pixels[i] = ink ? Math.max(this.pixels[i], goal) : Math.min(this.pixels[i], goal);
          }
        }
      }
    });
  }

  /** @param {() => void} what */
  change(what) {
    what();
    this.touched = true;
    this.show();
    this.onChange();
  }

  /** @param {Float32Array} pixels @param {boolean} tell */
  take(pixels, tell = false) {
    this.original = pixels;
    this.pixels = pixels.slice();
    this.touched = false;
    this.show();
    if (tell) this.onChange();
  }

  show() {
    const small = make("canvas", { width: SIZE, height: SIZE });
    paint(small, [this.pixels], SIZE, [0, 255]);
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
    if (this.canvas.matches(":focus-visible")) {
      context.strokeStyle = getComputedStyle(context.canvas).getPropertyValue("--orange");
      context.lineWidth = 3;
      context.strokeRect((this.at[0] - 1) * SCALE, (this.at[1] - 1) * SCALE, 2 * SCALE, 2 * SCALE);
    }
  }
}

/** The probability of a class. */
class Bar {
  /** @param {string} name */
  constructor(name) {
    this.fill = make("span", { class: "lab-fill" });
    this.value = make("span", { class: "lab-value" });
    this.element = make("li", {}, make("span", {}, name), make("span", { class: "lab-track" }, this.fill), this.value);
  }

  /** @param {number} probability @param {boolean} best */
  show(probability, best) {
    this.fill.style.width = `${100 * probability}%`;
    this.value.textContent = percent(probability);
    this.element.classList.toggle("lab-best", best);
  }
}

/** @param {HTMLElement} place @param {import("./models.js").Description} description @param {Float32Array[]} maps */
function showMaps(place, { name, title, stages }, maps) {
  if (place.dataset.network !== name) {
    place.dataset.network = name;
    const figures = stages.slice(0, -1).map((stage) => {
      const label = `${stage.name}, ${stage.shape.join("×")}`;
      const canvas = make("canvas", { role: "img", "aria-label": `Maps of ${title} behind ${label}` });
      return make("figure", {}, canvas, make("figcaption", {}, label));
    });
    place.replaceChildren(...figures);
  }
  place.querySelectorAll("canvas").forEach((canvas, i) => {
    const [channels, size] = stages[i].shape;
    const each = size ** 2;
    paint(canvas, Array.from({ length: channels }, (_, c) => maps[i].subarray(c * each, (c + 1) * each)), size);
  });
}

/** Maps side by side in rows, with a line between them; each from black, its least value, to white, its largest.
 * @param {HTMLCanvasElement} canvas @param {Float32Array[]} maps @param {number} size @param {[number, number]} [range] */
function paint(canvas, maps, size, range) {
  const columns = Math.ceil(Math.sqrt(maps.length));
  const gap = maps.length > 1 ? 1 : 0;
  const width = columns * (size + gap) - gap;
  const height = Math.ceil(maps.length / columns) * (size + gap) - gap;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, height);
  maps.forEach((map, m) => {
    const [least, most] = range ?? extent(map);
    const scale = most > least ? 255 / (most - least) : 0;
    const left = (m % columns) * (size + gap);
    const top = Math.floor(m / columns) * (size + gap);
    map.forEach((value, i) => {
      const at = 4 * ((top + Math.floor(i / size)) * width + left + (i % size));
      image.data.fill((value - least) * scale, at, at + 3);
      image.data[at + 3] = 255;
    });
  });
  context.putImageData(image, 0, 0);
}

/** @param {Float32Array} map @returns {[number, number]} */
function extent(map) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of map) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  return [least, most];
}
