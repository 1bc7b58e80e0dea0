// Two maps of the same kind, beside each other: on one scale, their difference, and in words.
//
//   onOneScale(a, b)                      makes the ends of two panels the same
//   differenceOf(a, b, words)             a panel of b - a, or null where that has no meaning yet
//   sentenceOf(rows, columns, block)      where two networks differ, in one sentence

import { baseOf, drawnAs, extent, judged, number, statistics } from "../maps/record.js";

const LEAST = { "0-1": 0.1, "1-2": 0.1, relative: 0.1, "uniform=1": 1 }; // ends at least so far from zero: less is no drama

export function onOneScale(a, b) {
  if (!a.values || !b.values || a.scale !== b.scale) return;
  const first = a.ends[0] <= b.ends[0] ? a : b, last = a.ends[1] >= b.ends[1] ? a : b;
  const ends = [first.ends[0], last.ends[1]], endWords = [first.endWords[0], last.endWords[1]];
  const base = Math.max(ends[0], Math.min(ends[1], baseOf(a)));
  for (const panel of [a, b]) Object.assign(panel, { ends, endWords, base });
}
export function differenceOf(a, b, words) {
  // sampling points are not numbers to subtract
  if (!a?.values || !b?.values || a.kind !== b.kind || a.scale !== b.scale || drawnAs(a) === "grid" || a.shape.join() !== b.shape.join()) return null;
  const branches = b.kind === "branch", [from, to] = [judged(a), judged(b)]; // of branches, the last one's shares
  const values = to.map((x, i) => x - from[i]), { least, most } = statistics(values);
  const end = Math.max(-least, most, LEAST[b.scale] || 1e-6);
  const panel = { ...b, key: `${a.key} to ${b.key}`, values, role: "difference", scale: "signed", ends: [-end, end], base: 0, flat: false, others: [],
    ...(branches ? { kind: "channel", shape: [values.length, 1, 1] } : {}) };
  return Object.assign(panel, { endWords: panel.ends.map(number), said: [`${extent(panel)}, mean ${number(statistics(values).mean)}`, words], name: words });
}

// ---- words

export function sentenceOf(rows, columns, block) { // rows: of `panels`, without class activation maps; null: numbers are on their way
  if (rows.some(({ cells }) => columns.some(({ key }) => Array.isArray(cells[key]) && cells[key].some(({ values }) => !values)))) return null;
  const [one, other] = columns, known = (cell) => Array.isArray(cell) && cell.find((panel) => panel.values && drawnAs(panel) !== "grid");
  const has = ({ key }) => rows.filter(({ cells }) => Array.isArray(cells[key])).map(({ section }) => section.title.toLowerCase());
  const shared = rows.find(({ cells }) => known(cells[one.key]) && known(cells[other.key]));
  if (!shared) {
    const said = columns.map((column) => `${column.name} has ${has(column).join(" plus ") || "no attention"}`);
    return `At ${block} the two have nothing of the same kind: ${said.join("; ")}.`;
  }
  const spans = (column) => extent(known(shared.cells[column.key])), [wide, narrow] = [one, other].sort((a, b) => width(b) - width(a));
  function width(column) {
    const { least, most } = statistics(judged(known(shared.cells[column.key])));
    return most - least;
  }
  const where = shared.block === block ? block : `${block}, or nearest to it,`;
  return `At ${where} ${genitive(wide.name)} ${shared.section.title.toLowerCase()} ranged from ${spans(wide)} on this picture, ${genitive(narrow.name)} from ${spans(narrow)}.`;
}
const genitive = (name) => (name.endsWith("s") ? `${name}’` : `${name}’s`);
