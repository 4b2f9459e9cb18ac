// Networks of linear layers that learn: forward, backward, and stochastic gradient descent, with the numbers of PyTorch.

const MOMENTUM = 0.9;
const [EPSILON, SHARE] = [1e-5, 0.1]; // of batch norm: what keeps it from dividing by 0; a batch's share in the running statistics

/** @typedef {"none" | "batch"} Norm */
/** @typedef {"default" | "he" | "zero"} Weights */
/**
 * @typedef {object} Shape of a network
 * @property {number[]} widths the numbers of inputs, of units in each hidden layer, and of classes
 * @property {Norm} norm behind each hidden layer
 * @property {number} span how many layers a shortcut goes around, from the second layer on; 0 for none
 */

/** Random numbers from 0 to 1: the same seed gives the same ones. @param {number} seed @returns {() => number} */
export function generator(seed) {
  let state = seed >>> 0; // a counter, scrambled: mulberry32, by Tommy Ettinger
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Numbers that are learned. */
class Parameter {
  /** @param {number} length @param {number} value */
  constructor(length, value = 0) {
    this.value = new Float32Array(length).fill(value);
    this.gradient = new Float32Array(length);
    this.velocity = new Float32Array(length);
  }

  /** @param {number} rate */
  descend(rate) {
    const { value, gradient, velocity } = this;
    for (let i = 0; i < value.length; i += 1) {
      velocity[i] = MOMENTUM * velocity[i] + gradient[i];
      value[i] -= rate * velocity[i];
    }
  }
}

/**
 * out[i, j] = sum over k of a[i, k] * b[j, k]; for each array, how far it is to the next i or j, and to the next k.
 * Two by two at a time, so that what is read serves twice: rows and columns are even in number.
 * @param {Float32Array} out @param {number} rows @param {number} columns @param {number} inner
 * @param {Float32Array} a @param {number} aNext @param {number} aInner
 * @param {Float32Array} b @param {number} bNext @param {number} bInner
 */
function multiply(out, rows, columns, inner, a, aNext, aInner, b, bNext, bInner) {
  for (let i = 0; i < rows; i += 2) {
    for (let j = 0; j < columns; j += 2) {
      let p = i * aNext;
      let q = j * bNext;
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      for (let k = 0; k < inner; k += 1) {
        const a0 = a[p];
        const a1 = a[p + aNext];
        const b0 = b[q];
        const b1 = b[q + bNext];
        s00 += a0 * b0;
        s01 += a0 * b1;
        s10 += a1 * b0;
        s11 += a1 * b1;
        p += aInner;
        q += bInner;
      }
      const at = i * columns + j;
      out[at] = s00;
      out[at + 1] = s01;
      out[at + columns] = s10;
      out[at + columns + 1] = s11;
    }
  }
}

/** Batch norm over the rows of a matrix. */
class BatchNorm {
  /** @param {number} units */
  constructor(units) {
    this.scale = new Parameter(units, 1);
    this.shift = new Parameter(units);
    this.mean = new Float32Array(units); // running, as is the variance
    this.variance = new Float32Array(units).fill(1);
    this.inverse = new Float32Array(units); // of the batch's standard deviation
    this.normal = new Float32Array(0);
  }

  /** In place. @param {Float32Array} z @param {number} rows @param {boolean} learning whether with the batch's statistics */
  forward(z, rows, learning) {
    const units = this.mean.length;
    if (this.normal.length < z.length) this.normal = new Float32Array(z.length);
    for (let j = 0; j < units; j += 1) {
      let [mean, variance] = [this.mean[j], this.variance[j]];
      if (learning) {
        mean = 0;
        for (let at = j; at < rows * units; at += units) mean += z[at];
        mean /= rows;
        let squares = 0;
        for (let at = j; at < rows * units; at += units) squares += (z[at] - mean) ** 2;
        variance = squares / rows;
        this.mean[j] += SHARE * (mean - this.mean[j]);
        this.variance[j] += SHARE * (squares / (rows - 1) - this.variance[j]);
      }
      const inverse = 1 / Math.sqrt(variance + EPSILON);
      const [scale, shift] = [this.scale.value[j], this.shift.value[j]];
      this.inverse[j] = inverse;
      for (let at = j; at < rows * units; at += units) {
        const normal = (z[at] - mean) * inverse;
        this.normal[at] = normal;
        z[at] = scale * normal + shift;
      }
    }
  }

  /** In place, from the derivative by what left to that by what came. @param {Float32Array} dz @param {number} rows */
  backward(dz, rows) {
    const { normal } = this;
    const units = this.mean.length;
    for (let j = 0; j < units; j += 1) {
      let [sum, along] = [0, 0];
      for (let at = j; at < rows * units; at += units) {
        sum += dz[at];
        along += dz[at] * normal[at];
      }
      this.shift.gradient[j] = sum;
      this.scale.gradient[j] = along;
      const factor = (this.scale.value[j] * this.inverse[j]) / rows;
      for (let at = j; at < rows * units; at += units) dz[at] = factor * (rows * dz[at] - sum - normal[at] * along);
    }
  }
}

/** A linear layer and what follows it: batch norm or nothing. */
class Layer {
  /** @param {number} inputs @param {number} outputs @param {Norm} norm */
  constructor(inputs, outputs, norm) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.weight = new Parameter(outputs * inputs);
    this.bias = new Parameter(outputs);
    this.norm = norm === "batch" ? new BatchNorm(outputs) : undefined;
  }

  parameters() {
    return [this.weight, this.bias, ...(this.norm ? [this.norm.scale, this.norm.shift] : [])];
  }

  /** @param {Float32Array} z what leaves @param {Float32Array} x @param {number} rows @param {boolean} learning */
  forward(z, x, rows, learning) {
    const { inputs, outputs, weight, bias } = this;
    multiply(z, rows, outputs, inputs, x, inputs, 1, weight.value, inputs, 1);
    for (let at = 0; at < rows * outputs; at += 1) z[at] += bias.value[at % outputs];
    this.norm?.forward(z, rows, learning);
  }

  /**
   * The derivatives by the parameters, and by what came in.
   * @param {Float32Array} dx @param {Float32Array} dz by what left: overwritten @param {Float32Array} x @param {number} rows
   */
  backward(dx, dz, x, rows) {
    const { inputs, outputs, weight, bias } = this;
    this.norm?.backward(dz, rows);
    bias.gradient.fill(0);
    for (let at = 0; at < rows * outputs; at += 1) bias.gradient[at % outputs] += dz[at];
    multiply(weight.gradient, outputs, inputs, rows, dz, 1, outputs, x, 1, inputs);
    multiply(dx, rows, inputs, outputs, dz, outputs, 1, weight.value, 1, inputs);
  }
}

/** Linear layers, with ReLU behind all but the last, and with shortcuts or without. */
export class Network {
  /** @param {Shape} shape @param {number} rows the most examples at once, an even number */
  constructor({ widths, norm, span }, rows) {
    this.span = span;
    this.widths = widths;
    const last = widths.length - 1;
    this.layers = widths.slice(1).map((outputs, i) => new Layer(widths[i], outputs, i + 1 < last ? norm : "none"));
    this.activations = widths.map((width) => new Float32Array(rows * width)); // what leaves each layer, behind the input
    this.derivatives = widths.map((width) => new Float32Array(rows * width)); // of the loss by each of them
    this.spare = new Float32Array(rows * Math.max(...widths));
  }

  /** In the order of PyTorch. */
  parameters() {
    return this.layers.flatMap((layer) => layer.parameters());
  }

  /** Whether a shortcut ends behind the layer with this number, counted from 1. @param {number} i */
  ends(i) {
    return this.span > 0 && i > 1 && i < this.layers.length && (i - 1) % this.span === 0;
  }

  /**
   * Weights to begin with: uniform, within PyTorch's default bound or that with He's variance. "zero" is He's, with the
   * last layer of each branch at zero: of its batch norm the scale, where it has one. A network without shortcuts has no branches.
   * @param {Weights} weights @param {() => number} random
   */
  begin(weights, random) {
    this.layers.forEach(({ inputs, weight, bias, norm }, i) => {
      const bound = weights === "default" ? 1 / Math.sqrt(inputs) : Math.sqrt(6 / inputs);
      weight.value.forEach((_, at) => (weight.value[at] = bound * (2 * random() - 1)));
      if (weights === "default") bias.value.forEach((_, at) => (bias.value[at] = bound * (2 * random() - 1)));
      if (weights === "zero" && this.ends(i + 1)) (norm ? norm.scale : weight).value.fill(0);
    });
  }

  /** The logits. @param {Float32Array} x @param {number} rows @param {boolean} learning */
  forward(x, rows, learning) {
    const { activations, layers, widths, span } = this;
    activations[0].set(x);
    layers.forEach((layer, before) => {
      const [i, z] = [before + 1, activations[before + 1]];
      layer.forward(z, activations[before], rows, learning);
      if (i === layers.length) return;
      const size = rows * widths[i];
      const carried = this.ends(i) ? activations[i - span] : undefined;
      if (carried) for (let at = 0; at < size; at += 1) z[at] += carried[at];
      for (let at = 0; at < size; at += 1) if (z[at] < 0) z[at] = 0;
    });
    return activations[layers.length].subarray(0, rows * widths[layers.length]);
  }

  /** From the derivatives by the logits, last of `derivatives`, to those by all parameters. @param {number} rows */
  backward(rows) {
    const { activations, derivatives, layers, spare, widths, span } = this;
    const last = layers.length;
    for (let i = 0; i < last; i += 1) derivatives[i].fill(0);
    for (let i = last; i > 0; i -= 1) {
      const dz = derivatives[i];
      const size = rows * widths[i];
      if (i < last) for (let at = 0; at < size; at += 1) if (activations[i][at] <= 0) dz[at] = 0;
      const carried = this.ends(i) ? derivatives[i - span] : undefined;
      if (carried) for (let at = 0; at < size; at += 1) carried[at] += dz[at];
      layers[i - 1].backward(spare, dz, activations[i - 1], rows);
      for (let at = 0; at < rows * widths[i - 1]; at += 1) derivatives[i - 1][at] += spare[at];
    }
  }

  /**
   * One step of descent on the mean cross-entropy of a batch; the loss, and the share of wrong answers, are those before it.
   * @param {Float32Array} x @param {ArrayLike<number>} labels @param {number} rate
   */
  learn(x, labels, rate) {
    const rows = labels.length;
    const logits = this.forward(x, rows, true);
    const { probabilities, logarithms } = softmax(logits, rows);
    const classes = logits.length / rows;
    const derivative = this.derivatives[this.layers.length];
    let [loss, wrong] = [0, 0];
    for (let row = 0; row < rows; row += 1) {
      const mine = probabilities.subarray(row * classes, (row + 1) * classes);
      loss += (logarithms[row] - logits[row * classes + labels[row]]) / rows;
      wrong += Number(mine.indexOf(Math.max(...mine)) !== labels[row]) / rows;
      for (let k = 0; k < classes; k += 1) derivative[row * classes + k] = (mine[k] - Number(k === labels[row])) / rows;
    }
    this.backward(rows);
    for (const parameter of this.parameters()) parameter.descend(rate);
    return { loss, error: wrong };
  }

  /** Of each layer the norm of the loss's gradient by its weights, in the last step. */
  gradients() {
    return this.layers.map(({ weight }) => Math.sqrt(weight.gradient.reduce((sum, each) => sum + each ** 2, 0)));
  }

  /** Of each layer the root mean square of what left it, in the last step. */
  sizes() {
    return this.activations.slice(1).map((each) => Math.sqrt(each.reduce((sum, one) => sum + one ** 2, 0) / each.length));
  }
}

/** Row by row: the probabilities, and the logarithm of what they were divided by. @param {Float32Array} logits @param {number} rows */
export function softmax(logits, rows) {
  const classes = logits.length / rows;
  const probabilities = new Float64Array(logits.length);
  const logarithms = new Float64Array(rows);
  for (let row = 0; row < rows; row += 1) {
    const mine = logits.subarray(row * classes, (row + 1) * classes);
    const largest = Math.max(...mine);
    let total = 0;
    for (const logit of mine) total += Math.exp(logit - largest);
    for (let k = 0; k < classes; k += 1) probabilities[row * classes + k] = Math.exp(mine[k] - largest) / total;
    logarithms[row] = largest + Math.log(total);
  }
  return { probabilities, logarithms };
}
