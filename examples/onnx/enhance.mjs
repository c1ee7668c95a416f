// Enhance a WAV file with a model file of Sotto voce, in JavaScript (Node or, but for the files, a browser).
//
//     npm install
//     node enhance.mjs default.onnx noisy.wav enhanced.wav
//
// It does what enhance.py does, step by step: see ../../docs/onnx.md.

import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

// A frame is too little work to share among threads.
ort.env.wasm.numThreads = 1;

/** The settings of a model: the metadata property "sottovoce", which the runtime does not give in JavaScript. */
function readSettings(bytes) {
  for (const [number, property] of protobufFields(bytes)) {
    if (number !== 14) continue; // ModelProto.metadata_props
    const [key, value] = [...protobufFields(property)].map(([, text]) => new TextDecoder().decode(text));
    if (key === "sottovoce") return JSON.parse(value);
  }
  throw new Error("found no settings in the model file");
}

/** Number and bytes of every field of a protobuf message that holds bytes. */
function* protobufFields(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[position++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (position < bytes.length) {
    const key = varint();
    if ((key & 7) !== 2) {
      varint(); // a model has no other fields than bytes and whole numbers
      continue;
    }
    const length = varint();
    yield [key >> 3, bytes.subarray(position, position + length)];
    position += length;
  }
}

/** Periodic Hann window. */
const hann = (length) => Float64Array.from({ length }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / length));

/** Window before the transform, and window for the last samples of what comes back. */
function tapers(window, synthesis, hop) {
  const fall = synthesis / 2;
  const rise = window - fall;
  const shape = [...hann(2 * rise).slice(0, rise), ...hann(2 * fall).slice(fall)];
  const sum = shape.reduce((a, b) => a + b);
  const analysis = shape.map((value) => Math.sqrt(value / sum));
  const wanted = hann(synthesis);
  // What overlapping frames add up to at each of the `hop` places, so that the sum becomes 1.
  const total = new Float64Array(hop);
  wanted.forEach((value, n) => (total[n % hop] += value));
  const taper = wanted.map((value, n) => {
    const end = analysis[window - synthesis + n];
    return end > 0 ? value / end / total[n % hop] : 0;
  });
  return [analysis, taper];
}

/** Fourier transform in place (radix 2); with sign 1 it is the inverse, times the length. */
function transform(real, imaginary, sign = -1) {
  const length = real.length;
  for (let i = 1, j = 0; i < length; i++) {
    let bit = length >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let half = 1; half < length; half *= 2) {
    for (let k = 0; k < half; k++) {
      const [cosine, sine] = [Math.cos((Math.PI * k) / half), sign * Math.sin((Math.PI * k) / half)];
      for (let i = k; i < length; i += 2 * half) {
        const j = i + half;
        const re = real[j] * cosine - imaginary[j] * sine;
        const im = real[j] * sine + imaginary[j] * cosine;
        [real[j], imaginary[j]] = [real[i] - re, imaginary[i] - im];
        [real[i], imaginary[i]] = [real[i] + re, imaginary[i] + im];
      }
    }
  }
}

/** Enhance one channel at the model's rate; the result has the same length and is aligned. */
async function enhance(session, settings, signal) {
  const { windows, synthesis_window: synthesis, hop, past_shapes: pastShapes, delay_frames: delayFrames } = settings;
  const [window] = windows;
  if (windows.length > 1 || !Number.isInteger(Math.log2(window))) throw new Error("expected one window of 2^n samples");
  const bins = window / 2 + 1;
  const [analysis, taper] = tapers(window, synthesis, hop);
  // All states are zero before the first frame. The first input is the spectra; states come and go in the same order.
  const [first, ...others] = session.inputNames;
  const [result, ...following] = session.outputNames;
  let states = pastShapes.map((shape) => new ort.Tensor(new Float32Array(shape[0] * shape[1]), [1, ...shape]));

  // The last V - H samples of a frame wait for later frames, and so do the frames by which the network lags.
  const delay = synthesis - hop + delayFrames * hop;
  const count = Math.ceil((signal.length + delay) / hop) * hop;
  const past = new Float32Array(window);
  const added = new Float64Array(synthesis);
  const output = new Float64Array(count);
  for (let start = 0; start < count; start += hop) {
    past.copyWithin(0, hop);
    past.fill(0, window - hop);
    past.set(signal.subarray(start, start + hop), window - hop);
    const real = Float64Array.from(past, (sample, n) => sample * analysis[n]);
    const imaginary = new Float64Array(window);
    transform(real, imaginary);
    const spectra = new Float32Array([...real.slice(0, bins), ...imaginary.slice(0, bins)]);
    const feeds = { [first]: new ort.Tensor(spectra, [1, 2, bins, 1]) };
    others.forEach((name, i) => (feeds[name] = states[i]));
    const found = await session.run(feeds);
    states = following.map((name) => found[name]);
    const enhanced = found[result].data;
    for (let k = 0; k < window; k++) {
      const bin = Math.min(k, window - k); // the upper half mirrors the lower
      real[k] = enhanced[bin];
      // As every inverse transform for real signals: the bins of 0 Hz and of half the rate have no imaginary part.
      imaginary[k] = bin === 0 || bin === bins - 1 ? 0 : (k === bin ? 1 : -1) * enhanced[bins + bin];
    }
    transform(real, imaginary, 1);
    taper.forEach((value, n) => (added[n] += (value * real[window - synthesis + n]) / window));
    output.set(added.subarray(0, hop), start);
    added.copyWithin(0, hop);
    added.fill(0, synthesis - hop);
  }
  return output.subarray(delay, delay + signal.length);
}

/** Where the format and the samples of a WAV file are. */
function readWav(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = {};
  for (let start = 12; start + 8 <= bytes.length; start += 8 + chunks.last + (chunks.last % 2)) {
    chunks.last = view.getUint32(start + 4, true);
    chunks[String.fromCharCode(...bytes.subarray(start, start + 4))] = start + 8;
    if (chunks.data) break;
  }
  const format = chunks["fmt "];
  return {
    channels: view.getUint16(format + 2, true),
    rate: view.getUint32(format + 4, true),
    bits: view.getUint16(format + 14, true),
    view: new DataView(view.buffer, view.byteOffset + chunks.data, chunks.last),
  };
}

const [model, source, target] = process.argv.slice(2);
if (target === undefined) {
  console.error("usage: node enhance.mjs MODEL.onnx IN.wav OUT.wav");
  process.exit(1);
}
const network = readFileSync(model);
const settings = readSettings(network);
const session = await ort.InferenceSession.create(network);
const recording = readFileSync(source);
const { channels, rate, bits, view } = readWav(recording);
if (bits !== 16 || rate !== settings.sample_rate) {
  console.error(`found ${bits} bits at ${rate} Hz in ${source}, expected 16 bits at ${settings.sample_rate} Hz`);
  process.exit(1);
}
const length = Math.floor(view.byteLength / 2 / channels);
for (let channel = 0; channel < channels; channel++) {
  const place = (n) => 2 * (n * channels + channel);
  const signal = Float32Array.from({ length }, (_, n) => view.getInt16(place(n), true) / 32768);
  const enhanced = await enhance(session, settings, signal);
  enhanced.forEach((sample, n) => {
    view.setInt16(place(n), Math.max(-32768, Math.min(32767, Math.round(sample * 32768))), true);
  });
}
writeFileSync(target, recording); // with the header that it came with
