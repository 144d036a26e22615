// The browser of episodes: a list of problems, and the episodes of the selected problem side by side.

const ROW = 46;
const MAX_SIDES = 3;
const correct = (episode) => (episode?.correct ?? 0) >= 1;
const learned = ([before, after]) => !correct(before) && correct(after);
// Filters for one run (before and after training), and for several runs.
const CHANGES = [
  ["all", () => true],
  ["learned", learned],
  ["forgotten", ([before, after]) => correct(before) && !correct(after)],
  ["correct", (sides) => correct(sides.at(-1))],
  ["wrong", (sides) => !correct(sides.at(-1))],
];
const SOLVED = [
  ["all", () => true],
  ["differ", (sides) => sides.some(correct) && !sides.every(correct)],
  ["all correct", (sides) => sides.every(correct)],
  ["all wrong", (sides) => !sides.some(correct)],
];
const SINGLE = CHANGES.filter(([name]) => !["learned", "forgotten"].includes(name));
// Problems that are grids are listed by their names.
const shown = (episode) => (episode.grid ? episode.task : episode.question.replace(/\s+/g, " "));

function browser(runs) {
  const shots = recordings(runs);
  if (!shots.length) return null;
  const filters = runs.length > 1 ? SOLVED : shots.length > 1 ? CHANGES : SINGLE;
  const state = { sides: opening(runs, shots), filter: filters[0], text: "" };
  const body = el("div", { class: "detail" });
  const refresh = () => list.fill(problems(shots, state));
  const preferred = runs.length > 1 ? SOLVED[1][1] : learned;
  const list = problemList(preferred, (row) => {
    const nothing = [el("p", { class: "faint" }, "No problem matches.")];
    body.replaceChildren(...(row ? detail(row, shots, state, refresh) : nothing));
  });
  const side = el(
    "div",
    { class: "side" },
    search(state, refresh),
    chips(filters, state, refresh),
    list.count,
    list.frame,
  );
  refresh();
  return section("Episodes", el("div", { class: "browser" }, side, body));
}

// All evaluations with recorded episodes.
function recordings(runs) {
  const all = runs.flatMap((run, number) =>
    run.recordings.map(({ step, episodes = [] }) => ({
      run: number,
      label: runs.length > 1 ? `${run.name}, step ${step}` : `step ${step}`,
      episodes: new Map(episodes.map((episode) => [episode.task, episode])),
    })),
  );
  return all.filter((shot) => shot.episodes.size);
}

// The first and the last evaluation of a single run, or the last evaluations of several runs.
function opening(runs, shots) {
  if (runs.length === 1) return shots.length > 1 ? [0, shots.length - 1] : [0];
  const lasts = runs.map((_, number) => shots.findLastIndex((shot) => shot.run === number));
  return lasts.filter((place) => place >= 0).slice(0, MAX_SIDES);
}

function problems(shots, { sides, filter, text }) {
  const kept = sides.map((place) => shots[place].episodes);
  const tasks = new Set([...kept].reverse().flatMap((episodes) => [...episodes.keys()]));
  const rows = [...tasks].map((task) => {
    const episodes = kept.map((each) => each.get(task));
    return { task, episodes, question: shown(episodes.findLast(Boolean)) };
  });
  const found = (row) => !text || `${row.question} ${row.task}`.toLowerCase().includes(text);
  return rows.filter((row) => filter[1](row.episodes) && found(row));
}

function search(state, refresh) {
  const typed = () => {
    state.text = field.value.toLowerCase();
    refresh();
  };
  const name = "search problems";
  const field = el("input", { type: "search", placeholder: name, "aria-label": name, oninput: typed });
  return field;
}

function chips(filters, state, refresh) {
  const buttons = filters.map((filter) => {
    const press = () => {
      state.filter = filter;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", filters[i] === filter));
      refresh();
    };
    return el("button", { "aria-pressed": String(filter === state.filter), onclick: press }, filter[0]);
  });
  return el("div", { class: "chips", role: "group", "aria-label": "which problems" }, buttons);
}

// All rows have the same height. Only the visible rows are in the document, so that long lists stay fast.
function problemList(preferred, choose) {
  const space = el("div", { class: "space" });
  const frame = el("div", { class: "list", role: "listbox", tabindex: 0, "aria-label": "problems" }, space);
  const count = el("p", { class: "faint" });
  let rows = [],
    chosen = 0,
    beginnings = new Map();
  const draw = () => {
    const first = Math.max(0, Math.floor(frame.scrollTop / ROW) - 4);
    const last = Math.min(rows.length, first + Math.ceil((frame.clientHeight || 600) / ROW) + 8);
    space.replaceChildren(...rows.slice(first, last).map((row, i) => line(row, first + i)));
    frame.setAttribute("aria-activedescendant", rows.length ? `problem-${chosen}` : "");
  };
  const line = (row, index) => {
    const about = { id: `problem-${index}`, class: "row", role: "option", "aria-selected": String(index === chosen) };
    const known = shared(row.question, beginnings, rows.length);
    const text = (known ? "… " : "") + row.question.slice(known, known + 120);
    const item = el("div", { ...about, onclick: () => pick(index) }, row.episodes.map(dot), el("span", {}, text));
    item.style.top = `${index * ROW}px`;
    return item;
  };
  const pick = (index) => {
    if (!rows.length) return choose(null);
    chosen = clamp(index, 0, rows.length - 1);
    frame.scrollTop = clamp(frame.scrollTop, (chosen + 1) * ROW - (frame.clientHeight || 600), chosen * ROW);
    draw();
    choose(rows[chosen]);
  };
  frame.addEventListener("scroll", draw);
  frame.addEventListener("keydown", (event) => {
    const far = rows.length;
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -far, End: far }[event.key];
    if (move) {
      event.preventDefault();
      pick(chosen + move);
    }
  });
  const fill = (found) => {
    const kept = found.findIndex((row) => row.task === rows[chosen]?.task);
    rows = found;
    beginnings = beginningsOf(rows.map((row) => row.question));
    space.style.height = `${rows.length * ROW}px`;
    count.textContent = plural(rows.length, "problem");
    const first = rows.findIndex((row) => row.episodes.every(Boolean) && preferred(row.episodes));
    pick(Math.max(0, kept < 0 ? first : kept));
  };
  return { frame, count, fill };
}

// The list leaves out a beginning of whole words that a quarter of the problems share.
const WORDS = 30;
function beginningsOf(texts) {
  const counts = new Map();
  for (const text of texts) for (const end of wordEnds(text)) count(counts, text.slice(0, end));
  return counts;
}
const count = (counts, text) => counts.set(text, (counts.get(text) ?? 0) + 1);
const wordEnds = (text) => [...text.slice(0, 400).matchAll(/ /g)].slice(0, WORDS).map((match) => match.index + 1);
const shared = (text, beginnings, texts) =>
  wordEnds(text).findLast((end) => beginnings.get(text.slice(0, end)) >= Math.max(3, texts / 4)) ?? 0;

// The signs differ in shape, not only in colour.
const SIGNS = { good: "✓", fair: "◐", bad: "×", none: "" };
function dot(episode) {
  const [kind, word] = episode ? verdict(episode) : ["none", "not recorded"];
  return el("i", { class: `dot ${kind}`, title: word, role: "img", "aria-label": word }, SIGNS[kind] ?? "·");
}

function detail(row, shots, state, refresh) {
  const { question, answer, grid } = row.episodes.findLast(Boolean);
  const about = [answer && !grid && ["correct answer: ", el("b", {}, answer), " · "], el("small", {}, row.task)];
  return [
    el("div", { class: "problem" }, !grid && el("pre", {}, question), el("p", { class: "faint" }, about)),
    el(
      "div",
      { class: "sides" },
      state.sides.map((_, place) => oneSide(row, shots, state, place, refresh)),
    ),
  ];
}

function oneSide(row, shots, state, place, refresh) {
  const choose = () => {
    state.sides[place] = Number(select.value);
    refresh();
    document.querySelectorAll(".episode select")[place]?.focus({ preventScroll: true }); // the old element is gone
  };
  const options = shots.map((shot, i) => el("option", { value: i, selected: i === state.sides[place] }, shot.label));
  const select = el("select", { "aria-label": "evaluation", onchange: choose }, options);
  const episode = shots[state.sides[place]].episodes.get(row.task);
  const missing = "This evaluation has no episode of the problem.";
  return el("div", { class: "episode" }, el("h3", {}, select), episode ? episodeView(episode) : el("p", {}, missing));
}
