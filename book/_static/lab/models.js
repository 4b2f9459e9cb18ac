// The trained networks in the browser: what they need is loaded once for a page, when a reader starts a bench.

export const SIZE = 28; // pixels, height and width of an image
const PIXELS = SIZE ** 2;
const BUILT = new URL("built/", import.meta.url);
const RUNTIME = "ort-wasm-simd-threaded.wasm.gz";
const PROGRAM = "ort.wasm.bundle.min.js";
const EMPTY = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]); // the smallest program of WebAssembly

/** @typedef {{name: string, shape: number[]}} Stage */
/**
 * What `tools/lab.py` says of a network.
 * @typedef {object} Description
 * @property {string} name
 * @property {string} title
 * @property {number} bytes of its file
 * @property {number} parameters
 * @property {number} multiply_adds
 * @property {number} correct of the images that are here, with all blocks
 * @property {number} test accuracy of the recorded run, on all test images
 * @property {Stage[]} stages
 * @property {string[]} blocks
 * @property {string[]} switches what can be taken out, in the order of the model's input
 */
/**
 * @typedef {object} Contents
 * @property {string[]} classes
 * @property {number[]} labels
 * @property {number[]} gallery
 * @property {number} runtime_bytes
 * @property {{bytes: number, mean: number, deviation: number}} race its file, and how its pixels become numbers of about 1
 * @property {Record<"degradation" | "networks", {bytes: number}>} scrub the files of recorded trainings
 * @property {Description[]} networks
 */
/**
 * Recorded trainings, in base 64 what are bytes: of the images, and of the probabilities, in 255ths, by epoch, image, class.
 * @typedef {object} Scrub
 * @property {number[]} labels
 * @property {string} images
 * @property {{name: string, train: number[], validation: number[], watched: string}[]} networks
 */
/** @typedef {(part: number) => void} OnProgress from 0 to 1 */

/** Something could not be loaded; the message says what, and what to do. */
export class LoadError extends Error {}

/** How often loading has failed: what a browser keeps of it is not asked for again. */
let failures = 0;

/** @type {Promise<Contents> | undefined} */
let contents;

/** What there is to load: a small file. @returns {Promise<Contents>} */
export function describe() {
  contents ??= fetched("lab.json").then((response) => response.json());
  contents.catch(() => (contents = undefined)); // another try may have more luck
  return contents;
}

/** @param {string} file @returns {Promise<Response>} */
async function fetched(file) {
  let reason;
  try {
    const response = await fetch(new URL(file, BUILT), { cache: failures ? "reload" : "default" });
    const page = response.headers.get("content-type")?.startsWith("text/html");
    if (response.ok && !page) return response;
    if (response.ok) throw instead(file);
    reason = `the server says ${response.status}`;
  } catch (error) {
    failures += 1;
    if (error instanceof LoadError) throw error;
    reason = "the server does not answer";
  }
  throw new LoadError(`${file} could not be loaded: ${reason}. Look at your connection, and try again.`);
}

/** @param {string} file */
function instead(file) {
  return new LoadError(`${file} could not be loaded: the server sent a web page in its place, perhaps to log in. Reload this page, or try again.`);
}

/** @param {string} file @param {number} bytes @param {OnProgress} onProgress */
async function download(file, bytes, onProgress) {
  const response = await fetched(file);
  if (!response.body) return new Uint8Array(await response.arrayBuffer());
  const parts = [];
  let done = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { value } = await reader.read();
    if (!value) break;
    parts.push(value);
    done += value.length;
    onProgress(Math.min(1, done / bytes));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** The images of a race: the labels, then the pixels, image by image. @param {OnProgress} onProgress */
export async function loadRace(onProgress) {
  const { bytes } = (await describe()).race;
  const file = await download("race.bin", bytes, onProgress);
  if (file.length !== bytes) throw new LoadError("race.bin is damaged. Reload the page.");
  return file;
}

/** The recorded trainings of an experiment. @param {keyof Contents["scrub"]} experiment @param {OnProgress} onProgress
 * @returns {Promise<Scrub>} */
export async function loadScrub(experiment, onProgress) {
  const name = `${experiment}.json`;
  const file = await download(name, (await describe()).scrub[experiment].bytes, onProgress);
  try {
    return JSON.parse(new TextDecoder().decode(file));
  } catch {
    throw new LoadError(`${name} is damaged. Reload the page.`);
  }
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes; // the server has told the browser to unpack it
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @typedef {typeof import("onnxruntime-web")} Runtime */
/** @typedef {{runtime: Runtime, images: Uint8Array}} Base what all networks need */

/** @type {Promise<Base> | undefined} */
let base;

/** @param {OnProgress} onProgress @returns {Promise<Base>} */
function loadBase(onProgress) {
  base ??= (async () => {
    if (typeof WebAssembly === "undefined") {
      throw new LoadError("This bench needs WebAssembly, which is switched off in this browser. Allow it, and reload the page.");
    }
    try {
      new WebAssembly.Module(EMPTY);
    } catch {
      throw new LoadError("The server forbids WebAssembly on its pages. Who runs it can allow it: 'wasm-unsafe-eval' in the script-src of its content security policy.");
    }
    const { runtime_bytes } = await describe();
    const binary = await unpacked(await download(RUNTIME, runtime_bytes, onProgress));
    if (EMPTY.subarray(0, 4).some((byte, i) => binary[i] !== byte)) {
      failures += 1;
      throw instead(RUNTIME);
    }
    const runtime = await program();
    runtime.env.wasm.numThreads = 1; // more need headers that few servers send
    runtime.env.wasm.wasmBinary = binary.buffer;
    const images = new Uint8Array(await (await fetched("images.bin")).arrayBuffer());
    return { runtime, images };
  })();
  base.catch(() => (base = undefined));
  return base;
}

/** A browser remembers that an import failed, so another try has another address. @returns {Promise<Runtime>} */
async function program() {
  try {
    return await import(new URL(failures ? `${PROGRAM}?try=${failures}` : PROGRAM, BUILT).href);
  } catch {
    failures += 1;
    throw new LoadError(`${PROGRAM} could not be loaded. Look at your connection, and try again.`);
  }
}

/** @type {Map<string, Promise<Network>>} */
const networks = new Map();

/** A trained network; what is there already is not loaded again.
 * @param {string} name @param {OnProgress} onProgress @returns {Promise<Network>} @throws {LoadError} */
export function load(name, onProgress = () => {}) {
  let network = networks.get(name);
  if (!network) {
    network = loadNetwork(name, onProgress);
    networks.set(name, network);
    network.catch(() => networks.delete(name));
  }
  return network;
}

/** @param {string} name @param {OnProgress} onProgress @returns {Promise<Network>} */
async function loadNetwork(name, onProgress) {
  const { networks, labels, runtime_bytes } = await describe();
  const description = networks.find((network) => network.name === name);
  if (!description) throw new LoadError(`There is no network ${name} here.`);
  const first = base ? 0 : runtime_bytes / (runtime_bytes + description.bytes);
  const { runtime, images } = await loadBase((part) => onProgress(part * first));
  const file = await download(`${name}.onnx`, description.bytes, (part) => onProgress(first + part * (1 - first)));
  try {
    const session = await runtime.InferenceSession.create(file, { executionProviders: ["wasm"] });
    return new Network(description, session, runtime, images, labels);
  } catch (error) {
    throw new LoadError(`The file of ${description.title} is damaged. Reload the page. (${error})`);
  }
}

/** @type {Promise<unknown>} The runtime does one thing at a time. */
let busy = Promise.resolve();

export class Network {
  /**
   * @param {Description} description
   * @param {import("onnxruntime-web").InferenceSession} session
   * @param {Runtime} runtime
   * @param {Uint8Array} images
   * @param {number[]} labels
   */
  constructor(description, session, runtime, images, labels) {
    this.description = description;
    this.session = session;
    this.runtime = runtime;
    this.images = images;
    this.labels = labels;
  }

  /** The pixels of some images, from 0 to 255. @param {number} first @param {number} count */
  pixels(first, count = 1) {
    return Float32Array.from(this.images.subarray(first * PIXELS, (first + count) * PIXELS));
  }

  /**
   * Some of the network's outputs for some images.
   * @param {Float32Array} pixels
   * @param {boolean[]} stays for each switch, whether its part stays
   * @param {string[]} outputs
   * @returns {Promise<Record<string, Float32Array>>}
   */
  async run(pixels, stays, outputs) {
    const { Tensor } = this.runtime;
    const feeds = {
      pixels: new Tensor("float32", pixels, [pixels.length / PIXELS, 1, SIZE, SIZE]),
      switches: new Tensor("float32", Float32Array.from(stays, Number), [stays.length]),
    };
    const mine = busy.then(() => this.session.run(feeds, outputs));
    busy = mine.catch(() => {});
    const results = await mine;
    return Object.fromEntries(outputs.map((name) => [name, /** @type {Float32Array} */ (results[name].data)]));
  }

  /**
   * What it makes of one image: the class maps have what each place adds to the logits, class after class.
   * @param {Float32Array} pixels
   * @returns {Promise<{probabilities: number[], maps: Float32Array[], classMaps: Float32Array}>}
   */
  async look(pixels) {
    const stages = this.description.stages.slice(0, -1).map((stage) => stage.name);
    const all = this.description.switches.map(() => true);
    const { logits, class_maps, ...maps } = await this.run(pixels, all, ["logits", "class_maps", ...stages]);
    return { probabilities: softmax(logits), maps: stages.map((name) => maps[name]), classMaps: class_maps };
  }

  /**
   * What the network takes each of the images for, with some parts taken out.
   * @param {boolean[]} stays
   * @param {OnProgress} onProgress
   * @param {AbortSignal} [signal]
   */
  async answers(stays, onProgress = () => {}, signal) {
    const together = 10; // few enough for the page to answer in between
    /** @type {number[]} */
    const answers = [];
    while (answers.length < this.labels.length) {
      signal?.throwIfAborted();
      const { logits } = await this.run(this.pixels(answers.length, together), stays, ["logits"]);
      for (let i = 0; i < together; i += 1) {
        const scores = logits.subarray(10 * i, 10 * i + 10);
        answers.push(scores.indexOf(Math.max(...scores)));
      }
      onProgress(answers.length / this.labels.length);
      await new Promise((resolve) => setTimeout(resolve)); // let the page draw and listen
    }
    return answers;
  }
}

/** @param {Float32Array} logits */
function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}
