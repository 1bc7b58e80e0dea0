// The comparison grid, part 1 of 4: reading the record that visualize/record.py writes. (Goes with the grid: the
// modules record.js and draw.js do this for the page that follows.)
//
// The four files make one script, which Gradio runs once, when it mounts the component: `element`, `props`,
// `trigger`, `watch` and `server` are in scope. `props.value` is the record, `props.words` what display.json holds.
// All drawing happens in the browser, so every control but class, method and crop works without the server.

const $ = (selector) => element.querySelector(selector);
const { blocks: BLOCKS, colours: COLOURS, methods: METHODS, branches: BRANCHES } = props.words;
const titled = (section) => (section.kind === "cam" ? { ...section, title: "Grad-CAM", text: "" } : section);
const SECTIONS = [props.words.answers, ...props.words.sections.map(titled)];
const CELLS = { 1: 32, 2: 16, 3: 8, 4: 4 }; // side of the map after each stage, in cells
const SITED = SECTIONS.filter((section) => section.pairwise).flatMap((section) => section.kinds);

const state = {
  ...props.words.view, // query: the marked place, in pixels of the 32x32 picture
  block: BLOCKS.indexOf(props.words.view.block), site: null, tab: "Grad-CAM",
  detail: null, // the mechanism whose blocks are all shown
  hover: null, // what `pointed` returns: {kind: "places", x, y} in pixels, {kind: "channel", index, of}, ...
};
let record = null; // what is shown
let figures = []; // of its maps, see grid.js

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
function decode(map) { // little-endian uint16, 0 for lo and 65535 for hi
  const levels = new Uint16Array(bytes(map.data).buffer);
  return Float32Array.from(levels, (level) => map.lo + (level * (map.hi - map.lo)) / 65535);
}
function remembered(compute) { // once for each object
  const known = new WeakMap();
  return (key, ...more) => {
    if (!known.has(key)) known.set(key, compute(key, ...more));
    return known.get(key);
  };
}
const valuesOf = remembered(decode);

// ---- which map

const mapsOf = (mechanism, kinds, local) =>
  mechanism.maps.filter((map) => kinds.includes(map.kind) && (local === undefined || localOf(map) === local));
const localOf = (map) => ( // the same for a mechanism's map in every block: "refine.gate", "affinity"
  /^(layer\d\.\d|stage\d|head|input)\./.test(map.tensor) ? map.tensor.replace(/^(layer\d\.\d|[a-z]+\d?)\./, "")
    : `stem.${map.tensor}`);
const stageOf = (block) => +block.replace(/\D*(\d).*/, "$1");
function siteName(map) {
  if (map.tensor.startsWith("stage")) return `after layer${stageOf(map.block)}`;
  return /^(head|input)\./.test(map.tensor) ? `the ${map.tensor.split(".")[0]}` : map.block;
}
function sitesOf() { // where pairwise maps and channel matrices exist: [block, "after layer3: 8 × 8"]
  const sites = new Map(), maps = record.mechanisms.flatMap((mechanism) => mapsOf(mechanism, SITED));
  for (const map of maps) {
    const known = sites.get(map.block), side = CELLS[stageOf(map.block)], name = siteName(map);
    if (!known || map.tensor.startsWith("stage"))
      sites.set(map.block, name.startsWith("the ") ? name : `${name}: ${side} × ${side}`);
  }
  return [...sites].sort(([a], [b]) => BLOCKS.indexOf(a) - BLOCKS.indexOf(b));
}

// What a figure shows at the present block or site; null where the mechanism has nothing there. What exists only
// once, such as a map of the head, is shown at every block.
function present(figure) {
  const { mechanism, section, local } = figure, block = section.pairwise ? state.site : BLOCKS[state.block];
  const maps = figure.only ? [figure.only] : mapsOf(mechanism, section.kinds, local);
  const map = maps.length === 1 ? maps[0] : maps.find((candidate) => candidate.block === block);
  return map ? { map, values: multiples(map, shownOf(figure, map)) } : { map: null, values: null };
}
function shownOf(figure, map) { // the part of a map that is drawn; null as long as it is on its way
  if (map.kind === "pairwise" || map.kind === "keys") return affinityOf(figure, map);
  if (map.kind === "cross") return crossOf(map);
  if (map.kind === "footprint") return fromServer(figure, map, queryIndex(map));
  if (map.kind === "views") return fromServer(figure, map, "mean");
  return map.data === "" ? fromServer(figure, map, null) : valuesOf(map);
}
const multiplied = remembered((values, size) => values.map((x) => x * size));
function multiples(map, values) { // shares as multiples of an equal one: as each row sums to one, of their mean
  if (!values || map.scale !== "uniform=1") return values;
  return multiplied(values, map.kind === "cross" ? map.shape[2] : 1 / statistics(values).mean);
}

// ---- large maps stay on the server: one row of an affinity, or a whole matrix, is fetched once, when half of its
// figure is in view, and kept

const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const figure = figures.find((candidate) => candidate.node === target);
    if (figure) figure.seen = isIntersecting;
  }
  draw();
}, { threshold: 0.5 });
const KEPT = 64, TRIES = 5, PAUSE = 1500; // answers; requests for one of them; milliseconds until the next
const fetched = new Map(), tries = new Map();
function fromServer({ mechanism, seen }, map, query) {
  const key = [record.image, mechanism.key, map.tensor, query].join(" "), tried = tries.get(key) || 0;
  if (!fetched.has(key) && seen && tried < TRIES) {
    fetched.set(key, null);
    tries.set(key, tried + 1);
    if (fetched.size > KEPT) fetched.delete(fetched.keys().next().value);
    const arrived = (answer) => {
      if (answer?.data) fetched.set(key, decode(answer)), tries.delete(key);
      else setTimeout(() => { fetched.delete(key); draw(); }, PAUSE); // the server is busy, or said no
      draw();
    };
    server.map_row({ image: record.image, mechanism: mechanism.key, path: map.tensor, query }).then(arrived, () => arrived(null));
  }
  return fetched.get(key);
}

// ---- what the marked place reads

const headsOf = (map) => (map.axes.startsWith("head ") ? map.shape[0] : 1);
const headOf = (map) => (headsOf(map) > 1 && +state.head < headsOf(map) ? +state.head : null); // null: their mean
function sideOf(map) { // of the square grid of the queries
  const axes = map.axes.split(" ");
  return axes.includes("q") ? Math.sqrt(map.shape[axes.indexOf("q")]) : map.shape[axes.indexOf("w")];
}
function queryIndex(map) { // the marked place in that grid, flattened
  const [x, y] = cellOf(state.query, sideOf(map), sideOf(map));
  return y * sideOf(map) + x;
}
const perMap = remembered(() => new Map()); // map -> what was computed from it, by query and head
function affinityOf(figure, map) { // (h, w) or (k), of one head or their mean
  const axis = map.axes.split(" ").indexOf("q"), size = map.shape.slice(axis + 1).reduce((a, b) => a * b);
  const query = queryIndex(map), heads = headsOf(map), local = map.data !== "";
  const all = local ? valuesOf(map) : fromServer(figure, map, query);
  if (!all) return null;
  const one = headOf(map);
  const rows = perMap(map), key = `${query} ${one}`;
  if (!rows.has(key)) {
    const start = (head) => (local ? (head * map.shape[axis] + query) * size : head * size);
    const chosen = one === null ? [...Array(heads).keys()] : [one], result = new Float32Array(size);
    for (const head of chosen)
      for (let i = 0; i < size; i++) result[i] += all[start(head) + i] / chosen.length;
    rows.set(key, result);
  }
  return rows.get(key);
}
function crossOf(map) { // (h, w), not a number off the cross; a query's record is its column, then its row
  const [height, width, length] = map.shape, query = queryIndex(map), all = valuesOf(map), rows = perMap(map);
  if (!rows.has(query)) {
    const result = new Float32Array(height * width).fill(NaN), [y, x] = [Math.floor(query / width), query % width];
    for (let i = 0; i < height; i++) result[i * width + x] = all[query * length + i];
    for (let i = 0; i < width; i++) result[y * width + i] = all[query * length + height + i];
    rows.set(query, result);
  }
  return rows.get(query);
}

// ---- small pictures of (height, width): how many a map holds, and in which order they are shown

const TILES = 8; // at a time
const asSquares = ([count, cells]) => [count, Math.sqrt(cells), Math.sqrt(cells)];
const PLANES = {
  "c k": asSquares, "g k h w": asSquares, "1 c w": ([, c, w]) => [c, 1, w], "1 h c": ([, h, c]) => [c, h, 1],
};
const tilesOf = remembered((values, map) => {
  const [count, height, width] = PLANES[map.axes]?.(map.shape) || [map.shape[0], ...map.shape.slice(-2)];
  const size = height * width, turned = map.axes === "1 h c", withMean = ["volume", "profile"].includes(map.kind);
  const at = (i) => (turned ? values.filter((_, j) => j % count === i) : values.subarray(i * size, (i + 1) * size));
  const planes = Array.from({ length: count }, (_, i) => at(i)), mean = new Float32Array(size);
  for (const plane of planes) plane.forEach((x, i) => { mean[i] += x / count; });
  const strength = planes.map((plane) => plane.reduce((sum, x) => sum + Math.abs(x), 0));
  const list = withMean ? ["mean", ...order(strength)] : count > TILES ? order(strength) : [...planes.keys()];
  return { list, height, width, at: (i) => (i === "mean" ? mean : planes[i]) };
});

// ---- words and numbers

const methodName = (cam) => cam.replace(/^GradCAM/, "Grad-CAM");

function number(x) {
  const size = Math.abs(x);
  if (size >= 100) return x.toFixed(0);
  if (size >= 10) return x.toFixed(1);
  if (size >= 0.095 || size === 0) return x.toFixed(2);
  return size >= 0.00095 ? x.toFixed(3) : x.toExponential(0);
}
function percent(share) {
  if (share > 0.9995 && share < 1) return "> 99.9 %";
  const nearAnEnd = share < 0.0995 || (share > 0.995 && share < 1);
  return (100 * share).toFixed(nearAnEnd ? 1 : 0) + " %";
}
const times = (map, x) => number(x) + (map.scale === "uniform=1" ? "×" : "");
const order = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]); // the largest first
const largest = (values) => values.indexOf(Math.max(...values));
const statistics = remembered((values) => {
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
function inWords(figure) { // for who cannot see the picture
  const { mechanism, map, section, values, width, mode } = figure, { least, most, mean, at } = statistics(values);
  const asks = ["pairwise", "cross", "keys", "footprint"].includes(map.kind);
  const from = asks ? ` from row ${Math.floor(queryIndex(map) / sideOf(map)) + 1}, column ${queryIndex(map) % sideOf(map) + 1}` : "";
  const kind = map.kind === "cam" ? methodName(record.cam) : section.title;
  const start = `${mechanism.name}, ${kind}${from}, ${map.tensor}: `, range = `from ${times(map, least)} to ${times(map, most)}`;
  if (mode !== "places") return `${start}${range}, mean ${times(map, mean)}`;
  if (!(most > least)) return `${start}${times(map, most)} everywhere`;
  const cells = [...values].filter((x) => !Number.isNaN(x)).sort((a, b) => b - a), total = cells.reduce((a, b) => a + b);
  const top = cells.slice(0, Math.ceil(cells.length / 5)).reduce((a, b) => a + b, 0);
  const part = least >= 0 ? `; the top fifth of the cells holds ${percent(top / total)}` : "";
  return `${start}strongest at row ${Math.floor(at / width) + 1}, column ${(at % width) + 1}: ${times(map, most)}${part}`;
}
