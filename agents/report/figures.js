// Curves, evaluations and the frontier.

const PANELS = [
  ["Accuracy in training", "accuracy", true],
  ["Reward per episode", "reward"],
  ["Tokens per response", "response_length"],
  ["Tokens in the environment", "episode/generated_tokens"],
  ["Loss", "loss"],
  ["Entropy (nats per token or action)", "entropy"],
  ["KL to the reference", "kl"],
  ["Explained variance of values", "explained_variance"],
];

const CHOSEN =
  "In training, AT-GRPO continues from a selected candidate of each turn: reward and accuracy exceed the held-out values.";

const points = (run, metric) =>
  (run.metrics[metric] ?? [[], []])[0].map((step, i) => [step, run.metrics[metric][1][i]]);
const linesOf = (runs, metric) =>
  runs.map((run, i) => ({ name: run.name, points: points(run, metric), color: hue(i) }));
const recordedIn = (runs, metric) => runs.some((run) => run.metrics[metric]?.[0].length || run.broken[metric]);

// Whether a metric has one value in all runs, at several steps.
const constant = (runs, metric) => {
  const values = runs.flatMap((run) => run.metrics[metric]?.[1] ?? []);
  return values.length > runs.length && new Set(values).size === 1 && !runs.some((run) => run.broken[metric]);
};

function curves(runs) {
  const steps = runs.flatMap((run) => Object.values(run.metrics).flatMap(([at]) => [at[0], at.at(-1)]));
  const known = steps.filter((step) => step != null);
  const options = { keyed: false, domain: [Math.min(...known), Math.max(...known)] };
  const curve = ([title, metric, share]) => {
    const count = runs.reduce((sum, run) => sum + (run.broken[metric] ?? 0), 0);
    const warning = count ? `${plural(count, "value")} not finite` : "";
    return chart(title, linesOf(runs, metric), { ...options, share, warning });
  };
  const panels = PANELS.filter(([, metric]) => recordedIn(runs, metric) && !constant(runs, metric)).map(curve);
  if (recordedIn(runs, "eval/accuracy"))
    panels.unshift(chart("Held-out accuracy", heldOut(runs), { ...options, keyed: true, share: true }));
  const rest = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))]
    .filter((metric) => PANELS.every((panel) => panel[1] !== metric) || constant(runs, metric))
    .filter((metric) => recordedIn(runs, metric))
    .sort();
  const [flat, moving] = [rest.filter((m) => constant(runs, m)), rest.filter((m) => !constant(runs, m))];
  const some = (metrics) => () => el("div", { class: "panels small" }, metrics.map((metric) => curve([metric, metric])));
  const group = (title, metrics) => metrics.length > 0 && folded(`${title} (${metrics.length})`, some(metrics));
  const others = [group("All other metrics", moving), group("Metrics that never changed", flat)];
  const nothing = "The run has not finished a training step or an evaluation yet.";
  if (!panels.length && !rest.length) return section("Curves", el("p", { class: "faint" }, nothing));
  const smooth = runs.some((run) => Object.values(run.metrics).some(([at]) => at.length >= SMOOTH));
  const note = smooth && el("p", { class: "faint" }, "Strong lines are rolling means over a tenth of the steps.");
  const chosen = recordedIn(runs, "candidate_reward") && el("p", { class: "faint" }, CHOSEN);
  return section("Curves", el("div", { class: "panels" }, panels), note, chosen, others);
}

function heldOut(runs) {
  return runs.flatMap((run, i) => {
    const found = measured(run);
    const lines = [
      {
        name: runs.length > 1 ? run.name : "sampled, with 95 % interval",
        points: found.map((e) => [e.step, e.accuracy]),
        band: spread(found, (e) => e.step),
        bars: found.length < 2,
        color: hue(i),
        dots: true,
      },
    ];
    const greedy = found.filter((e) => e.greedy_accuracy != null).map((e) => [e.step, e.greedy_accuracy]);
    if (runs.length === 1) lines.push({ name: "greedy", points: greedy, color: 2, dashed: true, dots: true });
    return lines;
  });
}

// The intervals of the evaluations that have one.
const spread = (found, at) =>
  found.filter((e) => e.accuracy_low != null).map((e) => [at(e), e.accuracy_low, e.accuracy_high]);

const COLUMNS = [
  ["Greedy", (e) => e.greedy_accuracy != null && percent(e.greedy_accuracy)],
  ["Reward", (e) => e.reward != null && signed(e.reward)],
  ["Turns", (e) => e.episode_length != null && short(e.episode_length)],
  ["Tokens", (e) => e.mean_tokens != null && short(e.mean_tokens)],
  ["No answer", (e) => e.frac_no_answer != null && percent(e.frac_no_answer)],
];

function evaluations(runs) {
  const found = runs.flatMap((run, i) => run.evaluations.map((e) => ({ ...e, run, color: hue(i) })));
  if (!found.length) return null;
  const several = runs.length > 1;
  const head = el(
    "tr",
    {},
    several && el("th", {}, "Run"),
    el("th", {}, "Step"),
    el("th", {}, "Accuracy"),
    el("th", { class: "spread" }, "95 % interval"),
    COLUMNS.map(([name]) => el("th", { class: "number" }, name)),
  );
  const row = (e) =>
    el(
      "tr",
      {},
      several && el("td", {}, el("span", { class: `key c${e.color}` }, e.run.name)),
      el("td", {}, e.step ?? e.label),
      el("td", { class: "strong" }, e.accuracy == null ? "–" : percent(e.accuracy)),
      el("td", { class: "spread" }, interval(e)),
      COLUMNS.map(([, cell]) => el("td", { class: "number" }, cell(e) || "–")),
    );
  const note = "Accuracy on held-out problems, from 0 to 100 %. The interval is over the problems.";
  return section(
    "Evaluations",
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, found.map(row)))),
    el("p", { class: "faint" }, note),
  );
}

function interval(e) {
  if (e.accuracy_low == null) return null;
  const x = (share) => 4 + 92 * share;
  const picture = svg(
    "svg",
    { viewBox: "0 0 100 12", class: `interval c${e.color}`, "aria-hidden": "true" },
    svg("line", { x1: 4, x2: 96, y1: 6, y2: 6, class: "rule" }),
    svg("line", { x1: x(e.accuracy_low), x2: x(e.accuracy_high), y1: 6, y2: 6, class: "bar" }),
    svg("circle", { cx: x(e.accuracy), cy: 6, r: 3, class: "dot" }),
  );
  return [picture, el("small", {}, `${(100 * e.accuracy_low).toFixed(1)} – ${(100 * e.accuracy_high).toFixed(1)} %`)];
}

function frontier(runs) {
  const lines = runs.flatMap((run, i) => {
    const found = measured(run).filter((e) => e.mean_tokens > 0);
    const training = {
      named: runs.length === 1,
      name: runs.length > 1 ? run.name : "training",
      points: found.map((e) => [e.mean_tokens, e.accuracy, `step ${e.step}`]),
      band: spread(found, (e) => e.mean_tokens),
      color: hue(i),
    };
    const searches = run.frontier.map((curve) => ({
      name: runs.length > 1 ? `${run.name}: ${curve.name}` : curve.name,
      points: curve.points.map((p) => [p.generated_tokens, p.accuracy, p.label]),
      band: spread(curve.points, (p) => p.generated_tokens),
    }));
    return [training, ...searches].filter((line) => line.points.length);
  });
  lines.forEach((line, i) => Object.assign(line, { bars: true, dots: true, color: line.color ?? hue(i) }));
  const tokens = lines.flatMap((line) => line.points.map((p) => p[0]));
  if (Math.max(...tokens) < 1.01 * Math.min(...tokens) || !tokens.length) return null;
  const plot = chart("Held-out accuracy against tokens per episode", lines, {
    share: true,
    xName: "tokens per episode",
    log: true,
    width: innerWidth < 600 ? 360 : 720,
  });
  return section(
    "Frontier",
    el("div", { class: "frontier" }, plot),
    el(
      "p",
      { class: "faint" },
      "Mean number of generated tokens per problem, including discarded ones (log scale). Bars are 95 % intervals.",
    ),
  );
}

const section = (title, ...parts) => el("section", { id: title.toLowerCase() }, el("h2", {}, title), parts);
