// Elements of the page.

// Within this time the browser has begun to write a file.
const SAVING_MS = 60_000;

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | number | boolean | EventListener>} [attributes] A function listens to the event of
 *   its name, `true` is an attribute without a value, and `false` is none.
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false) made.setAttribute(key, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * Minutes and seconds, such as 1:05.2.
 * @param {number} seconds
 * @returns {string}
 */
export function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const whole = String(Math.floor(tenths / 10) % 60).padStart(2, "0");
  return `${Math.floor(tenths / 600)}:${whole}.${tenths % 10}`;
}

/**
 * The sentence of an error, as people read it.
 * @param {unknown} error
 */
export function sentenceOf(error) {
  const { message } = /** @type {Error} */ (error);
  return `${message.slice(0, 1).toUpperCase()}${message.slice(1)}.`;
}

/**
 * Saves something as a file.
 * @param {Blob} content
 * @param {string} name
 */
export function download(content, name) {
  const address = URL.createObjectURL(content);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), SAVING_MS);
}
