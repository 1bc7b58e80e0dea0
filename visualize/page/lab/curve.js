// What the answer to this picture rests on: its pixels turn to the mean colour, those first that a map ranks highest,
// and the network answers again at each step. Beside it the same in an order that knows nothing.

import { drawn, make } from "../elements.js";
import { decode, largest, methodName, number } from "../maps/record.js";
import { toBase64 } from "../picture.js";
import { Here } from "./here.js";

const SIDE = 32, STEPS = 8, MEAN = [125, 123, 114]; // of all training pixels, as in models/preprocessing.py
const CAM_BLOCK = "layer4.1"; // where Grad-CAM is usually taken
const WIDTH = 340, HEIGHT = 190, EDGE = { left: 48, right: 8, top: 8, bottom: 34 };

export class Curve extends Here {
  constructor(engine, columns, state) {
    super(engine, columns, state, {
      name: "curve", title: "What does the answer to this picture rest on?", press: "Take its pixels away",
      text: "Its pixels turn to the mean colour, those first that a map ranks highest, and the network answers again. Where the answer falls sooner than in a random order, the map suggests what it rests on. But no network has seen pictures with holes, and one picture proves little.",
    });
  }
  asked(record, column) { // names, and the maps that say which pixels go first
    const places = ({ kind, block }) => kind === "spatial" && block === this.state.view.block;
    const cam = column.maps.find(({ kind, block }) => kind === "cam" && block === CAM_BLOCK);
    return [[`${methodName(record.cam)}, ${CAM_BLOCK}`, cam], ...column.maps.filter(places).map((map) => [map.tensor, map])];
  }
  async answer(record, column, how) {
    const orders = new Map(this.asked(record, column).map(([name, map]) => [name, orderOf(decode(map).values, map.shape.slice(-2))]));
    orders.set("random order", orderOf(new Float32Array(1), [1, 1]));
    const ways = [...orders.values()].map((order) => steps(record.pixels, order)), nothing = ways[0].at(-1);
    const pictures = [record.pixels, ...ways.flatMap((way) => way.slice(0, -1)), nothing];
    const found = await this.engine.answers(pictures.map(toBase64), column.key, how);
    const target = record.target === "predicted" ? largest(found[0]) : this.columns.classes.indexOf(record.target), shares = found.map((probabilities) => probabilities[target]);
    const curves = [...orders.keys()].map((name, i) => [name, [shares[0], ...shares.slice(1 + i * (STEPS - 1), 1 + (i + 1) * (STEPS - 1)), shares.at(-1)]]);
    return [picture(curves, this.columns.classes[target]), legend(curves, this.columns.classes[target])];
  }
}

// ---- which pixels go first

function enlarged(values, [height, width]) { // bilinear, as the maps are enlarged in models/results/maps.py
  const along = (length) => Array.from({ length: SIDE }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * length) / SIDE - 0.5), low = Math.min(Math.floor(at), length - 1);
    return [low, Math.min(low + 1, length - 1), at - low];
  });
  const rows = along(height), columns = along(width), mix = (a, b, share) => a + (b - a) * share;
  return rows.flatMap(([up, down, y]) => columns.map(([left, right, x]) =>
    mix(mix(values[up * width + left], values[up * width + right], x), mix(values[down * width + left], values[down * width + right], x), y)));
}
const LOTS = (() => { // the same every time
  let state = 1;
  return Float64Array.from({ length: SIDE * SIDE }, () => (state = (state * 48271) % 2147483647));
})();
function orderOf(values, shape) { // the highest first; ties fall by lot
  const large = enlarged(values, shape);
  return [...large.keys()].sort((a, b) => large[b] - large[a] || LOTS[a] - LOTS[b]);
}
function steps(pixels, order) { // with more and more of them taken away
  return Array.from({ length: STEPS }, (_, step) => {
    const left = Uint8Array.from(pixels);
    for (const index of order.slice(0, Math.round(((step + 1) * order.length) / STEPS))) left.set(MEAN, 3 * index);
    return left;
  });
}
const area = (curve) => // its mean: less, where the first pixels mattered
  curve.slice(1).reduce((sum, share, i) => sum + (share + curve[i]) / 2, 0) / (curve.length - 1);

// ---- how it is drawn

function picture(curves, answer) {
  const x = (share) => EDGE.left + share * (WIDTH - EDGE.left - EDGE.right), y = (share) => HEIGHT - EDGE.bottom - share * (HEIGHT - EDGE.top - EDGE.bottom);
  const text = (left, top, anchor, words) => drawn("text", { x: left, y: top, "text-anchor": anchor }, words);
  const lines = [0, 0.5, 1].flatMap((share) => [drawn("line", { class: "grid", x1: x(0), x2: x(1), y1: y(share), y2: y(share) }), text(x(0) - 6, y(share) + 4, "end", `${100 * share} %`)]);
  const ways = curves.map(([, curve], i) => drawn("path", { class: `way way${kindOf(curves, i)}`, d: `M${curve.map((share, at) => `${x(at / STEPS).toFixed(1)},${y(share).toFixed(1)}`).join("L")}` }));
  const said = curves.map(([name, curve]) => `${name}: ${number(area(curve))}`).join("; ");
  return drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Probability of ${answer} while pixels are taken away, mean on the way: ${said}` }, ...lines,
    text(x(0), HEIGHT - 14, "start", "0 %"), text(x(1), HEIGHT - 14, "end", "100 %"), text(x(0.5), HEIGHT - 14, "middle", "pixels taken away"), ...ways);
}
const kindOf = (curves, i) => (i === curves.length - 1 ? "Random" : i === 0 ? "Cam" : "Own");
function legend(curves, answer) {
  return make("ul", { class: "ways" }, ...curves.map(([name, curve], i) => make("li", { class: `way${kindOf(curves, i)}` }, make("i", { "aria-hidden": "true" }), make("span", {}, name), " ", make("data", { value: area(curve) }, number(area(curve))))),
    make("li", "note", `Mean probability of ${answer} on the way; the less, the more the first pixels mattered.`));
}
