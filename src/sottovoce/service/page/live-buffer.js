// What lies between the microphone and the headphones: sound that waits until its enhanced version is there.

const SIZE = 2 ** 18;
/** How long the least of what waits is watched before the delay is shortened, in samples. */
const WATCH = 2 ** 16;

/**
 * A bounded jitter buffer. It keeps the sound of the microphone as well, and plays both at the same place: a switch
 * from one to the other never jumps.
 *
 * Enhanced sound waits until there is `margin` of it. If it runs out, more waits from then on; if more has been waiting
 * for some seconds than is needed, the rest is skipped with a short fade. So the delay follows the network, and never
 * grows beyond `most`.
 */
export class LiveBuffer {
  #input = new Float32Array(SIZE);
  #enhanced = new Float32Array(SIZE);
  #written = 0;
  #received = 0;
  #position = 0;
  #isPlaying = false;
  #strength = 1;
  #margin;
  #most;
  #least = Infinity;
  #watched = 0;
  #skip = 0;
  /** How often there was nothing to play. */
  gaps = 0;

  /**
   * @param {object} options
   * @param {number} options.margin Samples that wait before they are played.
   * @param {number} options.most The most that may wait; less than a second.
   */
  constructor({ margin, most }) {
    this.#margin = margin;
    this.#most = Math.min(most, SIZE / 4);
  }

  /** Samples from the microphone to what is played; 0 while nothing is. */
  get delay() {
    return this.#isPlaying ? this.#written - this.#position : 0;
  }

  /** Samples that have come back and are not played yet; 0 while nothing is. */
  get waiting() {
    return this.#isPlaying ? this.#received - this.#position : 0;
  }

  /** Whether what comes back is so late, by some seconds, that the sound of its time will soon be forgotten. */
  get isBehind() {
    return this.#written - this.#received > 0.9 * SIZE;
  }

  /** @param {Float32Array} samples The next ones of the microphone. */
  write(samples) {
    put(this.#input, this.#written, samples);
    this.#written += samples.length;
  }

  /** @param {Float32Array} samples The next enhanced ones, which are aligned to those of the microphone. */
  receive(samples) {
    put(this.#enhanced, this.#received, samples);
    this.#received += samples.length;
    const waiting = this.#received - this.#position;
    if (waiting <= this.#most) return;
    if (this.#isPlaying) this.#skip = waiting - this.#margin;
    else this.#position = this.#received - this.#margin;
  }

  /**
   * Plays what is next.
   * @param {Float32Array} output Is filled.
   * @param {number} strength Share of the enhanced sound, 0 to 1; the other share is that of the microphone.
   */
  play(output, strength) {
    const count = output.length;
    const waiting = this.#received - this.#position;
    const wasPlaying = this.#isPlaying;
    if (!wasPlaying && waiting < Math.max(this.#margin, count)) {
      this.#strength = strength;
      output.fill(0);
      return;
    }
    const played = Math.min(waiting, count);
    this.#isPlaying = played === count;
    // What is skipped to must be there, all of it.
    const skip = Math.min(this.#skip, waiting - played);
    this.#skip = 0;
    for (let n = 0; n < count; n++) {
      const share = (n + 1) / count;
      const mix = this.#strength + share * (strength - this.#strength);
      let sample = n < played ? this.#at(this.#position + n, mix) : 0;
      if (skip) sample += share * (this.#at(this.#position + skip + n, mix) - sample);
      if (!wasPlaying) sample *= share;
      if (!this.#isPlaying) sample *= 1 - Math.min((n + 1) / played, 1);
      output[n] = sample;
    }
    this.#strength = strength;
    this.#position += played + skip;
    if (!this.#isPlaying) this.#runOut();
    else this.#watch(waiting - played - skip, count);
  }

  #runOut() {
    this.gaps += 1;
    this.#margin = Math.min(2 * this.#margin, this.#most / 2);
    this.#least = Infinity;
    this.#watched = 0;
  }

  /**
   * @param {number} waiting
   * @param {number} count
   */
  #watch(waiting, count) {
    this.#least = Math.min(this.#least, waiting);
    this.#watched += count;
    if (this.#watched < WATCH) return;
    // A few samples are not worth a fade.
    const spare = this.#least - this.#margin;
    if (spare > this.#margin / 2) this.#skip = spare;
    this.#least = Infinity;
    this.#watched = 0;
  }

  /**
   * @param {number} place
   * @param {number} strength
   */
  #at(place, strength) {
    const index = place % SIZE;
    return (1 - strength) * this.#input[index] + strength * this.#enhanced[index];
  }
}

/**
 * @param {Float32Array} ring
 * @param {number} place
 * @param {Float32Array} samples
 */
function put(ring, place, samples) {
  const start = place % SIZE;
  const first = samples.subarray(0, SIZE - start);
  ring.set(first, start);
  ring.set(samples.subarray(first.length), 0);
}
