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

  nearest(z, count) {
    const distances = [];
    for (let n = 0; n < this.count; n++) {
      const own = this.point(n);
      let total = 0;
      for (let i = 0; i < this.size; i++) total += (own[i] - z[i]) ** 2;
      distances.push([total, n]);
    }
    return distances.sort((a, b) => a[0] - b[0]).slice(0, count).map(([, n]) => n);
  }

  random() {
    if (this.isStandardNormal || !this.count) return Float32Array.from({ length: this.size }, normal);
    return this.point(Math.floor(Math.random() * this.count));
  }
}

const mix = (a, b, part) => a.map((value, i) => value * (1 - part) + b[i] * part);
