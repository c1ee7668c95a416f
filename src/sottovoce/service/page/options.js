// How to enhance: choices of recordings and of live sound.

import { element } from "./dom.js";

const LIMITS_DB = [12, 20, 30];
const ROOMS = { natural: "keep a little (natural)", keep: "keep all of it", dry: "remove (dry)" };

/** @typedef {{name: string, rooms: string[]}} Model */

/** Makes the choice of the maximum attenuation in dB; its value is empty where there is none. */
export function makeLimit() {
  const choice = element(
    "select",
    {},
    element("option", { value: "" }, "as much as possible"),
    ...LIMITS_DB.map((limitDb) => element("option", { value: limitDb }, `at most ${limitDb} dB`)),
  );
  return { choice, root: element("label", {}, "Noise reduction", choice) };
}

/**
 * Makes the choice of what stays of the room, of which a model that is not known has "natural" alone.
 * @param {HTMLSelectElement} model What chooses the model.
 */
export function makeRoom(model) {
  const choice = element("select", {}, ...Object.entries(ROOMS).map(([value, text]) => element("option", { value }, text)));
  /** @type {Model[]} */
  let known = [];
  const update = () => {
    const rooms = known.find(({ name }) => name === model.value)?.rooms ?? ["natural"];
    for (const option of choice.options) option.disabled = !rooms.includes(option.value);
    if (choice.selectedOptions[0]?.disabled) choice.value = "natural";
  };
  model.addEventListener("change", update);
  update();
  return {
    choice,
    /** @returns {{room?: string}} What a request says of it. */
    fields: () => (choice.value === "natural" ? {} : { room: choice.value }),
    root: element("label", {}, "Room sound", choice),
    /** @param {Model[]} models */
    offer: (models) => {
      known = models;
      update();
    },
  };
}
