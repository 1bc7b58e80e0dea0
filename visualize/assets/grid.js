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
function scaleOf(map, values) {
  if (SCALES[map.scale]) return SCALES[map.scale];
  const most = Math.max(1e-9, ...Array.from(values, Math.abs)); // signed: zero in the middle
  return { position: linear(-most, most), ends: [number(-most), number(most)], one: 0.5 };
}

const SECTIONS = [
  { kind: "answer", tab: "Answers", whole: true, title: "What each network answers" },
  { kind: "cam", tab: "Grad-CAM", whole: true, title: "Where the evidence for the class lies" },
  { kind: "pairwise", tab: "Attention", sites: true, title: "Where the marked place reads from",
    text: "Each place gathers from all places; 1× is an equal share for each. Click any picture to move the mark. " +
      "This is what is read, not why the network decides." },
  { kind: "spatial", tab: "Places", least: 2, title: "How much each place passes",
    text: "One gate per place, the same for all channels." },
  { kind: "matrix", tab: "Channels", sites: true, least: 2, title: "Which channel reads which",
    text: "Row: the channel that gathers. Column: the one it reads." },
  { kind: "channel", tab: "Channels", wide: true, title: "How much each channel passes",
    text: "One gate per channel: sorted, as a curve; below in the network's own order." },
  { kind: "branch", tab: "Channels", wide: true, title: "Which window each channel uses",
    text: "Two windows look at once; their shares add up to one in each channel." },
];
const SITED = SECTIONS.filter((section) => section.sites).map((section) => section.kind);
const BRANCHES = { sk: ["3 × 3 window", "5 × 5 window"] };

const state = {
  block: 5, overlay: 0.6, colours: "viridis", cells: "true", site: null, head: "mean", tab: "cam",
  query: [16, 16], // the marked place, in pixels of the 32x32 picture
  hover: null, // {kind: "places", x, y} in pixels, {kind: "channel", index, of} or {kind: "matrix", x, y, of}
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
const mapsOf = (mechanism, kind) => mechanism.maps.filter((map) => map.kind === kind);
const mapAt = (mechanism, kind, block) => mechanism.maps.find((map) => map.kind === kind && map.block === block);

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

// The affinities of one query as multiples of an equal share: (h, w), averaged over heads or of one head.
function affinityOf(figure, map) {
  const [height, width] = map.shape.slice(-2), size = height * width;
  const query = queryIndex(height, width), heads = headsOf(map);
  const local = map.data !== "";
  const all = local ? valuesOf(map) : fromServer(figure, map, query);
  if (!all) return null;
  const start = (head) => (local ? (head * map.shape.at(-3) + query) * size : head * size);
  const one = state.head === "mean" || heads === 1 ? null : Math.min(+state.head, heads - 1);
  const chosen = one === null ? [...Array(heads).keys()] : [one];
  const result = new Float32Array(size);
  for (const head of chosen)
    for (let i = 0; i < size; i++) result[i] += (all[start(head) + i] * size) / chosen.length;
  return result;
}
const headsOf = (map) => (map.axes.startsWith("head ") ? map.shape[0] : 1);
const queryIndex = (height, width) =>
  Math.floor((state.query[1] * height) / 32) * width + Math.floor((state.query[0] * width) / 32);

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
const siteName = (map) => (map.path.startsWith("stage") ? `after layer${stageOf(map.block)}` : map.block);
const order = (values) => [...values.keys()].sort((a, b) => values[b] - values[a]); // the largest first
const largest = (values) => values.indexOf(Math.max(...values));
function statistics(values) {
  let least = Infinity, most = -Infinity, sum = 0;
  for (const value of values) { least = Math.min(least, value); most = Math.max(most, value); sum += value; }
  return { least, most, mean: sum / values.length, at: values.indexOf(most) };
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
    record.mechanisms.some((mechanism) => section.kind === "answer" || mapsOf(mechanism, section.kind).length));
  chooseSite(present);
  previous = new Map(figures.map((figure) => [`${figure.kind} ${figure.mechanism.key}`, figure]));
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
  const sites = new Map();
  for (const map of record.mechanisms.flatMap((mechanism) => mechanism.maps))
    if (SITED.includes(map.kind))
      sites.set(map.block, `${siteName(map)}: ${CELLS[stageOf(map.block)]} × ${CELLS[stageOf(map.block)]}`);
  return [...sites].sort(([a], [b]) => stageOf(a) - stageOf(b));
}
function sectionOf(section) {
  const holders = record.mechanisms.filter((m) => section.kind === "answer" || mapsOf(m, section.kind).length);
  const header = make("header", "", make("h3", "", section.title));
  const node = make("section", "section", header, make("div", "maps", ...holders.map((m) => figureOf(section, m))));
  node.dataset.kind = section.kind;
  node.dataset.tab = section.tab;
  const across = holders.length * (section.wide ? 2 : 1);
  node.classList.toggle("whole", Boolean(section.whole));
  node.style.setProperty("--span", section.whole ? 99 : Math.max(across, section.least || 1));
  if (section.text) header.append(make("p", "", section.text));
  if (section.kind === "answer") header.append(make("p", "", summary()));
  if (section.kind === "cam") header.append(camControls(), camText());
  if (section.kind === "pairwise") header.append(pairwiseControls(holders));
  return node;
}
function summary() {
  const votes = new Map();
  const ready = record.mechanisms.filter((mechanism) => !mechanism.pending);
  for (const { probabilities } of ready) {
    const name = record.classes[largest(probabilities)];
    votes.set(name, (votes.get(name) || 0) + 1);
  }
  const counts = [...votes].sort((a, b) => b[1] - a[1]);
  const parts = counts.map(([name, count]) => `${count} ${count === 1 ? "says" : "say"} ${name}`);
  const together = counts.length === 1 && ready.length > 1;
  const verdict = together ? `All ${ready.length} say ${counts[0][0]}` : parts.join(", ");
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
function pairwiseControls(holders) {
  const sites = segments("Where in the network", sitesOf(), state.site, (site) => set("site", site));
  const controls = make("div", "controls", sites);
  const heads = Math.max(...holders.flatMap((mechanism) => mapsOf(mechanism, "pairwise").map(headsOf)));
  if (heads > 1) {
    const options = [["mean", "mean"], ...Array.from({ length: heads }, (_, i) => [String(i), `head ${i + 1}`])];
    controls.append(choice("Heads", options, state.head, (head) => set("head", head)));
  }
  return controls;
}

function figureOf(section, mechanism) {
  const before = previous.get(`${section.kind} ${mechanism.key}`);
  const figure = mechanism.pending && before ? { ...before, mechanism } : { section, mechanism, kind: section.kind };
  figures.push(figure);
  if (figure.node) {
    figure.node.classList.add("pending");
    return figure.node;
  }
  if (section.kind === "answer") return (figure.node = answerOf(mechanism));
  const name = make("span", "name", mechanism.name);
  figure.value = make("span", "value");
  name.title = mechanism.name;
  figure.body = make("div", "body");
  const caption = make("figcaption", "", name, figure.value);
  figure.node = make("figure", section.wide ? "map wide" : "map", caption, figure.body);
  figure.node.dataset.mechanism = mechanism.key;
  if (SITED.includes(section.kind)) inView.observe(figure.node);
  return figure.node;
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
  const facts = make("p", "facts", value == null ? "not measured" : `${value.toFixed(1)} % right in the test`);
  facts.title = `${mechanism.parameters.toLocaleString("en")} parameters`;
  if (value != null) facts.title += `; 95 % interval ${low} to ${high} %; recipe ${recipe}`;
  const name = make("b", "name", mechanism.name);
  const node = make("article", "answer", name, facts, make("ol", "bars", ...bars(ranked.slice(0, 3))),
    make("ol", "bars every", ...bars([...ranked.keys()])));
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
    image.data.set([table[3 * level], table[3 * level + 1], table[3 * level + 2], 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}
function outline(canvas, x, y, w, h, light) { // black under white: seen on every colour
  const context = canvas.getContext("2d"), cell = [canvas.width / w, canvas.height / h];
  const box = [x * cell[0], y * cell[1], cell[0], cell[1]];
  context.strokeStyle = "#000";
  context.lineWidth = light ? 4 : 7;
  context.strokeRect(...box);
  context.strokeStyle = "#fff";
  context.lineWidth = light ? 1.5 : 3;
  context.strokeRect(...box);
}
function drawPlaces(figure) {
  const { canvas, values, height, width, map } = figure, context = canvas.getContext("2d");
  const { position } = scaleOf(map, values);
  colour(values, height, width, position);
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = false;
  context.drawImage(state.overlay ? greyPhoto : photo, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = state.overlay;
  context.imageSmoothingEnabled = state.cells === "smooth";
  context.imageSmoothingQuality = "high";
  if (state.cells === "smooth") smooth(context, height, width, canvas.width);
  else context.drawImage(scratch, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
  drawMarks(canvas, height, width, figure.kind === "pairwise");
}
function smooth(context, height, width, side) { // the browser fades out half a cell at the rim: repeat the rim
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
  context.drawImage(padded, 1, 1, width, height, 0, 0, side, side);
}
function drawMarks(canvas, height, width, marked) {
  const cell = (place) => [Math.floor((place[0] * width) / 32), Math.floor((place[1] * height) / 32)];
  if (state.hover?.kind === "places") outline(canvas, ...cell([state.hover.x, state.hover.y]), width, height, true);
  if (marked) outline(canvas, ...cell(state.query), width, height, false);
}

// What a figure shows at the present block or site; null where the mechanism has nothing there.
function present(figure) {
  const { kind, mechanism, section } = figure;
  const block = section.sites ? state.site : BLOCKS[state.block];
  const map = mapAt(mechanism, kind, block);
  if (!map) return { map: null, values: null };
  if (kind === "pairwise") return { map, values: affinityOf(figure, map) };
  if (map.data === "") return { map, values: scaled(map, fromServer(figure, map, null)) };
  return { map, values: scaled(map, valuesOf(map)) };
}
const scaledValues = new WeakMap();
function scaled(map, values) { // shares of a matrix row as multiples of an equal share
  if (!values || map.scale !== "uniform=1") return values;
  if (!scaledValues.has(values)) scaledValues.set(values, values.map((x) => x * map.shape.at(-1)));
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
  const asking = figures.find((figure) => figure.kind === "pairwise");
  const cells = asking ? CELLS[stageOf(state.site)] : 32;
  drawMarks($(".picture"), cells, cells, Boolean(asking));
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
  const mode = { channel: "channel", branch: "branch", matrix: "matrix" }[figure.kind] || "places";
  if (figure.mode !== mode) frame(figure, mode);
  const flat = mode === "channel" || mode === "branch", shape = figure.map.shape;
  [figure.height, figure.width] = flat ? [1, shape.filter((count) => count > 1).at(-1)] : shape.slice(-2);
  if (!shown.values) return;
  figure.node.classList.remove("fetching");
  if (mode === "places") drawPlaces(figure);
  if (mode === "matrix" && (changed || state.hover?.kind !== "places")) drawMatrix(figure);
  if (mode === "channel" && changed) drawGates(figure);
  if (mode === "branch" && changed) drawBranches(figure);
  if (changed) drawLegend(figure);
  drawValue(figure);
}
function paintNothing(figure) { // never an invented map: say where this mechanism has one
  figure.mode = null;
  figure.value.textContent = "";
  const box = make("div", "none", make("span", "", "nothing here"));
  for (const map of mapsOf(figure.mechanism, figure.kind).slice(-2)) {
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
  const parts = [];
  if (mode === "places" || mode === "matrix") {
    if (mode === "places") Object.assign(figure.canvas, { width: 320, height: 320, tabIndex: 0 });
    figure.canvas.dataset.pick = mode;
    parts.push(figure.canvas);
  } else {
    figure.plot = make("div", "curve");
    figure.canvas.className = "strip";
    figure.plot.dataset.pick = figure.canvas.dataset.pick = "channel";
    figure.plot.dataset.sorted = "yes";
    parts.push(figure.plot, figure.canvas);
  }
  figure.legend = make("div", "legend");
  figure.numbers = make("p", "numbers");
  figure.path = make("p", "path");
  parts.push(figure.legend, figure.numbers);
  figure.body.replaceChildren(...parts, figure.path);
}
function drawMatrix(figure) {
  const { canvas, values, height, width, map } = figure, side = 512;
  canvas.width = canvas.height = side;
  colour(values, height, width, scaleOf(map, values).position);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(scratch, 0, 0, side, side);
}
function drawStrip(figure, values, position) {
  colour(values, 1, values.length, position);
  figure.canvas.width = values.length;
  figure.canvas.height = 1;
  figure.canvas.getContext("2d").drawImage(scratch, 0, 0);
}
function drawGates(figure) {
  const { values, map } = figure, { position, ends } = scaleOf(map, values);
  figure.sorted = order(values);
  const others = figures.filter((other) => other !== figure && other.kind === "channel").map(present)
    .filter((other) => other.values && other.map.scale === map.scale)
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
  figure.share = share;
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
  figure.path.replaceChildren(...map.path.split(/(?<=\.)/).flatMap((part) => [part, make("wbr")]));
  const [row, column] = [Math.floor(stats.at / figure.width) + 1, (stats.at % figure.width) + 1];
  const where = figure.height > 1 ? ` at row ${row}, column ${column}` : "";
  figure.canvas.setAttribute("aria-label",
    `${mechanism.name}, ${map.path}: mean ${times(map, stats.mean)}, most ${times(map, stats.most)}${where}`);
}
function drawValue(figure) { // the number under the pointer, in every figure that has the same place or channel
  const { hover } = state, { value, map, values, mode, width, height } = figure;
  const { position } = scaleOf(map, values), channels = figure.sorted && figure.width;
  let text = "", at = null;
  if (hover?.kind === "places" && mode === "places") {
    at = values[Math.floor((hover.y * height) / 32) * width + Math.floor((hover.x * width) / 32)];
    text = times(map, at);
  } else if (hover?.kind === "channel" && hover.of === channels) {
    at = figure.shown[hover.index];
    text = `channel ${hover.index}: ${number(at)}`;
    figure.dot.style.left = 100 * across(figure.sorted.indexOf(hover.index), width) + "%";
    figure.dot.style.top = 100 - 100 * position(at) + "%";
  } else if (hover?.kind === "matrix" && mode === "matrix" && hover.of === width) {
    at = values[hover.y * width + hover.x];
    text = `${hover.y} reads ${hover.x}: ${times(map, at)}`;
  }
  if (figure.dot) figure.dot.hidden = at === null;
  figure.mark.hidden = at === null;
  if (at !== null) figure.mark.style.left = 100 * Math.max(0, Math.min(1, position(at))) + "%";
  value.classList.toggle("here", at !== null);
  value.textContent = text || caption(figure);
}
function caption({ kind, mechanism, map, names }) { // what stands there as long as nobody points at anything
  if (kind === "pairwise") {
    const strength = mechanism.strength?.[map.path.split(".")[0]]; // |y - x| / |x|
    return strength == null ? "" : `feature change ${percent(strength)}`;
  }
  if (kind === "branch") return `from below: ${[...names].reverse().join(", ")}`;
  if (kind !== "cam" || record.cam === "EigenCAM") return "";
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
function hover(event) {
  const node = pickable(event), pick = node?.dataset.pick || (node ? "places" : null);
  const figure = figures.find((candidate) => node && candidate.node.contains(node));
  let next = null;
  if (pick === "places") {
    const [x, y] = within(event, node, 32, 32);
    next = { kind: "places", x, y };
  } else if (pick === "channel" && figure?.sorted) {
    const [place] = within(event, node, figure.width, 1);
    next = { kind: "channel", index: node.dataset.sorted ? figure.sorted[place] : place, of: figure.width };
  } else if (pick === "matrix" && figure?.values) {
    const [x, y] = within(event, node, figure.width, figure.height);
    next = { kind: "matrix", x, y, of: figure.width };
  }
  if (JSON.stringify(next) === JSON.stringify(state.hover)) return;
  state.hover = next;
  draw();
}
element.addEventListener("pointermove", hover);
element.addEventListener("pointerleave", () => { if (state.hover) { state.hover = null; draw(); } });
element.addEventListener("click", (event) => {
  const node = pickable(event);
  if (node && (node.dataset.pick || "places") === "places") set("query", within(event, node, 32, 32));
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
