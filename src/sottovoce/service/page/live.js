// Live: the microphone, enhanced while one speaks.

import { element } from "./dom.js";

/**
 * Fills the section.
 * @param {HTMLElement} section
 */
export function mount(section) {
  section.append(
    element("h2", {}, "Live"),
    element("p", {}, "The command ", element("code", {}, "sottovoce live"), " enhances a microphone on this machine."),
  );
}
