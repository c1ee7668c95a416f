// @ts-nocheck (TypeScript does not know what this thread has)
// Runs on the audio thread: hands on what the microphone gives, and plays what comes back.

import { LiveBuffer } from "./live-buffer.js";

const REPORT_SECONDS = 0.1;

registerProcessor(
  "live",
  class extends AudioWorkletProcessor {
    static parameterDescriptors = [
      { name: "strength", defaultValue: 1, minValue: 0, maxValue: 1, automationRate: "k-rate" },
    ];

    /** @param {{processorOptions: {block: number, margin: number, most: number}}} options Lengths in samples. */
    constructor({ processorOptions: { block, margin, most } }) {
      super();
      this.buffer = new LiveBuffer({ margin, most });
      this.block = new Float32Array(block);
      this.filled = 0;
      this.peaks = { input: 0, output: 0 };
      this.silent = 0;
      this.port.onmessage = ({ data }) => this.buffer.receive(data);
    }

    process([[microphone]], [[output]], { strength: [strength] }) {
      // There is no channel before the microphone gives sound, nor while it is muted.
      if (!microphone && !this.hasBegun) return true;
      this.hasBegun = true;
      const input = microphone ?? new Float32Array(output.length);
      this.buffer.write(input);
      this.send(input);
      this.buffer.play(output, strength);
      for (let n = 0; n < output.length; n++) {
        this.peaks.input = Math.max(this.peaks.input, Math.abs(input[n]));
        this.peaks.output = Math.max(this.peaks.output, Math.abs(output[n]));
      }
      this.silent += output.length;
      if (this.silent >= REPORT_SECONDS * sampleRate) {
        const { delay, waiting, gaps, isBehind } = this.buffer;
        this.port.postMessage({ ...this.peaks, delay, waiting, gaps, isBehind });
        this.peaks = { input: 0, output: 0 };
        this.silent = 0;
      }
      return true;
    }

    /** @param {Float32Array} samples */
    send(samples) {
      for (let start = 0; start < samples.length; ) {
        const part = samples.subarray(start, start + this.block.length - this.filled);
        this.block.set(part, this.filled);
        this.filled += part.length;
        start += part.length;
        if (this.filled < this.block.length) return;
        const full = this.block;
        this.block = new Float32Array(full.length);
        this.filled = 0;
        this.port.postMessage({ samples: full }, [full.buffer]);
      }
    }
  },
);
