// Line charts. A line: {name, points: [[x, y, label]], color (1 to 8), band: [[x, low, high]], bars, dashed, dots,
// named: write the labels beside the points}.

const HEIGHT = 212;
const [RIGHT, TOP, BOTTOM] = [12, 10, 40];
const [APART, LETTER] = [30, 6.6]; // minimum distance of numbers on the x axis; width of a digit
const SMOOTH = 20; // minimum number of points for a rolling mean
const DEFAULTS = { share: false, xName: "step", log: false, width: 360, keyed: true, domain: null, warning: "" };

function chart(title, lines, options = {}) {
  const { share, xName, log, width, keyed, domain, warning } = { ...DEFAULTS, ...options };
  const shown = lines.filter((line) => line.points.length);
  const at = (x) => (log ? Math.log2(x) : x);
  const xs = shown.flatMap((line) => line.points.map((p) => at(p[0])));
  const ys = shown.flatMap((line) => [
    ...line.points.map((p) => p[1]),
    ...(line.band ?? []).flatMap((b) => b.slice(1)),
  ]);
  const ends = domain ?? [least(xs), most(xs)];
  const [x0, x1] = padded(...ends, log ? 0.08 : 0, [null, null]);
  const [y0, y1] = shown.length ? padded(least(ys), most(ys), 0.06, share ? [0, 1] : [null, null]) : [0, 1];
  const levels = ticks(y0, y1, 4);
  const labels = shown.length ? levels.map(numbers(levels, share)) : [];
  const left = Math.max(30, 10 + LETTER * Math.max(0, ...labels.map((text) => text.length)));
  const toX = (x) => left + ((at(x) - x0) / (x1 - x0)) * (width - left - RIGHT);
  const toY = (y) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const about = { role: "img", "aria-label": `${title}, by ${xName}`, class: "chart", tabindex: 0 };
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, ...about });
  levels.forEach((y, i) => {
    picture.append(svg("line", { x1: left, x2: width - RIGHT, y1: toY(y), y2: toY(y), class: "rule" }));
    picture.append(svg("text", { x: left - 6, y: toY(y) + 3.5, "text-anchor": "end" }, labels[i] ?? ""));
  });
  let latest = -APART;
  for (const x of log ? ticks(2 ** x0, 2 ** x1, 8) : ticks(x0, x1, 5).filter(Number.isInteger)) {
    if (toX(x) - latest < APART) continue;
    latest = toX(x);
    picture.append(svg("text", { x: latest, y: HEIGHT - 24, "text-anchor": "middle" }, x.toLocaleString("en")));
  }
  const middle = (left + width - RIGHT) / 2;
  picture.append(svg("text", { x: middle, y: HEIGHT - 7, "text-anchor": "middle", class: "axis" }, xName));
  for (const line of shown) picture.append(...drawn(line, toX, toY, width));
  const form = share ? percent : short;
  const values = readout(picture, shown, { toX, toY, width, form, xName, warning });
  const figure = el("figure", { class: "panel" }, el("figcaption", {}, el("b", {}, title), values), picture);
  if (keyed && shown.length > 1) figure.append(legend(shown));
  return figure;
}

const least = (values) => values.reduce((low, value) => Math.min(low, value), Infinity);
const most = (values) => values.reduce((high, value) => Math.max(high, value), -Infinity);

// Formats ticks with enough digits to distinguish neighbours.
function numbers(values, share) {
  const unit = share ? 100 : 1;
  const step = unit * (values.length > 1 ? values[1] - values[0] : Math.abs(values[0]) || 1);
  const size = unit * most(values.map(Math.abs));
  if (size >= 1e6 || size < 1e-3) {
    const digits = clamp(Math.ceil(Math.log10(size / step) - 1e-9), 0, 4);
    return (value) => (value ? minus(value.toExponential(digits).replace("e+", "e")) : "0");
  }
  const digits = clamp(-Math.floor(Math.log10(step) + 1e-9), 0, 6);
  const plain = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return (value) => `${minus((unit * value).toLocaleString("en", plain))}${share ? " %" : ""}`;
}

function drawn(line, toX, toY, width) {
  const color = `c${line.color ?? 1}`;
  const parts = [];
  const path = (points) =>
    points.map(([x, y], i) => `${i ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
  if (line.band?.length && !line.bars) {
    const around = [
      ...line.band.map(([x, low]) => [x, low]),
      ...[...line.band].reverse().map(([x, , high]) => [x, high]),
    ];
    parts.push(svg("path", { d: `${path(around)}Z`, class: `band ${color}` }));
  }
  for (const [x, low, high] of line.bars ? line.band : []) {
    parts.push(svg("line", { x1: toX(x), x2: toX(x), y1: toY(low), y2: toY(high), class: `bar ${color}` }));
  }
  const smooth = line.points.length >= SMOOTH && !line.dots;
  if (smooth) parts.push(svg("path", { d: path(line.points), class: `line raw ${color}` }));
  const kind = line.dashed ? "dashed" : "";
  parts.push(svg("path", { d: path(smooth ? rolling(line.points) : line.points), class: `line ${kind} ${color}` }));
  if (line.dots || line.points.length < SMOOTH) {
    parts.push(
      ...line.points.map(([x, y]) => svg("circle", { cx: toX(x), cy: toY(y), r: 2.6, class: `dot ${color}` })),
    );
  }
  for (const [x, y, what] of line.named ? line.points : []) {
    const left = toX(x) > width - RIGHT - 50;
    const anchor = { "text-anchor": left ? "end" : "start" };
    const place = { x: toX(x) + (left ? -7 : 7), y: toY(y) + (toY(y) < 24 ? 14 : -6), class: "named" };
    parts.push(svg("text", { ...place, ...anchor }, what));
  }
  return parts;
}

// Shows the values of the point nearest to the pointer. The arrow keys select the next or previous point.
function readout(picture, lines, { toX, toY, width, form, xName, warning }) {
  const text = el("span", { class: "readout", "aria-live": "polite" }, warning);
  const mark = svg("circle", { r: 4, class: "mark", visibility: "hidden" });
  const all = lines.flatMap((line) => line.points.map((point) => ({ line, point })));
  let selected = -1;
  const show = (place) => {
    const { line, point } = all[(selected = place)];
    mark.setAttribute("cx", toX(point[0]));
    mark.setAttribute("cy", toY(point[1]));
    mark.setAttribute("visibility", "visible");
    picture.append(mark);
    const what = [lines.length > 1 && line.name, point[2]].filter(Boolean).join(" ");
    text.textContent = `${what} ${form(point[1])} · ${xName} ${short(point[0])}`;
  };
  const move = (event) => {
    const box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width,
      y = ((event.clientY - box.top) / box.height) * HEIGHT;
    const far = all.map(({ point }) => Math.hypot(toX(point[0]) - x, 0.3 * (toY(point[1]) - y)));
    if (all.length) show(far.indexOf(least(far)));
  };
  const hide = () => {
    mark.setAttribute("visibility", "hidden");
    text.textContent = warning;
    selected = -1;
  };
  picture.addEventListener("pointermove", move);
  picture.addEventListener("pointerdown", move);
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("blur", hide);
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || !all.length) return;
    event.preventDefault();
    show(clamp(selected + by, 0, all.length - 1));
  });
  return text;
}

function legend(lines) {
  const key = (line) => el("span", { class: `key c${line.color ?? 1} ${line.dashed ? "dashed" : ""}` }, line.name);
  return el("div", { class: "legend" }, lines.map(key));
}

// The mean over a centred window of a tenth of the points. At both ends the window is shorter.
function rolling(points) {
  const half = Math.max(1, Math.floor(points.length / 20));
  return points.map(([x], i) => {
    const window = points.slice(Math.max(0, i - half), i + half + 1);
    return [x, window.reduce((sum, p) => sum + p[1], 0) / window.length];
  });
}

function padded(low, high, share, [least, most]) {
  const room = low === high ? Math.abs(low) * 0.1 || 0.5 : (high - low) * share;
  return [Math.max(low - room, least ?? -Infinity), Math.min(high + room, most ?? Infinity)];
}

function ticks(low, high, count) {
  const rough = (high - low) / count,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= 0.7 * rough);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
}
