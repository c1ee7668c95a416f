// Enhance: one recording, before and after.

import { element } from "./dom.js";

/**
 * Fills the section.
 * @param {HTMLElement} section
 */
export function mount(section) {
  section.append(
    element("h2", {}, "Enhance a recording"),
    element("p", {}, "Takes noise and reverberation out of speech."),
  );
}
