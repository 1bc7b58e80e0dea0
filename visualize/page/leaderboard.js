// The results: per recipe a picture of accuracy against cost, and a table that sorts. Recipes are never mixed: every
// block has its own picture, its own table and its own plain network to compare with.

import { button, drawn, make, oneStop, roving } from "./elements.js";

const COSTS = [ // key in a row, name, number as text
  ["parameters", "Parameters", (value) => `${(value / 1e6).toFixed(2)} M`],
  ["flops", "FLOPs", (value) => `${(value / 1e9).toFixed(2)} G`],
  ["latency_ms", "Milliseconds, CPU", (value) => `${value.toFixed(1)} ms`],
  ["latency_gpu_ms", "Milliseconds, GPU", (value) => `${value.toFixed(2)} ms`],
];
const COLUMNS = [ // `key` to sort by, header, text of a cell; `most`: a first click puts the largest on top
  { key: "title", head: "Network", text: true },
  { key: "accuracy", head: "Accuracy, 95 % interval", cell: interval, most: true, wide: true },
  { key: "mirror", head: "With mirror", cell: interval, most: true, wide: true },
  { key: "verdict", head: "Beside plain", cell: beside, text: true, most: true, wide: true },
  { key: "parameters", head: "Parameters", cell: (row) => row.parameters?.toLocaleString("en-US") },
  { key: "flops", head: "MFLOPs", cell: (row) => row.flops && Math.round(row.flops / 1e6).toLocaleString("en-US") },
  { key: "latency_ms", head: "ms, CPU", cell: (row) => row.latency_ms?.toFixed(1) },
  { key: "latency_gpu_ms", head: "ms, GPU", cell: (row) => row.latency_gpu_ms?.toFixed(2) },
  { key: "train_seconds", head: "Training", cell: (row) => row.train_seconds && minutes(row.train_seconds) },
  { key: "seed", head: "Seed", cell: (row) => row.seed },
];
const SHAPES = { circle: "M4.5,0A4.5,4.5 0 1 1 -4.5,0A4.5,4.5 0 1 1 4.5,0Z", up: "M0,-5.5L5.2,4H-5.2Z", down: "M0,5.5L5.2,-4H-5.2Z", square: "M-4,-4H4V4H-4Z" };

function minutes(seconds) {
  return seconds < 600 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

// ---- words

function range(measured) {
  return `${measured.low.toFixed(2)} to ${measured.high.toFixed(2)}`;
}
function interval(row, key) {
  const measured = row[key];
  return measured && [measured.value.toFixed(2), " ", make("small", {}, range(measured))];
}
function beside(row) {
  if (row.verdict === null) return "the others are compared with it";
  if (row.verdict.better === null) return row.beside;
  return [row.beside, " ", make("small", {}, `+${row.verdict.better} −${row.verdict.worse} images`)];
}
function sentence(row, [key, name, text]) {
  const said = [`${row.accuracy.value.toFixed(2)} % (${range(row.accuracy)})`];
  const small = /^[A-Z][a-z]/.test(name) ? name[0].toLowerCase() + name.slice(1) : name; // FLOPs stay what they are
  if (row[key] != null) said.push(`${small} ${text(row[key])}`);
  if (row.verdict?.better === null) said.push(row.beside);
  else if (row.verdict) {
    const chance = differs(row) ? "" : ` (p = ${row.verdict.p.toFixed(2)})`;
    said.push(`${row.beside}${chance}: right on ${row.verdict.better} images that plain gets wrong, wrong on ${row.verdict.worse} that plain gets right`);
  }
  return said.join("; ");
}
function shapeOf(row) {
  if (row.verdict === null) return "square";
  return { better: "up", worse: "down" }[row.verdict.kind] || "circle";
}
function lookOf(row) {
  if (row.verdict === null) return "plain";
  return differs(row) ? "differs" : row.verdict.kind;
}
function differs(row) {
  return ["better", "worse"].includes(row.verdict?.kind);
}
function label(row) { // several seeds of one network need telling apart
  return row.ships ? row.title : `${row.title}, seed ${row.seed}`;
}

// ---- one recipe

function blockOf(block) {
  const root = make("section", "block", make("h3", {}, block.title));
  const nodes = new Map(block.rows.map((row) => [row.key, []])); // what lights up together: a point and a line
  const costs = COSTS.filter(([key]) => block.rows.some((row) => row[key] != null));
  const readout = make("p", "readout");
  const rest = "Point at a network, or walk through the picture with the arrow keys.";
  let cost = costs[0];

  function light(row) {
    for (const [key, parts] of nodes) for (const part of parts) part.classList.toggle("on", key === row?.key);
    readout.replaceChildren(...(row ? [make("b", {}, label(row)), ": ", sentence(row, cost)] : [rest]));
  }
  function follow(part, row) {
    part.addEventListener("pointerenter", () => light(row));
    part.addEventListener("pointerleave", () => light(null));
    nodes.get(row.key).push(part);
  }

  if (costs.length) {
    const choice = make("div", { class: "segments", role: "group", "aria-label": "Cost" });
    const picture = drawn("svg", { role: "group" });
    const redraw = () => {
      for (const parts of nodes.values()) parts.splice(0, Infinity, ...parts.filter((part) => !picture.contains(part)));
      drawPicture(picture, block, cost, follow, light);
    };
    for (const one of costs) {
      choice.append(button(one[1], { "data-cost": one[0], "aria-pressed": one === cost }, ({ currentTarget }) => {
        cost = one;
        for (const other of choice.children) other.setAttribute("aria-pressed", other === currentTarget);
        redraw();
        light(null);
      }));
    }
    roving(picture, () => [...picture.querySelectorAll(".point")]);
    root.append(make("figure", {}, make("div", "axis", make("span", {}, "Accuracy against"), choice), picture, key(block), readout));
    let width = 0;
    new ResizeObserver(() => { // also when an accordion opens and there is room at last
      if (picture.clientWidth === width || !picture.clientWidth) return;
      width = picture.clientWidth;
      redraw();
    }).observe(picture);
  }
  light(null);
  root.append(tableOf(block, follow), make("p", "note", block.caption));
  return root;
}

function key(block) {
  const meanings = [
    ["square", "plain", "plain; its interval is the band"],
    ["circle", "same", "no measurable difference"],
    ["up", "differs", "better than plain"],
    ["down", "differs", "worse than plain"],
    ["circle", "unknown", "not compared with plain"],
  ];
  const said = meanings.filter(([shape, look]) => block.rows.some((row) => shapeOf(row) === shape && lookOf(row) === look));
  return make("div", "key", ...said.map(([shape, look, words]) => {
    const mark = drawn("g", { class: `point ${look}` }, drawn("path", { d: SHAPES[shape] }));
    return make("span", {}, drawn("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, mark), words);
  }));
}

// ---- the picture

// Most mechanisms add next to nothing and a few add half a network. The axis is the cost beside plain's, in percent,
// with the square root taken, so that both can be read; a network that costs less stands left of plain.
const bend = (share) => Math.sign(share) * Math.sqrt(Math.abs(share));
const TICKS = [0, 100, 1000, 10, 1, 50, 20, 5, 2, 200, 500, 0.1, 0.5]; // the first ones first, where room is scarce

function drawPicture(svg, block, [costKey, name, text], follow, light) {
  const rows = block.rows.filter((row) => row[costKey] != null).sort((a, b) => a[costKey] - b[costKey]);
  const width = svg.clientWidth, height = svg.clientHeight, narrow = width < 560;
  const edge = { left: 36, right: narrow ? 10 : 16, top: 12, bottom: 42 };
  const plain = block.rows.find((row) => row.verdict === null && row.name === "plain");
  const base = plain?.[costKey] ?? rows[0][costKey];
  const share = (row) => 100 * (row[costKey] / base - 1);

  const bent = rows.map((row) => bend(share(row)));
  let [left, right] = [Math.min(...bent, 0), Math.max(...bent, 1)];
  [left, right] = [left - 0.06 * (right - left), right + 0.06 * (right - left)];
  let [low, high] = [Math.min(...rows.map((row) => row.accuracy.low)), Math.max(...rows.map((row) => row.accuracy.high))];
  [low, high] = [low - 0.04 * (high - low), high + 0.04 * (high - low)];
  const atShare = (value) => edge.left + ((bend(value) - left) / (right - left)) * (width - edge.left - edge.right);
  const x = (row) => atShare(share(row));
  const y = (percent) => height - edge.bottom - ((percent - low) / (high - low)) * (height - edge.top - edge.bottom);

  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", `Accuracy against ${name}, ${rows.length} networks, ${block.title}`);
  const parts = [];
  if (plain) {
    const [top, bottom] = [y(plain.accuracy.high), y(plain.accuracy.low)];
    parts.push(drawn("rect", { class: "band", x: edge.left, y: top, width: width - edge.left - edge.right, height: bottom - top }));
  }
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find((step) => (high - low) / step <= 7) || 50;
  for (let percent = Math.ceil(low / step) * step; percent <= high; percent += step) {
    parts.push(drawn("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(percent), y2: y(percent) }));
    parts.push(drawn("text", { x: edge.left - 6, y: y(percent) + 4, "text-anchor": "end" }, percent.toFixed(step < 1 ? 1 : 0)));
  }
  const kept = [];
  for (const tick of TICKS.flatMap((tick) => (tick && tick < 100 ? [tick, -tick] : [tick]))) {
    const at = atShare(tick);
    if (bend(tick) < left || bend(tick) > right || kept.some((other) => Math.abs(other - at) < 50)) continue;
    kept.push(at);
    const words = tick ? `${tick > 0 ? "+" : "−"}${Math.abs(tick)} %` : text(base);
    parts.push(drawn("line", { class: "grid", x1: at, x2: at, y1: height - edge.bottom, y2: height - edge.bottom + 4 }));
    parts.push(drawn("text", { x: at, y: height - edge.bottom + 17, "text-anchor": "middle" }, words));
  }
  const beside = plain ? "plain's" : narrow ? "the cheapest" : `the cheapest, ${rows[0].title}`;
  const spread = narrow ? "" : "; small differences are spread (square root)";
  const across = { x: (edge.left + width - edge.right) / 2, y: height - 6, "text-anchor": "middle" };
  parts.push(drawn("text", across, `${name} beside ${beside}${spread}`));
  parts.push(drawn("text", { x: edge.left - 30, y: edge.top - 2 }, "%"));

  const points = rows.map((row) => {
    const [px, py] = [x(row), y(row.accuracy.value)];
    const point = drawn("g", { class: `point ${lookOf(row)}`, role: "img", tabindex: -1 },
      drawn("line", { x1: px, x2: px, y1: y(row.accuracy.low), y2: y(row.accuracy.high) }),
      drawn("circle", { cx: px, cy: py, r: 9 }), // invisible: easier to hit
      drawn("path", { d: SHAPES[shapeOf(row)], transform: `translate(${px},${py})` }));
    point.dataset.key = row.key;
    point.setAttribute("aria-label", `${label(row)}: ${sentence(row, [costKey, name, text])}`);
    point.addEventListener("focus", () => light(row));
    point.addEventListener("blur", () => light(null));
    follow(point, row);
    return point;
  });
  oneStop(points); // from it the arrows walk by cost
  svg.replaceChildren(...parts, ...points);
  labels(svg, rows, plain, x, y, width - edge.right, height - edge.bottom);
}

// Names beside the points, as many as find a free place: first plain and those that differ, then from the top.
function labels(svg, rows, plain, x, y, right, bottom) {
  const taken = rows.map((row) => [x(row) - 6, y(row.accuracy.value) - 6, x(row) + 6, y(row.accuracy.value) + 6]);
  const free = ([left, top, end, low]) => left >= 38 && end <= right + 4 && top >= 0 && low <= bottom
    && taken.every(([a, b, c, d]) => end < a || c < left || low < b || d < top);
  const first = (row) => (row === plain ? 2 : differs(row) ? 1 : 0);
  const ordered = [...rows].sort((a, b) => first(b) - first(a) || b.accuracy.value - a.accuracy.value);
  const texts = ordered.map((row) => drawn("text", { class: "label", "aria-hidden": "true" }, label(row)));
  svg.append(...texts);
  const widths = texts.map((words) => words.getComputedTextLength()); // of all before any is moved: one layout
  for (const [i, row] of ordered.entries()) {
    const [words, wide, px, py] = [texts[i], widths[i], x(row), y(row.accuracy.value)];
    const places = [[px + 9, py], [px - 9 - wide, py], [px + 6, py - 13], [px + 6, py + 13]];
    const place = places.find(([left, middle]) => free([left, middle - 8, left + wide, middle + 8]))
      || (row === plain && places.at(-1)); // plain is always named
    if (!place) {
      words.remove();
      continue;
    }
    const [left, middle] = place;
    taken.push([left, middle - 8, left + wide, middle + 8]);
    words.setAttribute("x", left);
    words.setAttribute("y", middle + 4);
  }
}

// ---- the table

function tableOf(block, follow) {
  const columns = COLUMNS.filter(({ key }) => block.rows.some((row) => row[key] != null));
  const body = make("tbody", { role: "rowgroup" }), heads = new Map();
  const lines = block.rows.map((row) => [row, lineOf(row, columns, follow)]);
  body.append(...lines.map(([, line]) => line));

  function sort(column, direction) {
    for (const [other, head] of heads) {
      if (other === column) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
    const sorted = [...lines].sort(([a], [b]) => {
      const [one, two] = [worth(a, column.key), worth(b, column.key)];
      if (one == null || two == null) return (one == null) - (two == null); // what was not measured comes last
      return direction * (typeof one === "string" ? one.localeCompare(two) : one - two);
    });
    body.append(...sorted.map(([, line]) => line));
  }
  const row = make("tr", { role: "row", "data-label": "Sort by" }); // as a phone shows it
  for (const column of columns) {
    const head = make("th", { class: column.text ? "text" : "", scope: "col", role: "columnheader" }, button(column.head, {}, () => {
      const now = head.getAttribute("aria-sort");
      sort(column, now === null ? (column.most ? -1 : 1) : now === "ascending" ? -1 : 1);
    }));
    heads.set(column, head);
    row.append(head);
  }
  const top = make("thead", { role: "rowgroup" }, row);
  return make("table", { role: "table", "aria-label": `Results, ${block.title}` }, top, body); // a phone's layout would take the roles away
}
function lineOf(row, columns, follow) {
  const line = make("tr", { class: differs(row) ? "differs" : "", role: "row", "data-key": row.key });
  for (const { key, head, cell, text, wide } of columns) {
    const named = key === "title", made = named ? [row.title] : cell(row, key) ?? "–";
    const look = [text && "text", wide && "wide", key === "verdict" && "verdict"].filter(Boolean).join(" ");
    const inside = make("span", {}, ...(Array.isArray(made) ? made : [String(made)]));
    if (named && !row.ships) inside.append(" ", make("small", {}, "its weights do not ship"));
    line.append(make(named ? "th" : "td", { class: look, role: named ? "rowheader" : "cell", ...(named ? {} : { "data-label": head }) }, inside));
  }
  follow(line, row);
  return line;
}
function worth(row, key) {
  if (key === "verdict") return row.verdict?.better == null ? null : row.verdict.better - row.verdict.worse;
  return row[key]?.value ?? row[key];
}

export function leaderboard(root, { blocks }) { // blocks: as models/results/table.py makes them
  root.querySelector(".none").hidden = blocks.length > 0;
  root.querySelector(".recipes").replaceChildren(...blocks.map(blockOf));
}
