// Views of a recording above each other, on one axis of time, with the place that is heard and the region that repeats.

import { clock, element } from "./dom.js";
import { RANGE_DB, drawOutline, drawScale, drawSpectrogram, heightOf } from "./spectrogram.js";

/** @typedef {import("./spectrogram.js").Picture} Picture */
/** @typedef {{start: number, end: number}} Region In seconds. */
/** @typedef {{picture: Picture, top: number, peak: number}} Shown A picture, its loudest level and largest sample. */

// A pointer that moves less than this clicks.
const CLICK_PIXELS = 5;
const FREQUENCIES_HZ = [250, 500, 1000, 2000, 4000, 8000, 16_000];
const MIN_LABEL_DISTANCE = 0.14;

/** Lanes with outline and spectrogram. */
export class Timeline {
  /** What is to be put into the page. */
  root;
  #duration;
  #onSeek;
  #onRegion;
  #lanes;
  /** @type {Region | null} */
  #chosen = null;
  #playhead = element("div", { class: "playhead" });
  #region = element("div", { class: "region", hidden: true });
  #plot = element("div", { class: "plot" }, this.#region, this.#playhead);

  /**
   * @param {object} options
   * @param {string[]} options.labels One for each lane.
   * @param {number} options.duration In seconds.
   * @param {number} options.rate In Hz.
   * @param {(seconds: number) => void} options.onSeek A place was pointed at.
   * @param {(region: Region) => void} options.onRegion A region was drawn.
   */
  constructor({ labels, duration, rate, onSeek, onRegion }) {
    this.#duration = duration;
    this.#onSeek = onSeek;
    this.#onRegion = onRegion;
    this.#lanes = labels.map((label) => {
      const outline = element("canvas", { class: "outline", "aria-hidden": "true" });
      const spectrogram = element("canvas", { class: "spectrogram", role: "img", "aria-label": `Spectrogram: ${label}` });
      const root = element(
        "div",
        { class: "lane", "aria-busy": "true" },
        element("span", { class: "lane-label" }, label),
        outline,
        spectrogram,
        frequencyAxis(rate),
      );
      return { root, outline, spectrogram, shown: /** @type {Shown | null} */ (null) };
    });
    const scale = element("canvas", { "aria-hidden": "true" });
    drawScale(scale);
    this.root = element(
      "div",
      { class: "timeline" },
      ...this.#lanes.map(({ root }) => root),
      this.#plot,
      timeAxis(duration),
      element("p", { class: "scale" }, `\u2212${RANGE_DB} dB`, scale, "loudest"),
    );
    this.#listen();
  }

  /**
   * Shows a picture; all are drawn on the same scale.
   * @param {number} lane
   * @param {Picture} picture
   */
  setPicture(lane, picture) {
    const { levels, lows, highs } = picture;
    const peak = lows.reduce((found, low, column) => Math.max(found, -low, highs[column]), 0);
    this.#lanes[lane].shown = { picture, top: nearlyLargest(levels), peak };
    const all = this.#lanes.flatMap(({ shown }) => shown ?? []);
    const top = Math.max(...all.map((shown) => shown.top));
    const room = Math.max(1e-4, ...all.map((shown) => shown.peak));
    for (const { root, outline, spectrogram, shown } of this.#lanes) {
      if (shown === null) continue;
      drawSpectrogram(spectrogram, shown.picture, top);
      drawOutline(outline, shown.picture, room);
      root.setAttribute("aria-busy", "false");
    }
  }

  /** @param {number} heard The lane that is heard. */
  setHeard(heard) {
    for (const [number, { root }] of this.#lanes.entries()) root.classList.toggle("heard", number === heard);
  }

  /** @param {number} seconds */
  setPosition(seconds) {
    this.#playhead.style.left = this.#percent(seconds);
  }

  /** @param {Region | null} region */
  setRegion(region) {
    this.#chosen = region;
    this.#showRegion(region);
  }

  /** @param {Region | null} region */
  #showRegion(region) {
    this.#region.hidden = region === null;
    if (region === null) return;
    this.#region.style.left = this.#percent(region.start);
    this.#region.style.width = this.#percent(region.end - region.start);
  }

  /** @param {number} seconds */
  #percent(seconds) {
    return `${(100 * seconds) / this.#duration}%`;
  }

  #listen() {
    const plot = this.#plot;
    /** @param {PointerEvent} event */
    const secondsAt = (event) => {
      const { left, width } = plot.getBoundingClientRect();
      return Math.min(Math.max((event.clientX - left) / width, 0), 1) * this.#duration;
    };
    /** @type {{x: number, seconds: number, isDrag: boolean} | null} */
    let pressed = null;
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      plot.setPointerCapture(event.pointerId);
      pressed = { x: event.clientX, seconds: secondsAt(event), isDrag: false };
    });
    plot.addEventListener("pointermove", (event) => {
      if (pressed === null) return;
      pressed.isDrag ||= Math.abs(event.clientX - pressed.x) >= CLICK_PIXELS;
      if (!pressed.isDrag) return;
      const [start, end] = [pressed.seconds, secondsAt(event)].sort((one, other) => one - other);
      this.#showRegion({ start, end });
    });
    plot.addEventListener("pointerup", (event) => {
      if (pressed === null) return;
      const [start, end] = [pressed.seconds, secondsAt(event)].sort((one, other) => one - other);
      if (pressed.isDrag) this.#onRegion({ start, end });
      else this.#onSeek(end);
      pressed = null;
    });
    plot.addEventListener("pointercancel", () => {
      pressed = null;
      this.setRegion(this.#chosen);
    });
  }
}

/** @param {number} rate */
function frequencyAxis(rate) {
  const axis = element("div", { class: "frequencies", "aria-hidden": "true" });
  let lowest = -1;
  for (const hz of FREQUENCIES_HZ) {
    const height = heightOf(hz, rate);
    if (height > 0.95 || height - lowest < MIN_LABEL_DISTANCE) continue;
    lowest = height;
    const label = element("span", {}, hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`);
    label.style.bottom = `${100 * height}%`;
    axis.append(label);
  }
  return axis;
}

/** @param {number} duration */
function timeAxis(duration) {
  const axis = element("div", { class: "times", "aria-hidden": "true" });
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const step = steps.find((seconds) => duration / seconds <= 8) ?? duration;
  for (let number = 0; number * step < duration * 0.93; number++) {
    const seconds = number * step;
    const label = element("span", {}, step < 1 ? clock(seconds) : clock(seconds).slice(0, -2));
    label.style.left = `${(100 * seconds) / duration}%`;
    axis.append(label);
  }
  return axis;
}

/**
 * A click makes nothing else dark.
 * @param {Float32Array} values
 */
function nearlyLargest(values) {
  // Some of them will do, and take less time.
  const some = values.filter((_, index) => index % 13 === 0).sort();
  return some[Math.floor(0.999 * (some.length - 1))];
}
