// The head of the page: summary, main results, and the options in which runs differ.

const hue = (i) => (i % 8) + 1;
const amount = (count) => (count < 1e6 ? count.toLocaleString("en") : `${(count / 1e6).toFixed(1)} million`);
const inPoints = (share) => signed(100 * share, 1);
const range = (found) => `95 % interval ${inPoints(found.low)} to ${inPoints(found.high)}`;
const measured = (run) => run.evaluations.filter((e) => e.step != null);

function heading(runs) {
  if (runs.length > 1) return comparison(runs);
  const [run] = runs;
  return el(
    "header",
    {},
    el("h1", {}, run.name),
    el("p", { class: "faint" }, trained(run)),
    el("p", { class: "faint" }, started(run)),
    run.starts.map(({ command }) => command && el("pre", { class: "faint command" }, command)),
    headline(run),
  );
}

// When the run started, with which versions, and where.
function started({ starts: [start] }) {
  if (!start) return null;
  const versions = ["reason_envs", "torch", "transformers", "python"].map((name) => `${name} ${start[name]}`);
  const commit = start.commit && `commit ${start.commit.replace(/^([0-9a-f]{10})[0-9a-f]*/, "$1")}`;
  return [start.time.slice(0, 16).replace("T", " "), ...versions, commit, start.machine].filter(Boolean).join(" · ");
}

function trained({ facts }) {
  const model = facts.model ? `model ${facts.model}` : facts.policy && `${facts.policy} policy`;
  const seed = facts.seed != null && `seed ${facts.seed}`;
  const early = facts.planned > facts.steps;
  const steps = early ? `${facts.steps} of ${plural(facts.planned, "step")}` : plural(facts.steps, "step");
  return [facts.env, facts.algo, model, steps, seed].filter(Boolean).join(" · ");
}

function headline(run) {
  const measurements = measured(run);
  const [first, last] = [measurements[0], measurements.at(-1)];
  const { gain, facts } = run;
  const several = measurements.length > 1;
  const change = (write) => (several ? [write(first), el("i", {}, " → "), write(last)] : write(last));
  const cells = [];
  if (last) {
    const note = [last.tasks && plural(last.tasks, "problem"), !several && `at step ${last.step}`];
    const accuracy = change((e) => percent(e.accuracy));
    cells.push(stat("Held-out accuracy", accuracy, note.filter(Boolean).join(", ")));
  }
  if (gain) cells.push(stat("Gain", `${inPoints(gain.mean)} points`, `${range(gain)}, same problems`));
  if (last?.mean_tokens != null) {
    const tokens = change((e) => short(e.mean_tokens));
    cells.push(stat("Tokens per episode", tokens, "all generated tokens"));
  }
  if (facts.seconds) {
    cells.push(stat("Training", duration(facts.seconds), facts.tokens && `${amount(facts.tokens)} tokens generated`));
  }
  return el("dl", { class: "stats" }, cells);
}

const stat = (name, value, note) =>
  el("div", { class: "stat" }, el("dt", {}, name), el("dd", {}, value, note && el("small", {}, note)));

// Several runs: the last accuracy of each, and its difference to the first run.
function comparison(runs) {
  const names = runs.map((run, i) => {
    const last = measured(run).at(-1);
    const against = run.versus && `${inPoints(run.versus.mean)} points against ${runs[0].name} (${range(run.versus)})`;
    const results = [last && `${percent(last.accuracy)} held out at step ${last.step}`, against].filter(Boolean);
    const key = el("span", { class: `key c${hue(i)}` }, run.name);
    return el("li", {}, key, el("small", {}, trained(run)), results.length > 0 && el("p", {}, results.join(", ")));
  });
  const note = "Intervals are over the problems that both runs were evaluated on, not over seeds.";
  return el(
    "header",
    {},
    el("h1", {}, `${runs.length} runs compared`),
    el("ul", { class: "names" }, names),
    runs.some((run) => run.versus) && el("p", { class: "faint" }, note),
  );
}

// The options of one run, or the options in which several runs differ.
function configuration(runs) {
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.config)))].filter(
    (key) => runs.length < 2 || (key !== "output_dir" && runs.some((run) => run.config[key] !== runs[0].config[key])),
  );
  if (!keys.length) return null;
  const titles = runs.map((run) => el("th", {}, runs.length > 1 ? run.name : "Value"));
  const head = el("tr", {}, el("th", {}, "Option"), titles);
  const row = (key) => el("tr", {}, el("td", {}, key), runs.map((run) => el("td", {}, run.config[key] ?? "–")));
  const body = () => [el("thead", {}, head), el("tbody", {}, keys.map(row))];
  const table = () => el("div", { class: "scroll" }, el("table", { class: "options" }, body()));
  const title = runs.length > 1 ? `Options that differ (${keys.length})` : `Configuration (${keys.length} options)`;
  return folded(title, table, { open: runs.length > 1 && keys.length <= 12, class: "configuration" });
}
