// Vectors in the latent space: data points, axes of the plane, neighbors, random draws.
"use strict";

function decodeBase64(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

const dot = (a, b) => {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
};

// Standard normal (Box & Muller).
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

const NEIGHBORS = 6; // data points that a place of the map is a mean of

// Indices of the smallest values, smallest first.
function smallest(values, count) {
  const found = [];
  for (let n = 0; n < values.length; n++) {
    if (found.length === count && values[n] >= values[found[count - 1]]) continue;
    let place = Math.min(found.length, count - 1);
    while (place && values[found[place - 1]] > values[n]) found[place] = found[--place];
    found[place] = n;
  }
  return found;
}

class Latents {
  constructor(data, blob) {
    this.size = data.latent_size;
    const vector = ([begin, length]) => blob.subarray(begin, begin + length);
    this.mean = vector(data.mean);
    this.low = vector(data.low);
    this.high = vector(data.high);
    this.spread = vector(data.spread);
    this.kl = data.kl ? vector(data.kl) : null;
    this.order = data.order;
    this.components = data.components.map(vector);
    this.directions = data.directions.map(({ name, vector: place }) => ({ name, vector: vector(place) }));
    this.labels = data.labels;
    this.count = data.count;
    this.steps = new Uint16Array(decodeBase64(data.points)); // each value between its low and high
    this.isStandardNormal = data.is_standard_normal;
    this.map = data.map ? { name: data.map.name, xs: vector(data.map.x), ys: vector(data.map.y) } : null;
  }

  point(index) {
    const z = new Float32Array(this.size);
    for (let i = 0; i < z.length; i++) z[i] = this.low[i] + ((this.high[i] - this.low[i]) * this.steps[index * z.length + i]) / 65535;
    return z;
  }

  // Axes that the plane can have: principal components, then latents by KL divergence.
  axes() {
    const components = this.components.map((vector, i) => ({ name: `component ${i + 1}`, vector, origin: dot(vector, this.mean) }));
    const single = this.order.slice(0, 64).map((dimension) => {
      const vector = new Float32Array(this.size);
      vector[dimension] = 1;
      return { name: `z[${dimension}]`, vector, origin: 0 };
    });
    return [...components, ...single];
  }

  // Coordinates of every data point along an axis.
  project({ vector, origin }) {
    const own = new Float32Array(this.count);
    for (let n = 0; n < this.count; n++) {
      let total = -origin;
      for (let i = 0; i < this.size; i++)
        if (vector[i]) total += vector[i] * (this.low[i] + ((this.high[i] - this.low[i]) * this.steps[n * this.size + i]) / 65535);
      own[n] = total;
    }
    return own;
  }

  // Squared distances of the data points.
  squares(z) {
    const found = new Float64Array(this.count);
    for (let n = 0; n < this.count; n++) {
      let total = 0;
      for (let i = 0; i < this.size; i++)
        total += (this.low[i] + ((this.high[i] - this.low[i]) * this.steps[n * this.size + i]) / 65535 - z[i]) ** 2;
      found[n] = total;
    }
    return found;
  }

  nearest(z, count) {
    return smallest(this.squares(z), count);
  }

  // The mean of data points, weighted by the inverse of their squared distances: itself at a data point.
  blend(places, squares) {
    const weights = squares.map((square) => 1 / Math.max(square, 1e-12)), z = new Float32Array(this.size);
    const total = weights.reduce((a, b) => a + b, 0);
    places.forEach((n, number) => this.point(n).forEach((value, i) => (z[i] += (weights[number] / total) * value)));
    return z;
  }

  // The latent at a place of the map, from the data points that are nearest there.
  ofMap(x, y) {
    const { xs, ys } = this.map, squares = new Float64Array(this.count);
    for (let n = 0; n < this.count; n++) squares[n] = (xs[n] - x) ** 2 + (ys[n] - y) ** 2;
    const near = smallest(squares, NEIGHBORS);
    return this.blend(near, near.map((n) => squares[n]));
  }

  // The place of a latent on the map, from the data points that are nearest to it.
  toMap(z) {
    const squares = this.squares(z), near = smallest(squares, NEIGHBORS);
    const weights = near.map((n) => 1 / Math.max(squares[n], 1e-12)), total = weights.reduce((a, b) => a + b, 0);
    return ["xs", "ys"].map((axis) => near.reduce((sum, n, i) => sum + (weights[i] / total) * this.map[axis][n], 0));
  }

  meanOf(places) {
    const mean = new Float32Array(this.size);
    for (const n of places) this.point(n).forEach((value, i) => (mean[i] += value / places.length));
    return mean;
  }

  random() {
    if (this.isStandardNormal || !this.count) return Float32Array.from({ length: this.size }, normal);
    return this.point(Math.floor(Math.random() * this.count));
  }
}

const mix = (a, b, part) => a.map((value, i) => value * (1 - part) + b[i] * part);
