// The comparison grid. Runs once, when Gradio mounts the component: `element`, `props`, `trigger`, `watch` and
// `server` are in scope. `props.value` is the record that visualize/record.py writes; all drawing happens here,
// so every control except class, method and crop works without the server.

const $ = (selector) => element.querySelector(selector);
const BLOCKS = ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1"];
const CELLS = { 1: 32, 2: 16, 3: 8, 4: 4 }; // side of the map after each stage, in cells
const SVG = "http://www.w3.org/2000/svg";

// Seventeen anchors each, linear between them; in all of them lighter means more.
const COLOURS = {
  viridis:
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26818e 21908c " +
    "1f9f88 28ae80 3ebc74 5dc963 82d34c abdc32 d5e21a fde725",
  cividis:
    "00224e 002e6a 1a386f 32436d 434e6c 52596d 61656f 6f7073 7c7b78 " +
    "8b8778 9b9376 aba072 bbad6c ccba64 ddc958 efd748 fee838",
  magma:
    "000004 0a0822 1d1146 36106a 50127c 691c81 822681 9c2e7f b63779 " +
    "cf4170 e65163 f5695c fb8761 fea571 fec387 fde0a2 fcfdbf",
  grey: "000000 ffffff",
};

// How a number becomes a colour: position() goes from 0 to 1. Fixed for each kind of map, never stretched to the
// data, so that a constant gate looks constant. Shares are multiplied by the number of keys: 1 is "as much as
// from anywhere else", and equal factors are equal steps, from 1/16 to 16.
const linear = (low, high) => (x) => (x - low) / (high - low);
const SCALES = {
  "0-1": { position: linear(0, 1), ends: ["0", "1"] },
  "1-2": { position: linear(1, 2), ends: ["1", "2"] },
  relative: { position: linear(0, 1), ends: ["least", "most"] },
  "uniform=1": { position: (x) => (Math.log2(Math.max(x, 1e-9)) + 4) / 8, ends: ["¹⁄₁₆×", "16×"], one: 0.5 },
};
const scales = new WeakMap();
function scaleOf(map, values) {
  if (SCALES[map.scale]) return SCALES[map.scale];
  if (!scales.has(values)) { // signed: zero in the middle, but at one end for sizes, which have no sign
    const { least, most } = statistics(values), end = Math.max(1e-9, -least, most);
    const low = map.kind === "views" ? 0 : -end;
    scales.set(values, { position: linear(low, end), ends: [number(low), number(end)], one: low && 0.5 });
  }
  return scales.get(values);
}

// What the page shows, in this order. `kinds` are those of visualize/record.py. Maps that stand between the stages
// (`sites`) have a choice of their own; all others follow the block.
const SECTIONS = [
  { kind: "answer", kinds: [], tab: "Answers", whole: true, title: "What each network answers" },
  { kind: "cam", kinds: ["cam"], tab: "Grad-CAM", whole: true, title: "Where the evidence for the class lies" },
  { kind: "pairwise", kinds: ["pairwise", "cross", "footprint", "keys"], tab: "Attention", sites: true, least: 2,
    title: "Where the marked place reads from",
    text: "Each place gathers from other places; 1× is an equal share for each. Click any picture to move the " +
      "mark. This is what is read, not why the network decides." },
  { kind: "spatial", kinds: ["spatial"], tab: "Places", least: 2, title: "How much each place passes",
    text: "One number per place, the same for all channels." },
  { kind: "grid", kinds: ["grid", "affine"], tab: "Places", least: 2, title: "Where the picture is sampled",
    text: "Each crossing of the lines becomes a pixel of what the network goes on with." },
  { kind: "maps", kinds: ["maps"], tab: "Places", title: "Maps of groups, parts and filters",
    text: "One picture each. Where there are many, the strongest come first." },
  { kind: "volume", kinds: ["volume"], tab: "Places", title: "Each place in each channel",
    text: "One number per place and channel: the mean over all channels, then the strongest channels." },
  { kind: "profile", kinds: ["profile"], tab: "Places", title: "Each row or column in each channel",
    text: "One number per channel and row or column, drawn as bands: the mean first, then the strongest channels." },
  { kind: "views", kinds: ["views"], tab: "Places", title: "What each branch sees",
    text: "The mean size of what a branch gives out, over its channels." },
  { kind: "matrix", kinds: ["matrix"], tab: "Channels", sites: true, least: 2, title: "How channels relate",
    text: "Row: the one that gathers. Column: the one it reads, or in a covariance varies with." },
  { kind: "channel", kinds: ["channel"], tab: "Channels", title: "How much each channel passes",
    text: "One number per channel: sorted, as a curve; below in the network's own order." },
  { kind: "branch", kinds: ["branch"], tab: "Channels", title: "Which window each channel uses",
    text: "Several paths look at once; their shares add up to one in each channel." },
  { kind: "vector", kinds: ["vector", "table"], tab: "Weights", title: "How kernels and inputs are mixed",
    text: "One number per kernel or input; in a table one row per head." },
  { kind: "filters", kinds: ["filters"], tab: "Weights", title: "Filters that were learnt",
    text: "Weights of small windows, without the picture." },
];
const SITED = SECTIONS.filter((section) => section.sites).flatMap((section) => section.kinds);
const MODES = { // how a kind is drawn; the others are one picture
  maps: "tiles", volume: "tiles", profile: "tiles", views: "tiles", footprint: "tiles", filters: "tiles",
  matrix: "matrix", table: "matrix", affine: "matrix", channel: "curve", branch: "areas", vector: "bars",
  keys: "bars", grid: "grid",
};
const modeOf = ({ kind, shape }) => (kind === "filters" && shape.length === 2 ? "matrix" : MODES[kind] || "places");
const isWide = (map) => ["tiles", "bars", "curve", "areas"].includes(modeOf(map)) || map.kind === "table";
const OVER_PHOTO = ["maps", "volume", "profile", "views"]; // tiles that are pictures of the same places
const WORDS = { c: "channel", k: "map", g: "group", branch: "branch" }; // one tile, by its axis
const BRANCHES = {
  sk: ["3 × 3 window", "5 × 5 window"], spconv: ["3 × 3 window", "1 × 1 window"],
  acblock: ["3 × 3", "3 × 1", "1 × 3"], psconv: ["spread 1", "spread 2", "spread 4"],
  aspp: ["1 × 1", "rate 1", "rate 2", "rate 4", "whole"], ssh_context: ["5 × 5", "7 × 7"],
  rfb: ["narrow", "middle", "wide"], mixed_pooling: ["3 × 3", "3 × 3 fields", "2 × 2 fields", "columns", "rows"],
};
const TILES = 8, TILE = 150, GAP = 10, LABEL = 26; // at a time; the rest in canvas pixels

const state = {
  block: 5, overlay: 0.6, colours: "viridis", cells: "true", site: null, head: "mean", tab: "cam",
  query: [16, 16], // the marked place, in pixels of the 32x32 picture
  hover: null, // what `pointed` returns: {kind: "places", x, y} in pixels, {kind: "channel", index, of}, ...
};
let record = null, figures = [], previous = new Map(), asked = false, scheduled = false;
const photo = document.createElement("canvas"), greyPhoto = document.createElement("canvas");
const scratch = document.createElement("canvas");

// ---- the record

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
function decode(map) { // little-endian uint16, 0 for lo and 65535 for hi
  const levels = new Uint16Array(bytes(map.data).buffer);
  return Float32Array.from(levels, (level) => map.lo + (level * (map.hi - map.lo)) / 65535);
}
const decoded = new WeakMap();
function valuesOf(map) {
  if (!decoded.has(map)) decoded.set(map, decode(map));
  return decoded.get(map);
}
const mapsOf = (mechanism, kinds, local) =>
  mechanism.maps.filter((map) => kinds.includes(map.kind) && (local === undefined || localOf(map) === local));
const localOf = (map) => ( // the same for a mechanism's map in every block: "refine.gate", "affinity"
  /^(layer\d\.\d|stage\d|head|input)\./.test(map.path) ? map.path.replace(/^(layer\d\.\d|[a-z]+\d?)\./, "")
    : `stem.${map.path}`);

// Large maps stay on the server: one row of an affinity, or a whole matrix, is fetched once, when half of its
// figure is in view, and kept.
const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const figure = figures.find((candidate) => candidate.node === target);
    if (figure) figure.seen = isIntersecting;
  }
  draw();
}, { threshold: 0.5 });
const fetched = new Map();
function fromServer({ mechanism, seen }, map, query) {
  const key = [record.image, mechanism.key, map.path, query].join(" ");
  if (!fetched.has(key) && seen) {
    fetched.set(key, null);
    if (fetched.size > 400) fetched.delete(fetched.keys().next().value);
    server.map_row({ image: record.image, mechanism: mechanism.key, path: map.path, query }).then(
      (answer) => { fetched.set(key, answer && answer.data ? decode(answer) : null); draw(); },
      () => fetched.delete(key), // the next draw asks again
    );
  }
  return fetched.get(key);
}

// What one query reads, (h, w) or (k), of one head or their mean.
function affinityOf(figure, map) {
  const axis = map.axes.split(" ").indexOf("q"), size = map.shape.slice(axis + 1).reduce((a, b) => a * b);
  const query = queryIndex(map), heads = headsOf(map), local = map.data !== "";
  const all = local ? valuesOf(map) : fromServer(figure, map, query);
  if (!all) return null;
  const start = (head) => (local ? (head * map.shape[axis] + query) * size : head * size);
  const one = state.head === "mean" || heads === 1 ? null : Math.min(+state.head, heads - 1);
  const chosen = one === null ? [...Array(heads).keys()] : [one];
  const result = new Float32Array(size);
  for (const head of chosen)
    for (let i = 0; i < size; i++) result[i] += all[start(head) + i] / chosen.length;
  return result;
}
function crossOf(map) { // (h, w), not a number off the cross; a query's record is its column, then its row
  const [height, width, length] = map.shape, query = queryIndex(map), all = valuesOf(map);
  const result = new Float32Array(height * width).fill(NaN), [y, x] = [Math.floor(query / width), query % width];
  for (let i = 0; i < height; i++) result[i * width + x] = all[query * length + i];
  for (let i = 0; i < width; i++) result[y * width + i] = all[query * length + height + i];
  return result;
}
const headsOf = (map) => (map.axes.startsWith("head ") ? map.shape[0] : 1);
function queryIndex(map) { // the marked place in the flattened grid of the queries
  const axes = map.axes.split(" "), asks = axes.includes("q");
  const height = asks ? Math.sqrt(map.shape[axes.indexOf("q")]) : map.shape[axes.indexOf("h")];
  const width = asks ? height : map.shape[axes.indexOf("w")];
  return Math.floor((state.query[1] * height) / 32) * width + Math.floor((state.query[0] * width) / 32);
}

// Small pictures of (height, width): how many a map holds, and in which order they are shown.
const square = ([count, cells]) => [count, Math.sqrt(cells), Math.sqrt(cells)];
const PLANES = {
  "c k": square, "g k h w": square, "1 c w": ([, c, w]) => [c, 1, w], "1 h c": ([, h, c]) => [c, h, 1],
};
const tiled = new WeakMap();
function tilesOf(map, values) {
  if (tiled.has(values)) return tiled.get(values);
  const [count, height, width] = PLANES[map.axes]?.(map.shape) || [map.shape[0], ...map.shape.slice(-2)];
  const size = height * width, turned = map.axes === "1 h c", withMean = ["volume", "profile"].includes(map.kind);
  const at = (i) => (turned ? values.filter((_, j) => j % count === i) : values.subarray(i * size, (i + 1) * size));
  const planes = Array.from({ length: count }, (_, i) => at(i)), mean = new Float32Array(size);
  for (const plane of planes) plane.forEach((x, i) => { mean[i] += x / count; });
  const strength = planes.map((plane) => plane.reduce((sum, x) => sum + Math.abs(x), 0));
  const list = withMean ? ["mean", ...order(strength)] : count > TILES ? order(strength) : [...planes.keys()];
  tiled.set(values, { list, height, width, at: (i) => (i === "mean" ? mean : planes[i]) });
  return tiled.get(values);
}

// ---- words and numbers

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
const stageOf = (block) => +block.replace(/\D*(\d).*/, "$1");
function siteName(map) {
  if (map.path.startsWith("stage")) return `after layer${stageOf(map.block)}`;
  return /^(head|input)\./.test(map.path) ? `the ${map.path.split(".")[0]}` : map.block;
}
const order = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]); // the largest first
const largest = (values) => values.indexOf(Math.max(...values));
function statistics(values) {
  let least = Infinity, most = -Infinity, sum = 0, count = 0;
  for (const value of values) {
    if (Number.isNaN(value)) continue; // off the cross
    least = Math.min(least, value);
    most = Math.max(most, value);
    sum += value;
    count += 1;
  }
  return { least, most, mean: sum / count, at: values.indexOf(most) };
}

// ---- small builders

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}
function choice(label, options, value, chosen) {
  const select = make("select");
  for (const [key, text] of options) select.add(new Option(text, key, false, key === value));
  select.addEventListener("change", () => chosen(select.value));
  return make("label", "choice", make("span", "", label), select);
}
function segments(label, options, value, chosen) {
  const group = make("div", "segments");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  for (const [key, text] of options) {
    const button = make("button", "", text);
    button.type = "button";
    button.dataset.key = key;
    button.setAttribute("aria-pressed", key === value);
    button.addEventListener("click", () => chosen(key));
    group.append(button);
  }
  return group;
}

// ---- structure: rebuilt only when a record arrives or the width changes

function build() {
  const focused = $(".sections").contains(document.activeElement) ? focusPath(document.activeElement) : null;
  record = arrived(props.value) || record; // nothing new: the old comparison stays
  asked = false;
  $(".empty").hidden = Boolean(record);
  for (const part of [".tools", ".tabs", ".sections"]) $(part).hidden = !record;
  say();
  if (!record) return;
  readPhoto();
  const present = SECTIONS.filter((section) =>
    record.mechanisms.some((mechanism) => section.kind === "answer" || mapsOf(mechanism, section.kinds).length));
  chooseSite(present);
  previous = new Map(figures.map((figure) => [figure.key, figure]));
  figures = [];
  inView.disconnect();
  $(".sections").replaceChildren(...present.map(sectionOf));
  previous = new Map();
  if (focused) $(".sections").querySelectorAll(focused[0])[focused[1]]?.focus({ preventScroll: true });
  buildTabs(present);
  layout();
  paint();
  document.dispatchEvent(new CustomEvent("compared", { detail: record.example }));
  if (!record.pending?.length) element.dataset.records = +(element.dataset.records || 0) + 1; // complete ones
}
function arrived(value) { // while columns are still to come, the old ones keep their place, dimmed
  if (!value?.mechanisms?.length && !value?.pending?.length) return null;
  const old = (key) => record?.mechanisms.find((mechanism) => mechanism.key === key);
  const waiting = (value.pending || []).map(old).filter(Boolean);
  const mechanisms = [...value.mechanisms, ...waiting.map((mechanism) => ({ ...mechanism, pending: true }))];
  return mechanisms.length ? { ...value, mechanisms } : null;
}
function focusPath(node) { // the same control in the next build
  const selector = node.tagName.toLowerCase();
  return [selector, [...$(".sections").querySelectorAll(selector)].indexOf(node)];
}
function chooseSite(present) {
  const sites = sitesOf();
  if (present.some((section) => section.sites) && !sites.some(([site]) => site === state.site))
    state.site = sites.length ? sites.at(-1)[0] : null;
}
function sitesOf() { // where pairwise maps and channel matrices exist: [block, "after layer3: 8 × 8"]
  const sites = new Map(), maps = record.mechanisms.flatMap((mechanism) => mapsOf(mechanism, SITED));
  for (const map of maps) {
    const known = sites.get(map.block), side = CELLS[stageOf(map.block)], name = siteName(map);
    if (!known || map.path.startsWith("stage"))
      sites.set(map.block, name.startsWith("the ") ? name : `${name}: ${side} × ${side}`);
  }
  return [...sites].sort(([a], [b]) => BLOCKS.indexOf(a) - BLOCKS.indexOf(b));
}
function sectionOf(section) {
  const holders = record.mechanisms.filter((m) => section.kind === "answer" || mapsOf(m, section.kinds).length);
  const shown = holders.flatMap((mechanism) => figuresOf(section, mechanism));
  const header = make("header", "", make("h3", "", section.title));
  const node = make("section", "section", header, make("div", "maps", ...shown));
  node.dataset.kind = section.kind;
  node.dataset.tab = section.tab;
  const across = shown.filter((part) => part.classList.contains("wide")).length + shown.length;
  node.classList.toggle("whole", Boolean(section.whole));
  node.style.setProperty("--span", section.whole ? 99 : Math.max(across, section.least || 1));
  if (section.text) header.append(make("p", "", section.text));
  if (section.kind === "answer") header.append(make("p", "", summary()));
  if (section.kind === "cam") header.append(camControls(), camText());
  if (section.kind === "pairwise") header.append(pairwiseControls(section, holders));
  return node;
}
function summary() {
  const votes = new Map();
  const ready = record.mechanisms.filter((mechanism) => !mechanism.pending && !mechanism.random);
  for (const { probabilities } of ready) {
    const name = record.classes[largest(probabilities)];
    votes.set(name, (votes.get(name) || 0) + 1);
  }
  const counts = [...votes].sort((a, b) => b[1] - a[1]);
  const parts = counts.map(([name, count]) => `${count} ${count === 1 ? "says" : "say"} ${name}`);
  const together = counts.length === 1 && ready.length > 1;
  const verdict = together ? `${ready.length === 2 ? "Both" : `All ${ready.length}`} say ${counts[0][0]}` : parts.join(", ");
  if (!ready.length) return "Random weights give random answers.";
  return `${verdict}. They know ten classes only and call any picture one of them.`;
}
const CAM_TEXTS = {
  "GradCAM": "Places where the features that raise the class score are active.",
  "GradCAM++": "As Grad-CAM, with every place that raises the score counted alike.",
  "HiResCAM": "Each cell's activation times its own effect on the score.",
  "LayerCAM": "Each cell's activation times its own effect, where that raises the score.",
  "XGradCAM": "As Grad-CAM, with each channel weighted where it is active.",
  "EigenCAM": "The main pattern of the activations. It knows no class.",
};
const camText = () =>
  make("p", "", `${CAM_TEXTS[record.cam]} Relative: each map runs from its own least to its own most.`);
function camControls() {
  const classes = [["predicted", "its own answer"], ...record.classes.map((name) => [name, name])];
  const methods = Object.keys(CAM_TEXTS).map((name) => [name, name.replace(/^GradCAM/, "Grad-CAM")]);
  return make("div", "controls",
    choice("Class", classes, record.target, (target) => ask({ target })),
    choice("Method", methods, record.cam, (cam) => ask({ cam })));
}
function pairwiseControls(section, holders) {
  const sites = segments("Where in the network", sitesOf(), state.site, (site) => set("site", site));
  const controls = make("div", "controls", sites);
  const heads = Math.max(...holders.flatMap((mechanism) => mapsOf(mechanism, section.kinds).map(headsOf)));
  if (heads > 1) {
    const options = [["mean", "mean"], ...Array.from({ length: heads }, (_, i) => [String(i), `head ${i + 1}`])];
    controls.append(choice("Heads", options, state.head, (head) => set("head", head)));
  }
  return controls;
}

function figuresOf(section, mechanism) { // the nodes: one for each map that the mechanism has in a block
  if (section.kind === "answer") return [figureOf(section, mechanism)];
  const locals = new Map(mapsOf(mechanism, section.kinds).map((map) => [localOf(map), map]));
  return [...locals].map(([local, map]) => figureOf(section, mechanism, local, locals.size, isWide(map)));
}
function figureOf(section, mechanism, local, siblings, wide) {
  const key = [section.kind, mechanism.key, local].join(" "), before = previous.get(key);
  const fresh = { key, section, local, siblings, wide, kind: section.kind, page: before?.page || 0 };
  const figure = { ...(mechanism.pending && before ? before : fresh), mechanism };
  figures.push(figure);
  if (figure.node) {
    figure.node.classList.add("pending");
    return figure.node;
  }
  if (section.kind === "answer") return (figure.node = answerOf(mechanism));
  figure.value = make("span", "value");
  figure.value.title = local;
  figure.body = make("div", "body");
  const line = make("span", "line", ...(mechanism.random ? [make("i", "", "random weights")] : []), figure.value);
  const caption = make("figcaption", "", nameOf(mechanism), line);
  figure.node = make("figure", wide ? "map wide" : "map", caption, figure.body);
  figure.node.classList.toggle("random", Boolean(mechanism.random));
  figure.node.dataset.mechanism = mechanism.key;
  inView.observe(figure.node);
  return figure.node;
}
function nameOf(mechanism) { // opens the mechanism's card
  const button = make("button", "name", mechanism.name);
  button.type = "button";
  button.title = `${mechanism.name}: what it does`;
  button.addEventListener("click", () => trigger("card", { name: mechanism.key }));
  return button;
}
function answerOf(mechanism) {
  const ranked = order(mechanism.probabilities);
  const bars = (indices) => indices.map((index) => {
    const share = mechanism.probabilities[index], bar = make("i");
    bar.style.setProperty("--p", share);
    const words = [make("span", "", record.classes[index]), make("data", "", percent(share))];
    return make("li", index === ranked[0] ? "first" : "", ...words, bar);
  });
  const { value, low, high, recipe } = mechanism.accuracy || {};
  const unknown = mechanism.random ? "random weights, not trained" : "not measured";
  const facts = make("p", "facts", value == null ? unknown : `${value.toFixed(1)} % right in the test`);
  facts.title = `${mechanism.parameters.toLocaleString("en")} parameters`;
  if (value != null) facts.title += `; 95 % interval ${low} to ${high} %; recipe ${recipe}`;
  const node = make("article", mechanism.random ? "answer random" : "answer", nameOf(mechanism), facts,
    make("ol", "bars", ...bars(ranked.slice(0, 3))), make("ol", "bars every", ...bars([...ranked.keys()])));
  node.tabIndex = 0;
  node.dataset.mechanism = mechanism.key;
  return node;
}
function buildTabs(present) {
  const tabs = [...new Set(present.map((section) => section.tab))];
  tabs.push(tabs.shift()); // the answers last: they stand above each Grad-CAM as well
  if (!tabs.includes(state.tab)) state.tab = tabs[0];
  $(".tabs").replaceChildren(...tabs.map((tab) => {
    const button = make("button", "", tab);
    button.type = "button";
    button.addEventListener("click", () => { state.tab = tab; showTab(); });
    return button;
  }));
  showTab();
}
function showTab() { // one kind at a time, on a phone
  for (const button of $(".tabs").children) button.setAttribute("aria-pressed", button.textContent === state.tab);
  for (const section of $(".sections").children) section.classList.toggle("shown", section.dataset.tab === state.tab);
}
function layout() { // as many columns as fit, of 140 to 200 pixels
  const width = $(".sections").clientWidth, count = record ? record.mechanisms.length : 0;
  if (!width || !count) return;
  const least = Math.ceil((width + 14) / 214), most = Math.max(2, Math.floor((width + 14) / 154));
  $(".sections").style.setProperty("--tracks", Math.min(most, Math.max(least, count)));
}
function readPhoto() {
  const rgb = bytes(record.image);
  for (const [canvas, grey] of [[photo, false], [greyPhoto, true]]) {
    canvas.width = canvas.height = 32;
    const context = canvas.getContext("2d"), image = context.createImageData(32, 32);
    for (let i = 0; i < 1024; i++) {
      const [r, g, b] = rgb.subarray(3 * i, 3 * i + 3), luminance = 0.299 * r + 0.587 * g + 0.114 * b;
      image.data.set(grey ? [luminance, luminance, luminance, 255] : [r, g, b, 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }
}
function say() { // one line of fixed height: what is going on, or what is missing
  const status = $(".status"), given = props.value || {};
  const waiting = (given.pending || []).length, all = waiting + (given.mechanisms || []).length;
  const missing = (given.unavailable || []).map((entry) => entry.reason);
  const notes = (given.mechanisms || []).filter((m) => m.note).map((m) => `${m.name}: ${m.note}`);
  if (asked) status.textContent = "Looking …";
  else if (waiting) status.textContent = `Looking with ${given.pending[0]}: ${all - waiting} of ${all} done`;
  else status.textContent = [...(given.notes || []), ...notes, ...missing].join(" ");
}

// ---- drawing

const palettes = {};
function palette() {
  const name = state.colours;
  if (!palettes[name]) {
    const anchors = COLOURS[name].split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    palettes[name] = new Uint8ClampedArray(256 * 3);
    const last = anchors.length - 1;
    for (let i = 0; i < 256; i++) {
      const place = (i / 255) * last, low = Math.min(last - 1, Math.floor(place)), share = place - low;
      for (let c = 0; c < 3; c++)
        palettes[name][3 * i + c] = anchors[low][c] * (1 - share) + anchors[low + 1][c] * share;
    }
  }
  return palettes[name];
}
const ramp = () => `linear-gradient(90deg, ${COLOURS[state.colours].split(" ").map((hex) => "#" + hex).join(", ")})`;

function colour(values, height, width, position) { // onto the scratch canvas, one pixel per value
  scratch.width = width;
  scratch.height = height;
  const context = scratch.getContext("2d"), image = context.createImageData(width, height), table = palette();
  for (let i = 0; i < height * width; i++) {
    const level = Math.max(0, Math.min(255, Math.round(255 * position(values[i]))));
    const alpha = Number.isNaN(values[i]) ? 0 : 255;
    image.data.set([table[3 * level], table[3 * level + 1], table[3 * level + 2], alpha], 4 * i);
  }
  context.putImageData(image, 0, 0);
}
function frameCell(context, x, y, width, height, light) { // black under white: seen on every colour
  for (const [colour, thick] of [["#000", light ? 4 : 7], ["#fff", light ? 1.5 : 3]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: thick });
    context.strokeRect(x, y, width, height);
  }
}
// Values over the grey picture, or alone, in a square of the canvas.
function overlay(context, values, height, width, position, x, y, side, over = true) {
  colour(values, height, width, position);
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = false;
  if (over) context.drawImage(state.overlay ? greyPhoto : photo, x, y, side, side);
  context.globalAlpha = over ? state.overlay : 1;
  context.imageSmoothingEnabled = over && state.cells === "smooth";
  context.imageSmoothingQuality = "high";
  if (context.imageSmoothingEnabled) smooth(context, height, width, x, y, side);
  else context.drawImage(scratch, x, y, side, side);
  context.globalAlpha = 1;
}
function smooth(context, height, width, x, y, side) { // the browser fades out half a cell at the rim: repeat the rim
  const padded = document.createElement("canvas");
  padded.width = width + 2;
  padded.height = height + 2;
  const inner = padded.getContext("2d");
  inner.drawImage(scratch, 0, 0, width + 2, height + 2);
  inner.drawImage(scratch, 0, 0, width, 1, 1, 0, width, 1);
  inner.drawImage(scratch, 0, height - 1, width, 1, 1, height + 1, width, 1);
  inner.drawImage(scratch, 0, 0, 1, height, 0, 1, 1, height);
  inner.drawImage(scratch, width - 1, 0, 1, height, width + 1, 1, 1, height);
  inner.drawImage(scratch, 1, 1);
  context.drawImage(padded, 1, 1, width, height, x, y, side, side);
}
const cellOf = ([x, y], height, width) => [Math.floor((x * width) / 32), Math.floor((y * height) / 32)];
function mark(context, place, height, width, [left, top, side], light) { // the cell that a place of the picture is in
  const [x, y] = cellOf(place, height, width), cell = [side / width, side / height];
  frameCell(context, left + x * cell[0], top + y * cell[1], ...cell, light);
}
function drawMarks(canvas, height, width, marked) {
  const context = canvas.getContext("2d"), box = [0, 0, canvas.width];
  if (state.hover?.kind === "places") mark(context, [state.hover.x, state.hover.y], height, width, box, true);
  if (marked) mark(context, state.query, height, width, box, false);
}
function drawPlaces(figure) {
  const { canvas, values, height, width, map } = figure;
  overlay(canvas.getContext("2d"), values, height, width, scaleOf(map, values).position, 0, 0, canvas.width);
  const asks = map.kind === "pairwise"; // the queries may lie closer than the keys
  const [rows, columns] = asks ? Array(2).fill(Math.sqrt(map.shape.at(-3))) : [height, width];
  drawMarks(canvas, rows, columns, asks || map.kind === "cross");
}

// What a figure shows at the present block or site; null where the mechanism has nothing there. What exists only
// once, such as a map of the head, is shown at every block.
function present(figure) {
  const { mechanism, section, local } = figure, block = section.sites ? state.site : BLOCKS[state.block];
  const maps = mapsOf(mechanism, section.kinds, local);
  const map = maps.length === 1 ? maps[0] : maps.find((candidate) => candidate.block === block);
  return map ? { map, values: scaled(map, shownOf(figure, map)) } : { map: null, values: null };
}
function shownOf(figure, map) { // the part of a map that is drawn; null as long as it is on its way
  if (map.kind === "pairwise" || map.kind === "keys") return affinityOf(figure, map);
  if (map.kind === "cross") return crossOf(map);
  if (map.kind === "footprint") return fromServer(figure, map, queryIndex(map));
  if (map.kind === "views") return fromServer(figure, map, "mean");
  return map.data === "" ? fromServer(figure, map, null) : valuesOf(map);
}
const scaledValues = new WeakMap();
function scaled(map, values) { // shares as multiples of an equal one: as each row sums to one, of their mean
  if (!values || map.scale !== "uniform=1") return values;
  if (!scaledValues.has(values)) {
    const { mean } = statistics(values), size = map.kind === "cross" ? map.shape[2] : 1 / mean;
    scaledValues.set(values, values.map((x) => x * size));
  }
  return scaledValues.get(values);
}

function draw() { // at most once per frame
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; paint(); });
}
function paint() {
  if (!record) return;
  const name = BLOCKS[state.block], side = CELLS[stageOf(name)];
  $(".block-name").textContent = `${name} · ${side} × ${side} cells`;
  [...$(".ticks").children].forEach((tick, i) => tick.classList.toggle("here", i === state.block));
  const seen = $(".picture").getContext("2d");
  seen.imageSmoothingEnabled = false;
  seen.drawImage(photo, 0, 0, 256, 256);
  const asking = figures.some((figure) => figure.kind === "pairwise");
  const cells = asking ? CELLS[stageOf(state.site)] : 32;
  drawMarks($(".picture"), cells, cells, asking);
  for (const figure of figures) paintFigure(figure);
  element.dataset.draws = +(element.dataset.draws || 0) + 1;
}
function paintFigure(figure) {
  if (figure.mechanism.pending || figure.kind === "answer") return;
  const shown = present(figure);
  if (shown.map && !shown.values) { // on its way: keep the old drawing, dimmed
    figure.node.classList.add("fetching");
    if (figure.map) return;
  }
  const changed = shown.map !== figure.map || shown.values !== figure.values || state.colours !== figure.colours;
  Object.assign(figure, shown, { colours: state.colours });
  if (!shown.map) return paintNothing(figure);
  const mode = modeOf(figure.map);
  if (figure.mode !== mode) frame(figure, mode);
  const flat = ["curve", "areas", "bars"].includes(mode), shape = figure.map.shape;
  [figure.height, figure.width] = flat ? [1, shape.filter((count) => count > 1).at(-1) || 1]
    : ["cross", "grid"].includes(figure.map.kind) ? shape.slice(0, 2) : shape.slice(-2);
  if (!shown.values) return;
  figure.node.classList.remove("fetching");
  if (mode === "places") drawPlaces(figure);
  const look = [state.overlay, state.cells, figure.page].join(" ");
  if (mode === "tiles" && (changed || figure.seen || figure.look !== look)) drawTiles(figure);
  figure.look = look;
  if (mode === "grid") drawGrid(figure);
  if (mode === "matrix" && (changed || state.hover?.kind !== "places")) drawMatrix(figure);
  if (mode === "bars") drawBars(figure);
  if (mode === "curve" && changed) drawCurve(figure);
  if (mode === "areas" && changed) drawBranches(figure);
  if (changed) drawLegend(figure);
  drawValue(figure);
}
function paintNothing(figure) { // never an invented map: say where this mechanism has one
  figure.mode = null;
  figure.value.textContent = "";
  const box = make("div", "none", make("span", "", "nothing here"));
  for (const map of mapsOf(figure.mechanism, figure.section.kinds, figure.local).slice(-2)) {
    const link = make("button", "link", `go to ${siteName(map)}`);
    link.type = "button";
    const [key, value] = figure.section.sites ? ["site", map.block] : ["block", BLOCKS.indexOf(map.block)];
    link.addEventListener("click", () => set(key, value));
    box.append(link);
  }
  figure.body.replaceChildren(box);
}
function frame(figure, mode) { // the empty figure, of the same height whatever it will show
  figure.mode = mode;
  figure.canvas = make("canvas");
  figure.canvas.setAttribute("role", "img");
  figure.canvas.dataset.pick = mode;
  figure.node.dataset.figure = figure.map.kind;
  figure.sorted = figure.plot = figure.dot = null;
  const parts = [figure.canvas];
  if (mode === "places" || mode === "grid") Object.assign(figure.canvas, { width: 320, height: 320 });
  if (mode === "places") figure.canvas.tabIndex = 0;
  if (mode === "tiles") resize(figure.canvas, 4 * TILE + 3 * GAP, 2 * (TILE + LABEL)); // mostly two rows
  if (mode === "tiles") parts.push((figure.pager = make("div", "pager")));
  if (mode === "curve" || mode === "areas") {
    figure.plot = make("div", "curve");
    figure.canvas.className = "strip";
    figure.plot.dataset.pick = figure.canvas.dataset.pick = "channel";
    figure.plot.dataset.sorted = "yes";
    parts.unshift(figure.plot);
  }
  figure.legend = make("div", "legend");
  figure.numbers = make("p", "numbers");
  figure.path = make("p", "path");
  figure.body.replaceChildren(...parts, figure.legend, figure.numbers, figure.path);
}
function resize(canvas, width, height) {
  Object.assign(canvas, { width, height });
  canvas.style.aspectRatio = `${width} / ${height}`;
}
function drawMatrix(figure) { // with its numbers where there are few
  const { canvas, values, height, width, map } = figure, { position } = scaleOf(map, values);
  resize(canvas, 512, figure.wide ? 160 : 512);
  colour(values, height, width, position);
  const context = canvas.getContext("2d"), [x, y] = [canvas.width / width, canvas.height / height];
  context.imageSmoothingEnabled = false;
  context.drawImage(scratch, 0, 0, canvas.width, canvas.height);
  if (values.length > 36) return;
  const font = `${Math.min(34, x / 3.2)}px sans-serif`;
  Object.assign(context, { font, textAlign: "center", textBaseline: "middle" });
  values.forEach((value, i) => {
    context.fillStyle = position(value) > 0.6 ? "#000" : "#fff";
    context.fillText(number(value), ((i % width) + 0.5) * x, (Math.floor(i / width) + 0.5) * y);
  });
}
function drawTiles(figure) { // small pictures, a page of eight at a time
  const { canvas, map, values } = figure, tiles = tilesOf(map, values), { list, height, width, at } = tiles;
  const pages = Math.ceil(list.length / TILES), rows = list.length > TILES / 2 ? 2 : 1;
  figure.page = Math.min(figure.page, pages - 1);
  figure.tiles = list.slice(figure.page * TILES, (figure.page + 1) * TILES);
  figure.tileOf = tiles;
  figure.over = OVER_PHOTO.includes(map.kind);
  resize(canvas, 4 * TILE + 3 * GAP, rows * (TILE + LABEL));
  const context = canvas.getContext("2d"), { position } = scaleOf(map, values);
  const fillStyle = getComputedStyle($(".scope")).color;
  Object.assign(context, { font: "20px sans-serif", textBaseline: "bottom", fillStyle });
  figure.tiles.forEach((index, i) => {
    const [x, y] = [(i % 4) * (TILE + GAP), Math.floor(i / 4) * (TILE + LABEL)];
    overlay(context, at(index), height, width, position, x, y, TILE, figure.over);
    context.fillText(tileName(figure, index), x + 1, y + TILE + LABEL - 3, TILE);
    if (figure.over && state.hover?.kind === "places")
      mark(context, [state.hover.x, state.hover.y], height, width, [x, y, TILE], true);
  });
  drawPager(figure, pages);
}
function tileName({ map, mechanism }, index) {
  if (index === "mean") return "mean";
  if (map.kind === "views" && BRANCHES[mechanism.key]) return BRANCHES[mechanism.key][index];
  const axis = map.axes.split(" ").find((letter) => letter !== "1" && letter !== "h");
  return `${WORDS[axis] || axis} ${axis === "c" ? index : index + 1}`;
}
function drawPager(figure, pages) {
  const text = pages > 1 ? `page ${figure.page + 1} of ${pages}` : "";
  if (figure.pager.dataset.text === text) return;
  figure.pager.dataset.text = text;
  const step = (by, sign, label) => {
    const button = make("button", "", sign), page = figure.page + by;
    Object.assign(button, { type: "button", ariaLabel: label, disabled: page < 0 || page >= pages });
    button.addEventListener("click", () => { figure.page = page; draw(); });
    return button;
  };
  const parts = text ? [step(-1, "‹", "previous"), make("span", "", text), step(1, "›", "next")] : [];
  figure.pager.replaceChildren(...parts);
}
function drawBars(figure) { // from zero, or from an equal share
  const { canvas, map, values } = figure, { position, one: base = 0 } = scaleOf(map, values);
  resize(canvas, 640, 200);
  const context = canvas.getContext("2d"), step = 640 / values.length, colours = getComputedStyle($(".scope"));
  const y = (place) => 198 - 196 * Math.max(0, Math.min(1, place));
  context.fillStyle = colours.getPropertyValue("--border-color-primary");
  context.fillRect(0, y(base) - 1, 640, 2);
  values.forEach((value, i) => {
    const here = state.hover?.kind === "bars" && state.hover.x === i && state.hover.of === values.length;
    context.fillStyle = here ? colours.color : colours.getPropertyValue("--color-accent");
    context.fillRect(i * step + step * 0.1, y(position(value)), step * 0.8, y(base) - y(position(value)));
  });
}
function drawGrid(figure) { // the picture in the middle third, and every fourth line of the sampling points
  const { canvas, map, values } = figure, context = canvas.getContext("2d"), [height, width] = map.shape;
  const side = canvas.width, place = (x) => ((x / 1.6 + 1) / 2) * side, edge = place(-1);
  context.clearRect(0, 0, side, side);
  context.imageSmoothingEnabled = false;
  context.drawImage(state.overlay ? greyPhoto : photo, edge, edge, side - 2 * edge, side - 2 * edge);
  const point = (row, column) => [0, 1].map((axis) => place(values[2 * (row * width + column) + axis]));
  for (const [colour, thick] of [["#000", 4], ["#fde725", 2]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: thick });
    context.beginPath();
    for (let i = 0; i < height; i += i + 4 < height ? 4 : Math.max(1, height - 1 - i))
      for (let j = 0; j < width; j++) context[j ? "lineTo" : "moveTo"](...point(i, j));
    for (let j = 0; j < width; j += j + 4 < width ? 4 : Math.max(1, width - 1 - j))
      for (let i = 0; i < height; i++) context[i ? "lineTo" : "moveTo"](...point(i, j));
    context.stroke();
  }
}
function drawStrip(figure, values, position) {
  colour(values, 1, values.length, position);
  figure.canvas.width = values.length;
  figure.canvas.height = 1;
  figure.canvas.getContext("2d").drawImage(scratch, 0, 0);
}
function drawCurve(figure) {
  const { values, map } = figure, { position, ends } = scaleOf(map, values);
  figure.sorted = order(values);
  const others = figures.filter((other) => other !== figure && other.kind === "channel" && map.scale !== "signed")
    .map(present).filter((other) => other.values && other.map.scale === map.scale)
    .map((other) => curve([...other.values].sort((a, b) => b - a).map(position), "other"));
  plot(figure, ends, [...others, curve(figure.sorted.map((i) => position(values[i])))]);
  figure.shown = values;
  drawStrip(figure, values, position);
}
function drawBranches(figure) {
  const branches = figure.map.shape[0], channels = figure.map.shape[1];
  const share = (branch) => figure.values.subarray(branch * channels, (branch + 1) * channels);
  const names = BRANCHES[figure.mechanism.key] || Array.from({ length: branches }, (_, i) => `branch ${i + 1}`);
  const last = share(branches - 1);
  figure.sorted = order(last);
  figure.width = channels;
  const below = new Float32Array(channels), areas = [];
  for (let branch = branches - 1; branch >= 0; branch--) {
    const from = Float32Array.from(below);
    for (let i = 0; i < channels; i++) below[i] += share(branch)[figure.sorted[i]];
    areas.push(area(from, below, opacity(branch, branches)));
  }
  plot(figure, ["0", "1"], areas);
  figure.shown = last;
  figure.names = names;
  drawStrip(figure, last, (x) => x);
}
const opacity = (branch, branches) => 0.25 + (0.75 * branch) / Math.max(1, branches - 1);
function plot(figure, ends, paths) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.append(...paths);
  const top = make("span", "end", ends[1]), bottom = make("span", "end", ends[0]);
  top.style.top = "1px";
  bottom.style.bottom = "1px";
  figure.dot = make("span", "dot");
  figure.plot.replaceChildren(svg, ...(figure.kind === "channel" ? [top] : []), figure.dot);
}
function path(points, className) {
  const node = document.createElementNS(SVG, "path");
  if (className) node.setAttribute("class", className);
  node.setAttribute("d", points);
  return node;
}
const across = (i, count) => (i / Math.max(1, count - 1)).toFixed(4);
const curve = (heights, className) =>
  path("M" + heights.map((y, i) => `${across(i, heights.length)},${(1 - y).toFixed(4)}`).join("L"), className);
function area(from, to, strength) {
  const edge = (heights) => Array.from(heights, (y, i) => `${across(i, heights.length)},${(1 - y).toFixed(4)}`);
  const node = path(`M${edge(to).join("L")}L${edge(from).reverse().join("L")}Z`, "area");
  node.style.opacity = strength;
  return node;
}

function drawLegend(figure) {
  const { map, values, mechanism } = figure, scale = scaleOf(map, values);
  figure.legend.hidden = map.kind === "grid";
  const shown = figure.kind === "branch" ? figure.shown : values, stats = statistics(shown);
  const clamp = (x) => Math.max(0, Math.min(1, scale.position(x)));
  const bar = make("span", "ramp");
  bar.style.background = ramp();
  if (scale.one) bar.append(make("i", "one"));
  const range = make("i", "range"), mean = make("i", "mean");
  if (scale.one) bar.firstChild.style.left = 100 * scale.one + "%";
  range.style.left = 100 * clamp(stats.least) + "%";
  range.style.right = 100 - 100 * clamp(stats.most) + "%";
  mean.style.left = 100 * clamp(stats.mean) + "%";
  figure.mark = make("i", "mark");
  figure.mark.hidden = true;
  bar.append(range, mean, figure.mark);
  figure.legend.replaceChildren(make("span", "", scale.ends[0]), bar, make("span", "", scale.ends[1]));
  const flat = stats.most - stats.least < 1e-4 * Math.max(1e-9, Math.abs(stats.most));
  if (figure.kind === "cam") {
    const [low, high] = map.raw || [map.lo, map.hi];
    figure.numbers.textContent = stats.most > 0 ? `relative, mean ${number(stats.mean)}` : "flat: none stands out";
    figure.numbers.title = `before stretching: ${number(low)} to ${number(high)}`;
  } else {
    figure.numbers.textContent = flat ? `flat: ${times(map, stats.mean)} everywhere`
      : `${number(stats.least)}–${times(map, stats.most)}, mean ${times(map, stats.mean)}`;
    figure.numbers.title = figure.numbers.textContent;
  }
  if (figure.kind === "branch") figure.numbers.textContent = `${figure.names.at(-1)}: ${figure.numbers.textContent}`;
  figure.path.replaceChildren(...map.path.split(/(?<=\.)/).flatMap((part) => [part, make("wbr")]),
    map.static ? " · same for every picture" : "");
  const at = stats.at % (figure.height * figure.width);
  const [row, column] = [Math.floor(at / figure.width) + 1, (at % figure.width) + 1];
  const where = figure.height > 1 ? ` at row ${row}, column ${column}` : "";
  figure.canvas.setAttribute("aria-label",
    `${mechanism.name}, ${map.path}: mean ${times(map, stats.mean)}, most ${times(map, stats.most)}${where}`);
}
function drawValue(figure) { // the number under the pointer, in every figure that has the same place or channel
  const { hover } = state, { value, map, values, mode } = figure, { position } = scaleOf(map, values);
  const [text, at] = (hover && READ[mode]?.(figure, hover)) || ["", null];
  if (figure.dot) figure.dot.hidden = at === null;
  if (figure.dot && at !== null) {
    figure.dot.style.left = 100 * across(figure.sorted.indexOf(hover.index), figure.width) + "%";
    figure.dot.style.top = 100 - 100 * position(at) + "%";
  }
  figure.mark.hidden = at === null;
  if (at !== null) figure.mark.style.left = 100 * Math.max(0, Math.min(1, position(at))) + "%";
  value.classList.toggle("here", at !== null);
  value.textContent = text || caption(figure);
}
function readChannel({ sorted, width, shown }, hover) {
  if (hover.kind !== "channel" || !sorted || hover.of !== width) return null;
  return [`channel ${hover.index}: ${number(shown[hover.index])}`, shown[hover.index]];
}
const READ = { // by mode: [words, number], or null where the pointer says nothing to a figure
  places({ map, values, height, width }, hover) {
    if (hover.kind !== "places") return null;
    const [x, y] = cellOf([hover.x, hover.y], height, width), at = values[y * width + x];
    return Number.isNaN(at) ? ["not read", null] : [times(map, at), at];
  },
  tiles(figure, hover) { // of the tile under the pointer, else of the first
    const { tileOf, tiles, over, map } = figure, own = hover.figure === figure.key;
    if (!tiles || !(own ? hover.tile in tiles : over && hover.kind === "places")) return null;
    const index = tiles[own ? hover.tile : 0], { height, width, at } = tileOf;
    const [x, y] = cellOf([hover.x, hover.y], height, width), found = at(index)[y * width + x];
    return [`${tileName(figure, index)}: ${times(map, found)}`, found];
  },
  matrix({ map, values, width, height }, hover) {
    if (hover.kind !== "matrix" || hover.of !== width || hover.y >= height) return null;
    const at = values[hover.y * width + hover.x], words = map.kind === "matrix" ? "reads" : ",";
    return [`${hover.y} ${words} ${hover.x}: ${times(map, at)}`.replace(" ,", ","), at];
  },
  bars({ map, values }, hover) {
    if (hover.kind !== "bars" || hover.of !== values.length) return null;
    return [`${hover.x + 1}: ${times(map, values[hover.x])}`, values[hover.x]];
  },
  curve: readChannel,
  areas: readChannel,
};
function caption(figure) { // what stands there as long as nobody points at anything
  const { section, mechanism, map, names, siblings, local } = figure;
  if (section.kind === "branch") return `from below: ${[...names].reverse().join(", ")}`;
  if (siblings > 1) return local;
  if (section.kind === "pairwise") {
    const strength = mechanism.strength?.[map.path.split(".")[0]]; // |y - x| / |x|
    return strength == null ? "" : `feature change ${percent(strength)}`;
  }
  if (section.kind !== "cam" || record.cam === "EigenCAM") return "";
  const { probabilities } = mechanism;
  const target = record.target === "predicted" ? largest(probabilities) : record.classes.indexOf(record.target);
  return `${record.classes[target]} ${percent(probabilities[target])}`;
}

// ---- events: all on `element`, which outlives every rebuild

function set(key, value) {
  state[key] = value;
  if (key === "block") $("[data-set=block]").value = value;
  if (key === "site")
    for (const button of element.querySelectorAll(".segments button"))
      button.setAttribute("aria-pressed", button.dataset.key === value);
  draw();
}
function ask(change) { // what only the server can do: another class, CAM method or crop
  asked = true;
  say();
  trigger("ask", { target: record.target, cam: record.cam, crop: $("[data-ask=crop]").value, ...change });
}
const pickable = (event) => event.target.closest("[data-pick], .picture");
function within(event, node, columns, rows) {
  const box = node.getBoundingClientRect();
  const cell = (at, start, size, count) =>
    Math.max(0, Math.min(count - 1, Math.floor(((at - start) / size) * count)));
  return [cell(event.clientX, box.left, box.width, columns), cell(event.clientY, box.top, box.height, rows)];
}
function pointed(event) { // what is under the pointer
  const node = pickable(event), pick = node?.dataset.pick || (node ? "places" : null);
  const figure = figures.find((candidate) => node && candidate.node.contains(node));
  if (pick === "places") {
    const [x, y] = within(event, node, 32, 32);
    return { kind: "places", x, y };
  }
  if (!figure?.values) return null;
  if (pick === "tiles") return pointedTile(event, node, figure);
  if (pick === "grid") return null;
  const [x, y] = within(event, node, figure.width, figure.height), of = figure.width;
  if (pick !== "channel") return { kind: pick, x, y, of };
  return figure.sorted && { kind: "channel", index: node.dataset.sorted ? figure.sorted[x] : x, of };
}
function pointedTile(event, node, figure) {
  const [x, y] = within(event, node, node.width, node.height); // in canvas pixels
  const [column, row] = [Math.floor(x / (TILE + GAP)), Math.floor(y / (TILE + LABEL))], tile = 4 * row + column;
  const place = (at) => Math.floor((at * 32) / TILE), [left, top] = [x % (TILE + GAP), y % (TILE + LABEL)];
  if (left >= TILE || top >= TILE || !(tile in figure.tiles)) return null;
  return { kind: figure.over ? "places" : "tile", x: place(left), y: place(top), tile, figure: figure.key };
}
function hover(event) {
  const next = pointed(event);
  if (JSON.stringify(next) === JSON.stringify(state.hover)) return;
  state.hover = next;
  draw();
}
element.addEventListener("pointermove", hover);
element.addEventListener("pointerleave", () => { if (state.hover) { state.hover = null; draw(); } });
element.addEventListener("click", (event) => {
  const place = pointed(event);
  if (place?.kind === "places") set("query", [place.x, place.y]);
});
element.addEventListener("keydown", (event) => { // arrow keys move the mark by one cell of the pairwise maps
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const node = pickable(event), step = steps[event.key];
  if (!node || !step) return;
  event.preventDefault();
  const cell = 32 / (CELLS[stageOf(state.site || "layer1")] || 32);
  set("query", state.query.map((place, axis) => Math.max(0, Math.min(31, place + step[axis] * cell))));
});
element.addEventListener("input", (event) => {
  const key = event.target.dataset.set;
  if (key) set(key, event.target.type === "range" ? +event.target.value : event.target.value);
});
element.addEventListener("change", (event) => { if (event.target.dataset.ask && record) ask({}); });

for (const block of BLOCKS) $(".ticks").append(make("span", "", block.replace("layer", "")));
for (const control of element.querySelectorAll("[data-set]")) control.value = state[control.dataset.set];
new ResizeObserver(() => { if (record) layout(); }).observe($(".sections"));
document.addEventListener("refused", build); // the server said no: show again what the old record holds
watch("value", build);
build();
