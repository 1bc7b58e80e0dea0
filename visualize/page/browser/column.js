// From what a graph gives out to a network's column of the record, as visualize/record/compare.py writes it; but the
// values of a map need not become text, and stay floats. `facts` of a network: see networks.json in visualize/site/build.py.

import { decode, meanSize } from "../maps/record.js";
import { classMap, relative } from "./cams.js";

const NOT_FINITE = "The network gives no finite numbers for this picture.";
export class NotFinite extends Error {}

const isFinite = (values) => values.every((value) => value - value === 0);
const decimals = (value, digits) => Number(value.toFixed(digits));

// A Float32Array with its shape and its lowest and highest value; `empty`: without itself.
export function entry(values, shape, empty = false) {
  if (!isFinite(values)) throw new NotFinite(NOT_FINITE);
  let lo = Infinity, hi = -Infinity;
  for (const value of values) {
    if (value < lo) lo = value;
    if (value > hi) hi = value;
  }
  return { shape, data: empty ? "" : values, lo, hi };
}

export function softmax(logits) {
  const most = Math.max(...logits), shares = Array.from(logits, (value) => Math.exp(value - most));
  const all = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / all);
}
export const probabilities = ({ logits }) => softmax(logits).map((share) => decimals(share, 6));

// [{path, values, range}]: the CAMs of all blocks, stretched, and their range before.
export function cams({ blocks }, outputs, method) {
  return blocks.map(({ block, channels }) => {
    const map = classMap(method, outputs[`${block}.output`], outputs[`${block}.gradient`], channels);
    if (!isFinite(map)) throw new NotFinite(NOT_FINITE);
    return { path: `${block}.cam`, values: relative(map), range: [Math.min(...map), Math.max(...map)] };
  });
}

export function strengths({ changing }, outputs) { // how much some modules change what they are given
  const length = (values, from) => Math.sqrt(values.reduce((all, value, i) => all + (value - (from?.[i] || 0)) ** 2, 0));
  return Object.fromEntries(changing.map(([module, after, before]) =>
    [module, length(outputs[after], outputs[before]) / Math.max(length(outputs[before]), 1e-12)]));
}

// `before`: the outputs as trained, where these are others: whether a picture is unusual is asked as trained.
export function column(facts, outputs, method, before = outputs) {
  if (!isFinite(outputs.logits)) throw new NotFinite(NOT_FINITE);
  const most = Math.max(...before.logits), entries = new Map();
  const evidence = most + Math.log(before.logits.reduce((all, value) => all + Math.exp(value - most), 0));
  for (const { path, values, range } of cams(facts, outputs, method)) {
    const side = Math.sqrt(values.length);
    entries.set(path, { ...entry(values, [side, side]), raw: range });
  }
  return {
    ...facts.about,
    probabilities: probabilities(outputs),
    strength: Object.fromEntries(Object.entries(strengths(facts, outputs)).map(([module, value]) => [module, decimals(value, 5)])),
    unusual: facts.unusual_below === null ? null : evidence < facts.unusual_below,
    maps: facts.maps.map(({ stays, ...map }) =>
      ({ ...map, ...(entries.get(map.tensor) || entry(outputs[map.tensor], map.shape, stays)) })),
  };
}

// How far two columns for a picture are apart: the most that a probability, or a value in parts of its
// map's largest size, differs.
export function apart(one, other) {
  const shares = one.probabilities.map((share, i) => Math.abs(share - other.probabilities[i]));
  const maps = one.maps.map((map, i) => {
    const wanted = other.maps[i], scale = Math.max(Math.abs(wanted.lo), Math.abs(wanted.hi)) || 1;
    const found = [map.lo, map.hi, ...decode(map).values], meant = [wanted.lo, wanted.hi, ...decode(wanted).values];
    return found.reduce((most, value, at) => Math.max(most, Math.abs(value - meant[at])), 0) / scale;
  });
  return Math.max(...shares, ...maps);
}

// A part of a map that did not travel with the record, as `affinity_row` of compare.py gives it.
export function part({ axes, shape }, values, query) {
  let letters = axes.split(" "), sizes = shape;
  if (query === null && !letters.includes("q")) return entry(values, sizes);
  if (query === "mean") return entry(meanSize(values, sizes), [sizes[0], ...sizes.slice(2)]);
  if (letters.join() === "g,k,h,w") letters = ["g", "k", "q"], sizes = [sizes[0], sizes[1], sizes[2] * sizes[3]];
  const axis = Math.max(0, letters.indexOf("q")), inner = size(sizes.slice(axis + 1)), step = inner * sizes[axis];
  const found = new Float32Array(values.length / sizes[axis]);
  for (let from = query * inner, to = 0; from < values.length; from += step, to += inner)
    found.set(values.subarray(from, from + inner), to);
  return entry(found, sizes.filter((_, i) => i !== axis));
}
export function answer(outputs) {
  if (!isFinite(outputs.logits)) throw new NotFinite(NOT_FINITE);
  return probabilities(outputs);
}
const ENDS = 4; // channels, as in visualize/record/compare.py
export function features(gates, output) { // those that a gate opens most, then those that it opens least
  const order = [...gates.keys()].sort((a, b) => gates[b] - gates[a]), channels = [...order.slice(0, ENDS), ...order.slice(-ENDS)];
  const cells = output.length / gates.length, side = Math.sqrt(cells), found = new Float32Array(channels.length * cells);
  channels.forEach((channel, i) => found.set(output.subarray(channel * cells, (channel + 1) * cells), i * cells));
  return { channels, gates: channels.map((channel) => gates[channel]), ...entry(found, [channels.length, side, side]) };
}
const size = (shape) => shape.reduce((a, b) => a * b, 1);
