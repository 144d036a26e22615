// Elements and formats of numbers. All texts are inserted as text nodes, so that no response becomes markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(3).filter((child) => child != null && child !== false));
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;
const minus = (text) => text.replace(/^-/, "−");
const signed = (value, digits = 2) =>
  `${value < 0 ? "−" : "+"}${Math.abs(value) < 1e5 ? Math.abs(value).toFixed(digits) : short(Math.abs(value))}`;
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function short(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 0.001) return minus(value.toExponential(1).replace("e+", "e"));
  if (size >= 1000) return minus(Math.round(value).toLocaleString("en"));
  return minus(String(Number(value.toPrecision(3))));
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// A collapsed part, which is built when it is opened for the first time.
function folded(title, build, attributes = {}) {
  const details = el("details", attributes, el("summary", {}, title));
  details.addEventListener("toggle", () => details.append(...[build()].flat()), { once: true });
  return details;
}
