// Live sound: one microphone, enhanced by the service over a WebSocket, and played.

import { requestJson, token } from "./api.js";
import { openStream } from "./microphone.js";

const PATH = "v1/audio/enhancements/stream";
const BLOCK_SECONDS = 0.01;
const MARGIN_BLOCKS = 2;
const MOST_SECONDS = 0.5;
// What the network has not taken yet: beyond this, live sound is live no more.
const MAX_UNSENT_SECONDS = 2;
const KEEP_ALIVE_MS = 10_000;
const LOST = "the connection to the service is lost, or it refuses one: check that it runs, and start again";

/**
 * Time from the microphone to the headphones, and its parts.
 * @typedef {object} Latency
 * @property {number} totalMs
 * @property {number} microphoneMs Of the microphone, as far as the browser knows it, and of one block.
 * @property {number} modelMs
 * @property {number} networkMs Of the network and the work of the service.
 * @property {number} playbackMs What waits to be played, and the sound output as far as the browser knows it.
 */

/**
 * What is known of live sound, some times a second.
 * @typedef {object} LiveState
 * @property {number} input Largest sample of the microphone, 0 to 1.
 * @property {number} output Largest sample of what is played.
 * @property {Latency | null} latency Null while nothing is played.
 * @property {number} gaps How often there was nothing to play.
 */

/** Whether this browser lets a page choose where its sound is played. */
export const CAN_CHOOSE_OUTPUT = "setSinkId" in AudioContext.prototype;

/** Enhances the microphone until it is stopped. */
export class LiveStream {
  #microphone;
  #context;
  #socket;
  #node;
  #gain;
  #ending = new AbortController();
  #alive;

  /**
   * Opens microphone and connection.
   * @param {object} options
   * @param {string} options.microphoneId Which microphone; the browser's own choice if empty.
   * @param {string} options.outputId Where it is played; the browser's own choice if empty.
   * @param {{model: string, limit_db?: number}} options.fields As of the first frame of a stream.
   * @param {(state: LiveState) => void} options.onState
   * @param {(reason: Error) => void} options.onEnd Called if it ends by itself.
   * @returns {Promise<LiveStream>}
   * @throws {Error} One of them cannot be opened; the message says why.
   */
  static async open({ microphoneId, outputId, fields, onState, onEnd }) {
    // A socket cannot say that it needs a token, and this asks for one.
    await requestJson("GET", "v1/models");
    const microphone = await openStream(microphoneId);
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(new URL("live-worklet.js", import.meta.url));
      if (outputId) await chooseOutput(context, outputId);
      await context.resume();
      const { socket, started } = await connect({ rate: context.sampleRate, channels: 1, format: "f32le", ...fields });
      return new LiveStream({ microphone, context, socket, started, onState, onEnd });
    } catch (error) {
      for (const track of microphone.getTracks()) track.stop();
      await context.close();
      throw error;
    }
  }

  /**
   * @param {object} options
   * @param {MediaStream} options.microphone
   * @param {AudioContext} options.context
   * @param {WebSocket} options.socket
   * @param {{latency_ms: number}} options.started
   * @param {(state: LiveState) => void} options.onState
   * @param {(reason: Error) => void} options.onEnd
   */
  constructor({ microphone, context, socket, started, onState, onEnd }) {
    this.#microphone = microphone;
    this.#context = context;
    this.#socket = socket;
    const { sampleRate: rate } = context;
    const block = Math.round(BLOCK_SECONDS * rate);
    this.#node = new AudioWorkletNode(context, "live", {
      outputChannelCount: [1],
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { block, margin: MARGIN_BLOCKS * block, most: Math.round(MOST_SECONDS * rate) },
    });
    this.#gain = new GainNode(context, { gain: 0 });
    const { signal } = this.#ending;
    /**
     * @param {{delay: number, waiting: number}} data In samples.
     * @returns {Latency}
     */
    const latencyOf = ({ delay, waiting }) => {
      // TypeScript does not know this setting.
      const { latency = 0 } = /** @type {{latency?: number}} */ (microphone.getAudioTracks()[0].getSettings());
      const outputSeconds = context.outputLatency || context.baseLatency;
      const totalMs = 1000 * (latency + delay / rate + outputSeconds);
      const microphoneMs = 1000 * (latency + block / rate);
      const playbackMs = 1000 * (waiting / rate + outputSeconds);
      const modelMs = started.latency_ms;
      return { totalMs, microphoneMs, modelMs, networkMs: totalMs - microphoneMs - modelMs - playbackMs, playbackMs };
    };
    /** @param {string} message */
    const end = (message) => {
      if (signal.aborted) return;
      void this.stop();
      onEnd(new Error(message));
    };
    this.#node.port.onmessage = ({ data }) => {
      if (signal.aborted) return;
      if (data.isBehind || socket.bufferedAmount > 4 * MAX_UNSENT_SECONDS * rate) {
        end("the network, or the service, is too slow for live sound: try again later");
      } else if (!data.samples) {
        const { input, output, gaps } = data;
        onState({ input, output, gaps, latency: data.delay ? latencyOf(data) : null });
      } else {
        socket.send(data.samples);
      }
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        const samples = new Float32Array(data);
        this.#node.port.postMessage(samples, [samples.buffer]);
        return;
      }
      const { error } = JSON.parse(data);
      if (error) end(error.message);
    };
    socket.onclose = () => end(LOST);
    for (const track of microphone.getTracks()) {
      track.addEventListener("ended", () => end("the microphone is gone: connect it, and start again"));
    }
    this.#alive = setInterval(() => socket.send('{"type": "KeepAlive"}'), KEEP_ALIVE_MS);
    const source = context.createMediaStreamSource(microphone);
    source.connect(this.#node).connect(this.#gain).connect(context.destination);
  }

  /**
   * @param {string} outputId Where it is played; the browser's own choice if empty.
   * @throws {Error} It cannot be used; the message says so.
   */
  async setOutput(outputId) {
    await chooseOutput(this.#context, outputId);
  }

  /** @param {boolean} isHeard Whether it is played. */
  setHeard(isHeard) {
    this.#gain.gain.setTargetAtTime(isHeard ? 1 : 0, this.#context.currentTime, 0.02);
  }

  /** @param {number} strength Share of the enhanced sound, 0 to 1; 0 is the microphone as it is. */
  setStrength(strength) {
    const parameter = /** @type {AudioParam} */ (this.#node.parameters.get("strength"));
    parameter.value = strength;
  }

  /** Ends it. */
  async stop() {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    clearInterval(this.#alive);
    for (const track of this.#microphone.getTracks()) track.stop();
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send('{"type": "CloseStream"}');
    await this.#context.close();
  }
}

/**
 * @param {AudioContext} context
 * @param {string} outputId
 */
async function chooseOutput(context, outputId) {
  try {
    // TypeScript does not know this method.
    await /** @type {any} */ (context).setSinkId(outputId);
  } catch (error) {
    throw new Error("the chosen output cannot be used: connect it, or choose another one", { cause: error });
  }
}

/**
 * Opens a stream of the service.
 * @param {Record<string, unknown>} fields Its first frame.
 * @returns {Promise<{socket: WebSocket, started: {latency_ms: number}}>}
 * @throws {Error} The service refuses; the message says why.
 */
function connect(fields) {
  return new Promise((resolve, reject) => {
    const address = new URL(PATH, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.hash = "";
    const found = token();
    const socket = new WebSocket(address, ["sottovoce", ...(found === null ? [] : [`sottovoce.token.${base64url(found)}`])]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify(fields));
    socket.onclose = () => reject(new Error(LOST));
    socket.onmessage = ({ data }) => {
      const started = JSON.parse(data);
      if (started.error) reject(new Error(started.error.message));
      else resolve({ socket, started });
    };
  });
}

/** @param {string} text */
function base64url(text) {
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
