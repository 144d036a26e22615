// The head of the page: what was trained, what came of it, curves, evaluations and the frontier.

const PANELS = [
  ["Accuracy in training", "accuracy", percent0],
  ["Reward", "reward"],
  ["Tokens of a response", "response_length"],
  ["Tokens in the environment", "episode/generated_tokens"],
  ["Loss", "loss"],
  ["Entropy", "entropy"],
  ["KL to the reference", "kl"],
  ["Explained variance", "explained_variance"],
];
const SHARE = [0, 1];

function percent0(value) {
  return percent(value, 0);
}

function heading(runs) {
  if (runs.length > 1) {
    const names = runs.map((run, i) =>
      el("li", {}, el("span", { class: `key c${hue(i)}` }, run.name), el("small", {}, trained(run))),
    );
    return el("header", {}, el("h1", {}, `${runs.length} runs compared`), el("ul", { class: "names" }, names));
  }
  const [run] = runs;
  return el("header", {}, el("h1", {}, run.name), el("p", { class: "faint" }, trained(run)), headline(run));
}

function trained({ facts }) {
  const model = facts.model ? `model ${facts.model}` : facts.policy && `${facts.policy} policy`;
  const seed = facts.seed != null && `seed ${facts.seed}`;
  return [facts.env, facts.algo, model, plural(facts.steps, "step"), seed].filter(Boolean).join(" · ");
}

function headline(run) {
  const told = run.evaluations.filter((e) => e.step != null);
  const [first, last] = [told[0], told.at(-1)];
  const { gain, facts } = run;
  const points = (share) => signed(100 * share, 1);
  const cells = [];
  if (told.length > 1) {
    const change = [percent(first.accuracy), el("i", {}, " → "), percent(last.accuracy)];
    cells.push(stat("Held-out accuracy", change, `${plural(last.tasks, "problem")} it never trained on`));
  }
  if (gain) {
    const range = `95 % interval ${points(gain.low)} to ${points(gain.high)}, same problems`;
    cells.push(stat("Gain", `${points(gain.mean)} points`, range));
  }
  if (told.length > 1) {
    const change = [short(first.mean_tokens), el("i", {}, " → "), short(last.mean_tokens)];
    cells.push(stat("Tokens of an episode", change, "generated, all counted"));
  }
  if (facts.seconds) {
    cells.push(stat("Training", duration(facts.seconds), facts.tokens && `${amount(facts.tokens)} tokens generated`));
  }
  return el("dl", { class: "stats" }, cells);
}

const stat = (name, value, note) =>
  el("div", { class: "stat" }, el("dt", {}, name), el("dd", {}, value, note && el("small", {}, note)));
const hue = (i) => (i % 8) + 1;
const amount = (count) => (count < 1e6 ? count.toLocaleString("en") : `${(count / 1e6).toFixed(1)} million`);
const points = (run, metric) =>
  (run.metrics[metric] ?? [[], []])[0].map((step, i) => [step, run.metrics[metric][1][i]]);
const linesOf = (runs, metric) =>
  runs.map((run, i) => ({ name: run.name, points: points(run, metric), color: hue(i) }));
const recordedIn = (runs, metric) => runs.some((run) => run.metrics[metric]?.[0].length);

function curves(runs) {
  const panels = [];
  if (recordedIn(runs, "eval/accuracy"))
    panels.push(chart("Held-out accuracy", heldOut(runs), { form: percent0, unit: SHARE }));
  for (const [title, metric, form] of PANELS) {
    if (recordedIn(runs, metric))
      panels.push(chart(title, linesOf(runs, metric), { ...(form ? { form, unit: SHARE } : {}), keyed: false }));
  }
  const known = PANELS.map((panel) => panel[1]);
  const rest = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))]
    .filter((m) => !known.includes(m) && recordedIn(runs, m))
    .sort();
  const all = () =>
    el(
      "div",
      { class: "panels small" },
      rest.map((metric) => chart(metric, linesOf(runs, metric), { keyed: false })),
    );
  const others = rest.length > 0 && folded(`All other metrics (${rest.length})`, all);
  return section("Curves", el("div", { class: "panels" }, panels), others);
}

function heldOut(runs) {
  return runs.flatMap((run, i) => {
    const told = run.evaluations.filter((e) => e.step != null);
    const band = told.filter((e) => e.accuracy_low != null).map((e) => [e.step, e.accuracy_low, e.accuracy_high]);
    const lines = [
      {
        name: runs.length > 1 ? run.name : "sampled",
        points: told.map((e) => [e.step, e.accuracy]),
        band,
        color: hue(i),
        dots: true,
      },
    ];
    const greedy = told.filter((e) => e.greedy_accuracy != null).map((e) => [e.step, e.greedy_accuracy]);
    if (runs.length === 1) lines.push({ name: "greedy", points: greedy, color: 2, dashed: true, dots: true });
    return lines;
  });
}

const COLUMNS = [
  ["Greedy", (e) => e.greedy_accuracy != null && percent(e.greedy_accuracy), true],
  ["Reward", (e) => e.reward != null && signed(e.reward), true],
  ["Turns", (e) => e.episode_length != null && short(e.episode_length), true],
  ["Tokens", (e) => e.mean_tokens != null && short(e.mean_tokens), false],
  ["No answer", (e) => e.frac_no_answer != null && percent(e.frac_no_answer), true],
];

function evaluations(runs) {
  const told = runs.flatMap((run, i) => run.evaluations.map((e) => ({ ...e, run, color: hue(i) })));
  if (!told.length) return null;
  const several = runs.length > 1;
  const wide = (is) => (is ? "wide" : "");
  const head = el(
    "tr",
    {},
    several && el("th", {}, "Run"),
    el("th", {}, "Step"),
    el("th", {}, "Accuracy"),
    el("th", { class: "spread" }, "95 % interval"),
    COLUMNS.map(([name, , rare]) => el("th", { class: `number ${wide(rare)}` }, name)),
  );
  const row = (e) =>
    el(
      "tr",
      {},
      several && el("td", {}, el("span", { class: `key c${e.color}` }, e.run.name)),
      el("td", {}, e.step ?? e.label),
      el("td", { class: "strong" }, percent(e.accuracy)),
      el("td", { class: "spread" }, interval(e)),
      COLUMNS.map(([, cell, rare]) => el("td", { class: `number ${wide(rare)}` }, cell(e) || "–")),
    );
  const note = `Accuracy on held-out problems; the interval is a bootstrap over them.`;
  return section(
    "Evaluations",
    el("table", {}, el("thead", {}, head), el("tbody", {}, told.map(row))),
    el("p", { class: "faint" }, note),
  );
}

function interval(e) {
  if (e.accuracy_low == null) return null;
  const x = (share) => 2 + 96 * share;
  const picture = svg(
    "svg",
    { viewBox: "0 0 100 12", class: `interval c${e.color}`, role: "img", "aria-label": "interval" },
    svg("line", { x1: 2, x2: 98, y1: 6, y2: 6, class: "rule" }),
    svg("line", { x1: x(e.accuracy_low), x2: x(e.accuracy_high), y1: 6, y2: 6, class: "bar" }),
    svg("circle", { cx: x(e.accuracy), cy: 6, r: 3, class: "dot" }),
  );
  return [picture, el("small", {}, `${(100 * e.accuracy_low).toFixed(1)} – ${(100 * e.accuracy_high).toFixed(1)}`)];
}

function frontier(runs) {
  const lines = runs
    .flatMap((run, i) => {
      const told = run.evaluations.filter((e) => e.step != null && e.mean_tokens > 0);
      const training = {
        named: runs.length === 1,
        name: runs.length > 1 ? run.name : "training",
        points: told.map((e) => [e.mean_tokens, e.accuracy, `step ${e.step}`]),
        band: told.map((e) => [e.mean_tokens, e.accuracy_low, e.accuracy_high]),
        bars: true,
        dots: true,
        color: hue(i),
      };
      return [
        training,
        ...run.frontier.map((curve) => ({
          name: runs.length > 1 ? `${run.name}: ${curve.name}` : curve.name,
          points: curve.points.map((p) => [p.generated_tokens, p.accuracy, p.label]),
          band: curve.points.map((p) => [p.generated_tokens, p.accuracy_low, p.accuracy_high]),
          bars: true,
          dots: true,
        })),
      ];
    })
    .filter((line) => line.points.length);
  lines.forEach((line, i) => (line.color = line.color ?? hue(i)));
  const tokens = lines.flatMap((line) => line.points.map((p) => p[0]));
  if (Math.max(...tokens) < 1.01 * Math.min(...tokens) || !tokens.length) return null;
  const plot = chart("Accuracy against tokens", lines, {
    form: percent0,
    xName: "tokens",
    log: true,
    unit: SHARE,
    width: innerWidth < 600 ? 360 : 560,
  });
  return section(
    "Frontier",
    el("div", { class: "frontier" }, plot),
    el(
      "p",
      { class: "faint" },
      "Mean tokens that a problem costs, discarded ones included (log scale); bars are 95 % intervals.",
    ),
  );
}

const section = (title, ...parts) => el("section", {}, el("h2", {}, title), ...parts);
