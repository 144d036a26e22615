// Grids as pictures. The letter of a cell decides how it is drawn (see reason_envs.views.CELLS).

const CELL = 30;
const KINDS = {
  "#": "wall",
  ".": "floor",
  P: "player",
  G: "goal",
  "*": "player goal",
  B: "box",
  X: "box goal",
  c: "clue",
  r: "right",
  w: "wrong",
};

function grid(view) {
  const rows = view.cells.length,
    columns = Math.max(...view.cells.map((row) => row.length));
  const width = columns * CELL,
    height = rows * CELL;
  const picture = svg("svg", {
    viewBox: `-1 -1 ${width + 2} ${height + 2}`,
    width: width + 2,
    class: "grid",
    role: "img",
    "aria-label": view.cells.join("\n"),
  });
  view.cells.forEach((row, i) =>
    [...row].forEach((letter, j) => picture.append(...cell(letter, j * CELL, i * CELL, view.texts?.[i]?.[j]))),
  );
  const [high, wide] = view.box ?? [rows, columns];
  for (let i = 0; i <= rows; i += high)
    picture.append(svg("line", { x1: 0, x2: width, y1: i * CELL, y2: i * CELL, class: "strong" }));
  for (let j = 0; j <= columns; j += wide)
    picture.append(svg("line", { x1: j * CELL, x2: j * CELL, y1: 0, y2: height, class: "strong" }));
  return picture;
}

function cell(letter, x, y, text) {
  const kind = KINDS[letter] ?? "floor",
    middle = CELL / 2;
  const parts = [
    svg("rect", { x, y, width: CELL, height: CELL, class: `cell ${text || kind === "wall" ? kind : ""}` }),
  ];
  if (kind.includes("goal")) parts.push(svg("circle", { cx: x + middle, cy: y + middle, r: 11, class: "target" }));
  if (kind.includes("box"))
    parts.push(
      svg("rect", {
        x: x + 5,
        y: y + 5,
        width: CELL - 10,
        height: CELL - 10,
        rx: 4,
        class: kind.includes("goal") ? "crate done" : "crate",
      }),
    );
  if (kind.includes("player")) parts.push(svg("circle", { cx: x + middle, cy: y + middle, r: 7, class: "piece" }));
  if (text?.trim())
    parts.push(svg("text", { x: x + middle, y: y + middle + 5.5, "text-anchor": "middle", class: kind }, text));
  return parts;
}
