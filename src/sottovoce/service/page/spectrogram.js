// Spectrograms and outlines of mixtures of tracks, and how they are drawn.

import { turns } from "./turns.js";

const WINDOW_SECONDS = 0.04;
const MAX_FRAMES_PER_COLUMN = 4;
/** From the loudest place of all spectrograms that are shown together down to black, in dB. */
export const RANGE_DB = 80;

/**
 * A picture of sound.
 * @typedef {object} Picture
 * @property {number} columns
 * @property {number} rows
 * @property {Float32Array} levels In dB, where a sine of full scale has 0, row by row, high frequencies first.
 * @property {Float32Array} lows Smallest sample of each column.
 * @property {Float32Array} highs Largest sample of each column.
 */

/**
 * Analyses a mixture of tracks, whatever its length, in about the same time.
 * @param {Float32Array[][]} tracks Samples by track and channel.
 * @param {number[]} weights One for each track.
 * @param {number} rate In Hz.
 * @param {{columns: number, rows: number, signal?: AbortSignal}} options
 * @returns {Promise<Picture>}
 */
export async function analyse(tracks, weights, rate, { columns, rows, signal }) {
  const turn = turns(signal);
  const mixture = mixtureOf(tracks, weights);
  const length = tracks[0][0].length;
  const size = 2 ** Math.round(Math.log2(rate * WINDOW_SECONDS));
  const transform = new Fourier(size);
  const window = Float32Array.from({ length: size }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size));
  const bands = bandsOf(rows, size, rate);
  const step = length / columns;
  const frames = Math.min(Math.max(Math.round(step / size), 1), MAX_FRAMES_PER_COLUMN);
  const picture = {
    columns,
    rows,
    levels: new Float32Array(columns * rows),
    lows: new Float32Array(columns),
    highs: new Float32Array(columns),
  };
  const [real, imaginary] = [new Float32Array(size), new Float32Array(size)];
  const power = new Float32Array(size / 2 + 1);
  for (let column = 0; column < columns; column++) {
    power.fill(0);
    // Two frames at once: a transform of complex numbers has room for two real signals.
    for (let frame = 0; frame < frames; frame += 2) {
      /** @param {number} number */
    const start = (number) => Math.round((column + (number + 0.5) / frames) * step - size / 2);
      take(mixture, start(frame), window, length, real);
      if (frame + 1 < frames) take(mixture, start(frame + 1), window, length, imaginary);
      else imaginary.fill(0);
      transform.run(real, imaginary);
      for (let bin = 0; bin < power.length; bin++) {
        const mirror = (size - bin) % size;
        // The sum of the powers of both signals.
        power[bin] += (real[bin] ** 2 + imaginary[bin] ** 2 + real[mirror] ** 2 + imaginary[mirror] ** 2) / 2;
      }
    }
    for (const [row, { first, last, share }] of bands.entries()) {
      let sum = 0;
      if (share === null) for (let bin = first; bin <= last; bin++) sum = Math.max(sum, power[bin]);
      else sum = (1 - share) * power[first] + share * power[last];
      picture.levels[row * columns + column] = 10 * Math.log10((sum / frames) * (4 / size) ** 2 + 1e-12);
    }
    await outline(mixture, Math.floor(column * step), Math.ceil((column + 1) * step), length, picture, column, turn);
    await turn();
  }
  return picture;
}

/**
 * @param {Float32Array[][]} tracks
 * @param {number[]} weights
 * @returns {(index: number) => number} The mean of the channels of the mixture.
 */
function mixtureOf(tracks, weights) {
  const parts = tracks
    .map((channels, track) => channels.map((samples) => ({ samples, weight: weights[track] / channels.length })))
    .flat()
    .filter(({ weight }) => weight !== 0);
  if (parts.length === 1) {
    const [{ samples, weight }] = parts;
    return (index) => weight * samples[index];
  }
  return (index) => {
    let sum = 0;
    for (let part = 0; part < parts.length; part++) sum += parts[part].weight * parts[part].samples[index];
    return sum;
  };
}

/**
 * @param {(index: number) => number} mixture
 * @param {number} start
 * @param {Float32Array} window
 * @param {number} length
 * @param {Float32Array} target
 */
function take(mixture, start, window, length, target) {
  for (let n = 0; n < target.length; n++) {
    const index = start + n;
    target[n] = index >= 0 && index < length ? window[n] * mixture(index) : 0;
  }
}

/**
 * @param {(index: number) => number} mixture
 * @param {number} start
 * @param {number} end
 * @param {number} length
 * @param {Picture} picture
 * @param {number} column
 * @param {() => Promise<void> | undefined} turn
 */
async function outline(mixture, start, end, length, picture, column, turn) {
  let [low, high] = [Infinity, -Infinity];
  for (let index = Math.min(start, length - 1); index < Math.min(end, length); index++) {
    const sample = mixture(index);
    if (sample < low) low = sample;
    if (sample > high) high = sample;
    if (index % 65536 === 0) await turn();
  }
  picture.lows[column] = low;
  picture.highs[column] = high;
}

/**
 * The bins of every row: rows are of one width in mel.
 * @param {number} rows
 * @param {number} size
 * @param {number} rate
 * @returns {{first: number, last: number, share: number | null}[]} All bins from first to last; or, where a row is
 *   narrower than a bin, two bins and the share of the second.
 */
function bandsOf(rows, size, rate) {
  /** @param {number} share */
  const bin = (share) => (hzAt(share, rate) * size) / rate;
  return Array.from({ length: rows }, (_, row) => {
    const [low, high] = [bin(1 - (row + 1) / rows), bin(1 - row / rows)];
    if (high - low >= 1) return { first: Math.ceil(low), last: Math.min(Math.floor(high), size / 2), share: null };
    const middle = (low + high) / 2;
    return { first: Math.floor(middle), last: Math.min(Math.floor(middle) + 1, size / 2), share: middle % 1 };
  });
}

/**
 * Frequency at a height.
 * @param {number} share 0 is the bottom, 1 the top.
 * @param {number} rate
 * @returns {number} In Hz.
 */
function hzAt(share, rate) {
  return 700 * ((1 + rate / 1400) ** share - 1);
}

/**
 * Height of a frequency.
 * @param {number} hz
 * @param {number} rate
 * @returns {number} 0 is the bottom, 1 the top.
 */
export function heightOf(hz, rate) {
  return Math.log1p(hz / 700) / Math.log1p(rate / 1400);
}

/**
 * Draws a spectrogram.
 * @param {HTMLCanvasElement} canvas
 * @param {Picture} picture
 * @param {number} top Level in dB of the brightest colour.
 */
export function drawSpectrogram(canvas, picture, top) {
  const { columns, rows, levels } = picture;
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let index = 0; index < levels.length; index++) {
    const share = (levels[index] - top) / RANGE_DB + 1;
    pixels[index] = COLOURS[Math.min(Math.max(Math.round(255 * share), 0), 255)];
  }
  canvas.width = columns;
  canvas.height = rows;
  contextOf(canvas).putImageData(image, 0, 0);
}

/**
 * Draws the outline of the waveform.
 * @param {HTMLCanvasElement} canvas
 * @param {Picture} picture
 * @param {number} peak Sample of the largest size that has room.
 */
export function drawOutline(canvas, { columns, lows, highs }, peak) {
  const height = 96;
  canvas.width = columns;
  canvas.height = height;
  const context = contextOf(canvas);
  context.fillStyle = getComputedStyle(canvas).color;
  for (let column = 0; column < columns; column++) {
    const [above, below] = [0.5 - highs[column] / peak / 2, 0.5 - lows[column] / peak / 2];
    context.fillRect(column, above * height, 1, Math.max((below - above) * height, 1));
  }
}

/**
 * Draws the colours from silent to loud.
 * @param {HTMLCanvasElement} canvas
 */
export function drawScale(canvas) {
  canvas.width = 256;
  canvas.height = 1;
  const image = new ImageData(256, 1);
  new Uint32Array(image.data.buffer).set(COLOURS);
  contextOf(canvas).putImageData(image, 0, 0);
}

/** @param {HTMLCanvasElement} canvas */
function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/**
 * From dark violet over red to light yellow, of even steps in perceived lightness: the lightness is that of OKLab.
 * @returns {Uint32Array} Pixels as ImageData has them.
 */
function colours() {
  const pixels = new Uint8ClampedArray(4 * 256);
  for (let index = 0; index < 256; index++) {
    const share = index / 255;
    const lightness = 0.15 + 0.81 * share;
    const chroma = 0.03 + 0.15 * Math.sin(Math.PI * share ** 0.9);
    const hue = (Math.PI / 180) * (285 + 185 * share);
    pixels.set([...sRgb(lightness, chroma * Math.cos(hue), chroma * Math.sin(hue)), 255], 4 * index);
  }
  return new Uint32Array(pixels.buffer);
}

/**
 * From OKLab to sRGB.
 * @param {number} lightness
 * @param {number} a
 * @param {number} b
 * @returns {number[]} 0 to 255.
 */
function sRgb(lightness, a, b) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((value) => 255 * (value <= 0.0031308 ? 12.92 * Math.max(value, 0) : 1.055 * value ** (1 / 2.4) - 0.055));
}

const COLOURS = colours();

/** Discrete Fourier transform of a power of two. */
export class Fourier {
  #order;
  #cosines;
  #sines;

  /** @param {number} size A power of two. */
  constructor(size) {
    const bits = Math.log2(size);
    this.#order = Uint32Array.from({ length: size }, (_, index) => {
      let reversed = 0;
      for (let bit = 0; bit < bits; bit++) reversed |= ((index >> bit) & 1) << (bits - 1 - bit);
      return reversed;
    });
    this.#cosines = Float64Array.from({ length: size / 2 }, (_, index) => Math.cos((2 * Math.PI * index) / size));
    this.#sines = Float64Array.from({ length: size / 2 }, (_, index) => Math.sin((2 * Math.PI * index) / size));
  }

  /**
   * Transforms in place.
   * @param {Float32Array} real
   * @param {Float32Array} imaginary
   */
  run(real, imaginary) {
    const size = real.length;
    for (let index = 0; index < size; index++) {
      const other = this.#order[index];
      if (other > index) {
        [real[index], real[other]] = [real[other], real[index]];
        [imaginary[index], imaginary[other]] = [imaginary[other], imaginary[index]];
      }
    }
    for (let half = 1; half < size; half *= 2) {
      const stride = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let index = start, turn = 0; index < start + half; index++, turn += stride) {
          const [cosine, sine] = [this.#cosines[turn], this.#sines[turn]];
          const re = cosine * real[index + half] + sine * imaginary[index + half];
          const im = cosine * imaginary[index + half] - sine * real[index + half];
          real[index + half] = real[index] - re;
          imaginary[index + half] = imaginary[index] - im;
          real[index] += re;
          imaginary[index] += im;
        }
      }
    }
  }
}
