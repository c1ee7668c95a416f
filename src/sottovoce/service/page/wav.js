// Recordings of the microphone as files.

const CHUNK = 65_536;

/** One channel that grows, and becomes a WAV file of 16 bits. */
export class WavRecording {
  #rate;
  /** @type {Int16Array<ArrayBuffer>[]} All are full but the last one. */
  #chunks = [];
  #used = CHUNK;

  /** @param {number} rate In Hz. */
  constructor(rate) {
    this.#rate = rate;
  }

  /** Length in seconds. */
  get duration() {
    return this.#length / this.#rate;
  }

  get #length() {
    return this.#chunks.length * CHUNK - (CHUNK - this.#used);
  }

  /** @param {Float32Array} samples Full scale ±1. */
  append(samples) {
    for (const sample of samples) {
      if (this.#used === CHUNK) {
        this.#chunks.push(new Int16Array(CHUNK));
        this.#used = 0;
      }
      this.#chunks[this.#chunks.length - 1][this.#used++] = Math.min(Math.max(Math.round(32_768 * sample), -32_768), 32_767);
    }
  }

  /** @returns {Blob} */
  toBlob() {
    const bytes = 2 * this.#length;
    const header = new DataView(new ArrayBuffer(44));
    /**
     * @param {number} offset
     * @param {string} letters
     */
    const text = (offset, letters) => [...letters].forEach((letter, n) => header.setUint8(offset + n, letter.charCodeAt(0)));
    text(0, "RIFF");
    header.setUint32(4, 36 + bytes, true);
    text(8, "WAVEfmt ");
    header.setUint32(16, 16, true);
    header.setUint16(20, 1, true);
    header.setUint16(22, 1, true);
    header.setUint32(24, this.#rate, true);
    header.setUint32(28, 2 * this.#rate, true);
    header.setUint16(32, 2, true);
    header.setUint16(34, 16, true);
    text(36, "data");
    header.setUint32(40, bytes, true);
    const full = this.#chunks.slice(0, -1);
    const last = this.#chunks.slice(-1).map((chunk) => chunk.subarray(0, this.#used));
    return new Blob([header, ...full, ...last], { type: "audio/wav" });
  }
}
