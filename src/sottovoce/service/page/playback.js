// Sound of several tracks that run together, of which any mixture is heard.

// The time constant of a fade; after five of them it is over.
const FADE_SECONDS = 0.004;

/**
 * Plays tracks together. One source has the channels of all of them, so nothing can drift: a switch keeps the sample,
 * and so does a loop.
 *
 * What is heard is a weight for each track. Of [before, enhanced], `[1, 0]` is before, `[1 - m, m]` is what
 * `sottovoce enhance --mix m` writes, and `[m, -m]` is what that has removed. All fades are linear in these weights:
 * the tracks are versions of one recording, and an equal-power fade would make what they share louder by 3 dB.
 *
 * Events: `change` when it starts, stops, or is moved.
 */
export class Playback extends EventTarget {
  #context;
  #buffer;
  /** @type {GainNode[][]} By track and channel. */
  #gains = [];
  #splitter;
  /** @type {{source: AudioBufferSourceNode, envelope: GainNode} | null} */
  #sound = null;
  #startTime = 0;
  #offset = 0;
  /** @type {{start: number, end: number} | null} */
  #loop = null;

  /**
   * @param {BaseAudioContext} context Of the tracks' rate, lest they be resampled.
   * @param {AudioBuffer[]} tracks Of one length and one number of channels; 32 channels at most, all tracks together.
   */
  constructor(context, tracks) {
    super();
    this.#context = context;
    const [{ numberOfChannels: channels, length, sampleRate }] = tracks;
    this.#buffer = context.createBuffer(tracks.length * channels, length, sampleRate);
    this.#splitter = context.createChannelSplitter(tracks.length * channels);
    const merger = context.createChannelMerger(channels);
    merger.connect(context.destination);
    for (const [number, track] of tracks.entries()) {
      const row = [];
      for (let channel = 0; channel < channels; channel++) {
        this.#buffer.copyToChannel(track.getChannelData(channel), number * channels + channel);
        const gain = context.createGain();
        gain.gain.value = number === 0 ? 1 : 0;
        this.#splitter.connect(gain, number * channels + channel);
        gain.connect(merger, 0, channel);
        row.push(gain);
      }
      this.#gains.push(row);
    }
  }

  /** Length in seconds. */
  get duration() {
    return this.#buffer.duration;
  }

  get isPlaying() {
    return this.#sound !== null;
  }

  /** Region that is repeated, in seconds; null if none is. */
  get loop() {
    return this.#loop;
  }

  /** Place in seconds. */
  get position() {
    if (this.#sound === null) return this.#offset;
    const place = this.#offset + Math.max(0, this.#context.currentTime - this.#startTime);
    if (this.#loop === null || place < this.#loop.end) return Math.min(place, this.duration);
    const { start, end } = this.#loop;
    return start + ((place - start) % (end - start));
  }

  /**
   * Samples of a track, without a copy.
   * @param {number} track
   * @returns {Float32Array[]} By channel.
   */
  samples(track) {
    const channels = this.#gains[track].length;
    return this.#gains[track].map((_, channel) => this.#buffer.getChannelData(track * channels + channel));
  }

  /**
   * Chooses what is heard.
   * @param {number[]} weights One for each track.
   */
  setWeights(weights) {
    for (const [track, row] of this.#gains.entries()) {
      for (const gain of row) fade(gain.gain, weights[track], this.#context.currentTime);
    }
  }

  /** Plays from where it is; from the beginning if that is the end. */
  play() {
    if (this.#sound !== null) return;
    if (this.#context instanceof AudioContext) void this.#context.resume();
    if (this.#offset >= this.duration) this.#offset = this.#loop?.start ?? 0;
    const source = this.#context.createBufferSource();
    source.buffer = this.#buffer;
    if (this.#loop !== null) {
      source.loop = true;
      source.loopStart = this.#loop.start;
      source.loopEnd = this.#loop.end;
    }
    const envelope = this.#context.createGain();
    envelope.gain.value = 0;
    source.connect(envelope).connect(this.#splitter);
    source.addEventListener("ended", () => {
      envelope.disconnect();
      if (source !== this.#sound?.source) return;
      this.#sound = null;
      this.#offset = this.duration;
      this.#changed();
    });
    this.#sound = { source, envelope };
    this.#startTime = this.#context.currentTime;
    source.start(this.#startTime, this.#offset);
    fade(envelope.gain, 1, this.#startTime);
    this.#changed();
  }

  /** Stops where it is. */
  pause() {
    if (!this.isPlaying) return;
    this.#silence();
    this.#changed();
  }

  /**
   * Goes to a place; if a region is repeated, to one within it.
   * @param {number} seconds
   */
  seek(seconds) {
    const { start, end } = this.#loop ?? { start: 0, end: this.duration };
    this.#move(() => {
      this.#offset = Math.min(Math.max(seconds, start), end);
      if (this.#loop !== null && this.#offset >= end) this.#offset = start;
    });
  }

  /**
   * Repeats a region, or plays to the end.
   * @param {{start: number, end: number} | null} region In seconds; start is before end.
   */
  setLoop(region) {
    this.#move(() => {
      this.#loop = region;
      if (region !== null && (this.#offset < region.start || this.#offset >= region.end)) this.#offset = region.start;
    });
  }

  /** @param {() => void} set */
  #move(set) {
    const wasPlaying = this.isPlaying;
    this.#silence();
    set();
    if (wasPlaying && this.#offset < this.duration) this.play();
    else this.#changed();
  }

  #silence() {
    if (this.#sound === null) return;
    this.#offset = this.position;
    const { source, envelope } = this.#sound;
    const { currentTime } = this.#context;
    fade(envelope.gain, 0, currentTime);
    source.stop(currentTime + 5 * FADE_SECONDS);
    this.#sound = null;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * @param {AudioParam} parameter
 * @param {number} value
 * @param {number} time
 */
function fade(parameter, value, time) {
  parameter.setTargetAtTime(value, time, FADE_SECONDS);
}
