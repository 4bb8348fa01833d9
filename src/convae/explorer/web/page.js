// The page: what the controls do. The model's state is `state.z` and `state.label`; the URL's hash holds both.
"use strict";

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const blob = new Float32Array(decodeBase64(data.blob));
const latents = new Latents(data, blob);
const decoder = data.decode.remote ? remote(data.decode) : prepare(data.decode, blob);
const encoder = data.encode && (data.encode.remote ? remote(data.encode) : prepare(data.encode, blob));
const shape = data.image_shape;
const axes = latents.axes();
const side = Math.min(360, Math.max(192, 6 * Math.max(...rasterSize(shape))));
const MAP = axes.length; // the entry of both selects that stands for the map
const state = { z: new Float32Array(latents.size), label: data.label, axes: [0, 1], slice: 0, anchors: [], own: null };
const sliders = new Map();
let direction = null, playing = 0, population = [];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The image of a latent: an array that the next call writes over.
function decode(z, label = state.label) {
  return decoder(data.is_conditional ? { z, label: [label] } : { z }).image;
}

function show(canvas, values, size) {
  paint(canvas, values, shape, { slice: state.slice, side: size });
}

const SMALL = 96; // about the size of images that the layout sizes

// ---- the position

const coordinate = (z, { vector, origin }) => dot(z, vector) - origin;
const pair = () => state.axes.map((number) => axes[number]);
const isMap = () => state.axes[0] === MAP;
const coordinates = (z) => (isMap() ? latents.toMap(z) : pair().map((axis) => coordinate(z, axis)));
const className = (own) => (own < 0 ? "no label" : data.classes[own] ?? String(own));

// z moved within the plane to these coordinates; on the map, the latent there.
function moved(x, y) {
  if (isMap()) return latents.ofMap(x, y);
  const z = Float32Array.from(state.z), [u, v] = pair(), goal = [x, y];
  const overlap = dot(u.vector, v.vector);
  [u, v].forEach((axis, number) => {
    if (number && overlap > 0.999) return;
    const by = goal[number] - coordinate(z, axis);
    for (let i = 0; i < z.length; i++) z[i] += by * axis.vector[i];
  });
  return z;
}

function render(z, place) {
  const begin = performance.now(), values = decode(z), took = performance.now() - begin;
  show($("image"), values, side);
  $("speed").textContent = `decoded in ${took < 10 ? took.toFixed(1) : Math.round(took)} ms`;
  const names = isMap() ? [1, 2].map((number) => `${latents.map.name} ${number}`) : pair().map(({ name }) => name);
  $("image-text").textContent = place.map((value, i) => `${names[i]} ${value.toFixed(2)}`).join(", ");
}

let pending = null, shown = null;
function schedule(z, place = plane.position) {
  pending = [z, place];
  if (shown === null) shown = requestAnimationFrame(() => {
    shown = null;
    render(...pending);
    plane.draw();
  });
}

// Takes a latent as the position.
function take(z, { keepsDirection = false, place = null } = {}) {
  state.z = Float32Array.from(z);
  plane.position = place || coordinates(state.z);
  for (const [dimension, { input, output }] of sliders) {
    input.value = state.z[dimension];
    output.textContent = state.z[dimension].toFixed(2);
  }
  if (!keepsDirection) resetDirection();
  schedule(state.z);
  remember();
}

const plane = new Plane($("plane"), {
  points: latents.labels,
  shape,
  decode: (x, y) => decode(moved(x, y)),
  onMove: (x, y, isKept) => {
    if (x === null) schedule(state.z);
    else if (isKept) take(moved(x, y), { place: [x, y] });
    else schedule(moved(x, y), [x, y]);
  },
  onSelect: (places) => showSelection(places),
  onNearest: (x, y) => {
    let best = -1, least = Infinity;
    for (let n = 0; n < latents.count; n++) {
      const distance = (plane.xs[n] - x) ** 2 + (plane.ys[n] - y) ** 2;
      if (distance < least && !plane.hidden.has(latents.labels[n])) [best, least] = [n, distance];
    }
    if (best >= 0) take(latents.point(best), { place: [plane.xs[best], plane.ys[best]] });
  },
});

function setAxes(x, y) {
  // Both entries are the map, or neither is.
  if (x !== y && isMap()) [x, y] = x === MAP ? [y ? 0 : 1, y] : [x, x ? 0 : 1];
  else if (x === MAP || y === MAP) [x, y] = [MAP, MAP];
  state.axes = [x, y];
  $("axis-x").value = x;
  $("axis-y").value = y;
  plane.setPoints(...(isMap() ? [latents.map.xs, latents.map.ys] : pair().map((axis) => latents.project(axis))));
  showEllipse();
  showPath();
  plane.position = coordinates(state.z);
  plane.draw();
}

// ---- the state in the URL

function remember() {
  clearTimeout(remember.timer);
  remember.timer = setTimeout(() => {
    const parts = { x: state.axes[0], y: state.axes[1], z: [...state.z].map((value) => +value.toFixed(3)).join(",") };
    if (data.is_conditional) parts.label = state.label;
    if (latents.size > 512) delete parts.z;
    history.replaceState(null, "", `#${new URLSearchParams(parts)}`);
  }, 250);
}

function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const number = (name, limit, otherwise) => {
    const value = Number.parseInt(parts.get(name), 10);
    return value >= 0 && value < limit ? value : otherwise;
  };
  state.label = number("label", data.classes.length, data.label);
  if (data.is_conditional) $("label").value = state.label;
  const first = latents.size > 2 ? 0 : latents.components.length; // one or two latents are axes themselves
  const limit = axes.length + (latents.map ? 1 : 0);
  setAxes(number("x", limit, first), number("y", limit, Math.min(first + 1, axes.length - 1)));
  const z = (parts.get("z") || "").split(",").map(Number);
  take(z.length === latents.size && z.every(Number.isFinite) ? z : latents.mean);
}

// ---- controls

function fillControls() {
  document.title = `${data.model}: latent space`;
  $("title").textContent = data.model;
  $("facts").textContent = data.facts;
  for (const select of [$("axis-x"), $("axis-y")]) {
    axes.forEach((axis, number) => select.append(element("option", { value: number, textContent: axis.name })));
    if (latents.map) select.append(element("option", { value: MAP, textContent: `${latents.map.name} map` }));
    select.addEventListener("change", () => {
      setAxes(Number($("axis-x").value), Number($("axis-y").value));
      remember();
    });
  }
  $("grid").addEventListener("change", () => {
    plane.showsTiles = $("grid").checked;
    plane.refresh();
  });
  $("fit").addEventListener("click", () => plane.fit());
  $("reset").addEventListener("click", () => {
    plane.fit();
    take(latents.mean);
  });
  $("random").addEventListener("click", () => take(latents.random()));
  $("save").addEventListener("click", saveImage);
  if (data.is_conditional) {
    $("label-row").hidden = false;
    data.classes.forEach((name, number) => $("label").append(element("option", { value: number, textContent: name })));
    $("label").addEventListener("change", () => {
      state.label = Number($("label").value);
      if (state.own) showOwn(state.own.image);
      else take(state.z);
      plane.tile();
    });
  }
  if (shape.length === 4) {
    $("slice-row").hidden = false;
    Object.assign($("slice"), { max: shape[1] - 1, value: shape[1] >> 1 });
    state.slice = plane.slice = shape[1] >> 1;
    $("slice").addEventListener("input", () => {
      state.slice = plane.slice = Number($("slice").value);
      schedule(state.z);
      plane.tile();
    });
  }
  fillClasses();
  addSliders(12);
  $("more").addEventListener("click", () => addSliders(24));
}

function fillClasses() {
  const present = [...new Set(latents.labels)].sort((a, b) => a - b);
  if (present.length < 2) return;
  for (const own of present.slice(0, 60)) {
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      plane.hidden[box.checked ? "delete" : "add"](own);
      plane.drawPoints();
      plane.draw();
    });
    const dot = element("i");
    dot.style.background = classColor(own);
    const name = className(own);
    $("classes").append(element("label", { title: name }, box, dot, element("span", { textContent: name })));
  }
}

function addSliders(count) {
  const begin = sliders.size;
  for (const dimension of latents.order.slice(begin, begin + count)) {
    const reach = Math.max(3 * latents.spread[dimension], Math.abs(latents.mean[dimension]) + 2 * latents.spread[dimension], 0.1);
    const input = element("input", { type: "range", min: -reach, max: reach, step: reach / 150, value: state.z[dimension] });
    const output = element("output", { textContent: state.z[dimension].toFixed(2) });
    input.addEventListener("input", () => {
      const z = Float32Array.from(state.z);
      z[dimension] = Number(input.value);
      take(z);
      if (!isMap() && !pair().some((axis) => axis.vector[dimension])) plane.tile();
    });
    const title = latents.kl ? `KL divergence ${latents.kl[dimension].toFixed(3)} nats` : `standard deviation ${latents.spread[dimension].toFixed(3)}`;
    sliders.set(dimension, { input, output });
    $("sliders").append(element("label", { title }, element("span", { textContent: `z[${dimension}]` }), input, output));
  }
  $("more").hidden = sliders.size >= latents.order.length;
}

function download(file, name) {
  const link = element("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const saveImage = () => $("image").toBlob((file) => download(file, "decoded.png"));

// ---- directions: from the mean of all latents to that of a class or of a selection

function resetDirection() {
  direction = null;
  $("amount").value = 0;
  $("amount-text").textContent = "0.00";
}

function addDirection(own) {
  if (!latents.directions.includes(own)) latents.directions.push(own);
  const value = latents.directions.indexOf(own);
  $("direction").append(element("option", { value, textContent: own.name }));
  $("direction").value = value;
  $("direction-row").hidden = false;
  resetDirection();
}

function fillDirections() {
  if (latents.directions.length > 1) latents.directions.forEach(addDirection);
  else latents.directions = [];
  $("direction").selectedIndex = 0;
  $("direction").addEventListener("change", resetDirection);
  $("amount").addEventListener("input", () => {
    const { vector } = latents.directions[Number($("direction").value)], amount = Number($("amount").value);
    direction = direction || Float32Array.from(state.z);
    take(direction.map((value, i) => value + amount * vector[i]), { keepsDirection: true });
    $("amount-text").textContent = amount.toFixed(2);
  });
}

// ---- an image of the user

function showEllipse() {
  plane.ellipse = null;
  if (!state.own || isMap()) return;
  const [u, v] = pair(), { mean, variance } = state.own;
  const cross = (a, b) => {
    let total = 0;
    for (let i = 0; i < mean.length; i++) total += a[i] * b[i] * variance[i];
    return total;
  };
  const [x, y] = coordinates(mean);
  plane.ellipse = { x, y, xx: cross(u.vector, u.vector), xy: cross(u.vector, v.vector), yy: cross(v.vector, v.vector) };
}

// The pixels of an image in the model's size: its middle, with the model's channels.
async function readImage(file) {
  const picture = await createImageBitmap(file), [channels, height, width] = shape;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const scale = Math.max(width / picture.width, height / picture.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (width - picture.width * scale) / 2, (height - picture.height * scale) / 2, picture.width * scale, picture.height * scale);
  const { data: pixels } = context.getImageData(0, 0, width, height);
  const size = width * height, values = new Float32Array(channels * size);
  for (let i = 0; i < size; i++) {
    const [r, g, b, a] = pixels.subarray(4 * i, 4 * i + 4);
    const own = channels === 1 ? [0.299 * r + 0.587 * g + 0.114 * b] : [r, g, b, a];
    for (let c = 0; c < channels; c++) values[c * size + i] = own[c] / 255;
  }
  return values;
}

async function takeFile(file) {
  if (!file || !file.type.startsWith("image/")) return;
  try {
    showOwn(await readImage(file));
  } catch {
    $("own").hidden = false;
    $("own-text").textContent = "This file cannot be read as an image.";
  }
}

function showOwn(image) {
  const found = encoder(data.is_conditional ? { image, label: [state.label] } : { image });
  const mean = Float32Array.from(found.mean);
  const variance = found.logvar ? found.logvar.map(Math.exp) : new Float32Array(mean.length);
  state.own = { image, mean, variance };
  const output = Float32Array.from(decode(mean));
  let total = 0;
  image.forEach((value, i) => (total += (value - output[i]) ** 2));
  $("own").hidden = false;
  show($("own-input"), image, 128);
  show($("own-output"), output, 128);
  paint($("own-error"), errorImage(image, output, shape), [3, ...shape.slice(1)], { side: 128 });
  $("own-text").textContent = `absolute error, PSNR ${(-10 * Math.log10(total / image.length)).toFixed(1)} dB`;
  $("neighbors").replaceChildren();
  if (latents.count) $("neighbors").append(element("span", { className: "hint", textContent: "Nearest data points, decoded:" }));
  for (const n of latents.nearest(mean, 8)) {
    const z = latents.point(n), name = data.classes[latents.labels[n]] ?? `point ${n}`;
    $("neighbors").append(thumb(z, name, 56, () => take(z)));
  }
  showEllipse();
  take(mean);
}

function fillOwn() {
  if (!encoder || shape.length !== 3 || ![1, 3, 4].includes(shape[0])) {
    $("own-section").hidden = true;
    return;
  }
  $("file").addEventListener("change", () => takeFile($("file").files[0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("own-section").classList.add("dropping");
  });
  for (const name of ["dragleave", "drop"]) addEventListener(name, () => $("own-section").classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    takeFile(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => takeFile(event.clipboardData.files[0]));
}

// ---- small images that are buttons

function thumb(z, name, size, onClick) {
  const canvas = element("canvas"), button = element("button", { type: "button", className: "thumb", title: name }, canvas);
  button.setAttribute("aria-label", name);
  if (size) show(canvas, decode(z), size);
  else paint(canvas, decode(z), shape, { slice: state.slice, pixels: SMALL * (window.devicePixelRatio || 1) });
  button.addEventListener("click", onClick);
  return button;
}

// ---- the path between anchors

function showPath() {
  plane.path = state.anchors.map(coordinates);
  plane.draw();
}

function listAnchors() {
  $("anchors").replaceChildren(...state.anchors.map((z, number) => thumb(z, `Anchor ${number + 1}`, 72, () => take(z))));
  if (!state.anchors.length)
    $("anchors").append(element("span", { className: "hint", textContent: "Add positions with “Add to path”; the path between them can be played." }));
  for (const id of ["play", "place", "clear", "record"]) $(id).disabled = state.anchors.length < 2;
  if (state.anchors.length === 1) $("clear").disabled = false;
  showPath();
}

function along(part) {
  const place = part * (state.anchors.length - 1), first = Math.min(state.anchors.length - 2, Math.floor(place));
  return mix(state.anchors[first], state.anchors[first + 1], place - first);
}

// Saves the path there and back, 20 images a second for 1.5 seconds between two anchors.
async function record() {
  const steps = 30 * (state.anchors.length - 1), [width, height] = rasterSize(shape), frames = [];
  const scale = Math.max(1, Math.round(256 / Math.max(width, height)));
  for (let step = 0; step <= steps; step++) {
    const small = element("canvas"), frame = element("canvas", { width: width * scale, height: height * scale });
    paint(small, decode(along(step / steps)), shape, { slice: state.slice });
    const context = frame.getContext("2d");
    context.imageSmoothingEnabled = false;
    Object.assign(context, { fillStyle: "#ffffff" }).fillRect(0, 0, frame.width, frame.height);
    context.drawImage(small, 0, 0, frame.width, frame.height);
    frames.push(frame);
    if (step % 5 === 0) {
      $("record-text").textContent = `decoding ${step} of ${steps} images`;
      await new Promise((done) => setTimeout(done, 0));
    }
  }
  const file = await animate([...frames, ...frames.slice(1, -1).reverse()], 50);
  $("record-text").textContent = file ? "" : "This browser cannot write WebP.";
  if (file) download(file, "path.webp");
}

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  $("play").setAttribute("aria-pressed", "false");
  $("play").textContent = "Play";
}

function fillPath() {
  $("anchor").addEventListener("click", () => {
    state.anchors.push(Float32Array.from(state.z));
    listAnchors();
  });
  $("clear").addEventListener("click", () => {
    stop();
    state.anchors = [];
    listAnchors();
  });
  $("place").addEventListener("input", () => {
    stop();
    take(along(Number($("place").value)));
  });
  $("record").addEventListener("click", async () => {
    stop();
    $("record").disabled = true;
    await record();
    $("record").disabled = state.anchors.length < 2;
  });
  $("play").addEventListener("click", () => {
    if (playing) return stop();
    const begin = performance.now(), length = 1500 * (state.anchors.length - 1);
    $("play").setAttribute("aria-pressed", "true");
    $("play").textContent = "Stop";
    const frame = (now) => {
      const turn = (((now - begin) / length) % 2 + 2) % 2, part = turn <= 1 ? turn : 2 - turn; // there and back
      $("place").value = part;
      take(along(part));
      playing = requestAnimationFrame(frame);
    };
    playing = requestAnimationFrame(frame);
  });
  listAnchors();
}

// ---- evolution by choice

function showPopulation() {
  $("population").replaceChildren(...population.map((member, number) => {
    const button = thumb(member.z, `Member ${number + 1}`, 0, () => {
      member.isChosen = !member.isChosen;
      button.setAttribute("aria-pressed", String(member.isChosen));
      if (member.isChosen) take(member.z);
    });
    button.setAttribute("aria-pressed", "false");
    return button;
  }));
}

function fillEvolution() {
  const start = () => {
    population = Array.from({ length: 12 }, () => ({ z: latents.random(), isChosen: false }));
    showPopulation();
  };
  $("again").addEventListener("click", start);
  $("next").addEventListener("click", () => {
    const parents = population.filter((member) => member.isChosen).map(({ z }) => z);
    if (!parents.length) return start();
    const strength = Number($("mutation").value);
    population = Array.from({ length: 12 }, (_, number) => {
      if (number < parents.length) return { z: parents[number], isChosen: false };
      const [a, b] = [0, 1].map(() => parents[Math.floor(Math.random() * parents.length)]);
      const z = a.map((value, i) => (Math.random() < 0.5 ? value : b[i]) + strength * latents.spread[i] * normal());
      return { z, isChosen: false };
    });
    showPopulation();
  });
  start();
}

fillControls();
fillDirections();
fillOwn();
fillSelection();
fillPath();
recall();
addEventListener("hashchange", recall);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plane.draw());
setTimeout(fillEvolution, 0);
document.body.dataset.ready = "yes";
