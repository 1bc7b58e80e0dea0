// The comparison grid, part 2 of 4: from numbers to pictures. A figure holds `map`, its `values`, the `scale` on
// which they are drawn, and the nodes it is drawn into; `mode` says how.

const SVG = "http://www.w3.org/2000/svg";
const MODES = { // how a kind is drawn; the others are one picture
  maps: "tiles", volume: "tiles", profile: "tiles", views: "tiles", footprint: "tiles", filters: "tiles",
  matrix: "matrix", table: "matrix", affine: "matrix", channel: "curve", branch: "areas", vector: "bars",
  keys: "bars", grid: "grid",
};
const modeOf = ({ kind, shape }) => (kind === "filters" && shape.length === 2 ? "matrix" : MODES[kind] || "places");
const isWide = (map) => ["tiles", "bars", "curve", "areas"].includes(modeOf(map)) || map.kind === "table";
const OVER_PHOTO = ["maps", "volume", "profile", "views"]; // tiles that are pictures of the same places
const WORDS = { c: "channel", k: "map", g: "group", branch: "branch" }; // one tile, by its axis
const TILE = 150, GAP = 10, LABEL = 26; // in canvas pixels

// ---- how a number becomes a colour: position() goes from 0 to 1

// Fixed scales are the same for each kind of map, so that a constant gate looks constant. Shares are multiplied by
// the number of keys: 1 is "as much as from anywhere else", and equal factors are equal steps, from 1/16 to 16.
const linear = (low, high) => (x) => (x - low) / (high - low || 1);
const FIXED = {
  "0-1": { position: linear(0, 1), ends: ["0", "1"] },
  "1-2": { position: linear(1, 2), ends: ["1", "2"] },
  relative: { position: linear(0, 1), ends: ["least", "most"] },
  "uniform=1": { position: (x) => (Math.log2(Math.max(x, 1e-9)) + 4) / 8, ends: ["¹⁄₁₆×", "16×"], neutral: 0.5 },
};
const scalable = ({ map }) => map.scale !== "relative" && !["bars", "areas", "grid"].includes(modeOf(map));
const rowOf = ({ map, section, group }) => [group, section.kind, map.scale].join(" ");
function scaleAll(drawn) { // "shared" asks the whole row before any map of it is drawn
  const rows = new Map();
  for (const figure of drawn) {
    const { least, most } = statistics(figure.values), row = rows.get(rowOf(figure)) || [Infinity, -Infinity];
    rows.set(rowOf(figure), [Math.min(row[0], least), Math.max(row[1], most)]);
  }
  for (const figure of drawn) figure.scale = scaleOf(figure, rows.get(rowOf(figure)));
}
function scaleOf(figure, row) {
  const { map, values } = figure, mode = scalable(figure) ? state.scale : "fixed";
  if (mode === "fixed" && FIXED[map.scale]) return FIXED[map.scale];
  const stats = statistics(values);
  let [low, high] = mode === "shared" ? row : [stats.least, stats.most]; // a constant gate looks constant
  if (high - low < 1e-4 * Math.abs(high)) [low, high] = [low - 0.05 * Math.abs(low), high + 0.05 * Math.abs(high)];
  if (map.scale === "uniform=1") { // equal steps are equal factors here, too
    low = Math.max(low, 1 / 256);
    const position = (x) => linear(Math.log2(low), Math.log2(high))(Math.log2(Math.max(x, 1e-9)));
    return { position, ends: [times(map, low), times(map, high)], neutral: low < 1 && high > 1 && position(1) };
  }
  if (map.scale === "signed") { // zero in the middle, but at one end for sizes, which have no sign
    high = Math.max(-low, high) || 1;
    low = map.kind === "views" ? 0 : -high;
  }
  const position = linear(low, high);
  return { position, ends: [number(low), number(high)], neutral: map.scale === "signed" && low < 0 && 0.5 };
}
const limited = (x) => Math.max(0, Math.min(1, x));

const palettes = {};
function palette() { // anchors with straight lines between them; in all of them lighter means more
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

// ---- pictures

const photo = document.createElement("canvas"), greyPhoto = document.createElement("canvas");
const scratch = document.createElement("canvas");
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
function colour(values, height, width, position) { // onto the scratch canvas, one pixel per value
  scratch.width = width;
  scratch.height = height;
  const context = scratch.getContext("2d"), image = context.createImageData(width, height), table = palette();
  for (let i = 0; i < height * width; i++) {
    const level = Math.round(255 * limited(position(values[i]))), alpha = Number.isNaN(values[i]) ? 0 : 255;
    image.data.set([table[3 * level], table[3 * level + 1], table[3 * level + 2], alpha], 4 * i);
  }
  context.putImageData(image, 0, 0);
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
function frameCell(context, x, y, width, height, light) { // black under white: seen on every colour
  for (const [colour, thick] of [["#000", light ? 4 : 7], ["#fff", light ? 1.5 : 3]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: thick });
    context.strokeRect(x, y, width, height);
  }
}
function mark(context, place, height, width, [left, top, side], light) { // the cell that a place of the picture is in
  const [x, y] = cellOf(place, height, width), cell = [side / width, side / height];
  frameCell(context, left + x * cell[0], top + y * cell[1], ...cell, light);
}
function drawMarks(canvas, height, width, marked) {
  const context = canvas.getContext("2d"), box = [0, 0, canvas.width];
  if (state.hover?.kind === "places") mark(context, [state.hover.x, state.hover.y], height, width, box, true);
  if (marked) mark(context, state.query, height, width, box, false);
}
function drawPlaces({ canvas, values, height, width, map, scale }) {
  overlay(canvas.getContext("2d"), values, height, width, scale.position, 0, 0, canvas.width);
  const asks = map.kind === "pairwise"; // the queries may lie closer than the keys
  const [rows, columns] = asks ? Array(2).fill(Math.sqrt(map.shape.at(-3))) : [height, width];
  drawMarks(canvas, rows, columns, asks || map.kind === "cross");
}
function drawMatrix({ canvas, values, height, width, wide, scale }) { // with its numbers where there are few
  resize(canvas, 512, wide ? 160 : 512);
  colour(values, height, width, scale.position);
  const context = canvas.getContext("2d"), [x, y] = [canvas.width / width, canvas.height / height];
  context.imageSmoothingEnabled = false;
  context.drawImage(scratch, 0, 0, canvas.width, canvas.height);
  if (values.length > 36) return;
  const font = `${Math.min(34, x / 3.2)}px sans-serif`;
  Object.assign(context, { font, textAlign: "center", textBaseline: "middle" });
  values.forEach((value, i) => {
    context.fillStyle = scale.position(value) > 0.6 ? "#000" : "#fff";
    context.fillText(number(value), ((i % width) + 0.5) * x, (Math.floor(i / width) + 0.5) * y);
  });
}
function drawTiles(figure) { // small pictures, a page of eight at a time
  const { canvas, map, values, scale } = figure, tiles = tilesOf(values, map), { list, height, width, at } = tiles;
  const pages = Math.ceil(list.length / TILES), rows = list.length > TILES / 2 ? 2 : 1;
  figure.page = Math.min(figure.page, pages - 1);
  figure.tiles = list.slice(figure.page * TILES, (figure.page + 1) * TILES);
  figure.tileOf = tiles;
  figure.over = OVER_PHOTO.includes(map.kind);
  resize(canvas, 4 * TILE + 3 * GAP, rows * (TILE + LABEL));
  const context = canvas.getContext("2d"), fillStyle = getComputedStyle($(".scope")).color;
  Object.assign(context, { font: "20px sans-serif", textBaseline: "bottom", fillStyle });
  figure.tiles.forEach((index, i) => {
    const [x, y] = [(i % 4) * (TILE + GAP), Math.floor(i / 4) * (TILE + LABEL)];
    overlay(context, at(index), height, width, scale.position, x, y, TILE, figure.over);
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
    const page = figure.page + by, turn = button(sign, "", () => { figure.page = page; draw(); });
    return Object.assign(turn, { ariaLabel: label, disabled: page < 0 || page >= pages });
  };
  const parts = text ? [step(-1, "‹", "previous"), make("span", "", text), step(1, "›", "next")] : [];
  figure.pager.replaceChildren(...parts);
}
function drawBars({ canvas, values, scale: { position, neutral } }) { // from zero, or from an equal share
  resize(canvas, 640, 200);
  const context = canvas.getContext("2d"), step = 640 / values.length, colours = getComputedStyle($(".scope"));
  const base = neutral || 0;
  const y = (place) => 198 - 196 * limited(place);
  context.fillStyle = colours.getPropertyValue("--border-color-primary");
  context.fillRect(0, y(base) - 1, 640, 2);
  values.forEach((value, i) => {
    const here = state.hover?.kind === "bars" && state.hover.x === i && state.hover.of === values.length;
    context.fillStyle = here ? colours.color : colours.getPropertyValue("--color-accent");
    context.fillRect(i * step + step * 0.1, y(position(value)), step * 0.8, y(base) - y(position(value)));
  });
}
function drawGrid({ canvas, map, values }) { // the picture in the middle, and every fourth line of sampling points
  const context = canvas.getContext("2d"), [height, width] = map.shape;
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
function resize(canvas, width, height) {
  Object.assign(canvas, { width, height });
  canvas.style.aspectRatio = `${width} / ${height}`;
}

// ---- channels

function drawStrip(canvas, values, position) {
  colour(values, 1, values.length, position);
  Object.assign(canvas, { width: values.length, height: 1 });
  canvas.getContext("2d").drawImage(scratch, 0, 0);
}
function drawCurve(figure) { // in grey behind it, the curves of the others on the same scale
  const { values, scale: { position, ends } } = figure, same = (other) => other.scale?.ends.join() === ends.join();
  const others = figures.filter((other) => other !== figure && other.kind === "channel" && other.map && other.values
    && other.group === figure.group && other.map.scale === figure.map.scale && same(other));
  figure.sorted = order(values);
  const curves = others.map((other) => curve([...other.values].sort((a, b) => b - a).map(position), "other"));
  plot(figure, ends, [...curves, curve(figure.sorted.map((i) => position(values[i])))]);
  figure.shown = values;
  drawStrip(figure.canvas, values, position);
}
function drawBranches(figure) { // stacked shares, sorted by the last branch
  const [branches, channels] = figure.map.shape;
  const share = (branch) => figure.values.subarray(branch * channels, (branch + 1) * channels);
  figure.names = BRANCHES[figure.mechanism.key] || Array.from({ length: branches }, (_, i) => `branch ${i + 1}`);
  figure.shown = share(branches - 1);
  figure.sorted = order(figure.shown);
  figure.width = channels;
  const below = new Float32Array(channels), areas = [];
  for (let branch = branches - 1; branch >= 0; branch--) {
    const from = Float32Array.from(below);
    for (let i = 0; i < channels; i++) below[i] += share(branch)[figure.sorted[i]];
    areas.push(area(from, below, 0.25 + (0.75 * branch) / Math.max(1, branches - 1)));
  }
  plot(figure, ["0", "1"], areas);
  drawStrip(figure.canvas, figure.shown, (x) => x);
}
function plot(figure, ends, paths) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // the strip below says it in words
  svg.append(...paths);
  const top = make("span", "end", ends[1]), bottom = make("span", "end", ends[0]);
  top.style.top = "1px";
  bottom.style.bottom = "1px";
  figure.dot = make("span", "dot");
  const labels = state.scale === "fixed" || figure.kind !== "channel" ? [top] : [top, bottom];
  figure.plot.replaceChildren(svg, ...(figure.kind === "channel" ? labels : []), figure.dot);
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

// ---- what stands under a picture, and the number under the pointer

function drawLegend(figure) {
  const { map, values, scale } = figure, stats = statistics(figure.kind === "branch" ? figure.shown : values);
  figure.legend.hidden = map.kind === "grid";
  const place = (x) => 100 * limited(scale.position(x)) + "%";
  const bar = make("span", "ramp"), range = make("i", "range"), mean = make("i", "mean");
  bar.style.background = ramp();
  Object.assign(range.style, { left: place(stats.least), right: `calc(100% - ${place(stats.most)})` });
  mean.style.left = place(stats.mean);
  figure.mark = make("i", "mark");
  figure.mark.hidden = true;
  if (scale.neutral) bar.append(make("i", "one"));
  if (scale.neutral) bar.firstChild.style.left = 100 * scale.neutral + "%";
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
  figure.path.replaceChildren(...map.tensor.split(/(?<=\.)/).flatMap((part) => [part, make("wbr")]),
    map.static ? " · same for every picture" : "");
  figure.canvas.setAttribute("aria-label", inWords(figure));
}
function drawValue(figure) { // the number under the pointer, in every figure that has the same place or channel
  const { value, scale } = figure, [text, at] = (state.hover && READ[figure.mode]?.(figure, state.hover)) || ["", null];
  if (figure.dot) figure.dot.hidden = at === null;
  if (figure.dot && at !== null) {
    figure.dot.style.left = 100 * across(figure.sorted.indexOf(state.hover.index), figure.width) + "%";
    figure.dot.style.top = 100 - 100 * scale.position(at) + "%";
  }
  figure.mark.hidden = at === null;
  if (at !== null) figure.mark.style.left = 100 * limited(scale.position(at)) + "%";
  value.classList.toggle("here", at !== null);
  value.textContent = text || caption(figure);
}
function readChannel({ map, sorted, width, shown }, hover) {
  if (hover.kind !== "channel" || !sorted || hover.of !== width) return null;
  return [`channel ${hover.index}: ${times(map, shown[hover.index])}`, shown[hover.index]];
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
    const at = values[hover.y * width + hover.x], joined = map.kind === "matrix" ? " reads " : ", ";
    return [`${hover.y}${joined}${hover.x}: ${times(map, at)}`, at];
  },
  bars({ map, values }, hover) {
    if (hover.kind !== "bars" || hover.of !== values.length) return null;
    return [`${hover.x + 1}: ${times(map, values[hover.x])}`, values[hover.x]];
  },
  curve: readChannel,
  areas: readChannel,
};
