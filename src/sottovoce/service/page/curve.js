// The curve of a training, as a picture and as text.

import { element } from "./dom.js";

// A picture that does not know how wide it will be.
const USUAL_WIDTH = 600;
const HEIGHT = 160;
const EDGE = { left: 56, right: 8, top: 8, bottom: 24 };
const SVG = "http://www.w3.org/2000/svg";

/**
 * Draws a curve, in place of what was drawn before; nothing before there is a point.
 * @param {HTMLElement} root
 * @param {{step: number, loss: number}[]} points
 * @param {number} steps Steps in all.
 */
export function drawCurve(root, points, steps) {
  if (!points.length) return;
  // In its own pixels, so that text keeps its size on a phone.
  const width = root.clientWidth || USUAL_WIDTH;
  const losses = points.map(({ loss }) => loss);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const range = high - low || 1;
  /** @param {number} step */
  const x = (step) => EDGE.left + (step / steps) * (width - EDGE.left - EDGE.right);
  /** @param {number} loss */
  const y = (loss) => EDGE.top + ((high - loss) / range) * (HEIGHT - EDGE.top - EDGE.bottom);
  const [first, last] = [points[0], points[points.length - 1]];
  const label = `Loss of the training: ${format(first.loss)} at step ${first.step}, ${format(last.loss)} at step ${last.step} of ${steps}`;
  const picture = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  picture.append(
    shape("path", { class: "axis", d: `M ${EDGE.left} ${EDGE.top} V ${HEIGHT - EDGE.bottom} H ${width - EDGE.right}` }),
    text(EDGE.left - 6, y(high) + 8, "end", format(high)),
    text(EDGE.left - 6, y(low), "end", format(low)),
    text(EDGE.left, HEIGHT - 6, "start", "0"),
    text(width - EDGE.right, HEIGHT - 6, "end", `step ${steps}`),
    shape("polyline", { points: points.map(({ step, loss }) => `${x(step)},${y(loss)}`).join(" ") }),
    shape("circle", { cx: x(last.step), cy: y(last.loss), r: 4 }),
  );
  const rows = points.map(({ step, loss }) => element("tr", {}, element("td", {}, String(step)), element("td", {}, format(loss))));
  const numbers = root.querySelector("details") ?? makeNumbers();
  numbers.querySelector("tbody")?.replaceChildren(...rows);
  // The focus may be within the numbers, which therefore stay.
  root.querySelector("svg")?.remove();
  root.prepend(picture);
  if (!numbers.isConnected) root.append(numbers);
}

function makeNumbers() {
  const titles = ["Step", "Loss"].map((title) => element("th", { scope: "col" }, title));
  return element(
    "details",
    {},
    element("summary", {}, "Loss in numbers"),
    element("table", {}, element("thead", {}, element("tr", {}, ...titles)), element("tbody")),
  );
}

/** @param {number} loss */
function format(loss) {
  return loss.toPrecision(3);
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 */
function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} anchor
 * @param {string} content
 */
function text(x, y, anchor, content) {
  const made = shape("text", { x, y, "text-anchor": anchor, "aria-hidden": "true" });
  made.textContent = content;
  return made;
}
