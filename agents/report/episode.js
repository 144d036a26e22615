// One episode: its search tree, dialogue, calls and grids.

function episodeView(episode) {
  const parts = [summary(episode)];
  const turns = episode.turns ?? [];
  if (episode.tree) parts.push(treeView(episode));
  const moves = episode.tree && turns.every((turn) => !turn.prompt);
  if (!moves) {
    if (episode.grid) parts.push(grid(episode.grid));
    const roles = [...new Set(turns.map((turn) => turn.agent))];
    parts.push(...turns.map((turn) => turnView(turn, roles.indexOf(turn.agent) + 1)));
  }
  if (episode.program) parts.push(folded("Program that was run", () => el("pre", {}, episode.program)));
  if (episode.calls) parts.push(el("h4", {}, plural(episode.calls.length, "call")), ...episode.calls.map(callView));
  return parts;
}

function verdict(episode) {
  if (episode.correct == null) return ["", "not graded"];
  if (episode.correct >= 1) return ["good", "correct"];
  return episode.correct > 0 ? ["fair", `${percent(episode.correct, 0)} correct`] : ["bad", "wrong"];
}

function summary(episode) {
  const [kind, word] = verdict(episode);
  const known = [word, ...(episode.turns ?? []).flatMap((turn) => [turn.agent, turn.outcome ?? ""])];
  const facts = Object.entries(episode.facts ?? {}).filter(([, text]) => {
    const isNew = text.length <= 80 && !known.some((other) => other.includes(text));
    known.push(text);
    return isNew;
  });
  const results = [
    `return ${signed(episode.reward ?? 0)}`,
    plural(episode.tokens ?? 0, "token"),
    episode.truncated && "truncated by a limit",
  ];
  return el(
    "div",
    { class: "summary" },
    el("span", { class: `verdict ${kind}` }, SIGNS[kind] && `${SIGNS[kind]} `, word),
    el("span", { class: "faint" }, results.filter(Boolean).join(" · ")),
    facts.map(([name, text]) => el("span", { class: "fact" }, el("i", {}, name.replaceAll("_", " ")), text)),
  );
}

function turnView(turn, role) {
  const about = [turn.tokens && plural(turn.tokens, "token"), turn.cut_off && "cut at the maximum length"]
    .filter(Boolean)
    .join(" · ");
  return el(
    "article",
    { class: `turn c${((role - 1) % 8) + 1}` },
    el(
      "header",
      {},
      el("b", {}, turn.agent),
      el("span", { class: "faint" }, about),
      el("span", { class: "reward" }, signed(turn.reward ?? 0)),
    ),
    turn.prompt &&
      folded(
        "prompt",
        () => turn.prompt.map((m) => [el("h5", {}, m.role), el("pre", {}, m.content ?? "")]).flat(),
        { class: "prompt" },
      ),
    el("pre", { class: "response" }, turn.response ?? "(empty)"),
    turn.outcome && el("p", { class: "outcome" }, turn.outcome),
    turn.grid && grid(turn.grid),
  );
}

function callView(call, number) {
  const values = (title, given) => [
    el("h5", {}, title),
    Object.entries(given ?? {}).map(([name, value]) =>
      el("div", { class: "value" }, el("i", {}, name), el("pre", {}, written(value))),
    ),
  ];
  return el(
    "details",
    { class: "call" },
    el(
      "summary",
      {},
      el("b", {}, `${number + 1}. ${call.name}`),
      el("span", { class: "faint" }, written(Object.values(call.outputs ?? {})[0] ?? "").slice(0, 160)),
    ),
    values("inputs", call.inputs),
    values("outputs", call.outputs),
  );
}

const written = (value) =>
  typeof value === "string"
    ? value
    : Array.isArray(value)
      ? value.map((v, i) => `${i + 1}. ${written(v)}`).join("\n")
      : JSON.stringify(value);
