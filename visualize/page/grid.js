// The comparison grid, part 4 of 4: its structure, what is drawn when, and what the visitor does.

const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
let previous = new Map(), asked = false, scheduled = false;
let linked = null; // what a link asks of the server, until its record is complete

// ---- small builders

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}
function button(text, className, pressed) {
  const node = make("button", className, text);
  node.type = "button";
  node.addEventListener("click", pressed);
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
    const part = button(text, "", () => chosen(key));
    part.dataset.key = key;
    part.setAttribute("aria-pressed", key === value);
    group.append(part);
  }
  return group;
}

// ---- structure: rebuilt only when a record arrives or a mechanism is opened

function build() {
  const inside = [".sections", ".detail"].find((part) => $(part).contains(document.activeElement));
  const focused = inside && focusPath($(inside), document.activeElement);
  record = arrived(props.value) || record; // nothing new: the old comparison stays
  asked = false;
  $(".empty").hidden = Boolean(record);
  for (const part of [".tools", ".take", ".tabs", ".sections"]) $(part).hidden = !record;
  say();
  if (!record) return;
  readPhoto();
  const shown = SECTIONS.filter((section) =>
    record.mechanisms.some((mechanism) => section.kind === "answer" || mapsOf(mechanism, section.kinds).length));
  chooseSite(shown);
  const heads = Math.max(1, ...record.mechanisms.flatMap((mechanism) => mechanism.maps.map(headsOf)));
  if (+state.head >= heads && !linked) state.head = "mean";
  previous = new Map(figures.map((figure) => [figure.key, figure]));
  figures = [];
  inView.disconnect();
  const withSites = shown.find((section) => section.pairwise); // it has the buttons for all that have sites
  $(".sections").replaceChildren(...shown.map((section) => sectionOf(section, section === withSites)));
  buildDetail();
  previous = new Map();
  if (focused) $(inside).querySelectorAll(focused[0])[focused[1]]?.focus({ preventScroll: true });
  buildCrop();
  buildTabs(shown);
  layout();
  paint();
  document.dispatchEvent(new CustomEvent("compared", { detail: { example: record.example, tiny: record.source?.width <= 64 } }));
}
function arrived(value) { // while columns are still to come, the old ones keep their place, dimmed
  if (!value?.mechanisms?.length && !value?.pending?.length) return null;
  const old = ({ key }) => record?.mechanisms.find((mechanism) => mechanism.key === key);
  const waiting = (value.pending || []).map(old).filter(Boolean);
  const mechanisms = [...value.mechanisms, ...waiting.map((mechanism) => ({ ...mechanism, pending: true }))];
  return mechanisms.length ? { ...value, mechanisms } : null;
}
function focusPath(part, node) { // the same control in the next build
  const selector = node.tagName.toLowerCase();
  return [selector, [...part.querySelectorAll(selector)].indexOf(node)];
}
function chooseSite(shown) { // at first, where the most is changed
  const sites = sitesOf(), settled = !linked && !record.pending?.length;
  const known = sites.some(([site]) => site === state.site);
  if (!sites.length || known || (state.site && !settled)) return;
  const strongest = sites.map(([site]) => Math.max(0, ...record.mechanisms.map(
    (mechanism) => (mechanism.random ? 0 : mechanism.strength?.[`stage${stageOf(site)}`] || 0))));
  const best = largest(strongest);
  state.site = sites[strongest[best] ? best : sites.length - 1][0];
}
function sectionOf(section, withSites) {
  const holders = record.mechanisms.filter((m) => section.kind === "answer" || mapsOf(m, section.kinds).length);
  const shown = holders.flatMap((mechanism) => figuresOf(section, mechanism));
  const header = make("header", "", make("h2", "", section.title));
  const node = make("section", "section", header, make("div", "maps", ...shown));
  node.dataset.kind = section.kind;
  node.dataset.tab = section.tab;
  const across = shown.filter((part) => part.classList.contains("wide")).length + shown.length;
  node.classList.toggle("whole", Boolean(section.whole));
  node.style.setProperty("--span", section.whole ? 99 : Math.max(across, section.least || 1));
  if (section.text) header.append(make("p", "", section.text));
  if (section.kind === "answer") header.append(make("p", "", summary()));
  if (section.kind === "cam") header.append(camControls(), camText());
  if (withSites) header.append(siteControls(section, holders));
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
  return `${verdict}. ${record.unlike || "They know ten classes only and call any picture one of them."}`;
}
const camText = () =>
  make("p", "", `${METHODS[record.cam].text} Relative: each map runs from its own least to its own most.`);
function camControls() {
  const classes = [["predicted", "its own answer"], ...record.classes.map((name) => [name, name])];
  const methods = Object.keys(METHODS).map((name) => [name, methodName(name)]);
  return make("div", "controls",
    choice("Class", classes, record.target, (target) => ask({ target })),
    choice("Method", methods, record.cam, (cam) => ask({ cam })));
}
function siteControls(section, holders) {
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
  if (section.kind === "answer") return [answerOf(mechanism)];
  const locals = new Map(mapsOf(mechanism, section.kinds).map((map) => [localOf(map), map]));
  return [...locals].map(([local, map]) =>
    figureOf({ section, mechanism, local, group: "grid", wide: isWide(map), siblings: locals.size }));
}
// A figure keeps its node from record to record, so that the old picture stays until the new one can be drawn.
function figureOf(given) { // `only`: this map, whatever the block
  const { section, mechanism, local, group, only } = given;
  const key = [group, section.kind, mechanism.key, only ? only.tensor : local].join(" ");
  const figure = Object.assign(previous.get(key) || { page: 0 }, given, { key, kind: section.kind });
  figures.push(figure);
  if (!figure.node) frameOf(figure);
  figure.node.classList.toggle("pending", Boolean(mechanism.pending));
  inView.observe(figure.node);
  return figure.node;
}
function frameOf(figure) {
  const { mechanism, local, only, wide } = figure;
  figure.value = make("span", "value");
  figure.value.title = local;
  figure.body = make("div", "body");
  const line = make("span", "line", ...(mechanism.random ? [make("i", "", "random weights")] : []), figure.value);
  const caption = make("figcaption", "", only ? make("span", "name", siteName(only)) : nameOf(mechanism), line);
  figure.node = make("figure", wide ? "map wide" : "map", caption, figure.body);
  figure.node.classList.toggle("random", Boolean(mechanism.random));
  figure.node.dataset.mechanism = mechanism.key;
}
function nameOf(mechanism) { // opens the mechanism
  const node = button(mechanism.name, "name", () => openDetail(mechanism.key));
  node.title = `${mechanism.name}: all blocks, formula, paper, figures`;
  node.setAttribute("aria-label", node.title);
  return node;
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
  node.classList.toggle("pending", Boolean(mechanism.pending));
  return node;
}
function buildTabs(shown) {
  const tabs = [...new Set(shown.map((section) => section.tab))];
  tabs.push(tabs.shift()); // the answers last: they stand above each Grad-CAM as well
  if (!tabs.includes(state.tab) && !linked) state.tab = tabs[0];
  $(".tabs").replaceChildren(...tabs.map((tab) => button(tab, "", () => { state.tab = tab; showTab(); })));
  showTab();
}
function showTab() { // one kind at a time, on a phone
  for (const tab of $(".tabs").children) tab.setAttribute("aria-pressed", tab.textContent === state.tab);
  for (const section of $(".sections").children) section.classList.toggle("shown", section.dataset.tab === state.tab);
}
function layout() { // as many columns as fit, of 140 to 240 pixels
  const width = $(".sections").clientWidth, count = record ? record.mechanisms.length : 0;
  if (!width || !count) return;
  const most = Math.max(2, Math.floor((width + 14) / 154)), least = Math.ceil((width + 14) / (count > 4 ? 214 : 254));
  const rows = Math.ceil(count / most), even = Math.ceil(count / rows); // seven of six at a time: four and three
  $(".sections").style.setProperty("--tracks", Math.min(most, Math.max(least, even)));
}
const PATIENCE = 20_000; // milliseconds without a sign from the server
let patience = 0;
function say(now) { // one line of fixed height: what is going on, or what is missing
  const given = props.value || {}, waiting = (given.pending || []).length;
  const all = waiting + (given.mechanisms || []).length;
  const missing = (given.unavailable || []).map((entry) => entry.reason);
  const notes = (given.mechanisms || []).filter((m) => m.note).map((m) => `${m.name}: ${m.note}`);
  const count = given.mechanisms?.length || 0, answered = `${count} network${count === 1 ? " has" : "s have"} answered.`;
  const rest = waiting ? `Looking with ${given.pending[0].name}: ${all - waiting} of ${all} done`
    : [answered, ...(given.notes || []), ...notes, ...missing].join(" ");
  $(".status").textContent = now || (asked ? "Looking …" : rest);
  clearTimeout(patience);
  if (asked || waiting || now?.endsWith("…"))
    patience = setTimeout(() => say("The server does not answer at the moment. What is on the page still works."), PATIENCE);
}

// ---- painting

function draw() { // at most once per frame
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; paint(); });
}
function paint() {
  if (!record) return;
  const name = BLOCKS[state.block], side = CELLS[stageOf(name)];
  $(".block-name").textContent = `${name} · ${side} × ${side} cells`;
  $("[data-set=block]").setAttribute("aria-valuetext", `${name}, ${side} by ${side} cells`);
  [...$(".ticks").children].forEach((tick, i) => tick.classList.toggle("here", i === state.block));
  const seen = $(".picture").getContext("2d");
  seen.imageSmoothingEnabled = false;
  seen.drawImage(photo, 0, 0, 256, 256);
  const asking = figures.some((figure) => figure.kind === "pairwise");
  const cells = asking ? CELLS[stageOf(state.site)] : 32;
  drawMarks($(".picture"), cells, cells, asking);
  const ready = figures.filter((figure) => !figure.mechanism.pending && prepare(figure));
  scaleAll(ready);
  const curves = ready.some((figure) => figure.mode === "curve" && figure.changed); // each shows the others in grey
  for (const figure of ready) if (figure.mode === "curve") figure.changed ||= curves;
  for (const figure of ready) paintFigure(figure);
  element.dataset.draws = +(element.dataset.draws || 0) + 1;
}
function prepare(figure) { // what it shall show now; whether there is something to draw
  const shown = present(figure), waits = Boolean(shown.map && !shown.values); // keeps the old drawing, dimmed
  figure.node.classList.toggle("fetching", waits);
  if (waits && figure.map) return false;
  figure.changed = shown.map !== figure.map || shown.values !== figure.values;
  Object.assign(figure, shown);
  if (!shown.map) return paintNothing(figure);
  const mode = modeOf(figure.map), shape = figure.map.shape;
  if (figure.mode !== mode) frame(figure, mode);
  const flat = ["curve", "areas", "bars"].includes(mode);
  [figure.height, figure.width] = flat ? [1, shape.filter((count) => count > 1).at(-1) || 1]
    : ["cross", "grid"].includes(figure.map.kind) ? shape.slice(0, 2) : shape.slice(-2);
  return !waits;
}
function paintFigure(figure) {
  const { mode, scale } = figure, colours = [state.colours, ...scale.ends].join(" ");
  const look = [state.overlay, state.cells, figure.page].join(" ");
  const changed = figure.changed || figure.colours !== colours;
  if (mode === "places") drawPlaces(figure);
  if (mode === "tiles" && (changed || figure.seen || figure.look !== look)) drawTiles(figure);
  if (mode === "grid") drawGrid(figure);
  if (mode === "matrix" && changed) drawMatrix(figure);
  if (mode === "bars") drawBars(figure);
  if (mode === "curve" && changed) drawCurve(figure);
  if (mode === "areas" && changed) drawBranches(figure);
  Object.assign(figure, { colours, look });
  if (changed) drawLegend(figure);
  drawValue(figure);
}
function paintNothing(figure) { // never an invented map: say where this mechanism has one
  if (!figure.changed && figure.mode === null) return false;
  figure.mode = null;
  figure.value.textContent = "";
  const box = make("div", "none", make("span", "", "nothing here"));
  for (const map of mapsOf(figure.mechanism, figure.section.kinds, figure.local).slice(-2)) {
    const [key, value] = figure.section.pairwise ? ["site", map.block] : ["block", BLOCKS.indexOf(map.block)];
    box.append(button(`go to ${siteName(map)}`, "link", () => set(key, value)));
  }
  figure.body.replaceChildren(box);
  return false;
}
function frame(figure, mode) { // the empty figure, of the same height whatever it will show
  figure.mode = mode;
  figure.canvas = make("canvas");
  figure.canvas.setAttribute("role", "img");
  figure.canvas.setAttribute("aria-label", `${figure.mechanism.name}, ${figure.map.tensor}: on its way`);
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
function caption(figure) { // what stands there as long as nobody points at anything
  const { section, mechanism, map, names, siblings, local } = figure;
  if (section.kind === "branch") return `from below: ${[...names].reverse().join(", ")}`;
  if (section.kind === "pairwise") {
    const strength = mechanism.strength?.[map.tensor.split(".")[0]], head = headOf(map); // |y - x| / |x|
    const heads = head === null ? `mean of ${headsOf(map)} heads` : `head ${head + 1} of ${headsOf(map)}`;
    const change = strength == null ? [] : [`feature change ${percent(strength)}`];
    return [...(siblings > 1 ? [local] : []), ...change, ...(headsOf(map) > 1 ? [heads] : [])].join(" · ");
  }
  if (siblings > 1) return local;
  if (section.kind !== "cam" || figure.only || record.cam === "EigenCAM") return "";
  const { probabilities } = mechanism;
  const target = record.target === "predicted" ? largest(probabilities) : record.classes.indexOf(record.target);
  return `${record.classes[target]} ${percent(probabilities[target])}`;
}

// ---- events, on what outlives every rebuild

function set(key, value) {
  state[key] = value;
  if (key === "block") $("[data-set=block]").value = value;
  if (key === "site")
    for (const part of element.querySelectorAll(".segments button"))
      part.setAttribute("aria-pressed", part.dataset.key === value);
  draw();
}
function ask(change) { // what only the server can do: another class, CAM method or crop
  waitForServer();
  trigger("ask", change);
}
function waitForServer() {
  asked = true;
  say();
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
element.addEventListener("pointerleave", (event) => { // a finger always leaves: what it touched can be read
  if (state.hover && event.pointerType === "mouse") { state.hover = null; draw(); }
});
element.addEventListener("click", (event) => {
  const place = pointed(event);
  state.hover = place;
  if (place?.kind === "places") set("query", [place.x, place.y]);
  else draw();
});
element.addEventListener("keydown", (event) => { // arrow keys move the mark by one cell of the pairwise maps
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const node = pickable(event), step = steps[event.key];
  if (!node || !step) return;
  event.preventDefault();
  const cell = 32 / CELLS[stageOf(state.site || BLOCKS[state.block])];
  const place = state.query.map((at, axis) => Math.max(0, Math.min(31, at + step[axis] * cell)));
  state.hover = { kind: "places", x: place[0], y: place[1] };
  set("query", place);
});
element.addEventListener("focusout", () => { if (state.hover) { state.hover = null; draw(); } });
document.addEventListener("keydown", (event) => { // Escape closes what lies over the maps
  if (event.key !== "Escape") return;
  cropping = false;
  if (record) buildCrop();
  if (document.activeElement?.matches?.(".answer")) document.activeElement.blur();
});
document.addEventListener("keydown", (event) => { // and the block, where they mean nothing else
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const idle = event.target === document.body || (event.target.matches("button") && !element.contains(event.target));
  if (!step || !record || !idle || event.altKey || event.ctrlKey || event.metaKey) return;
  set("block", Math.max(0, Math.min(BLOCKS.length - 1, state.block + step)));
});
element.addEventListener("input", (event) => {
  const key = event.target.dataset.set;
  if (key) set(key, event.target.type === "range" ? +event.target.value : event.target.value);
});
element.addEventListener("change", (event) => { if (event.target.dataset.ask && record) askCrop(); });

linked = restore();
buildTake();
for (const block of BLOCKS) $(".ticks").append(make("span", "", block.replace("layer", "")));
for (const control of element.querySelectorAll("[data-set]")) control.value = state[control.dataset.set];
new ResizeObserver(() => { if (record) layout(); }).observe($(".sections"));
document.addEventListener("asked", waitForServer); // for another example
document.addEventListener("refused", () => { // the server said no: show again what the old record holds
  wished = linked = null;
  build();
});
const stampOf = (value) => [value?.turn, value?.pending?.length].join();
let stamp = stampOf(props.value);
watch("value", () => {
  if (stampOf(props.value) === stamp) return; // Gradio also reports that nothing came
  stamp = stampOf(props.value);
  if (location.search.includes("view=") && !linked) history.replaceState(null, "", location.pathname); // it has moved on
  const complete = !props.value?.pending?.length;
  if (complete && linked) linked = null;
  build();
  if (complete) element.dataset.records = +(element.dataset.records || 0) + 1;
});
build();
element.dataset.records = 1;
if (linked) {
  waitForServer();
  trigger("restore", linked);
}
