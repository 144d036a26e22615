// Line charts. A line: {name, points: [[x, y, what it is]], color (1 to 8), band: [[x, low, high]], bars, dashed, dots,
// named: write beside each point what it is}.

const HEIGHT = 200;
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 12, 10, 26];
const APART = 30; // between the middles of numbers on the x axis
const DEFAULTS = { form: short, xName: "step", log: false, unit: [null, null], width: 360, keyed: true };

function chart(title, lines, options = {}) {
  const { form, xName, log, unit, width, keyed } = { ...DEFAULTS, ...options };
  const shown = lines.filter((line) => line.points.length);
  const at = (x) => (log ? Math.log2(x) : x);
  const xs = shown.flatMap((line) => line.points.map((p) => at(p[0])));
  const ys = shown.flatMap((line) => [
    ...line.points.map((p) => p[1]),
    ...(line.band ?? []).flatMap((b) => b.slice(1)),
  ]);
  const [x0, x1] = padded(Math.min(...xs), Math.max(...xs), log ? 0.08 : 0, [null, null]);
  const [y0, y1] = padded(Math.min(...ys), Math.max(...ys), 0.06, unit);
  const toX = (x) => LEFT + ((at(x) - x0) / (x1 - x0)) * (width - LEFT - RIGHT);
  const toY = (y) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": title, class: "chart" });
  for (const y of ticks(y0, y1, 4)) {
    picture.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: toY(y), y2: toY(y), class: "rule" }));
    picture.append(svg("text", { x: LEFT - 6, y: toY(y) + 3.5, "text-anchor": "end" }, form(y)));
  }
  let latest = -APART;
  for (const x of log ? ticks(2 ** x0, 2 ** x1, 8) : ticks(x0, x1, 5).filter(Number.isInteger)) {
    if (toX(x) - latest < APART) continue;
    latest = toX(x);
    picture.append(svg("text", { x: toX(x), y: HEIGHT - 9, "text-anchor": "middle" }, x.toLocaleString("en")));
  }
  for (const line of shown) picture.append(...drawn(line, toX, toY, width));
  const figure = el(
    "figure",
    { class: "panel" },
    el("figcaption", {}, el("b", {}, title), readout(picture, shown, { toX, toY, width, form, xName })),
  );
  figure.append(picture);
  if (keyed && shown.length > 1) figure.append(legend(shown));
  return figure;
}

function drawn(line, toX, toY, width) {
  const color = `c${line.color ?? 1}`;
  const parts = [];
  const path = (points) =>
    points.map(([x, y], i) => `${i ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
  if (line.band && !line.bars) {
    const around = [
      ...line.band.map(([x, low]) => [x, low]),
      ...[...line.band].reverse().map(([x, , high]) => [x, high]),
    ];
    parts.push(svg("path", { d: `${path(around)}Z`, class: `band ${color}` }));
  }
  for (const [x, low, high] of line.bars ? line.band : []) {
    parts.push(svg("line", { x1: toX(x), x2: toX(x), y1: toY(low), y2: toY(high), class: `bar ${color}` }));
  }
  const smooth = line.points.length >= 20 && !line.dots;
  if (smooth) parts.push(svg("path", { d: path(line.points), class: `line raw ${color}` }));
  const kind = line.dashed ? "dashed" : "";
  parts.push(svg("path", { d: path(smooth ? rolling(line.points) : line.points), class: `line ${kind} ${color}` }));
  if (line.dots || line.points.length < 20) {
    parts.push(
      ...line.points.map(([x, y]) => svg("circle", { cx: toX(x), cy: toY(y), r: 2.6, class: `dot ${color}` })),
    );
  }
  for (const [x, y, what] of line.named ? line.points : []) {
    const left = toX(x) > width - RIGHT - 50;
    const anchor = { "text-anchor": left ? "end" : "start" };
    parts.push(svg("text", { x: toX(x) + (left ? -7 : 7), y: toY(y) + (toY(y) < 24 ? 14 : -6), ...anchor }, what));
  }
  return parts;
}

// Says what stands nearest to the pointer.
function readout(picture, lines, { toX, toY, width, form, xName }) {
  const text = el("span", { class: "readout" });
  const mark = svg("circle", { r: 4, class: "mark", visibility: "hidden" });
  picture.append(mark);
  const move = (event) => {
    const box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width,
      y = ((event.clientY - box.top) / box.height) * HEIGHT;
    let best = null;
    for (const line of lines) {
      for (const point of line.points) {
        const far = Math.hypot(toX(point[0]) - x, 0.3 * (toY(point[1]) - y));
        if (!best || far < best.far) best = { far, point, line };
      }
    }
    const { point, line } = best;
    mark.setAttribute("cx", toX(point[0]));
    mark.setAttribute("cy", toY(point[1]));
    mark.setAttribute("visibility", "visible");
    picture.append(mark);
    const what = point[2] ?? (lines.length > 1 ? line.name : "");
    text.textContent = `${what} ${form(point[1])} · ${xName} ${short(point[0])}`;
  };
  picture.addEventListener("pointermove", move);
  picture.addEventListener("pointerdown", move);
  picture.addEventListener("pointerleave", () => {
    mark.setAttribute("visibility", "hidden");
    text.textContent = "";
  });
  return text;
}

function legend(lines) {
  const key = (line) => el("span", { class: `key c${line.color ?? 1} ${line.dashed ? "dashed" : ""}` }, line.name);
  return el("div", { class: "legend" }, lines.map(key));
}

// The mean over a centred window of a tenth of the points, cut off at both ends.
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
