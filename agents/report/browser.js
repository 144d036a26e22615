// The browser of episodes: a list of problems of which only the visible part exists, and the chosen one side by side.

const ROW = 46;
const FILTERS = [
  ["all", () => true],
  ["learnt", learnt],
  ["forgotten", (before, after) => right(before) && !right(after)],
  ["right", (before, after) => right(after)],
  ["wrong", (before, after) => !right(after)],
];
function learnt(before, after) {
  return !right(before) && right(after);
}
const COMPARING = ["learnt", "forgotten"];
const right = (episode) => (episode?.correct ?? 0) >= 1;
// A drawn problem goes by its name.
const shown = (episode) => (episode.grid ? episode.task : episode.question.replace(/\s+/g, " "));

function browser(runs) {
  const shots = recordings(runs);
  if (!shots.length) return null;
  const state = { sides: opening(runs, shots), filter: FILTERS[0], text: "" };
  const body = el("div", { class: "detail" });
  const refresh = () => list.fill(problems(shots, state));
  const list = problemList((row) => {
    const nothing = [el("p", { class: "faint" }, "No problem is like that.")];
    body.replaceChildren(...(row ? detail(row, shots, state, refresh) : nothing));
  });
  const side = el(
    "div",
    { class: "side" },
    search(state, refresh),
    chips(shots, state, refresh),
    list.count,
    list.frame,
  );
  refresh();
  return section("Episodes", el("div", { class: "browser" }, side, body));
}

// Every evaluation that kept episodes.
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

// Before and after of a single run; the last evaluations of the first two of several.
function opening(runs, shots) {
  if (runs.length === 1) return shots.length > 1 ? [0, shots.length - 1] : [0];
  const lasts = runs.map((_, number) => shots.findLastIndex((shot) => shot.run === number));
  return lasts.filter((place) => place >= 0).slice(0, 2);
}

function problems(shots, { sides, filter, text }) {
  const [before, after] = [sides[0], sides.at(-1)].map((place) => shots[place].episodes);
  const rows = [...new Set([...after.keys(), ...before.keys()])].map((task) => {
    const pair = { before: before.get(task), after: after.get(task) };
    return { task, ...pair, question: shown(pair.after ?? pair.before) };
  });
  const found = (row) => !text || `${row.question} ${row.task}`.toLowerCase().includes(text);
  return rows.filter((row) => filter[1](row.before, row.after) && found(row));
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

function chips(shots, state, refresh) {
  const offered = FILTERS.filter(([name]) => shots.length > 1 || !COMPARING.includes(name));
  const buttons = offered.map((filter) => {
    const press = () => {
      state.filter = filter;
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", offered[i] === filter));
      refresh();
    };
    return el("button", { "aria-pressed": String(filter === state.filter), onclick: press }, filter[0]);
  });
  return el("div", { class: "chips", role: "group", "aria-label": "which problems" }, buttons);
}

// Rows of one height: only those in sight are in the document, so that thousands cost nothing.
function problemList(choose) {
  const space = el("div", { class: "space" });
  const frame = el("div", { class: "list", role: "listbox", tabindex: 0, "aria-label": "problems" }, space);
  const count = el("p", { class: "faint" });
  let rows = [],
    chosen = 0,
    common = 0;
  const draw = () => {
    const first = Math.max(0, Math.floor(frame.scrollTop / ROW) - 4);
    const last = Math.min(rows.length, first + Math.ceil((frame.clientHeight || 600) / ROW) + 8);
    space.replaceChildren(...rows.slice(first, last).map((row, i) => line(row, first + i)));
  };
  const line = (row, index) => {
    const item = el(
      "div",
      { class: "row", role: "option", "aria-selected": index === chosen, onclick: () => pick(index) },
      dot(row.before),
      dot(row.after),
      el("span", {}, (common ? "… " : "") + row.question.slice(common, common + 120)),
    );
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
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (move) {
      event.preventDefault();
      pick(chosen + move);
    }
  });
  const fill = (found) => {
    const kept = found.findIndex((row) => row.task === rows[chosen]?.task);
    rows = found;
    common = beginning(rows.map((row) => row.question));
    space.style.height = `${rows.length * ROW}px`;
    count.textContent = plural(rows.length, "problem");
    const telling = rows.findIndex((row) => learnt(row.before, row.after));
    pick(Math.max(0, kept < 0 ? telling : kept));
  };
  return { frame, count, fill };
}

// How many characters all problems begin with, in whole words: the list shows where they differ.
function beginning(texts) {
  if (texts.length < 2) return 0;
  let count = 0;
  while (count < texts[0].length && texts.every((text) => text[count] === texts[0][count])) count++;
  return texts[0].lastIndexOf(" ", count - 1) + 1;
}

function dot(episode) {
  const [kind, word] = episode ? verdict(episode) : ["none", "not recorded"];
  return el("i", { class: `dot ${kind}`, title: word });
}

function detail(row, shots, state, refresh) {
  const { question, answer, grid } = row.after ?? row.before;
  const about = [answer && !grid && ["answer ", el("b", {}, answer), " "], el("small", {}, row.task)];
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
  };
  const options = shots.map((shot, i) => el("option", { value: i, selected: i === state.sides[place] }, shot.label));
  const select = el("select", { "aria-label": "evaluation", onchange: choose }, options);
  const episode = shots[state.sides[place]].episodes.get(row.task);
  const missing = "This evaluation kept no episode of the problem.";
  return el("div", { class: "episode" }, el("h3", {}, select), episode ? episodeView(episode) : el("p", {}, missing));
}
