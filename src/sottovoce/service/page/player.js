// The player: versions of one recording, between which one switches while they play.

import { openBlindTest } from "./abx.js";
import { clock, element } from "./dom.js";
import { measureLoudness } from "./loudness.js";
import { Playback } from "./playback.js";
import { analyse } from "./spectrogram.js";
import { Timeline } from "./timeline.js";

const PICTURE = { columns: 1200, rows: 160 };
const REDRAW_MS = 200;
const [STEP_SECONDS, SMALL_STEP_SECONDS] = [2, 0.1];
const MIN_REGION_SECONDS = 0.05;
const KEYS = [
  ["Space", "play or pause"],
  ["1, 2, 3", "switch between what you hear"],
  ["S", "switch back to what you heard before"],
  ["\u2190, \u2192", "2 seconds back or on; 0.1 with Shift"],
  ["Home, End", "to the beginning, to the end"],
  ["[, ]", "the region that repeats begins, or ends, here"],
  ["L", "repeat the region, or play on"],
  ["M", "same loudness, or as they are"],
];

/**
 * What can be heard.
 * @typedef {object} View
 * @property {string} label Such as "Before".
 * @property {number[]} weights Share of each track: see `Playback`.
 * @property {boolean} [isPart] It is only a part of the recording, such as what was removed: it is never brought to the
 *   loudness of the others, but heard as loud as it is in the first view.
 */

/**
 * A player of decoded recordings; it knows nothing of the service, and loads nothing.
 *
 *     const player = new Player(root, { tracks: [before, after], views: [
 *       { label: "Before", weights: [1, 0] },
 *       { label: "After", weights: [0, 1] },
 *       { label: "Removed", weights: [1, -1], isPart: true },
 *     ]});
 *
 * Its keys work while the focus is inside `root`; `focus` puts it there.
 */
export class Player {
  #playback;
  #views;
  #timeline;
  #view = 0;
  #before = 1;
  #isMatched = true;
  /** @type {import("./loudness.js").Loudness | null} */
  #loudness = null;
  /** @type {import("./timeline.js").Region} What the fields say, whether it repeats or not. */
  #region;
  /** @type {number | null} The view of a blind test. */
  #blind = null;
  #closing = new AbortController();
  /** @type {Map<number, AbortController>} */
  #drawing = new Map();
  #context;
  #controls;

  /**
   * @param {HTMLElement} root Empty element that it fills.
   * @param {object} options
   * @param {AudioBuffer[]} options.tracks Of one rate, length and number of channels.
   * @param {View[]} options.views The first one is heard first; key 1 is the first, 2 the second and so on.
   */
  constructor(root, { tracks, views }) {
    this.#context = new AudioContext({ sampleRate: tracks[0].sampleRate });
    this.#playback = new Playback(this.#context, tracks);
    this.#views = views.map((view) => ({ ...view }));
    const { duration } = this.#playback;
    this.#region = { start: 0, end: duration };
    this.#timeline = new Timeline({
      labels: views.map(({ label }) => label),
      duration,
      rate: tracks[0].sampleRate,
      onSeek: (seconds) => this.#playback.seek(seconds),
      onRegion: (region) => this.#repeat(region),
    });
    this.#controls = this.#makeControls(duration);
    root.classList.add("player");
    root.tabIndex = -1;
    root.append(...this.#controls.rows);
    this.focus = () => root.focus({ preventScroll: true });

    root.addEventListener("keydown", (event) => this.#onKey(event));
    this.#playback.addEventListener("change", () => this.#changed());
    this.show(0);
    this.#changed();
    void this.#analyse();
  }

  /** What its views are called. */
  get labels() {
    return this.#views.map(({ label }) => label);
  }

  /** The view that is shown. */
  get view() {
    return this.#view;
  }

  /** Place in seconds. */
  get position() {
    return this.#playback.position;
  }

  /**
   * Goes to a place.
   * @param {number} seconds
   */
  seek(seconds) {
    this.#playback.seek(seconds);
  }

  /** Plays or pauses. */
  toggle() {
    if (this.#playback.isPlaying) this.#playback.pause();
    else this.#playback.play();
  }

  /**
   * Switches to a view, at the sample that is heard.
   * @param {number} number
   */
  show(number) {
    if (number !== this.#view) [this.#before, this.#view] = [this.#view, number];
    for (const [other, button] of this.#controls.views.entries()) {
      button.setAttribute("aria-pressed", String(other === number));
    }
    this.#timeline.setHeard(number);
    this.#apply();
  }

  /**
   * Plays a view without saying which.
   * @param {number} number
   */
  showBlind(number) {
    this.#blind = number;
    this.#apply();
    this.#playback.play();
  }

  /** Ends a blind test. */
  endBlind() {
    if (this.#blind === null) return;
    this.#blind = null;
    this.#playback.pause();
    this.#apply();
  }

  /**
   * Changes a view while it may be playing, such as how strong it is.
   * @param {number} number
   * @param {number[]} weights
   */
  setWeights(number, weights) {
    this.#views[number].weights = weights;
    this.#apply();
    void this.#draw(number, REDRAW_MS);
  }

  /** Ends it: it must not be used any more. */
  close() {
    this.#closing.abort();
    for (const drawing of this.#drawing.values()) drawing.abort();
    this.#playback.pause();
    void this.#context.close();
  }

  /** @param {number} duration */
  #makeControls(duration) {
    const play = element("button", { type: "button", class: "primary play", click: () => this.toggle() }, "Play");
    const views = this.#views.map(({ label }, number) =>
      element("button", { type: "button", click: () => this.show(number) }, label),
    );
    const matched = element("input", { type: "checkbox", checked: true });
    matched.addEventListener("change", () => this.#match(matched.checked));
    const blind = element("button", { type: "button", click: () => openBlindTest(this) }, "Blind test\u2026");
    const place = element("output", { class: "place" });
    const seek = element("input", { type: "range", class: "seek", min: 0, max: duration, step: 0.01, value: 0 });
    seek.setAttribute("aria-label", "Position");
    seek.addEventListener("input", () => this.#playback.seek(Number(seek.value)));
    const repeats = element("input", { type: "checkbox" });
    repeats.addEventListener("change", () => this.#repeat(repeats.checked ? this.#region : null));
    const bound = () => element("input", { type: "number", min: 0, max: duration.toFixed(2), step: 0.01 });
    const [from, to] = [bound(), bound()];
    for (const field of [from, to]) {
      field.addEventListener("change", () => {
        this.#repeat({ start: Number(from.value), end: Number(to.value) });
      });
    }
    const heard = element("p", { class: "unseen", role: "status" });
    const keys = element(
      "details",
      { class: "keys" },
      element("summary", {}, "Keys"),
      element(
        "dl",
        {},
        ...KEYS.map(([key, meaning]) => element("div", {}, element("dt", {}, key), element("dd", {}, meaning))),
      ),
    );
    const rows = [
      element(
        "div",
        { class: "controls" },
        play,
        place,
        element("div", { class: "segments", role: "group", "aria-label": "What you hear" }, ...views),
        heard,
      ),
      element("div", { class: "stage" }, this.#timeline.root, seek),
      element(
        "div",
        { class: "controls" },
        element("label", { class: "check" }, repeats, "Repeat"),
        element("span", { class: "bounds" }, element("label", {}, "from", from), element("label", {}, "to", to), "s"),
        element("label", { class: "check" }, matched, "Same loudness"),
        blind,
        keys,
      ),
    ];
    return { rows, play, views, matched, place, seek, repeats, from, to, heard };
  }

  #changed() {
    const { play, repeats, from, to } = this.#controls;
    const { isPlaying, loop } = this.#playback;
    play.textContent = isPlaying ? "Pause" : "Play";
    if (loop !== null) this.#region = loop;
    repeats.checked = loop !== null;
    from.value = this.#region.start.toFixed(2);
    to.value = this.#region.end.toFixed(2);
    this.#timeline.setRegion(loop);
    this.#follow();
  }

  /** Shows the place that is heard, as long as it moves. */
  #follow() {
    const { place, seek } = this.#controls;
    const { position, duration, isPlaying } = this.#playback;
    place.value = `${clock(position)} / ${clock(duration)}`;
    seek.value = String(position);
    seek.setAttribute("aria-valuetext", clock(position));
    this.#timeline.setPosition(position);
    if (!isPlaying || this.#isFollowing) return;
    this.#isFollowing = true;
    requestAnimationFrame(() => {
      this.#isFollowing = false;
      this.#follow();
    });
  }

  #isFollowing = false;

  /**
   * Repeats a region, or none.
   * @param {import("./timeline.js").Region | null} region What is too short is none.
   */
  #repeat(region) {
    if (region !== null) {
      region = { start: Math.max(region.start, 0), end: Math.min(region.end, this.#playback.duration) };
      // A field that is empty gives 0, and one that holds no number NaN.
      if (!(region.end - region.start >= Math.min(MIN_REGION_SECONDS, this.#playback.duration))) {
        this.#changed();
        return;
      }
    }
    this.#playback.setLoop(region);
  }

  /** @param {boolean} isMatched */
  #match(isMatched) {
    this.#isMatched = isMatched;
    this.#controls.matched.checked = isMatched;
    this.#apply();
  }

  /** Lets what is to be heard be heard. */
  #apply() {
    const number = this.#blind ?? this.#view;
    const gain = this.#isMatched || this.#blind !== null ? this.#gains()[number] : 1;
    this.#playback.setWeights(this.#views[number].weights.map((weight) => gain * weight));
  }

  /** Gains that bring all views to the loudness of the softest: none gets louder, so none is clipped. */
  #gains() {
    const loudness = this.#views.map(({ weights, isPart }) => (isPart ? Infinity : this.#loudness?.of(weights) ?? -Infinity));
    const softest = Math.min(...loudness.filter(Number.isFinite));
    const gains = loudness.map((lufs) => (Number.isFinite(lufs) ? 10 ** ((softest - lufs) / 20) : 1));
    return gains.map((gain, number) => (this.#views[number].isPart ? gains[0] : gain));
  }

  async #analyse() {
    const tracks = this.#views[0].weights.map((_, track) => this.#playback.samples(track));
    try {
      this.#loudness = await measureLoudness(tracks, this.#context.sampleRate, this.#closing.signal);
    } catch (error) {
      if (!this.#closing.signal.aborted) throw error;
      return;
    }
    this.#apply();
    for (const number of this.#views.keys()) await this.#draw(number);
  }

  /**
   * @param {number} number
   * @param {number} [delayMs]
   */
  async #draw(number, delayMs = 0) {
    this.#drawing.get(number)?.abort();
    const drawing = new AbortController();
    this.#drawing.set(number, drawing);
    const { signal } = drawing;
    if (delayMs) await new Promise((resolve) => setTimeout(resolve, delayMs));
    if (signal.aborted) return;
    const { weights } = this.#views[number];
    const tracks = weights.map((_, track) => this.#playback.samples(track));
    try {
      const picture = await analyse(tracks, weights, this.#context.sampleRate, { ...PICTURE, signal });
      this.#timeline.setPicture(number, picture);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    const isText = target instanceof HTMLInputElement && target.type === "number";
    const hasArrows = target instanceof HTMLInputElement && target.type === "range";
    const hasSpace = target instanceof HTMLElement && target.matches("button, summary, input[type=checkbox]");
    const { position, duration } = this.#playback;
    const step = event.shiftKey ? SMALL_STEP_SECONDS : STEP_SECONDS;
    /** @type {Record<string, (() => void) | false>} */
    const actions = {
      " ": !hasSpace && (() => this.toggle()),
      ArrowLeft: !hasArrows && (() => this.#playback.seek(position - step)),
      ArrowRight: !hasArrows && (() => this.#playback.seek(position + step)),
      Home: () => this.#playback.seek(0),
      End: () => this.#playback.seek(duration),
      "[": () => this.#repeat({ start: position, end: this.#region.end > position ? this.#region.end : duration }),
      "]": () => this.#repeat({ start: this.#region.start < position ? this.#region.start : 0, end: position }),
      l: () => this.#repeat(this.#playback.loop === null ? this.#region : null),
      m: () => this.#match(!this.#isMatched),
      s: () => this.#announce(this.#before),
    };
    for (const number of this.#views.keys()) actions[String(number + 1)] = () => this.#announce(number);
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || isText) return;
    event.preventDefault();
    action();
  }

  /**
   * Switches, and says so to whoever does not see it.
   * @param {number} number
   */
  #announce(number) {
    this.show(number);
    this.#controls.heard.textContent = this.#views[number].label;
  }
}
