// Animated WebP from the still images that the browser encodes (RFC 9649).
"use strict";

const ascii = (text) => Uint8Array.from(text, (each) => each.charCodeAt(0));
const little = (value, bytes) => Uint8Array.from({ length: bytes }, (_, i) => (value >>> (8 * i)) & 255);

function join(parts) {
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const chunk = (name, body) => join([ascii(name), little(body.length, 4), body, new Uint8Array(body.length % 2)]);

// The chunks of a still image that hold its pixels; null unless it is WebP.
function pixelChunks(file) {
  const view = new DataView(file.buffer), name = (at) => String.fromCharCode(...file.subarray(at, at + 4));
  if (file.length < 16 || name(0) !== "RIFF" || name(8) !== "WEBP") return null;
  const found = [];
  for (let at = 12; at + 8 <= file.length; ) {
    const size = view.getUint32(at + 4, true), end = at + 8 + size + (size % 2);
    if (["ALPH", "VP8 ", "VP8L"].includes(name(at))) found.push(file.subarray(at, end));
    at = end;
  }
  return join(found);
}

// Frames, canvases of one size, as a file that repeats without end; null where the browser does not write WebP.
async function animate(frames, milliseconds) {
  const { width, height } = frames[0], size = [little(width - 1, 3), little(height - 1, 3)];
  const parts = [chunk("VP8X", join([Uint8Array.of(0b10, 0, 0, 0), ...size])), chunk("ANIM", new Uint8Array(6))];
  for (const canvas of frames) {
    const file = await new Promise((done) => canvas.toBlob(done, "image/webp", 0.92));
    const pixels = file && pixelChunks(new Uint8Array(await file.arrayBuffer()));
    if (!pixels) return null;
    const head = [new Uint8Array(6), ...size, little(milliseconds, 3), Uint8Array.of(0b10)]; // drawn over without blending
    parts.push(chunk("ANMF", join([...head, pixels])));
  }
  const body = join([ascii("WEBP"), ...parts]);
  return new Blob([ascii("RIFF"), little(body.length, 4), body], { type: "image/webp" });
}
