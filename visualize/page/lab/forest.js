// Numbers with their 95 % intervals, one below the other on one scale: a dot, and a line as long as the interval.
//
//   forest(rows, [low, high], {zero, text})   rows: [{label, value, low, high, strong, quiet, title}]
//   endsOf(rows, zero) -> [low, high]         that hold them all, and zero
//
// A dot is filled where `strong` (chance alone does not explain it); `quiet` rows are there to compare with.

import { make } from "../elements.js";

export const minus = (text) => text.replace(/^-(?=[0.]+$)/, "").replace("-", "−"); // zero has no sign
export const points = (value) => (value.toFixed(1) > 0 ? "+" : "") + minus(value.toFixed(1)); // of accuracy, with their sign
export const within = ({ low, high }, digits = 2) => `${minus(low.toFixed(digits))} to ${minus(high.toFixed(digits))}`;

export function forest(rows, [low, high], { zero = null, text = (value) => minus(value.toFixed(2)) } = {}) {
  const place = (value) => (100 * (Math.max(low, Math.min(high, value)) - low)) / (high - low || 1);
  return make("div", { class: "forest", role: "list" }, ...rows.map((row) => {
    const look = ["line", row.strong && "strong", row.quiet && "quiet"].filter(Boolean).join(" ");
    const track = make("span", { class: "track", "aria-hidden": "true" }, zero !== null && make("i", { class: "zero", style: `left: ${place(zero)}%` }),
      make("i", { class: "whisker", style: `left: ${place(row.low)}%; right: ${100 - place(row.high)}%` }),
      make("i", { class: "dot", style: `left: ${place(row.value)}%` }));
    return make("div", { class: look, role: "listitem", title: row.title || "" }, make("span", "label", row.label), track,
      make("data", {}, text(row.value)), row.title && make("span", "unseen", row.title)); // the interval, and whether it is more than chance
  }));
}
export function endsOf(rows, zero = null) {
  const all = rows.flatMap(({ low, high }) => [low, high]).concat(zero === null ? [] : [zero]);
  const [low, high] = [Math.min(...all), Math.max(...all)], room = 0.03 * (high - low || 1);
  return [low - room, high + room];
}
