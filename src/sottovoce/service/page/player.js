// The player: versions of one recording, between which one switches while they play.

import { clock, element } from "./dom.js";
import { Playback } from "./playback.js";

/**
 * What can be heard.
 * @typedef {object} View
 * @property {string} label Such as "Before".
 * @property {number[]} weights Share of each track: see `Playback`.
 */

/**
 * A player of decoded recordings; it knows nothing of the service, and loads nothing.
 *
 *     const player = new Player(root, { tracks: [before, after] , views: [
 *       { label: "Before", weights: [1, 0] },
 *       { label: "After", weights: [0, 1] },
 *       { label: "Removed", weights: [1, -1] },
 *     ]});
 *
 * Keys work while the focus is inside `root`.
 */
export class Player {
  #root;
  #playback;
  #views;
  #view = 0;

  /**
   * @param {HTMLElement} root Empty element that it fills.
   * @param {object} options
   * @param {AudioBuffer[]} options.tracks Of one rate, length and number of channels.
   * @param {View[]} options.views The first one is shown; key 1 is the first, 2 the second and so on.
   */
  constructor(root, { tracks, views }) {
    this.#root = root;
    this.#playback = new Playback(new AudioContext({ sampleRate: tracks[0].sampleRate }), tracks);
    this.#views = views;
    const play = element("button", { type: "button", class: "primary", click: () => this.toggle() }, "Play");
    const place = element("span", { class: "place" });
    const choices = views.map((view, number) =>
      element("button", { type: "button", "aria-pressed": number === 0, click: () => this.show(number) }, view.label),
    );
    this.#playback.addEventListener("change", () => {
      play.textContent = this.#playback.isPlaying ? "Pause" : "Play";
      place.textContent = `${clock(this.#playback.position)} / ${clock(this.#playback.duration)}`;
    });
    root.append(element("div", { class: "controls" }, play, place, ...choices));
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
    this.#view = number;
    this.#playback.setWeights(this.#views[number].weights);
  }
}
