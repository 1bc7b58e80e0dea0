// From a record to panels: which maps are shown, which part of each, on which scale, and what is said of them.
//
//   configure(description)                       once: what visualize/record/display.json holds
//   decode(map) -> {axes, shape, values}         values: Float32Array
//   sections(cam) -> [section]                   {kind, kinds, tab, title, text, absent, means, ...} in order
//   panels(record, view, parts)                  -> [{section, block, cells: {key: [panel] | {none, at}}}]
//   panelsInSteps(...)                           the same, one after the other, with null wherever there is time for a pause
//   panelsOf(record, mechanism, maps, view)      the same for some maps of one network, whatever the block
//   range(panel)  extent(panel)  number(x)  percent(share)      words
//   queryOf(map, view) -> {x, y, side, index}    the marked place among the queries of a map
//   tiles(panel)  bars(panel)  curve(panel)  stack(panel)  gridLines(panel)     what is drawn, as numbers
//   position(panel, x)  marks(panel)             places on the colours, 0 to 1
//   valueAt(panel, at) -> {value, text} | null   the number under a pointer, see draw.js
//   describe(panel, view)                        one sentence for somebody who cannot see the picture
//
// A view is {block, pairwise_block, query: [x, y] in pixels, head, overlay, colours, cells, scale}; what is
// missing is as in description.view. `pairwise_block` null: pairwise maps follow the block.
//
// A panel holds {key, name, section, tensor, block, kind, role, axes, scale, static, values, shape, ends, endWords,
// base, flat, said: [lines], others, names, map}. Where the numbers stayed on the server `values` is null and
// `wants` is {mechanism, tensor, query}; `parts(wants)` gives what was fetched, or null.
//
// Pure functions: no page, no state but the description. visualize/export/panels.py does the same for the figure,
// and tests/test_description.py draws every kind through both.

let D = null;
export function configure(description) {
  D = description;
  return description;
}

// ---- numbers

function remembered(compute) { // once for each object
  const known = new WeakMap();
  return (key, ...more) => {
    if (!known.has(key)) known.set(key, compute(key, ...more));
    return known.get(key);
  };
}
const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
export const pixelsOf = remembered((record) => bytes(record.image)); // 32 x 32 x RGB
export const decode = remembered(({ axes, shape, data, lo, hi }) => {
  if (typeof data !== "string") return { axes, shape, values: data }; // floats: this device has computed them
  const levels = new Uint16Array(bytes(data).buffer); // little-endian, 0 for lo and 65535 for hi
  return { axes, shape, values: Float32Array.from(levels, (level) => lo + (level / 65535) * (hi - lo)) };
});
export const order = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]); // the largest first
export const largest = (values) => values.indexOf(Math.max(...values));
export const limited = (x) => Math.max(0, Math.min(1, x));
export const statistics = remembered((values) => {
  let least = Infinity, most = -Infinity, sum = 0, count = 0;
  for (const value of values) {
    if (Number.isNaN(value)) continue; // off the cross
    least = Math.min(least, value);
    most = Math.max(most, value);
    sum += value;
    count += 1;
  }
  return { least, most, mean: sum / count, at: values.indexOf(most) };
});

// ---- words

const fill = (text, words) => text.replace(/\{(\w+)\}/g, (_, name) => words[name]);
const signed = (text) => text.replace("-", D.numbers.minus);
export function number(x) {
  const size = Math.abs(x), { decimals, below, above } = D.numbers;
  if (size === 0) return x.toFixed(decimals.find(([from]) => from < 1)[1]);
  const rule = decimals.find(([from]) => size >= from);
  if (!rule) return x > 0 ? below : above; // they name the least number that is written out
  return signed(x.toFixed(rule[1]));
}
export function percent(share) {
  const { almost_all, almost_all_text, fine_below, fine_above, text } = D.percents;
  if (share >= almost_all && share < 1) return almost_all_text;
  const fine = share < fine_below || (share >= fine_above && share < 1);
  return fill(text, { number: (100 * share).toFixed(fine ? 1 : 0) });
}
const times = (panel, x) => number(x) + (D.scales[panel.scale]?.unit || "");
export const methodName = (cam) => D.methods[cam].name;
export function range(panel) { // of a map; of branches, of the last one's share
  const { least, most, mean } = statistics(judged(panel)), say = D.said;
  const words = { least: times(panel, least), most: times(panel, most), mean: times(panel, mean) };
  if (panel.kind === "cam") return most > 0 ? fill(say.relative, words) : say.no_cam;
  if (isConstant(least, most)) return fill(say.constant, words);
  return fill(panel.flat ? say.flat : say.range, words);
}
export function extent(panel) { // from its least to its most; of branches, the last one's share
  const { least, most } = statistics(judged(panel));
  return `${times(panel, least)} to ${times(panel, most)}`;
}
export function place(tensor, block) { // where in the network a tensor is, as a phrase
  const first = /^(layer|stage|head|input)/.exec(tensor)?.[1] || "stem";
  return fill(D.places[first], { block, layer: `layer${tensor[5]}` });
}
export const scopeName = (scope) => (/^stage\d$/.test(scope) ? place(scope) : scope); // a part of the network as other texts call it

// ---- which maps

export function sections(cam = "GradCAM") {
  const { name, text } = D.methods[cam];
  return D.sections.map((section) => ({
    ...section, title: fill(section.title, { cam: name }), text: fill(section.text, { method: text }) }));
}
const mapsIn = (mechanism, section) => mechanism.maps.filter((map) => section.kinds.includes(map.kind));
export function localName(tensor) { // the same for a mechanism's map in every block: "refine.gate", "affinity"
  const found = /^(?:layer\d\.\d|stage\d|head|input)\.(.*)/.exec(tensor);
  return found ? found[1] : `stem.${tensor}`;
}
export function pairwiseBlocks(record) { // where some network has pairwise maps or channel matrices
  const some = D.sections.filter((section) => section.pairwise);
  const blocks = record.mechanisms.flatMap((m) => some.flatMap((section) => mapsIn(m, section).map((map) => map.block)));
  return D.blocks.filter((block) => blocks.includes(block));
}
export function pairwiseBlock(record, view) { // the one that is shown: nearest to the chosen block
  const blocks = pairwiseBlocks(record), at = (block) => D.blocks.indexOf(block);
  if (blocks.includes(view.pairwise_block)) return view.pairwise_block;
  const far = (block) => Math.abs(at(block) - at(view.block));
  return blocks.reduce((best, block) => (best === null || far(block) <= far(best) ? block : best), null);
}
export function panels(...given) { return [...panelsInSteps(...given)].filter(Boolean); }
export function* panelsInSteps(record, view, parts = () => null) { // the same, with pauses
  view = { ...D.view, ...view };
  const between = pairwiseBlock(record, view);
  for (const section of sections(record.cam)) {
    const holders = record.mechanisms.filter((mechanism) => mapsIn(mechanism, section).length);
    if (!holders.length) continue;
    const block = section.pairwise ? between : view.block, cells = {};
    for (const mechanism of record.mechanisms) {
      const all = mapsIn(mechanism, section), count = {};
      for (const map of all) count[localName(map.tensor)] = (count[localName(map.tensor)] || 0) + 1;
      const here = all.filter((map) => count[localName(map.tensor)] === 1 || map.block === block);
      cells[mechanism.key] = here.length ? here.map((map) => panelOf(record, mechanism, map, section, view, parts))
        : whyNone(section, all);
      yield null;
    }
    finish(Object.values(cells).filter(Array.isArray).flat(), record, view);
    yield { section, block, cells };
  }
}
export function panelsOf(record, mechanism, maps, view, parts = () => null) { // each section on scales of its own
  view = { ...D.view, ...view };
  return sections(record.cam).flatMap((section) => {
    const some = maps.filter((map) => section.kinds.includes(map.kind));
    return finish(some.map((map) => panelOf(record, mechanism, map, section, view, parts)), record, view);
  });
}
function whyNone(section, all) { // why there is no map: none at all, or none at this block
  const last = all.at(-1), { absent, means } = section, at = [...new Set(all.map((map) => map.block))];
  const none = last ? fill(D.said.elsewhere, { absent, place: place(last.tensor, last.block) })
    : fill(D.said.none, { absent, means });
  return { none, at };
}
function panelOf(record, mechanism, map, section, view, parts) {
  const { tensor, block, kind, role, axes, scale } = map, { key, name } = mechanism;
  const panel = { key, name, section: section.kind, tensor, block, kind, role, axes, scale, static: map.static,
    map, mechanism, target: targetOf(record, mechanism), names: D.branches[key] };
  const whole = map.data !== "", query = wanted(map, view), wants = { mechanism: key, tensor, query };
  const given = whole ? map : parts(wants);
  if (!given) return { ...panel, wants, values: null, shape: null };
  return Object.assign(panel, partOf(map, decode(given), whole, view));
}
function wanted(map, view) { // the part of a large map that the server is asked for
  const part = D.kinds[map.kind].part;
  return part === "row" ? queryOf(map, view).index : part === "sizes" ? "mean" : null;
}
function targetOf(record, { probabilities }) {
  return record.target === "predicted" ? largest(probabilities) : record.classes.indexOf(record.target);
}

// ---- which part of a map

export function queryOf(map, view) { // the marked place: column and row among the queries, side of their square
  const axes = map.axes.split(" "), at = axes.indexOf("q");
  const side = at >= 0 ? Math.round(Math.sqrt(map.shape[at])) : map.shape[axes.indexOf("h")];
  const [x, y] = view.query.map((pixel) => Math.floor((pixel * side) / 32));
  return { x, y, side, index: y * side + x };
}
export const headsOf = (map) => (map.axes.startsWith("head q") ? map.shape[0] : 1);
const headOf = (map, view) => (view.head === "mean" || headsOf(map) === 1 ? null : Math.min(+view.head, headsOf(map) - 1));
const PARTS = { // kind of part -> (map, values, whole: not only what the server gave of it, view) -> [values, shape]
  row(map, values, whole, view) {
    if (map.axes === "g k h w") return footprint(map, values, whole, view);
    const axis = map.axes.split(" ").indexOf("q"), shape = map.shape.slice(axis + 1), size = shape.reduce((a, b) => a * b);
    const { index } = queryOf(map, view), one = headOf(map, view), heads = one === null ? [...Array(headsOf(map)).keys()] : [one];
    const read = new Float32Array(size);
    for (const head of heads) {
      const start = (whole ? head * map.shape[axis] + index : head) * size;
      for (let i = 0; i < size; i++) read[i] += values[start + i] / heads.length;
    }
    return [read, shape];
  },
  cross(map, values, whole, view) { // a query's record is its column, then its row; no number off the cross
    const [height, width, length] = map.shape, { x, y, index } = queryOf(map, view);
    const read = new Float32Array(height * width).fill(NaN);
    for (let i = 0; i < height; i++) read[i * width + x] = values[index * length + i];
    for (let i = 0; i < width; i++) read[y * width + i] = values[index * length + height + i];
    return [read, [height, width]];
  },
  sizes(map, values, whole) { // (branch, c, h, w) -> (branch, h, w)
    const [branches, , height, width] = map.shape;
    return [whole ? meanSize(values, map.shape) : values, [branches, height, width]];
  },
};
export function meanSize(values, [branches, channels, height, width]) { // over the channels
  const size = height * width, found = new Float64Array(branches * size);
  for (let i = 0; i < values.length; i++) found[Math.floor(i / (channels * size)) * size + (i % size)] += Math.abs(values[i]);
  return Float32Array.from(found, (sum) => sum / channels);
}
function footprint(map, values, whole, view) { // (g, k, h, w) -> (g, k)
  const [groups, cells, height, width] = map.shape, { index } = queryOf(map, view), size = height * width;
  const read = whole ? Float32Array.from({ length: groups * cells }, (_, i) => values[i * size + index]) : values;
  return [read, [groups, cells]];
}
function partOf(map, { values, shape }, whole, view) {
  const part = D.kinds[map.kind].part;
  let [read, form] = part ? PARTS[part](map, values, whole, view) : [values, shape];
  if (map.kind === "spatial") form = form.slice(1);
  if (D.scales[map.scale].unit) { // as so many shares sum to one, an equal one is their mean
    const sharers = map.kind === "cross" ? map.shape[2] - 1 : Math.round(1 / statistics(read).mean);
    read = read.map((x) => x * sharers);
  }
  return { values: read, shape: form };
}
export const drawnAs = ({ kind, shape }) => (kind === "filters" && shape.length === 2 ? "matrix" : D.kinds[kind].drawn);

// ---- scales

function finish(some, record, view) { // ends, what is flat, the curves of the others, and the words
  const there = some.filter((panel) => panel.values), shown = (panel) => D.scales[panel.scale];
  for (const panel of there) {
    const fixed = D.kinds[panel.kind].fixed || shown(panel).fixed, mode = fixed ? "fixed" : view.scale;
    if (mode === "fixed" && shown(panel).ends) {
      [panel.ends, panel.endWords] = [shown(panel).ends, shown(panel).words];
    } else {
      panel.ends = endsOf(mode === "shared" ? there.filter((other) => other.scale === panel.scale) : [panel], panel);
      panel.endWords = panel.ends.map((end) => times(panel, end));
    }
    const [low, high] = panel.ends;
    panel.base = Math.max(low, Math.min(high, baseOf(panel)));
    panel.flat = isFlat(panel);
  }
  for (const panel of there) {
    panel.others = there.filter((other) => other !== panel && other.scale === panel.scale && other.ends.join() === panel.ends.join())
      .map((other) => other.values);
    panel.said = linesAbout(panel, record, view);
  }
  return some;
}
function endsOf(some, panel) { // with a sign as far below zero as above, for zero has a colour of its own
  let low = Math.min(...some.map((other) => statistics(other.values).least));
  let high = Math.max(...some.map((other) => statistics(other.values).most));
  const { symmetric, log } = D.scales[panel.scale], { least_share, around } = D.thresholds;
  if (symmetric) {
    high = Math.max(-low, high) || 1;
    return [D.kinds[panel.kind].part === "sizes" ? 0 : -high, high]; // sizes have no sign
  }
  if (log) [low, high] = [Math.max(low, least_share), Math.max(high, least_share)];
  if (isConstant(low, high)) { // or rounding would look like structure
    const room = around * Math.max(1e-9, high);
    [low, high] = [low - room, high + room];
  }
  return [low, high];
}
const isConstant = (low, high) => high - low <= D.thresholds.constant * Math.max(1e-9, Math.abs(high), Math.abs(low));
function isFlat(panel) { // the whole map would have one colour
  const { least, most } = statistics(judged(panel));
  return isConstant(least, most) || limited(position(panel, most)) - limited(position(panel, least)) < D.thresholds.flat;
}
export function judged({ kind, values, shape }) { // the numbers that a range is about: of branches, the last one's share
  return kind === "branch" ? lastBranch(values, shape[0]) : values;
}
const lastBranch = remembered((values, branches) => values.subarray((values.length / branches) * (branches - 1)));
export function position({ scale, ends: [low, high] }, x) { // on the colours: 0 at one end, 1 at the other
  if (!D.scales[scale].log) return (x - low) / (high - low || 1);
  return Math.log(Math.max(x, 1e-9) / low) / Math.log(high / low);
}
export function marks(panel) { // for a legend: the range of the map, its mean, and zero or an equal share
  const { least, most, mean } = statistics(judged(panel)), at = (x) => limited(position(panel, x));
  const [low, high] = panel.ends, inside = panel.base > low && panel.base < high;
  return { least: at(least), most: at(most), mean: at(mean), base: inside ? at(panel.base) : null };
}

// ---- what is drawn, as numbers

const asSquares = ([count, cells]) => [count, Math.round(Math.sqrt(cells)), Math.round(Math.sqrt(cells))];
const PLANES = { // axes -> shape of the values -> how many pictures, height, width
  "c k": asSquares, "g k h w": asSquares, "1 c w": ([, c, w]) => [c, 1, w], "1 h c": ([, h, c]) => [c, h, 1],
};
export function tiles(panel) { // small pictures, in the order in which they are shown: [{name, index, values, height, width}]
  const { values, shape, axes, kind } = panel, { unsorted, mean } = D.tiles;
  const [count, height, width] = PLANES[axes]?.(shape) || [shape[0], ...shape.slice(-2)], size = height * width;
  const turned = axes === "1 h c", plane = (i) => (turned ? values.filter((_, j) => j % count === i) : values.subarray(i * size, (i + 1) * size));
  const planes = Array.from({ length: count }, (_, i) => plane(i));
  const strongest = () => order(planes.map((one) => one.reduce((sum, x) => sum + Math.abs(x), 0)));
  const named = (i) => ({ name: tileName(panel, i), index: i, values: planes[i], height, width });
  const kept = count <= unsorted || D.scales[panel.scale].unit; // shares: over the picture all have the same sum
  if (!D.kinds[kind].mean) return (kept ? [...planes.keys()] : strongest()).map(named);
  const all = new Float32Array(size);
  for (const one of planes) one.forEach((x, i) => { all[i] += x / count; });
  return [{ name: mean, index: mean, values: all, height, width }, ...strongest().map(named)];
}
function tileName({ axes, kind, names }, index) {
  if (kind === "views" && names) return names[index];
  const letter = axes.split(" ").find((axis) => axis !== "1" && axis !== "h"), [word, first] = D.tile_names[letter];
  return `${word} ${index + first}`;
}
const branchNames = ({ names, shape }) => names || Array.from({ length: shape[0] }, (_, i) => tileName({ axes: "branch" }, i));
export const curve = ({ values }) => Float32Array.from(values).sort().reverse(); // the largest first
export function stack({ values, shape }) { // areas from the ground up: the last branch first, its largest share first
  const branches = shape[0], count = values.length / branches, share = (branch) => values.subarray(branch * count, (branch + 1) * count);
  const sorted = order(share(branches - 1)), below = new Float32Array(count);
  const areas = Array.from({ length: branches }, (_, i) => {
    const from = Float32Array.from(below), branch = branches - 1 - i;
    sorted.forEach((channel, at) => { below[at] += share(branch)[channel]; });
    return { branch, from, to: Float32Array.from(below), strength: branches > 1 ? 1 - (0.75 * i) / (branches - 1) : 1 };
  });
  return { sorted, areas };
}
export const baseOf = ({ scale }) => D.scales[scale].base ?? 0; // zero, or an equal share
export function bars({ values, ends: [low, high], base }) { // from zero, or from an equal share
  return Array.from(values, (value) => ({ from: base, to: Math.max(low, Math.min(high, value)) }));
}
export function gridLines({ values, shape: [height, width] }) { // some rows, then some columns of points (x, y) in -1 .. 1
  const some = (count) => [...Array(count).keys()].filter((i) => i % D.grid_step === 0 || i === count - 1);
  const point = (row, column) => [0, 1].map((axis) => values[2 * (row * width + column) + axis]);
  return [...some(height).map((row) => Array.from({ length: width }, (_, column) => point(row, column))),
    ...some(width).map((column) => Array.from({ length: height }, (_, row) => point(row, column)))];
}

// ---- what is said of a map

function linesAbout(panel, record, view) {
  const { kind, shape, map, mechanism, tensor } = panel, say = D.said, lines = [];
  if (kind === "branch") lines.push(fill(say.range_of, { name: branchNames(panel).at(-1), range: range(panel) }));
  else if (kind !== "grid") lines.push(range(panel));
  if (kind === "cam" && record.cam !== "EigenCAM") // which knows no class
    lines.push(fill(say.class, { class: record.classes[panel.target], share: percent(mechanism.probabilities[panel.target]) }));
  if (kind === "channel" || kind === "branch") lines.push(fill(say.channels, { count: shape[kind === "branch" ? 1 : 0] }));
  if (kind === "branch") lines.push(fill(say.branches, { names: [...branchNames(panel)].reverse().join(", ") }));
  const heads = headsOf(map), one = headOf(map, view);
  if (heads > 1) lines.push(one === null ? fill(say.mean_of_heads, { count: heads }) : fill(say.one_head, { head: one + 1, count: heads }));
  const [module, strength] = Object.entries(mechanism.strength || {}).find(([path]) => tensor.startsWith(`${path}.`)) || [];
  const asks = ["pairwise", "matrix"].includes(panel.section) || (panel.role === "share" && (mechanism.family === "pairwise" || !module?.startsWith("stage")));
  if (asks && module)
    lines.push(fill(module.startsWith("stage") ? say.strength : say.strength_in_block, { share: percent(strength) }));
  if (panel.static) lines.push(say.static);
  return lines;
}
// The number under a pointer. `at` is what `hit` of draw.js returns, of this panel or of another one: a place is
// the same in all of them, a channel, a cell or a bar means something in its own panel only.
export function valueAt(panel, at) {
  if (!panel?.values || !at) return null;
  const own = at.key === panel.key && at.tensor === panel.tensor, drawn = drawnAs(panel), say = D.said;
  const named = (name, value) => ({ value, text: fill(say.at, { name, value: times(panel, value) }) });
  const inCell = (values, height, width) => values[Math.floor((at.y * height) / 32) * width + Math.floor((at.x * width) / 32)];
  if (drawn === "places" && at.kind === "places") {
    const value = inCell(panel.values, ...panel.shape);
    return Number.isNaN(value) ? { value: null, text: say.not_read } : { value, text: times(panel, value) };
  }
  if (drawn === "tiles" && at.kind === "places" && (own || (at.over && D.kinds[panel.kind].over))) {
    const all = tiles(panel), { name, values, height, width } = (own && all[at.tile]) || all[0];
    return named(name, inCell(values, height, width));
  }
  if (!own || at.kind !== drawn) return null;
  const value = judged(panel)[at.index];
  if (drawn === "matrix") {
    const [row, column] = [Math.floor(at.index / panel.shape.at(-1)), at.index % panel.shape.at(-1)];
    return { value, text: fill(panel.kind === "matrix" && panel.scale === "uniform=1" ? say.reads : say.cell, { row, column, value: times(panel, value) }) };
  }
  return drawn === "bars" ? named(at.index + 1, value) : named(tileName({ axes: "c" }, at.index), value);
}
export function describe(panel, view) {
  const { section, tensor, name, map } = panel, title = sections()[D.sections.findIndex(({ kind }) => kind === section)].title;
  const start = `${name}, ${panel.kind === "cam" ? tensor : `${title}, ${tensor}`}`, part = D.kinds[panel.kind].part;
  const from = part === "row" || part === "cross" ? queryOf(map, { ...D.view, ...view }) : null;
  const asked = from ? ` from row ${from.y + 1}, column ${from.x + 1}` : "";
  if (!panel.values) return start + asked;
  const { at, most } = statistics(panel.values), width = panel.shape.at(-1), lines = [...panel.said];
  if (drawnAs(panel) === "places" && !panel.flat)
    lines.push(fill(D.said.strongest, { row: Math.floor(at / width) + 1, column: (at % width) + 1, value: times(panel, most) }));
  return `${start}${asked}: ${lines.join("; ")}`;
}
