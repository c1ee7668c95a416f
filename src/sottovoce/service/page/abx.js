// A blind test: is X the one or the other? Who cannot hear a difference is right in half of the trials.

import { element } from "./dom.js";

/** @typedef {import("./player.js").Player} Player */

export const TRIALS = { least: 10, most: 16, usual: 12 };

/**
 * Probability that chance alone is right at least so often: the exact one-sided binomial test.
 * @param {number} correct
 * @param {number} trials
 * @returns {number}
 */
export function chanceOf(correct, trials) {
  let [ways, sum] = [1, 0];
  for (let wrong = 0; wrong <= trials - correct; wrong++) {
    sum += ways;
    ways = (ways * (trials - wrong)) / (wrong + 1);
  }
  return sum / 2 ** trials;
}

/**
 * Draws which one X is in each trial.
 * @param {number} trials
 * @returns {boolean[]} Whether X is A.
 */
export function drawTrials(trials) {
  return Array.from(crypto.getRandomValues(new Uint8Array(trials)), (byte) => byte % 2 === 0);
}

/**
 * Opens a blind test of two views of a player.
 * @param {Player} player Its views are compared at the same loudness, in the region that it repeats if it does.
 */
export function openBlindTest(player) {
  const dialog = element("dialog", { class: "abx", "aria-labelledby": "abx-title" });
  const title = element("h2", { id: "abx-title" }, "Blind test");
  const content = element("div");
  const close = element("button", { type: "button", click: () => dialog.close() }, "Close");
  dialog.append(title, content, element("p", { class: "actions" }, close));
  dialog.addEventListener("close", () => {
    player.endBlind();
    dialog.remove();
  });
  document.body.append(dialog);
  showChoices();
  dialog.showModal();

  function showChoices() {
    const labels = player.labels;
    /** @param {number} chosen */
    const choice = (chosen) =>
      element("select", {}, ...labels.map((label, value) => element("option", { value, selected: value === chosen }, label)));
    const [first, second] = [choice(0), choice(1)];
    const count = element("input", { type: "number", min: TRIALS.least, max: TRIALS.most, value: TRIALS.usual, required: true });
    const says = element("input", { type: "checkbox" });
    const form = element(
      "form",
      { class: "fields" },
      element("p", {}, "X is A or B, at random. Listen to all three as often as you like, then say which one X is."),
      element("label", {}, "A", first),
      element("label", {}, "B", second),
      element("label", {}, "Trials", count),
      element("label", { class: "check" }, says, "Tell me after each trial whether I was right"),
      element("button", { class: "primary" }, "Start"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      second.setCustomValidity(first.value === second.value ? "Choose two that differ." : "");
      if (form.reportValidity()) run([Number(first.value), Number(second.value)], Number(count.value), says.checked);
    });
    for (const select of [first, second]) select.addEventListener("change", () => second.setCustomValidity(""));
    content.replaceChildren(form);
  }

  /**
   * @param {[number, number]} views
   * @param {number} trials
   * @param {boolean} saysEach
   */
  function run(views, trials, saysEach) {
    const isA = drawTrials(trials);
    /** @type {boolean[]} */
    const rights = [];
    const status = element("p", { role: "status", class: "trial" });
    /** @type {Record<string, () => void>} */
    const listens = {
      a: () => listen("a", views[0]),
      b: () => listen("b", views[1]),
      x: () => listen("x", views[isA[rights.length] ? 0 : 1]),
    };
    const buttons = Object.fromEntries(
      Object.entries(listens).map(([name, click]) => {
        const label = name === "x" ? "X" : `${name.toUpperCase()}: ${player.labels[views[name === "a" ? 0 : 1]]}`;
        return [name, element("button", { type: "button", "aria-pressed": "false", click }, label)];
      }),
    );
    const answers = [true, false].map((says) =>
      element("button", { type: "button", class: "primary", click: () => answer(says) }, `X is ${says ? "A" : "B"}`),
    );
    const pause = element("button", { type: "button", click: () => player.toggle() }, "Play or pause");
    content.replaceChildren(
      status,
      element("div", { class: "segments", role: "group", "aria-label": "Listen" }, ...Object.values(buttons)),
      element("div", { class: "actions", role: "group", "aria-label": "Answer" }, ...answers, pause),
      element("p", { class: "hint" }, "Keys: A, B and X play; 1 answers A, 2 answers B; the space bar pauses."),
    );
    content.onkeydown = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const key = event.key.toLowerCase();
      if (key in listens) listens[key]();
      else if (key === "1" || key === "2") answer(key === "1");
      else if (key === " " && !(event.target instanceof HTMLButtonElement)) player.toggle();
      else return;
      event.preventDefault();
    };
    content.tabIndex = -1;
    begin("");
    content.focus();

    /**
     * @param {string} name
     * @param {number} view
     */
    function listen(name, view) {
      for (const [other, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", String(other === name));
      player.showBlind(view);
    }

    /** @param {string} before */
    function begin(before) {
      status.textContent = `${before}Trial ${rights.length + 1} of ${trials}`;
      listens.a();
    }

    /** @param {boolean} says Whether X is A. */
    function answer(says) {
      rights.push(says === isA[rights.length]);
      if (rights.length === trials) showResult(rights);
      else begin(saysEach ? (rights.at(-1) ? "Right. " : "Wrong. ") : "");
    }
  }

  /** @param {boolean[]} rights */
  function showResult(rights) {
    player.endBlind();
    content.onkeydown = null;
    const correct = rights.filter(Boolean).length;
    const chance = chanceOf(correct, rights.length);
    const verdict =
      chance <= 0.05
        ? "You hear a difference: guessing hardly ever gives so many."
        : "This does not show that you hear a difference: guessing often gives as many.";
    const again = element("button", { type: "button", class: "primary", click: showChoices }, "Test again");
    content.replaceChildren(
      element(
        "div",
        { role: "status" },
        element("p", { class: "score" }, `${correct} of ${rights.length} right`),
        element("p", {}, `p = ${chance.toPrecision(2)}. ${verdict}`),
      ),
      element("ol", { class: "trials", "aria-label": "Trials" }, ...rights.map((right) => element("li", {}, right ? "right" : "wrong"))),
      again,
    );
    again.focus();
  }
}
