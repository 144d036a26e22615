// A search tree: a map of its nodes, the path to the selected node, and a replay of the actions.

const ACROSS = 30,
  DOWN = 38,
  RADIUS = 12,
  MIN_SCALE = 0.75; // minimum scale of a map; a larger map scrolls

function treeView(episode) {
  const nodes = episode.tree.nodes.map((node, index) => ({ ...node, index, children: [] }));
  for (const node of nodes.slice(1)) nodes[node.parent].children.push(node);
  const leaves = place(nodes[0], 0, 0);
  const chosen = new Set(pathTo(nodes, episode.tree.current));
  const map = el("div", { class: "map" }),
    pane = el("div", { class: "steps" });
  const state = { selected: episode.tree.current, size: nodes.length };
  const draw = () => {
    const { scrollLeft, scrollTop } = map;
    map.replaceChildren(drawMap(nodes, leaves, chosen, state, select));
    map.scrollTo(scrollLeft, scrollTop);
    requestAnimationFrame(() => bringIntoView(map, map.querySelector(".selected")));
    pane.replaceChildren(...steps(nodes, chosen, state, select));
  };
  const select = (index) => {
    const focused = [map, pane].find((part) => part.contains(document.activeElement));
    state.selected = index;
    draw();
    // The old element is gone: move the focus to the new one.
    focused?.querySelector(".selected").focus({ preventScroll: true });
  };
  draw();
  const legend = "Numbers are step scores from 0 to 100. Squares end a path. The strong line leads to the final node.";
  const walked = replay(episode, state, draw, nodes.length);
  return el("div", { class: "tree" }, map, el("p", { class: "faint" }, legend), walked, pane);
}

// Scrolls a map that is larger than its frame, but not the page.
function bringIntoView(map, node) {
  const [frame, spot] = [map, node].map((part) => part.getBoundingClientRect());
  if (spot.left < frame.left || spot.right > frame.right)
    map.scrollLeft += spot.left - frame.left - frame.width / 2;
  if (spot.top < frame.top || spot.bottom > frame.bottom) map.scrollTop += spot.top - frame.top - frame.height / 2;
}

// Places leaves side by side, and a parent above the middle of its children; returns the next free place.
function place(node, depth, free) {
  node.depth = depth;
  let next = free;
  for (const child of node.children) next = place(child, depth + 1, next);
  node.x = node.children.length ? (node.children[0].x + node.children.at(-1).x) / 2 : next;
  return node.children.length ? next : next + 1;
}

function pathTo(nodes, index) {
  const path = [];
  for (let at = index; at >= 0; at = nodes[at].parent) path.unshift(at);
  return path;
}

function drawMap(nodes, leaves, chosen, state, select) {
  const width = Math.max(leaves, 2) * ACROSS;
  const height = (Math.max(...nodes.map((node) => node.depth)) + 1) * DOWN;
  const x = (node) => (node.x + 0.5) * ACROSS + (leaves < 2 ? ACROSS / 2 : 0);
  const y = (node) => node.depth * DOWN + DOWN / 2;
  const about = { role: "group", "aria-label": "search tree" };
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, ...about });
  picture.style.minWidth = `${MIN_SCALE * width}px`;
  const there = nodes.filter((node) => node.index < state.size);
  for (const node of there.slice(1)) {
    const above = nodes[node.parent];
    const bend = `C${x(above)} ${y(above) + DOWN / 2} ${x(node)} ${y(node) - DOWN / 2} ${x(node)} ${y(node)}`;
    const kind = chosen.has(node.index) ? "edge chosen" : "edge";
    picture.append(svg("path", { d: `M${x(above)} ${y(above)}${bend}`, class: kind }));
  }
  for (const node of there) {
    const shape = drawNode(node, chosen, state, select);
    shape.setAttribute("transform", `translate(${x(node)} ${y(node)})`);
    picture.append(shape);
  }
  return picture;
}

function drawNode(node, chosen, state, select) {
  const kinds = ["node", !node.index && "root", chosen.has(node.index) && "chosen"];
  kinds.push(node.index === state.selected && "selected");
  const label = node.index ? `step ${node.depth}, score ${score(node)}` : "the problem";
  const square = { x: -RADIUS, y: -RADIUS, width: 2 * RADIUS, height: 2 * RADIUS, rx: 4 };
  const shape = node.terminal ? svg("rect", square) : svg("circle", { r: RADIUS });
  if (node.index) shape.style.fill = tint(node);
  const attributes = { class: kinds.filter(Boolean).join(" "), role: "button", tabindex: 0, "aria-label": label };
  const act = { onclick: () => select(node.index), onkeydown: (event) => pressed(event) && select(node.index) };
  const text = svg("text", { y: 3.5, "text-anchor": "middle" }, score(node));
  return svg("g", { ...attributes, ...act }, shape, text, svg("title", {}, label));
}

function pressed(event) {
  const is = event.key === "Enter" || event.key === " ";
  if (is) event.preventDefault();
  return is;
}

// The root has no score, and scores that were not finite are not recorded.
const score = (node) => (!node.index ? "?" : node.score == null ? "–" : String(Math.round(100 * node.score)));
// From orange (0) through grey to blue (1): colours that are easy to distinguish with colour blindness.
function tint(node) {
  const lean = 2 * clamp(node.score ?? 0.5, 0, 1) - 1;
  return `hsl(${lean < 0 ? 28 : 205} ${Math.round(85 * Math.abs(lean))}% var(--tint))`;
}

function steps(nodes, chosen, state, select) {
  const row = (node, kind) => {
    const badge = el("span", { class: "badge" }, score(node));
    if (node.index) badge.style.background = tint(node);
    const text = node.index ? node.text || "(empty step)" : "The problem";
    return el(
      "button",
      { class: `step ${kind} ${chosen.has(node.index) ? "chosen" : ""}`, onclick: () => select(node.index) },
      badge,
      el("span", {}, text),
    );
  };
  const selected = nodes[state.selected];
  const path = pathTo(nodes, state.selected).map((i) => row(nodes[i], i === state.selected ? "selected" : ""));
  const onward = selected.children.filter((child) => child.index < state.size);
  const metrics = [
    `value ${short(selected.value)}`,
    `mean log-probability ${short(selected.log_prob)}`,
    plural(selected.tokens, "token"),
    selected.terminal && "ends here",
  ];
  const about = state.selected ? el("p", { class: "faint" }, metrics.filter(Boolean).join(" · ")) : null;
  return [
    ...path,
    about,
    onward.length > 0 && el("h5", {}, "next steps"),
    ...onward.map((child) => row(child, "onward")),
  ].filter(Boolean);
}

// A slider over the actions, which shows the tree after the action and its reward.
function replay(episode, state, draw, whole) {
  const visits = episode.tree.visit_history ?? [];
  if (!visits.length) return null;
  const label = el("span", {});
  const show = (move) => {
    const turn = (episode.turns ?? [])[move - 1];
    const action = turn ? `${turn.response.trim().split("\n").at(-1).slice(0, 40)} ${signed(turn.reward)}` : "";
    label.textContent = move ? `${move} / ${visits.length} ${action}` : "start";
  };
  const slider = el("input", {
    type: "range",
    min: 0,
    max: visits.length,
    value: visits.length,
    "aria-label": "replay",
    oninput: () => {
      const move = Number(slider.value);
      [state.selected, state.size] = move ? visits[move - 1] : [0, 1];
      if (move === visits.length) state.size = whole;
      show(move);
      draw();
    },
  });
  show(visits.length);
  return el("label", { class: "replay" }, slider, label);
}
