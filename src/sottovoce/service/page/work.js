// What a section does one at a time: its progress, a way to end it, and why it failed.

import { element, sentenceOf } from "./dom.js";

const STAGES = { upload: "Sending\u2026", wait: "Waiting for the service\u2026", enhance: "Enhancing\u2026" };

/** How far the work is that goes on, and why it failed. */
export function makeWork() {
  const label = element("span");
  const progress = element("progress", { max: 1, "aria-label": "Progress" });
  const cancel = element("button", { type: "button", click: () => running?.abort() }, "Cancel");
  const status = element("div", { class: "status", hidden: true }, label, progress, cancel);
  const said = element("p", { class: "unseen", role: "status" });
  const error = element("p", { class: "error", role: "alert", hidden: true });
  const root = element("div", { class: "work", tabindex: -1 }, status, said, error);
  /** @type {AbortController | null} */
  let running = null;

  /** @param {string} text */
  function say(text) {
    if (label.textContent === text) return;
    label.textContent = text;
    said.textContent = text;
    progress.removeAttribute("value");
  }

  /** @param {number | null} share Null while it is not known. */
  function setShare(share) {
    if (share === null) progress.removeAttribute("value");
    else progress.value = share;
  }

  return {
    root,
    say,
    setShare,
    /** @param {import("./api.js").Progress} now */
    show: ({ stage, share }) => {
      say(STAGES[stage]);
      setShare(share);
    },
    /**
     * Does one thing at a time: what was begun before is given up.
     * @param {(signal: AbortSignal) => Promise<void>} task
     */
    run: async (task) => {
      running?.abort();
      const mine = new AbortController();
      running = mine;
      error.hidden = true;
      status.hidden = false;
      try {
        await task(mine.signal);
        if (running === mine) said.textContent = "Done";
      } catch (reason) {
        if (mine.signal.aborted) {
          if (running === mine) said.textContent = "Cancelled";
        } else {
          error.textContent = sentenceOf(reason);
          error.hidden = false;
        }
      }
      if (running !== mine) return;
      running = null;
      // The focus of whoever has cancelled would be lost with the button.
      if (status.contains(document.activeElement)) root.focus();
      status.hidden = true;
      label.textContent = "";
    },
  };
}
