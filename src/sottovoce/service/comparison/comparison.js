// A page of recordings that it holds itself: versions of each, to be compared.

import { DecodingError, decode } from "../page/decoding.js";
import { clock, element } from "../page/dom.js";
import { Player } from "../page/player.js";

/**
 * @typedef {object} Content
 * @property {string[]} labels What the versions are called.
 * @property {{name: string, sounds: string[]}[]} recordings The elements with the versions of each, as base64 of FLAC.
 */

/** @type {Content} */
const { labels, recordings } = JSON.parse(textOf("recordings"));
const main = /** @type {HTMLElement} */ (document.getElementById("comparison"));
const title = element("h2", { tabindex: -1 });
const facts = element("p", { class: "facts" });
const shown = element("div", { "aria-live": "polite" });
/** @type {Player | null} */
let player = null;
let number = 0;

if (recordings.length > 1) {
  const choice = element("select", {}, ...recordings.map(({ name }, value) => element("option", { value }, name)));
  /** @param {number} next */
  const go = (next) => {
    choice.value = String(next);
    void show(next);
  };
  choice.addEventListener("change", () => void show(Number(choice.value)));
  const previous = element("button", { type: "button", click: () => go(Math.max(number - 1, 0)) }, "Previous");
  const next = element("button", { type: "button", click: () => go(Math.min(number + 1, recordings.length - 1)) }, "Next");
  main.append(element("div", { class: "options" }, element("label", {}, "Recording", choice), previous, next));
}
main.append(element("div", { class: "title" }, title, facts), shown);
void show(0);

/**
 * Shows a recording; what was asked for later wins.
 * @param {number} next
 */
async function show(next) {
  number = next;
  player?.close();
  player = null;
  const { name, sounds } = recordings[number];
  title.textContent = name;
  facts.textContent = "";
  shown.replaceChildren(element("p", { class: "hint" }, "Decoding\u2026"));
  try {
    const tracks = [];
    for (const sound of sounds) tracks.push(await decode(await flacOf(sound)));
    if (number !== next) return;
    const root = element("div");
    player = new Player(root, { tracks, views: viewsOf(tracks.length) });
    const [{ duration, sampleRate, numberOfChannels }] = tracks;
    facts.textContent = [clock(duration), `${sampleRate / 1000} kHz`, numberOfChannels > 1 ? "stereo" : "mono"].join(" \u00b7 ");
    shown.replaceChildren(root);
  } catch (error) {
    if (!(error instanceof DecodingError)) throw error;
    if (number === next) shown.replaceChildren(element("p", { class: "notice" }, `It cannot be played: ${error.message}.`));
  }
}

/**
 * @param {number} count Number of versions.
 * @returns {import("../page/player.js").View[]}
 */
function viewsOf(count) {
  const views = labels.map((label, one) => ({ label, weights: labels.map((_, other) => Number(one === other)) }));
  return count === 2 ? [...views, { label: "Difference", weights: [1, -1], isPart: true }] : views;
}

/**
 * @param {string} id
 * @returns {Promise<Blob>}
 */
async function flacOf(id) {
  return (await fetch(`data:audio/flac;base64,${textOf(id)}`)).blob();
}

/**
 * @param {string} id
 * @returns {string}
 */
function textOf(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id)).textContent ?? "";
}
