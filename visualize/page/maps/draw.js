// From a panel of record.js to a picture: one canvas for each panel, whatever its kind.
//
//   drawPanel(canvas, panel, {view, picture, description, dark, width, page, hover, say}) -> {height, pages}
//   drawThumb(canvas, values, [height, width], at, table)   a small picture: one pixel per number
//   table(anchors) -> 256 colours                           anchors: description.colours[view.colours]
//   hit(canvas, event) -> {kind, x, y, index, tile, over, key, tensor, value, text} | null
//   regions(canvas) -> [{kind, name, box: [left, top, width, height]}]   where things are, in canvas pixels
//
// `picture`: 32 x 32 RGB bytes. `width` is in CSS pixels; the canvas takes the height that its kind needs, and as
// many pixels as the screen has. `page` counts the pages of small pictures from 0. `hover` is what `hit` returned,
// for this panel or another: the same place is framed in all of them. `say` puts a name into the visitor's language.
//
// The colours are those of the map alone at every overlay but 0, so that legend and cells agree: the picture lies
// over them as contour lines, the fainter the larger the overlay. At overlay 0 it is shown alone. A flat map has one
// colour. Nothing here knows the page or where a panel stands in it.

import { bars, curve, drawnAs, gridLines, limited, number, order, position, queryOf, stack, statistics, tiles, valueAt } from "./record.js";

const NAME = 16, GAP = 6, FONT = "13px system-ui, sans-serif"; // below a small picture, between them
const drawn = new WeakMap(); // canvas -> {panel, width, regions}

// ---- colours

const tables = new Map();
export function table(anchors) { // straight lines between anchors; in all of ours lighter means more
  if (!tables.has(anchors)) {
    const colours = anchors.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    const made = new Uint8ClampedArray(256 * 3), last = colours.length - 1;
    for (let i = 0; i < 256; i++) {
      const at = (i / 255) * last, low = Math.min(last - 1, Math.floor(at)), share = at - low;
      for (let c = 0; c < 3; c++) made[3 * i + c] = colours[low][c] * (1 - share) + colours[low + 1][c] * share;
    }
    tables.set(anchors, made);
  }
  return tables.get(anchors);
}
function colourOf(t, colours) {
  const level = 3 * Math.round(255 * limited(t));
  return [colours[level], colours[level + 1], colours[level + 2]];
}
export function drawThumb(canvas, values, [height, width], at, colours) { // `at`: from a number to 0 .. 1
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) // nothing where there is no number
    image.data.set([...colourOf(at(values[i]), colours), Number.isNaN(values[i]) ? 0 : 255], 4 * i);
  context.putImageData(image, 0, 0);
  return canvas;
}

// ---- the picture

const remembered = new WeakMap(); // picture -> {photo, lines}
function prepared(picture, levels) {
  if (!remembered.has(picture)) {
    const photo = document.createElement("canvas");
    Object.assign(photo, { width: 32, height: 32 });
    const context = photo.getContext("2d"), image = context.createImageData(32, 32), brightness = new Float64Array(1024);
    for (let i = 0; i < 1024; i++) {
      const [r, g, b] = picture.subarray(3 * i, 3 * i + 3);
      image.data.set([r, g, b, 255], 4 * i);
      brightness[i] = 0.299 * r + 0.587 * g + 0.114 * b;
    }
    context.putImageData(image, 0, 0);
    const sorted = Float64Array.from(brightness).sort();
    const lines = levels.flatMap((level) => isolines(brightness, sorted[Math.floor(level * 1023)] + 0.01));
    remembered.set(picture, { photo, lines });
  }
  return remembered.get(picture);
}
function isolines(values, level) { // pieces [x0, y0, x1, y1] in pixels of the picture: marching squares
  const found = [], at = (x, y) => values[32 * y + x] - level;
  for (let y = 0; y < 31; y++)
    for (let x = 0; x < 31; x++) {
      const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]], cuts = [];
      for (let i = 0; i < 4; i++) {
        const [from, to] = [corners[i], corners[(i + 1) % 4]], [a, b] = [at(...from), at(...to)];
        if (a < 0 !== b < 0) cuts.push(from.map((start, axis) => start + 0.5 + (a / (a - b)) * (to[axis] - start)));
      }
      for (let i = 0; i + 1 < cuts.length; i += 2) found.push([...cuts[i], ...cuts[i + 1]]);
    }
  return found;
}

// ---- one panel

export function drawPanel(canvas, panel, given) {
  const { description, dark, width } = given, view = { ...description.view, ...given.view };
  const context = canvas.getContext("2d"), sharp = globalThis.devicePixelRatio || 1;
  const it = { ...given, view, context, panel, regions: [], inks: description.inks[dark ? "dark" : "light"],
    colours: table(description.colours[view.colours]), picture: prepared(given.picture, description.contours.levels) };
  const height = Math.round(HEIGHTS[drawnAs(panel)](it));
  Object.assign(canvas, { width: Math.round(width * sharp), height: Math.round(height * sharp) });
  context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
  context.font = FONT;
  DRAW[drawnAs(panel)](it, width, height);
  drawn.set(canvas, { panel, width, regions: it.regions });
  return { height, pages: it.pages || 1 };
}
export function regions(canvas) {
  const { width, regions: found } = drawn.get(canvas);
  return found.map(({ kind, name, box }) => ({ kind, name, box: box.map((x) => (x * canvas.width) / width) }));
}
const TALL = 0.5, STRIP = 10; // height of curves, areas and bars as a part of their width; of the strip below a curve
const HEIGHTS = {
  places: ({ width }) => width, grid: ({ width }) => width,
  matrix: ({ width, panel }) => (panel.kind === "table" ? width / 3 : width),
  curve: ({ width }) => TALL * width + STRIP + 4, areas: ({ width }) => TALL * width + STRIP + 4, bars: ({ width }) => TALL * width,
  tiles: (it) => {
    it.all = tiles(it.panel);
    const count = it.description.tiles.page, page = Math.min(it.page || 0, Math.ceil(it.all.length / count) - 1);
    it.pages = Math.ceil(it.all.length / count);
    it.first = page * count;
    it.shown = it.all.slice(it.first, it.first + count);
    it.across = it.all.length === 1 ? 1 : it.width < 280 || it.all.length <= 4 ? 2 : 4;
    it.side = (it.width - (it.across - 1) * GAP) / it.across;
    const rows = Math.ceil(Math.min(count, it.all.length) / it.across); // the same on every page
    return rows * (it.side + NAME);
  },
};
function colouring({ panel }) { // from a number to a place on the colours; of a flat map all the same
  const all = limited(position(panel, statistics(panel.values).mean));
  return panel.flat ? () => all : (x) => position(panel, x);
}
function paint(it, values, height, width, [x, y, wide, high], over) { // over: places of the picture
  const { context, view, picture, colours } = it;
  context.imageSmoothingEnabled = false;
  if (over && !view.overlay) return context.drawImage(picture.photo, x, y, wide, high);
  const small = drawThumb(document.createElement("canvas"), values, [height, width], colouring(it), colours);
  if (over && view.cells === "smooth" && !values.some(Number.isNaN)) smooth(context, small, [x, y, wide, high]);
  else context.drawImage(small, x, y, wide, high);
  if (over) contours(it, [x, y, wide, high]);
}
function smooth(context, small, box) { // the browser fades out half a cell at the rim: repeat the rim
  const { width, height } = small, padded = document.createElement("canvas");
  Object.assign(padded, { width: width + 2, height: height + 2 });
  const inner = padded.getContext("2d");
  inner.drawImage(small, 0, 0, width + 2, height + 2);
  inner.drawImage(small, 0, 0, width, 1, 1, 0, width, 1);
  inner.drawImage(small, 0, height - 1, width, 1, 1, height + 1, width, 1);
  inner.drawImage(small, 0, 0, 1, height, 0, 1, 1, height);
  inner.drawImage(small, width - 1, 0, 1, height, width + 1, 1, 1, height);
  inner.drawImage(small, 1, 1);
  Object.assign(context, { imageSmoothingEnabled: true, imageSmoothingQuality: "high" });
  context.drawImage(padded, 1, 1, width, height, ...box);
}
function contours({ context, view, picture, description }, [x, y, wide, high]) { // dark and light: seen on every colour
  const { dark, light, strongest } = description.contours, scale = wide / 32;
  context.beginPath();
  for (const [x0, y0, x1, y1] of picture.lines) {
    context.moveTo(x + x0 * scale, y + y0 * (high / 32));
    context.lineTo(x + x1 * scale, y + y1 * (high / 32));
  }
  context.globalAlpha = strongest * (1 - view.overlay);
  for (const [strokeStyle, lineWidth] of [[dark, scale / 3], [light, scale / 7]]) {
    Object.assign(context, { strokeStyle, lineWidth, lineJoin: "round" });
    context.stroke();
  }
  context.globalAlpha = 1;
}
function frame(context, x, y, width, height, thin) { // black under white: seen on every colour
  for (const [strokeStyle, lineWidth] of [["#000", thin ? 2.5 : 4], ["#fff", thin ? 1 : 2]]) {
    Object.assign(context, { strokeStyle, lineWidth });
    context.strokeRect(x, y, width, height);
  }
}
function frameCell(context, [x, y], rows, columns, [left, top, wide, high], thin) { // the cell that a place of the picture is in
  const column = Math.floor((x * columns) / 32), row = Math.floor((y * rows) / 32);
  frame(context, left + (column * wide) / columns, top + (row * high) / rows, wide / columns, high / rows, thin);
}
const hovered = ({ hover }) => (hover?.kind === "places" ? [hover.x, hover.y] : null);
const own = ({ hover, panel }, kind) => hover?.kind === kind && hover.key === panel.key && hover.tensor === panel.tensor;

const DRAW = {
  places(it, width) {
    const { context, panel, view, description } = it, box = [0, 0, width, width];
    paint(it, panel.values, ...panel.shape, box, true);
    it.regions.push({ kind: "places", name: "", box, over: true });
    const marked = description.kinds[panel.kind].marked, side = marked && queryOf(panel.map, view).side;
    const [rows, columns] = marked ? [side, side] : panel.shape; // the queries may lie closer than the keys
    if (hovered(it)) frameCell(context, hovered(it), rows, columns, box, true);
    if (marked) frameCell(context, view.query, rows, columns, box, false);
  },
  tiles(it) {
    const { context, panel, inks, side, across, description, say = String } = it, over = Boolean(description.kinds[panel.kind].over);
    it.shown.forEach(({ name, values, height, width }, i) => {
      const x = (i % across) * (side + GAP), y = Math.floor(i / across) * (side + NAME), box = [x, y, side, side];
      paint(it, values, height, width, box, over);
      it.regions.push({ kind: "places", name, box, over, tile: it.first + i });
      Object.assign(context, { fillStyle: inks.text, textBaseline: "bottom", textAlign: "left" });
      context.fillText(say(name), x, y + side + NAME, side);
      if (over && hovered(it)) frameCell(context, hovered(it), height, width, box, true);
    });
  },
  matrix(it, wide, high) { // with its numbers where there are few
    const { context, panel, description, colours } = it, { values, shape } = panel, [height, width] = shape.slice(-2), box = [0, 0, wide, high];
    paint(it, values, height, width, box, false);
    it.regions.push({ kind: "matrix", name: "", box, columns: width, rows: height });
    if (values.length > description.numbers_in_cells) return;
    Object.assign(context, { font: `${Math.min(16, wide / width / 3.2)}px sans-serif`, textAlign: "center", textBaseline: "middle" });
    values.forEach((value, i) => {
      context.fillStyle = isLight(colourOf(colouring(it)(value), colours)) ? "#000" : "#fff";
      context.fillText(number(value), (((i % width) + 0.5) * wide) / width, ((Math.floor(i / width) + 0.5) * high) / height);
    });
  },
  grid(it, side) { // the picture in the middle, and some lines of sampling points
    const { context, panel, picture, description } = it, place = (x) => ((x / 1.6 + 1) / 2) * side, edge = place(-1);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture.photo, edge, edge, side - 2 * edge, side - 2 * edge);
    for (const [strokeStyle, lineWidth] of [["#000", 3], [description.inks.lines, 1.5]]) {
      Object.assign(context, { strokeStyle, lineWidth });
      context.beginPath();
      for (const line of gridLines(panel)) line.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](place(x), place(y)));
      context.stroke();
    }
    it.regions.push({ kind: "grid", name: "", box: [0, 0, side, side] });
  },
  curve(it, width, height) { // in grey behind it, the curves of the others on the same scale
    const { panel, inks } = it, high = height - STRIP - 4;
    ground(it, width, high);
    const lines = [...panel.others.map((values) => [inks.other, 1, curve({ values })]), [inks.accent, 2, curve(panel)]];
    for (const [colour, thick, values] of lines) line(it, values, colour, thick, width, high);
    channels(it, panel.values, order(panel.values), width, high, height);
  },
  areas(it, width, height) {
    const { context, panel, inks } = it, high = height - STRIP - 4, { sorted, areas } = stack(panel);
    ground(it, width, high);
    for (const { from, to, strength } of areas) {
      Object.assign(context, { fillStyle: inks.accent, globalAlpha: strength });
      area(context, heights(panel, to, high), heights(panel, from, high), width);
    }
    context.globalAlpha = 1;
    const count = panel.values.length / panel.shape[0];
    channels(it, panel.values.subarray(panel.values.length - count), sorted, width, high, height);
  },
  bars(it, width, height) {
    const { context, panel, inks } = it, all = bars(panel), step = width / all.length;
    ground(it, width, height);
    all.forEach(({ from, to }, i) => {
      const [start, end] = [upward(panel, from, height), upward(panel, to, height)];
      context.fillStyle = own(it, "bars") && it.hover.index === i ? inks.text : inks.accent;
      context.fillRect((i + 0.05) * step, Math.min(start, end), 0.9 * step, Math.abs(end - start));
    });
    context.fillStyle = inks.note;
    context.fillRect(0, upward(panel, panel.base, height) - 0.5, width, 1);
    it.regions.push({ kind: "bars", name: "", box: [0, 0, width, height], columns: all.length, rows: 1 });
  },
};
const isLight = ([r, g, b]) => r + g + b > 382;
const across = (i, count, width) => (i / Math.max(1, count - 1)) * width;
const upward = (panel, value, height) => (1 - limited(position(panel, value))) * height;
export const heights = (panel, values, height) => Array.from(values, (value) => upward(panel, value, height));
export function along(context, ys, width) { // a line from left to right
  context.beginPath();
  ys.forEach((y, i) => context.lineTo(across(i, ys.length, width), y));
}
export function area(context, top, bottom, width) {
  along(context, top, width);
  for (let i = bottom.length - 1; i >= 0; i--) context.lineTo(across(i, bottom.length, width), bottom[i]);
  context.fill();
}
function ground({ context, inks }, width, height) {
  context.fillStyle = inks.ground;
  context.fillRect(0, 0, width, height);
}
function line({ context, panel }, values, strokeStyle, lineWidth, width, height) {
  Object.assign(context, { strokeStyle, lineWidth, lineJoin: "round" });
  along(context, heights(panel, values, height), width);
  context.stroke();
}
function channels(it, values, sorted, width, high, height) { // the strip below, in the network's own order; the dot
  const { context, panel, colours, inks } = it, strip = [0, height - STRIP, width, STRIP], count = values.length;
  const small = drawThumb(document.createElement("canvas"), values, [1, count], (x) => position(panel, x), colours);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, ...strip);
  const kind = drawnAs(panel);
  it.regions.push({ kind, name: "", box: [0, 0, width, high], columns: count, rows: 1, sorted },
    { kind, name: "strip", box: strip, columns: count, rows: 1 });
  if (!own(it, kind)) return;
  const { index } = it.hover;
  context.fillStyle = inks.text;
  context.beginPath();
  context.arc(across(sorted.indexOf(index), count, width), upward(panel, values[index], high), 4, 0, 7);
  context.fill();
  frame(context, (index * width) / count, height - STRIP, width / count, STRIP, true);
}

// ---- under the pointer

export function hit(canvas, event) {
  const found = drawn.get(canvas), outer = canvas.getBoundingClientRect();
  if (!found) return null;
  const size = found.width / outer.width; // drawn at this width, shown at another perhaps
  const [left, top] = [(event.clientX - outer.left) * size, (event.clientY - outer.top) * size];
  const region = found.regions.find(({ box: [x, y, w, h] }) => left >= x && left < x + w && top >= y && top < y + h);
  if (!region || region.kind === "grid") return null;
  const { kind, tile, over, columns, rows, sorted, box: [x, y, w, h] } = region, { key, tensor } = found.panel;
  const at = { kind, tile, over, key, tensor };
  const cell = (from, size, count) => Math.min(count - 1, Math.floor((from / size) * count));
  if (kind === "places") Object.assign(at, { x: cell(left - x, w, 32), y: cell(top - y, h, 32) });
  else {
    const column = cell(left - x, w, columns), row = cell(top - y, h, rows);
    at.index = sorted ? sorted[column] : row * columns + column;
  }
  return { ...at, ...valueAt(found.panel, at) };
}
