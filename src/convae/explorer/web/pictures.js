// Images as the network gives them, (channel, *sizes) in [0, 1], on canvases: gray, color, signals and slices.
"use strict";

function rasterSize(shape) {
  if (shape.length === 2) return [Math.max(360, shape[1]), 270];
  return [shape[shape.length - 1], shape[shape.length - 2]];
}

// Fills a canvas; `slice` is the position along the depth of a volume, `side` the size that it is shown in. Curves are
// drawn in that size, or with `pixels` along the larger side: thin lines that are made smaller have gaps.
function paint(canvas, values, shape, { slice = 0, side = 0, pixels = side * (window.devicePixelRatio || 1) } = {}) {
  let [width, height] = rasterSize(shape);
  if (shape.length === 2 && pixels) [width, height] = [pixels, (pixels * height) / width].map(Math.round);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.style.imageRendering = shape.length === 2 ? "auto" : "";
  if (side) {
    const scale = side / Math.max(width, height);
    canvas.style.width = `${width * scale}px`;
    canvas.style.height = `${height * scale}px`;
  }
  const context = canvas.getContext("2d");
  if (shape.length === 2) return paintCurves(context, values, shape, width, height);
  context.putImageData(raster(values, shape, slice), 0, 0);
}

function raster(values, shape, slice = 0) {
  const [width, height] = rasterSize(shape), size = width * height, channels = shape[0];
  const stride = shape.length === 4 ? shape[1] * size : size, begin = shape.length === 4 ? slice * size : 0;
  const image = new ImageData(width, height);
  const [r, g, b] = channels >= 3 ? [0, 1, 2] : channels === 2 ? [0, 1, 0] : [0, 0, 0];
  for (let i = 0; i < size; i++) {
    image.data[4 * i] = 255 * values[begin + r * stride + i] + 0.5;
    image.data[4 * i + 1] = 255 * values[begin + g * stride + i] + 0.5;
    image.data[4 * i + 2] = 255 * values[begin + b * stride + i] + 0.5;
    image.data[4 * i + 3] = 255;
  }
  return image;
}

function paintCurves(context, values, [channels, length], width, height) {
  context.clearRect(0, 0, width, height);
  for (let c = 0; c < channels; c++) {
    context.strokeStyle = classColor(c);
    context.lineWidth = Math.max(1.25, width / 120);
    context.lineJoin = "round";
    context.beginPath();
    for (let i = 0; i < length; i++)
      context.lineTo((i / Math.max(1, length - 1)) * (width - 2) + 1, (height * (1 - 0.96 * values[c * length + i])) - 0.02 * height);
    context.stroke();
  }
}

// Absolute error, averaged over channels: black, red, yellow, white at 0.5 and above.
function errorImage(a, b, shape) {
  const [width, height] = rasterSize(shape), size = width * height, heat = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) {
    let total = 0;
    for (let c = 0; c < shape[0]; c++) total += Math.abs(a[c * size + i] - b[c * size + i]);
    const value = Math.min(1, (2 * total) / shape[0]);
    for (let c = 0; c < 3; c++) heat[c * size + i] = Math.max(0, Math.min(1, 3 * value - c));
  }
  return heat;
}

const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7a3fb5", "#e6409a", "#5f7d1e", "#8c564b"];
const classColor = (number) => (number < 0 ? "#888888" : number < COLORS.length ? COLORS[number] : `hsl(${(number * 137.5) % 360} 65% 48%)`);

// A color as the four bytes of a pixel.
function packedColor(color, opacity) {
  const context = (packedColor.context ||= document.createElement("canvas").getContext("2d"));
  context.fillStyle = color; // which reads every notation, and gives #rrggbb
  const rgb = Number.parseInt(context.fillStyle.slice(1), 16);
  return ((Math.round(255 * opacity) << 24) | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}
