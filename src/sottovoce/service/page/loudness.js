// Loudness of ITU-R BS.1770-5: K-weighted, gated, in LUFS.

import { turns } from "./turns.js";

const SEGMENT_SECONDS = 0.1;
const SEGMENTS_PER_BLOCK = 4;
const ABSOLUTE_GATE_LUFS = -70;
const RELATIVE_GATE_LU = -10;

/**
 * A filter of second order; `a` without its first coefficient, which is 1.
 * @typedef {{b: [number, number, number], a: [number, number]}} Biquad
 */

/**
 * The two filters of the K-weighting. The recommendation has them for 48 kHz alone; these are the same analogue filters
 * at any rate.
 * @param {number} rate In Hz.
 * @returns {[Biquad, Biquad]} The shelf of a head, and the high-pass.
 */
export function weightingFilters(rate) {
  const shelf = { hz: 1681.974450955533, q: 0.7071752369554196, gain: 10 ** (3.999843853973347 / 20) };
  const pass = { hz: 38.13547087602444, q: 0.5003270373238773 };
  const middle = shelf.gain ** 0.4996667741545416;
  return [
    section(rate, shelf, (k, kq) => [shelf.gain + middle * kq + k, 2 * (k - shelf.gain), shelf.gain - middle * kq + k]),
    // The recommendation leaves this numerator as it is.
    { ...section(rate, pass, () => [0, 0, 0]), b: [1, -2, 1] },
  ];
}

/**
 * The bilinear transform of a section.
 * @param {number} rate
 * @param {{hz: number, q: number}} shape
 * @param {(kk: number, kq: number) => [number, number, number]} numerator Of k² and k / q.
 * @returns {Biquad}
 */
function section(rate, { hz, q }, numerator) {
  const k = Math.tan((Math.PI * hz) / rate);
  const [kk, kq] = [k * k, k / q];
  const scale = 1 / (1 + kq + kk);
  const [b0, b1, b2] = numerator(kk, kq);
  return { b: [b0 * scale, b1 * scale, b2 * scale], a: [2 * (kk - 1) * scale, (1 - kq + kk) * scale] };
}

/** Loudness of every mixture of some tracks. */
export class Loudness {
  #energies;
  #samples;

  /**
   * @param {Float64Array[][]} energies Sums of the products of two tracks, K-weighted, for each pair and segment.
   * @param {number} samples Length of a segment.
   */
  constructor(energies, samples) {
    this.#energies = energies;
    this.#samples = samples;
  }

  /**
   * Integrated loudness of a mixture.
   * @param {number[]} weights One for each track.
   * @returns {number} In LUFS; -Infinity if nothing is louder than the gate.
   */
  of(weights) {
    const segments = this.#energies[0][0].length;
    const length = Math.min(SEGMENTS_PER_BLOCK, segments);
    const powers = [];
    for (let first = 0; first + length <= segments; first++) {
      let energy = 0;
      for (let i = 0; i < weights.length; i++) {
        for (let j = 0; j <= i; j++) {
          let sum = 0;
          for (let segment = first; segment < first + length; segment++) sum += this.#energies[i][j][segment];
          energy += (i === j ? 1 : 2) * weights[i] * weights[j] * sum;
        }
      }
      powers.push(energy / (length * this.#samples));
    }
    const heard = louderThan(powers, ABSOLUTE_GATE_LUFS);
    return lufs(mean(louderThan(heard, lufs(mean(heard)) + RELATIVE_GATE_LU)));
  }
}

/**
 * Measures tracks, so that the loudness of any of their mixtures is known.
 * @param {Float32Array[][]} tracks Samples by track and channel (left, right).
 * @param {number} rate In Hz.
 * @param {AbortSignal} [signal]
 * @returns {Promise<Loudness>}
 */
export async function measureLoudness(tracks, rate, signal) {
  const turn = turns(signal);
  const length = tracks[0][0].length;
  const samples = Math.min(Math.round(rate * SEGMENT_SECONDS), length);
  const segments = Math.floor(length / samples);
  const energies = tracks.map((_, i) => Array.from({ length: i + 1 }, () => new Float64Array(segments)));
  const filters = weightingFilters(rate);
  const weighted = tracks.map(() => new Float64Array(samples));
  for (let channel = 0; channel < tracks[0].length; channel++) {
    const states = tracks.map(() => new Float64Array(4));
    for (let segment = 0; segment < segments; segment++) {
      for (const [i, track] of tracks.entries()) {
        filter(filters, states[i], track[channel], segment * samples, weighted[i]);
        for (let j = 0; j <= i; j++) energies[i][j][segment] += product(weighted[i], weighted[j]);
      }
      await turn();
    }
  }
  return new Loudness(energies, samples);
}

/**
 * @param {[Biquad, Biquad]} filters
 * @param {Float64Array} state Two values for each filter.
 * @param {Float32Array} input
 * @param {number} start
 * @param {Float64Array} output
 */
function filter([first, second], state, input, start, output) {
  let [s0, s1, s2, s3] = state;
  for (let n = 0; n < output.length; n++) {
    const x = input[start + n];
    const y = first.b[0] * x + s0;
    s0 = first.b[1] * x - first.a[0] * y + s1;
    s1 = first.b[2] * x - first.a[1] * y;
    const z = second.b[0] * y + s2;
    s2 = second.b[1] * y - second.a[0] * z + s3;
    s3 = second.b[2] * y - second.a[1] * z;
    output[n] = z;
  }
  state.set([s0, s1, s2, s3]);
}

/**
 * @param {Float64Array} left
 * @param {Float64Array} right
 */
function product(left, right) {
  let sum = 0;
  for (let n = 0; n < left.length; n++) sum += left[n] * right[n];
  return sum;
}

/** @param {number} power */
function lufs(power) {
  return power > 0 ? -0.691 + 10 * Math.log10(power) : -Infinity;
}

/**
 * @param {number[]} powers
 * @param {number} gate
 */
function louderThan(powers, gate) {
  return powers.filter((power) => lufs(power) > gate);
}

/** @param {number[]} powers */
function mean(powers) {
  return powers.length ? powers.reduce((sum, power) => sum + power, 0) / powers.length : 0;
}
