// @ts-nocheck (TypeScript does not know what this thread has)
// Runs on the audio thread: hands on what the microphone gives.

registerProcessor(
  "microphone",
  class extends AudioWorkletProcessor {
    /** @param {Float32Array[][]} inputs */
    process([[samples]]) {
      // There is no channel before the microphone gives sound.
      if (samples) this.port.postMessage(samples);
      return true;
    }
  },
);
