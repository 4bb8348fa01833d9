// The operations of a program on Float32Arrays, for a batch of one. Shapes are fixed, so each operation is prepared
// once: OPERATIONS[name](context) returns a function that reads context.inputs and writes context.out.
"use strict";

if (typeof require !== "undefined") globalThis.multiply = require("./kernel.js").multiply;

const sizeOf = (shape) => shape.reduce((total, size) => total * size, 1);

function stridesOf(shape) {
  const strides = new Array(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = strides[axis + 1] * shape[axis + 1];
  return strides;
}

// For each position of a shape, the sum of index × stride: where another tensor has its value.
function positions(shape, strides, offset = 0) {
  const table = new Int32Array(sizeOf(shape));
  const index = new Array(shape.length).fill(0);
  let at = offset;
  for (let flat = 0; flat < table.length; flat++) {
    table[flat] = at;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < shape[axis]) break;
      at -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return table;
}

// Strides of a tensor that is broadcast to a larger shape: 0 along the axes that it lacks.
function broadcastStrides(shape, out) {
  const own = stridesOf(shape);
  return out.map((size, axis) => {
    const at = axis - (out.length - shape.length);
    return at < 0 || shape[at] === 1 ? 0 : own[at];
  });
}

// Sizes with three spatial axes: signals and images have leading axes of one.
const three = (sizes, fill = 1) => [...new Array(3 - sizes.length).fill(fill), ...sizes];

function geometry({ shape, inputShapes, options }) {
  const source = inputShapes[0];
  return {
    channels: source[1], size: three(source.slice(2)), made: shape[1], out: three(shape.slice(2)),
    kernel: three(options.kernel), stride: three(options.stride), padding: three(options.padding, 0),
    dilation: three(options.dilation || options.kernel.map(() => 1)), groups: options.groups || 1,
  };
}

const BLOCK = 1 << 20; // values of a matrix of patches

function conv(context) {
  const { inputs: [x], out, options, weights } = context;
  const g = geometry(context);
  const { size: [D, H, W], out: [OD, OH, OW], kernel: [KD, KH, KW], stride, padding, dilation } = g;
  const own = g.channels / g.groups, made = g.made / g.groups, K = own * KD * KH * KW;
  const weight = weights(options.weight), bias = weights(options.bias);
  const lines = OD * OH, step = Math.max(1, Math.min(lines, Math.floor(BLOCK / (K * OW))));
  const isPlain = KD * KH * KW === 1 && stride.every((s) => s === 1) && padding.every((p) => p === 0);
  const patches = isPlain ? null : new Float32Array(K * step * OW);
  const part = isPlain ? null : new Float32Array(made * step * OW);
  function fill(group, first, count) {
    let at = 0;
    for (let c = group * own; c < (group + 1) * own; c++)
      for (let kd = 0; kd < KD; kd++)
        for (let kh = 0; kh < KH; kh++)
          for (let kw = 0; kw < KW; kw++)
            for (let line = first; line < first + count; line++) {
              const d = Math.floor(line / OH) * stride[0] - padding[0] + kd * dilation[0];
              const h = (line % OH) * stride[1] - padding[1] + kh * dilation[1];
              if (d < 0 || d >= D || h < 0 || h >= H) {
                patches.fill(0, at, at + OW);
                at += OW;
                continue;
              }
              const row = ((c * D + d) * H + h) * W;
              for (let ow = 0, w = kw * dilation[2] - padding[2]; ow < OW; ow++, w += stride[2])
                patches[at++] = w >= 0 && w < W ? x[row + w] : 0;
            }
  }
  return () => {
    for (let group = 0; group < g.groups; group++) {
      const w0 = group * made * K, o0 = group * made * lines * OW;
      if (isPlain) {
        multiply(made, lines * OW, K, weight, w0, x, group * own * lines * OW, out, o0, bias, group * made);
        continue;
      }
      for (let first = 0; first < lines; first += step) {
        const count = Math.min(step, lines - first), N = count * OW;
        fill(group, first, count);
        multiply(made, N, K, weight, w0, patches, 0, part, 0, bias, group * made);
        for (let c = 0; c < made; c++)
          out.set(part.subarray(c * N, (c + 1) * N), o0 + c * lines * OW + first * OW);
      }
    }
  };
}

function convTranspose(context) {
  const { inputs: [x], out, options, weights } = context;
  const g = geometry(context);
  const { size: [D, H, W], out: [OD, OH, OW], kernel: [KD, KH, KW], stride, padding, dilation } = g;
  const own = g.channels / g.groups, made = g.made / g.groups, taps = KD * KH * KW, M = made * taps, N = D * H * W;
  const bias = weights(options.bias), given = weights(options.weight);
  const weight = new Float32Array(given.length); // (group, made · taps, own)
  for (let group = 0; group < g.groups; group++)
    for (let c = 0; c < own; c++)
      for (let m = 0; m < M; m++) weight[(group * M + m) * own + c] = given[(group * own + c) * M + m];
  const step = Math.max(1, Math.min(made, Math.floor(BLOCK / (taps * N)))); // channels at once
  const products = new Float32Array(step * taps * N);
  function scatter(channel, row) {
    const base = channel * OD * OH * OW;
    for (let kd = 0; kd < KD; kd++)
      for (let kh = 0; kh < KH; kh++)
        for (let kw = 0; kw < KW; kw++) {
          let at = row++ * N;
          for (let d = 0, od = kd * dilation[0] - padding[0]; d < D; d++, od += stride[0])
            for (let h = 0, oh = kh * dilation[1] - padding[1]; h < H; h++, oh += stride[1], at += W) {
              if (od < 0 || od >= OD || oh < 0 || oh >= OH) continue;
              const line = base + (od * OH + oh) * OW;
              for (let w = 0, ow = kw * dilation[2] - padding[2]; w < W; w++, ow += stride[2])
                if (ow >= 0 && ow < OW) out[line + ow] += products[at + w];
            }
        }
  }
  return () => {
    for (let c = 0; c < g.made; c++) out.fill(bias[c], c * OD * OH * OW, (c + 1) * OD * OH * OW);
    for (let group = 0; group < g.groups; group++)
      for (let first = 0; first < made; first += step) {
        const count = Math.min(step, made - first);
        multiply(count * taps, N, own, weight, (group * M + first * taps) * own, x, group * own * N, products, 0);
        for (let c = 0; c < count; c++) scatter(group * made + first + c, c * taps);
      }
  };
}

function linear({ inputs: [x], out, inputShapes, options, weights }) {
  const weight = weights(options.weight), bias = weights(options.bias);
  const K = inputShapes[0][inputShapes[0].length - 1], M = bias.length, rows = x.length / K;
  return () => {
    for (let row = 0; row < rows; row++)
      for (let m = 0; m < M; m++) {
        let a = 0, b = 0, k = 0;
        const p = m * K, q = row * K;
        for (; k + 1 < K; k += 2) {
          a += weight[p + k] * x[q + k];
          b += weight[p + k + 1] * x[q + k + 1];
        }
        if (k < K) a += weight[p + k] * x[q + k];
        out[row * M + m] = a + b + bias[m];
      }
  };
}

function matmul({ inputs: [a, b], out, inputShapes: [left, right], shape }) {
  const [M, K] = left.slice(-2), N = right[right.length - 1], many = shape.slice(0, -2);
  const from = positions(many, broadcastStrides(left.slice(0, -2), many));
  const with_ = positions(many, broadcastStrides(right.slice(0, -2), many));
  return () => {
    for (let i = 0; i < from.length; i++) multiply(M, N, K, a, from[i] * M * K, b, with_[i] * K * N, out, i * M * N);
  };
}

function groupNorm({ inputs: [x], out, inputShapes, options, weights }) {
  const weight = weights(options.weight), bias = weights(options.bias), channels = weight.length;
  const many = inputShapes[0][0] * options.groups, length = x.length / many, size = x.length / (inputShapes[0][0] * channels);
  return () => {
    for (let group = 0; group < many; group++) {
      const begin = group * length;
      let mean = 0, variance = 0;
      for (let i = 0; i < length; i++) mean += x[begin + i];
      mean /= length;
      for (let i = 0; i < length; i++) variance += (x[begin + i] - mean) ** 2;
      const scale = 1 / Math.sqrt(variance / length + options.eps);
      for (let i = 0; i < length; i++) {
        const channel = Math.floor((begin + i) / size) % channels;
        out[begin + i] = (x[begin + i] - mean) * scale * weight[channel] + bias[channel];
      }
    }
  };
}

function pool(isMaximum) {
  return (context) => {
    const { inputs: [x], out } = context;
    const { channels, size: [D, H, W], out: [OD, OH, OW], kernel, stride, padding } = geometry(context);
    const count = kernel[0] * kernel[1] * kernel[2];
    return () => {
      let at = 0;
      for (let c = 0; c < channels; c++)
        for (let od = 0; od < OD; od++)
          for (let oh = 0; oh < OH; oh++)
            for (let ow = 0; ow < OW; ow++) {
              let best = -Infinity, total = 0;
              for (let kd = 0; kd < kernel[0]; kd++)
                for (let kh = 0; kh < kernel[1]; kh++)
                  for (let kw = 0; kw < kernel[2]; kw++) {
                    const d = od * stride[0] - padding[0] + kd, h = oh * stride[1] - padding[1] + kh;
                    const w = ow * stride[2] - padding[2] + kw;
                    if (d < 0 || d >= D || h < 0 || h >= H || w < 0 || w >= W) continue;
                    const value = x[((c * D + d) * H + h) * W + w];
                    total += value;
                    if (value > best) best = value;
                  }
              out[at++] = isMaximum ? best : total / count;
            }
    };
  };
}

// For each part of the input along axes that the result keeps with a size of one: a number of its values.
function overAxes(summary) {
  return ({ inputs: [x], out, inputShapes: [source], options: { axes } }) => {
    const strides = stridesOf(source);
    const kept = source.map((size, axis) => (axes.includes(axis) ? 1 : size));
    const starts = positions(kept, strides), inner = positions(axes.map((a) => source[a]), axes.map((a) => strides[a]));
    const summarize = summary(x, inner);
    return () => {
      for (let i = 0; i < starts.length; i++) out[i] = summarize(starts[i]);
    };
  };
}

function reduce(initial, combine, finish = (value) => value) {
  return overAxes((x, inner) => (start) => {
    let total = initial;
    for (let j = 0; j < inner.length; j++) total = combine(total, x[start + inner[j]]);
    return finish(total, inner.length);
  });
}

function extremum(isBetter) {
  return overAxes((x, inner) => (start) => {
    let best = 0;
    for (let j = 1; j < inner.length; j++) if (isBetter(x[start + inner[j]], x[start + inner[best]])) best = j;
    return best;
  });
}

function gather(tableOf) {
  return (context) => {
    const { inputs: [x], out } = context, table = tableOf(context);
    return () => {
      for (let i = 0; i < table.length; i++) out[i] = x[table[i]];
    };
  };
}

function pad({ inputs: [x], out, inputShapes: [source], shape, options: { before, mode, value } }) {
  const own = stridesOf(source), wide = stridesOf(shape);
  const table = new Int32Array(out.length);
  for (let flat = 0; flat < out.length; flat++) {
    let at = 0;
    for (let axis = 0, rest = flat; axis < shape.length && at >= 0; axis++) {
      let index = Math.floor(rest / wide[axis]) - before[axis];
      const size = source[axis];
      rest %= wide[axis];
      if (index < 0 || index >= size) {
        if (mode === "reflect") index = index < 0 ? -index : 2 * (size - 1) - index;
        else if (mode === "replicate") index = Math.max(0, Math.min(size - 1, index));
        else if (mode === "circular") index = (index + size) % size;
        else index = -1;
      }
      at = index < 0 ? -1 : at + index * own[axis];
    }
    table[flat] = at;
  }
  return () => {
    for (let i = 0; i < table.length; i++) out[i] = table[i] < 0 ? value : x[table[i]];
  };
}

function nearest({ inputShapes: [source], shape }) {
  const own = stridesOf(source), wide = stridesOf(shape), table = new Int32Array(sizeOf(shape));
  for (let flat = 0; flat < table.length; flat++)
    for (let axis = 0, rest = flat; axis < shape.length; axis++) {
      const index = Math.floor(rest / wide[axis]);
      rest %= wide[axis];
      table[flat] += Math.floor((index * source[axis]) / shape[axis]) * own[axis];
    }
  return table;
}

// Linear interpolation along one axis.
function stretch({ inputs: [x], out, inputShapes: [source], shape, options: { axis, align } }) {
  const inner = stridesOf(source)[axis], from = source[axis], to = shape[axis], outer = x.length / (from * inner);
  return () => {
    for (let i = 0; i < to; i++) {
      const place = align ? (to > 1 ? (i * (from - 1)) / (to - 1) : 0) : Math.max(0, ((i + 0.5) * from) / to - 0.5);
      const low = Math.min(from - 1, Math.floor(place)), high = Math.min(from - 1, low + 1), part = place - low;
      for (let o = 0; o < outer; o++)
        for (let n = 0; n < inner; n++)
          out[(o * to + i) * inner + n] = x[(o * from + low) * inner + n] * (1 - part) + x[(o * from + high) * inner + n] * part;
    }
  };
}

function cat({ inputs, out, inputShapes, shape, options: { axis } }) {
  const inner = sizeOf(shape.slice(axis + 1)), outer = sizeOf(shape.slice(0, axis)), row = shape[axis] * inner;
  return () => {
    for (let o = 0; o < outer; o++) {
      let at = o * row;
      inputs.forEach((x, number) => {
        const length = inputShapes[number][axis] * inner;
        out.set(x.subarray(o * length, (o + 1) * length), at);
        at += length;
      });
    }
  };
}

function unary(compute) {
  return ({ inputs: [x], out, options }) => () => {
    for (let i = 0; i < out.length; i++) out[i] = compute(x[i], options);
  };
}

function binary(compute) {
  return ({ inputs: [a, b], out, inputShapes, shape }) => {
    const isSame = (own) => own.length === shape.length && own.every((size, axis) => size === shape[axis]);
    if (inputShapes.every(isSame))
      return () => {
        for (let i = 0; i < out.length; i++) out[i] = compute(a[i], b[i]);
      };
    const [p, q] = inputShapes.map((own) => positions(shape, broadcastStrides(own, shape)));
    return () => {
      for (let i = 0; i < out.length; i++) out[i] = compute(a[p[i]], b[q[i]]);
    };
  };
}

function where({ inputs: [condition, a, b], out, inputShapes, shape }) {
  const [c, p, q] = inputShapes.map((own) => positions(shape, broadcastStrides(own, shape)));
  return () => {
    for (let i = 0; i < out.length; i++) out[i] = condition[c[i]] ? a[p[i]] : b[q[i]];
  };
}

// Abramowitz & Stegun 7.1.26 is too coarse; this expansion (W. J. Cody's form in Numerical Recipes) is good to 1.2e-7.
function erf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const inner = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 +
    t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  const value = 1 - t * Math.exp(-x * x + inner);
  return x >= 0 ? value : -value;
}

function roundEven(x) {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 ? near - 1 : near;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x, { beta, threshold }) => (x * beta > threshold ? x : Math.log1p(Math.exp(beta * x)) / beta);
const geluTanh = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

const OPERATIONS = {
  conv, conv_transpose: convTranspose, linear, matmul, group_norm: groupNorm, pad, stretch, cat, where,
  max_pool: pool(true), avg_pool: pool(false),
  reshape: ({ inputs: [x], out }) => () => out.set(x),
  permute: gather(({ inputShapes: [own], shape, options: { axes } }) => {
    const strides = stridesOf(own);
    return positions(shape, axes.map((axis) => strides[axis]));
  }),
  slice: gather(({ inputShapes: [own], shape, options: { axis, begin, step } }) => {
    const strides = stridesOf(own), offset = begin * strides[axis];
    return positions(shape, strides.map((stride, at) => (at === axis ? stride * step : stride)), offset);
  }),
  expand: gather(({ inputShapes: [own], shape }) => positions(shape, broadcastStrides(own, shape))),
  nearest: gather(nearest),
  embedding: ({ inputs: [rows, numbers], out }) => {
    const length = out.length / numbers.length;
    return () => numbers.forEach((n, i) => out.set(rows.subarray(n * length, (n + 1) * length), i * length));
  },
  sum: reduce(0, (total, x) => total + x),
  mean: reduce(0, (total, x) => total + x, (total, count) => total / count),
  amax: reduce(-Infinity, Math.max), amin: reduce(Infinity, Math.min),
  argmin: extremum((a, b) => a < b), argmax: extremum((a, b) => a > b),
  relu: unary((x) => (x > 0 ? x : 0)), sigmoid: unary(sigmoid), tanh: unary(Math.tanh), silu: unary((x) => x * sigmoid(x)),
  gelu: unary((x) => 0.5 * x * (1 + erf(x / Math.SQRT2))), gelu_tanh: unary(geluTanh),
  leaky_relu: unary((x, { slope }) => (x > 0 ? x : slope * x)), softplus: unary(softplus),
  elu: unary((x, { alpha }) => (x > 0 ? x : alpha * Math.expm1(x))),
  clamp: unary((x, { low, high }) => Math.min(high === null ? Infinity : high, Math.max(low === null ? -Infinity : low, x))),
  exp: unary(Math.exp), expm1: unary(Math.expm1), log: unary(Math.log), log1p: unary(Math.log1p), neg: unary((x) => -x),
  square: unary((x) => x * x), sqrt: unary(Math.sqrt), rsqrt: unary((x) => 1 / Math.sqrt(x)), round: unary(roundEven),
  abs: unary(Math.abs), erf: unary(erf), sin: unary(Math.sin), cos: unary(Math.cos), atanh: unary(Math.atanh),
  floor: unary(Math.floor), sign: unary(Math.sign), reciprocal: unary((x) => 1 / x), trunc: unary(Math.trunc),
  add: binary((a, b) => a + b), sub: binary((a, b) => a - b), mul: binary((a, b) => a * b), div: binary((a, b) => a / b),
  max: binary(Math.max), min: binary(Math.min), pow: binary(Math.pow), prelu: binary((x, slope) => (x > 0 ? x : slope * x)),
  remainder: binary((a, b) => a - b * Math.floor(a / b)), floor_divide: binary((a, b) => Math.floor(a / b)),
  gt: binary((a, b) => +(a > b)), lt: binary((a, b) => +(a < b)), ge: binary((a, b) => +(a >= b)),
  le: binary((a, b) => +(a <= b)), eq: binary((a, b) => +(a === b)),
};

// A program as a function of its inputs by name; the arrays that it returns are written over by the next call.
function prepare(program, blob) {
  const results = [], work = [];
  const weights = ([begin, length]) => blob.subarray(begin, begin + length);
  for (const [name, inputs, shape, options] of program.steps) {
    if (name === "constant") {
      results.push({ shape, values: weights(options.values) });
      continue;
    }
    const values = new Float32Array(sizeOf(shape));
    results.push({ shape, values });
    if (name === "input") continue;
    const given = inputs.map((number) => results[number]);
    work.push(OPERATIONS[name]({
      inputs: given.map((each) => each.values), inputShapes: given.map((each) => each.shape), out: values, shape, options,
      weights,
    }));
  }
  return (inputs) => {
    for (const [name, number] of Object.entries(program.inputs)) results[number].values.set(inputs[name]);
    for (const step of work) step();
    return Object.fromEntries(Object.entries(program.outputs).map(([name, number]) => [name, results[number].values]));
  };
}

if (typeof module !== "undefined") module.exports = { prepare };
