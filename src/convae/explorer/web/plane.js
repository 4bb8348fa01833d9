// The plane: data points, images under them, the position, an ellipse of uncertainty and the path.
"use strict";

class Plane {
  // `onMove(x, y, isKept)` gets coordinates in the plane; `decode(x, y)` gives the image at one.
  constructor(canvas, { points, onMove, onNearest, onSelect, decode, shape }) {
    Object.assign(this, { canvas, points, onMove, onNearest, onSelect, decode, shape });
    this.context = canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.hidden = new Set();
    this.selected = new Set();
    this.lasso = null; // corners while one is drawn
    this.isSelecting = false;
    this.slice = 0;
    this.path = [];
    this.position = [0, 0];
    this.ellipse = null;
    this.tiles = null;
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  setPoints(xs, ys) {
    this.xs = xs;
    this.ys = ys;
    this.fit();
  }

  fit() {
    const bounds = (values) => {
      const sorted = Float32Array.from(values).sort();
      if (!sorted.length) return [0, 3];
      const low = sorted[Math.floor(0.005 * sorted.length)], high = sorted[Math.ceil(0.995 * sorted.length) - 1];
      return [(low + high) / 2, (high - low) / 2];
    };
    const [cx, rx] = bounds(this.xs), [cy, ry] = bounds(this.ys);
    this.view = { x: cx, y: cy, radius: 1.12 * Math.max(rx, ry, 1e-3) };
    this.refresh();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1, { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    this.canvas.width = this.layer.width = Math.round(clientWidth * ratio);
    this.canvas.height = this.layer.height = Math.round(clientHeight * ratio);
    this.ratio = ratio;
    if (this.view) this.refresh();
  }

  get scale() {
    return Math.min(this.canvas.width, this.canvas.height) / (2 * this.view.radius);
  }

  toScreen(x, y) {
    return [this.canvas.width / 2 + (x - this.view.x) * this.scale, this.canvas.height / 2 - (y - this.view.y) * this.scale];
  }

  toPlane(event) {
    const box = this.canvas.getBoundingClientRect();
    const px = (event.clientX - box.left) * this.ratio, py = (event.clientY - box.top) * this.ratio;
    return [this.view.x + (px - this.canvas.width / 2) / this.scale, this.view.y - (py - this.canvas.height / 2) / this.scale];
  }

  refresh() {
    this.tile();
    this.drawPoints();
    this.draw();
  }

  // Points are drawn once on a layer of their own; moving the position copies it.
  drawPoints() {
    if (!this.view || !this.canvas.width) return;
    const context = this.layer.getContext("2d"), { width, height } = this.layer;
    context.clearRect(0, 0, width, height);
    const many = this.xs.length;
    if (many > 2000) return this.rasterPoints(context, many > 4000 ? 2.2 : 3.2, many > 4000 ? 0.65 : 0.8);
    const size = (many > 800 ? 3.2 : 5) * this.ratio;
    context.globalAlpha = 0.8;
    // Points outside of a selection are pale, and drawn first.
    const groups = new Map();
    for (let n = 0; n < many; n++) {
      const own = this.points[n];
      if (this.hidden.has(own)) continue;
      const isPale = this.selected.size > 0 && !this.selected.has(n), key = `${isPale ? 0 : 1} ${own}`;
      if (!groups.has(key)) groups.set(key, { own, isPale, members: [] });
      groups.get(key).members.push(n);
    }
    const opacity = context.globalAlpha;
    for (const { own, isPale, members } of [...groups.values()].sort((a, b) => b.isPale - a.isPale)) {
      context.globalAlpha = isPale ? 0.12 : opacity;
      context.fillStyle = classColor(own);
      context.beginPath();
      for (const n of members) {
        const [px, py] = this.toScreen(this.xs[n], this.ys[n]);
        if (px < -9 || py < -9 || px > width + 9 || py > height + 9) continue;
        context.moveTo(px + size / 2, py);
        context.arc(px, py, size / 2, 0, 7);
      }
      context.fill();
    }
    context.globalAlpha = 1;
  }

  // Many points: squares that are written into an image, which takes a tenth of the time of drawing them.
  rasterPoints(context, width, opacity) {
    const { width: columns, height: rows } = this.layer, side = Math.max(2, Math.round(width * this.ratio));
    if (!this.raster || this.raster.width !== columns || this.raster.height !== rows) this.raster = new ImageData(columns, rows);
    const pixels = new Uint32Array(this.raster.data.buffer).fill(0), { scale, view, xs, ys, points } = this;
    const colors = new Map([...new Set(points)].map((own) => [own, [0.12, opacity].map((alpha) => packedColor(classColor(own), alpha))]));
    const x0 = columns / 2 - view.x * scale - side / 2, y0 = rows / 2 + view.y * scale - side / 2;
    const hasSelection = this.selected.size > 0;
    // Points outside of a selection are pale, and drawn first.
    for (const isSelected of hasSelection ? [false, true] : [true])
      for (let n = 0; n < xs.length; n++) {
        const left = Math.round(x0 + xs[n] * scale), top = Math.round(y0 - ys[n] * scale);
        if (left < 0 || top < 0 || left + side > columns || top + side > rows || this.hidden.has(points[n])) continue;
        if (hasSelection && this.selected.has(n) !== isSelected) continue;
        const color = colors.get(points[n])[+isSelected];
        for (let row = top; row < top + side; row++) pixels.fill(color, row * columns + left, row * columns + left + side);
      }
    context.putImageData(this.raster, 0, 0);
  }

  // Images under the points, a few at a time so that the page stays responsive.
  tile() {
    clearTimeout(this.timer);
    this.tiles = null;
    if (!this.showsTiles || !this.canvas.width) return;
    const [width, height] = rasterSize(this.shape);
    const columns = Math.max(4, Math.min(16, Math.round(this.canvas.clientWidth / 44)));
    const side = this.canvas.width / columns, rows = Math.ceil(this.canvas.height / side);
    const places = [];
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) places.push([column, row]);
    const middle = ([c, r]) => Math.hypot(c - columns / 2 + 0.5, r - rows / 2 + 0.5);
    places.sort((a, b) => middle(a) - middle(b));
    const board = document.createElement("canvas");
    board.width = this.canvas.width;
    board.height = this.canvas.height;
    const context = board.getContext("2d"), one = document.createElement("canvas");
    context.imageSmoothingEnabled = this.shape.length === 2;
    context.imageSmoothingQuality = "high";
    this.tiles = board;
    const work = () => {
      const end = performance.now() + 14;
      while (places.length && performance.now() < end) {
        const [column, row] = places.shift(), px = (column + 0.5) * side, py = (row + 0.5) * side;
        const x = this.view.x + (px - this.canvas.width / 2) / this.scale, y = this.view.y - (py - this.canvas.height / 2) / this.scale;
        paint(one, this.decode(x, y), this.shape, { slice: this.slice, pixels: 0.96 * side });
        const fitted = (0.96 * side) / Math.max(width, height);
        context.drawImage(one, px - (width * fitted) / 2, py - (height * fitted) / 2, width * fitted, height * fitted);
      }
      this.draw();
      if (places.length) this.timer = setTimeout(work, 4);
    };
    this.timer = setTimeout(work, 30);
  }

  draw() {
    if (!this.view || !this.canvas.width) return;
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.tiles) {
      context.drawImage(this.tiles, 0, 0);
      context.globalAlpha = 0.85;
    }
    context.drawImage(this.layer, 0, 0);
    context.globalAlpha = 1;
    if (this.path.length > 1) {
      this.outline(() => this.path.forEach(([x, y]) => context.lineTo(...this.toScreen(x, y))));
    }
    this.path.forEach(([x, y], number) => {
      const [px, py] = this.toScreen(x, y);
      Object.assign(context, { fillStyle: "#000000", strokeStyle: "#ffffff", lineWidth: 3 * this.ratio, font: `600 ${14 * this.ratio}px system-ui` });
      context.strokeText(String(number + 1), px + 6 * this.ratio, py - 6 * this.ratio);
      context.fillText(String(number + 1), px + 6 * this.ratio, py - 6 * this.ratio);
    });
    if (this.ellipse) {
      const { x, y, xx, xy, yy } = this.ellipse, middle = (xx + yy) / 2, apart = Math.hypot((xx - yy) / 2, xy);
      const angle = 0.5 * Math.atan2(2 * xy, xx - yy), [px, py] = this.toScreen(x, y);
      const radius = (variance) => 2 * Math.sqrt(Math.max(0, variance)) * this.scale;
      this.outline(() => context.ellipse(px, py, radius(middle + apart), radius(middle - apart), -angle, 0, 7));
    }
    if (this.lasso) this.outline(() => this.lasso.forEach(([x, y]) => context.lineTo(...this.toScreen(x, y))));
    const [px, py] = this.toScreen(...this.position);
    this.outline(() => context.arc(px, py, 7 * this.ratio, 0, 7));
  }

  // Data points that are shown inside of corners in the plane.
  inside(corners) {
    const found = [];
    for (let n = 0; n < this.xs.length; n++) {
      const x = this.xs[n], y = this.ys[n];
      let isInside = false;
      corners.forEach(([ax, ay], number) => {
        const [bx, by] = corners[(number + 1) % corners.length];
        if (ay > y !== by > y && x < ax + ((bx - ax) * (y - ay)) / (by - ay)) isInside = !isInside;
      });
      if (isInside && !this.hidden.has(this.points[n])) found.push(n);
    }
    return found;
  }

  select(places) {
    this.selected = new Set(places);
    this.drawPoints();
    this.draw();
    this.onSelect(places);
  }

  // The corners of what is shown.
  get corners() {
    const [rx, ry] = [this.canvas.width, this.canvas.height].map((size) => size / (2 * this.scale)), { x, y } = this.view;
    return [[x - rx, y - ry], [x + rx, y - ry], [x + rx, y + ry], [x - rx, y + ry]];
  }

  // A black line with a white border, which can be seen on any background.
  outline(path) {
    this.stroke("#ffffff", 4.5, path);
    this.stroke("#000000", 2, path);
  }

  stroke(color, width, path) {
    this.context.strokeStyle = color;
    this.context.lineWidth = width * this.ratio;
    this.context.beginPath();
    path();
    this.context.stroke();
  }

  zoom(factor, [x, y] = [this.view.x, this.view.y]) {
    this.view.radius *= factor;
    this.view.x = x + (this.view.x - x) * factor;
    this.view.y = y + (this.view.y - y) * factor;
    this.refresh();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      if (this.pointers.size > 1) this.lasso = null;
      else if (this.isSelecting) this.lasso = [this.toPlane(event)];
      else this.onMove(...this.toPlane(event), true);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.pointers.has(event.pointerId)) return this.onMove(...this.toPlane(event), false);
      const before = this.spread();
      this.pointers.set(event.pointerId, event);
      if (this.pointers.size === 2 && before) this.zoom(before / (this.spread() || before));
      else if (this.lasso) {
        this.lasso.push(this.toPlane(event));
        this.draw();
      } else if (this.pointers.size === 1 && !this.isSelecting) this.onMove(...this.toPlane(event), true);
    });
    canvas.addEventListener("pointerup", () => {
      const corners = this.lasso;
      this.lasso = null;
      if (corners) this.select(corners.length > 2 ? this.inside(corners) : []);
    });
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, (event) => {
        this.pointers.delete(event.pointerId);
        this.lasso = null;
      });
    canvas.addEventListener("pointerleave", () => this.pointers.size || this.onMove(null, null, false));
    canvas.addEventListener("dblclick", (event) => this.onNearest(...this.toPlane(event)));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(0.0015 * event.deltaY), this.toPlane(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = (event.shiftKey ? 0.2 : 0.04) * this.view.radius, [x, y] = this.position;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (moves[event.key]) this.onMove(x + moves[event.key][0], y + moves[event.key][1], true);
      else if (event.key === "+" || event.key === "=") this.zoom(0.8);
      else if (event.key === "-") this.zoom(1.25);
      else if (event.key === "0") this.fit();
      else return;
      event.preventDefault();
    });
  }

  // Distance between two fingers.
  spread() {
    if (this.pointers.size !== 2) return 0;
    const [a, b] = this.pointers.values();
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  }
}
