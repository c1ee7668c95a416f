// The sections of the page, one of which is shown.

import * as adapt from "./adapt.js";
import * as enhance from "./enhance.js";
import * as live from "./live.js";

/**
 * What fills a section when it is first shown.
 * @type {Record<string, {mount: (section: HTMLElement) => void}>}
 */
const SECTIONS = { enhance, live, adapt };

const tabs = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("[role=tab]")]);
/** @type {Set<string>} */
const mounted = new Set();

/** @param {HTMLButtonElement} tab */
function show(tab) {
  for (const other of tabs) {
    const isShown = other === tab;
    other.setAttribute("aria-selected", String(isShown));
    other.tabIndex = isShown ? 0 : -1;
    panel(other).hidden = !isShown;
  }
  const section = panel(tab);
  if (!mounted.has(section.id)) {
    mounted.add(section.id);
    SECTIONS[section.id].mount(section);
  }
}

/**
 * @param {HTMLButtonElement} tab
 * @returns {HTMLElement}
 */
function panel(tab) {
  return /** @type {HTMLElement} */ (document.getElementById(/** @type {string} */ (tab.getAttribute("aria-controls"))));
}

/** Shows the section that the address names, such as `#live`. */
function showAddressed() {
  show(tabs.find((tab) => `#${panel(tab).id}` === location.hash) ?? tabs[0]);
}

for (const [number, tab] of tabs.entries()) {
  tab.addEventListener("click", () => {
    history.replaceState(null, "", `#${panel(tab).id}`);
    show(tab);
  });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = tabs[(number + step + tabs.length) % tabs.length];
    next.click();
    next.focus();
  });
}
// A file that misses a section would replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
addEventListener("hashchange", showAddressed);
showAddressed();
