// Adapt: a model for one's own room.

import { element } from "./dom.js";

/**
 * Fills the section.
 * @param {HTMLElement} section
 */
export function mount(section) {
  section.append(
    element("h2", {}, "Adapt"),
    element("p", {}, "The command ", element("code", {}, "sottovoce adapt"), " makes a model for one room."),
  );
}
