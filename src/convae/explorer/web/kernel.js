// Products of matrices in WebAssembly with SIMD. The kernel is written here in the instructions of WebAssembly; its
// memory holds the matrices of one product at a time.
"use strict";

function kernelModule() {
  const unsigned = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)]);
  const signed = (value) => (value >= -64 && value < 64 ? [value & 127] : [(value & 127) | 128, ...signed(value >> 7)]);
  const section = (id, ...content) => [id, ...unsigned(content.flat().length), ...content.flat()];
  const names = ["a", "b", "c", "bias", "scratch", "m", "n", "k"]; // parameters: addresses and sizes
  const indices = ["i", "j", "p", "s", "end", "row", "to", "a0", "a1", "a2", "a3"];
  const vectors = ["v0", "v1", "u", ...Array.from({ length: 8 }, (_, number) => `x${number}`)];
  const place = (name) => [...names, ...indices, ...vectors].indexOf(name);
  const get = (name) => [0x20, place(name)], set = (name, ...value) => [...value.flat(), 0x21, place(name)];
  const number = (value) => [0x41, ...signed(value)];
  const plus = (one, other) => [...one, ...other, 0x6a], times = (one, other) => [...one, ...other, 0x6c];
  const bytes = (name, shift = 2) => [...get(name), ...number(shift), 0x74];
  const step = (name, by) => set(name, plus(get(name), by));
  const load = (name, offset = 0) => [...get(name), 0xfd, 0x00, 0x02, offset];
  const splat = (name, offset = 0) => [...get(name), 0xfd, 0x09, 0x02, offset];
  const store = (name, value, offset = 0) => [...get(name), ...value, 0xfd, 0x0b, 0x02, offset];
  const multiplyAdd = (sum, one, other) => set(sum, get(sum), get(one), get(other), [0xfd, 0xe6, 0x01, 0xfd, 0xe4, 0x01]);
  // Repeats the body while name < limit; it runs at least once.
  const repeat = (name, limit, ...body) => [0x03, 0x40, ...body.flat(), ...get(name), ...limit, 0x49, 0x0d, 0, 0x0b];
  const four = [0, 1, 2, 3];

  // C = A · B + bias: for 8 columns of B at a time, copied into one block, and 4 rows of A, 32 sums in registers.
  const body = [
    ...set("row", bytes("k")),
    ...set("end", plus(get("scratch"), bytes("k", 5))),
    ...set("j", number(0)),
    ...repeat("j", get("n"),
      set("p", plus(get("b"), bytes("j"))), set("s", get("scratch")),
      repeat("s", get("end"),
        store("s", load("p")), store("s", load("p", 16), 16), step("p", bytes("n")), step("s", number(32))),
      set("i", number(0)),
      repeat("i", get("m"),
        set("a0", plus(get("a"), times(get("i"), get("row")))),
        ...four.slice(1).map((n) => set(`a${n}`, plus(get(`a${n - 1}`), get("row")))),
        set("p", plus(get("bias"), bytes("i"))),
        ...four.flatMap((n) => [set(`x${2 * n}`, splat("p", 4 * n)), set(`x${2 * n + 1}`, get(`x${2 * n}`))]),
        set("s", get("scratch")),
        repeat("s", get("end"),
          set("v0", load("s")), set("v1", load("s", 16)),
          ...four.flatMap((n) => [
            set("u", splat(`a${n}`)), multiplyAdd(`x${2 * n}`, "u", "v0"), multiplyAdd(`x${2 * n + 1}`, "u", "v1"),
            step(`a${n}`, number(4)),
          ]),
          step("s", number(32))),
        set("to", plus(get("c"), times(plus(times(get("i"), get("n")), get("j")), number(4)))),
        ...four.flatMap((n) => [
          store("to", get(`x${2 * n}`)), store("to", get(`x${2 * n + 1}`), 16), step("to", bytes("n")),
        ]),
        step("i", number(4))),
      step("j", number(8))),
    0x0b,
  ];
  const code = [2, indices.length, 0x7f, vectors.length, 0x7b, ...body];
  const text = (word) => [word.length, ...word].map((each) => (typeof each === "string" ? each.charCodeAt(0) : each));
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, names.length, ...names.map(() => 0x7f), 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, 1]),
    ...section(7, [2, ...text("memory"), 2, 0, ...text("multiply"), 0, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]);
}

const KERNEL = new WebAssembly.Instance(new WebAssembly.Module(kernelModule())).exports;
const roundUp = (value, step) => Math.ceil(value / step) * step;

// C (M × N) = A (M × K) · B (K × N) + bias of each row, where a0, b0, c0 and bias0 are where they begin.
function multiply(M, N, K, A, a0, B, b0, C, c0, bias, bias0) {
  const m = roundUp(M, 4), n = roundUp(N, 8);
  const sizes = [m * K, K * n, m * n, m, 8 * K];
  const starts = [], total = sizes.reduce((at, size) => (starts.push(at), at + roundUp(size, 4)), 0);
  const missing = 4 * total - KERNEL.memory.buffer.byteLength;
  if (missing > 0) KERNEL.memory.grow(Math.ceil(missing / 65536));
  const memory = new Float32Array(KERNEL.memory.buffer), [a, b, c, d, scratch] = starts;
  memory.set(A.subarray(a0, a0 + M * K), a);
  if (n === N) memory.set(B.subarray(b0, b0 + K * N), b);
  else for (let k = 0; k < K; k++) memory.set(B.subarray(b0 + k * N, b0 + (k + 1) * N), b + k * n);
  if (bias) memory.set(bias.subarray(bias0, bias0 + M), d);
  else memory.fill(0, d, d + M);
  KERNEL.multiply(4 * a, 4 * b, 4 * c, 4 * d, 4 * scratch, m, n, K);
  if (n === N) C.set(memory.subarray(c, c + M * N), c0);
  else for (let i = 0; i < M; i++) C.set(memory.subarray(c + i * n, c + i * n + N), c0 + i * N);
}

if (typeof module !== "undefined") module.exports = { multiply };
