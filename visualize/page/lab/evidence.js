// What was measured of one network's attention, in its single view: is it used, does it follow the picture, what does
// each class get, are its maps faithful, were they learned. Everything comes from `engine.evidence`.

import { hold, make, select, tryAgain } from "../elements.js";
import { drawThumb, table } from "../maps/draw.js";
import { decode, number, position, statistics } from "../maps/record.js";
import { endsOf, forest, minus, points, within } from "./forest.js";
import { losses, scroll } from "./used.js";

const SCORES = [ // of faithfulness: key, name, what it asks, whether more is better
  ["road", "ROAD", "Taking pixels away lowers the probability of the answer. The score is half of how much more it falls without the pixels that the map ranks highest than without those it ranks lowest. More is better.", 1],
  ["deletion", "Deletion", "How much of the probability is left while the highest-ranked pixels are taken away. Less is better. But no network has seen pictures with scattered holes: even a random map does well here, so trust ROAD first.", -1],
  ["insertion", "Insertion", "How much of the probability is there while the highest-ranked pixels are put back. More is better.", 1],
];
const CONTROLS = { random: "random map", centre: "centre of the picture", Sobel: "edges (Sobel)" };
const MOST = 64; // elements of a profile that are drawn: those in which the classes differ most

export class Evidence {
  constructor(state, description, engine, columns) {
    Object.assign(this, { state, description, engine, columns, node: make("div", "lab"), key: null, found: null });
  }
  open(key) {
    if (this.key === key) return this.profiles();
    Object.assign(this, { key, found: null, block: null });
    this.node.replaceChildren();
    if (key) this.read(key);
  }
  async read(key) {
    const release = hold();
    let parts;
    try {
      const found = await this.engine.evidence(key);
      if (this.key !== key) return release(); // another one is shown by now
      this.found = found;
      parts = found ? this.parts(found) : [];
    } catch (error) {
      parts = [make("p", {}, error.message, " ", tryAgain(() => this.node.closest("dialog").querySelector(".main"), () => this.read(key)))];
    }
    release();
    if (this.key === key) this.node.replaceChildren(...parts);
  }
  parts(found) {
    return [make("h3", {}, "What was measured of its attention"), make("div", "grid",
      this.use(found), this.health(found), this.classes(found), this.faithful(found), this.learned(found))];
  }
  part(name, title, ...children) { return make("section", { "data-part": name }, make("h4", {}, title), ...children); }

  // ---- is it used

  use({ rows, images }) {
    const all = rows.filter(({ scope }) => scope === "all"), name = ({ replacement, strength }) => (replacement === "strength" ? `strength ${strength}` : replacement);
    const fair = all.filter(({ replacement }) => replacement !== "factor 1"), one = all.find(({ replacement }) => replacement === "factor 1");
    return this.part("use", "Is it used?", make("p", "note", `Points lost with something else in its place in all blocks, on ${images.test.toLocaleString("en")} test images; a filled dot is more than chance, after Holm's correction for all replacements of the network. The lines are 95 % intervals of each row alone.`),
      losses(fair, name, endsOf(fair.map(({ lost }) => lost), 0)),
      one && make("p", "note", `With factor 1 it changes by ${points(0 - one.lost.value)} points. That is a warning, not a measure: it takes away the gates’ usual size.`));
  }

  // ---- does it follow the picture

  health({ tensors, images }) {
    const percent = (share) => (share === undefined ? "–" : `${(100 * share).toFixed(0)} %`), asks = tensors.some(({ from_query: share }) => share !== undefined);
    const heads = ["Tensor", "from the picture", ...(asks ? ["from the place that asks"] : []), "", "mean, range"];
    const body = tensors.map((one) => make("tr", {}, make("th", { scope: "row" }, make("code", {}, one.tensor)),
      make("td", {}, percent(one.from_picture)), asks && make("td", {}, percent(one.from_query)),
      make("td", "text", ...one.badges.map((words) => make("span", { class: "badge", title: words }, words.split(":")[0]))),
      make("td", {}, `${number(one.mean)}, ${number(one.low)} to ${number(one.high)}`)));
    const badges = [...new Set(tensors.flatMap((one) => one.badges))];
    return this.part("health", "Does it follow the picture?", make("p", "note",
      `How much of the spread of the numbers comes from the picture, on ${images.training.toLocaleString("en")} training pictures; the rest is the same for all.${asks ? " Where picture and place act together, both columns count it." : ""} ${badges.join("; ")}${badges.length ? "." : ""}`),
      scroll("Health", make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...body))));
  }

  // ---- what each class gets

  classes({ profiles }) {
    if (!profiles.length) return "";
    const blocks = [...new Set(profiles.map(({ block }) => block))];
    this.drawing = make("div", "profiles");
    this.choice = select("Block", blocks.map((block) => [block, block]), this.nearest(blocks), (block) => { this.block = block; this.profiles(); });
    const part = this.part("classes", "What each class gets", make("p", "note", "The average over training pictures of each class. Lines that look alike say that it treats the classes alike."), this.choice, this.drawing);
    this.profiles();
    return part;
  }
  nearest(blocks) { // to the chosen one
    const at = (block) => this.description.blocks.indexOf(block), wanted = at(this.state.view.block);
    return blocks.reduce((best, block) => (Math.abs(at(block) - wanted) < Math.abs(at(best) - wanted) ? block : best));
  }
  profiles() { // drawn again when the block or the colours are others
    if (!this.found?.profiles.length) return;
    const { profiles } = this.found, colours = table(this.description.colours[this.state.view.colours]);
    const block = this.block || this.nearest(profiles.map((profile) => profile.block)), look = block + this.state.view.colours;
    this.choice.querySelector("select").value = block;
    if (this.drawing.dataset.look === look) return;
    this.drawing.dataset.look = look;
    this.drawing.replaceChildren(...profiles.filter((profile) => profile.block === block).map((profile) => this.profile(profile, colours)));
  }
  profile(profile, colours) {
    const { shape, values } = decode(profile), { ends } = this.description.scales[profile.scale], size = values.length / shape[0];
    const at = (x) => position({ scale: profile.scale, ends: ends || [profile.lo, profile.hi] }, x);
    const of = (i) => values.subarray(i * size, (i + 1) * size), names = this.columns.classes, places = profile.drawn === "places";
    const order = places ? null : spread(shape[0], size, of).slice(0, MOST);
    const pictures = names.map((name, i) => {
      const shown = places ? of(i) : Float32Array.from(order, (element) => of(i)[element]);
      const canvas = drawThumb(make("canvas", { role: "img", "aria-label": `${profile.tensor}, ${name}: mean ${number(statistics(of(i)).mean)}` }), shown, places ? shape.slice(1) : [1, shown.length], at, colours);
      return make("figure", {}, canvas, make("figcaption", {}, name));
    });
    const said = [`classes differ by ${number(profile.spread)} on average`, profile.mean_over && `mean over ${profile.mean_over}`,
      order && size > order.length && `the ${order.length} of ${size} elements in which they differ most`, order && size <= order.length && "the elements in which they differ most come first",
      `colours from ${ends ? this.description.scales[profile.scale].words.join(" to ") : `${number(profile.lo)} to ${number(profile.hi)}`}`];
    return make("div", "", make("code", {}, profile.tensor), make("div", places ? "tiles" : "strips", ...pictures), make("p", "note", `${said.filter(Boolean).join("; ")}.`));
  }

  // ---- are its maps faithful

  faithful({ faithfulness, images }) {
    if (!faithfulness.length) return "";
    const parts = SCORES.map(([key, name, text, sign]) => {
      const rows = faithfulness.map((one) => ({ label: CONTROLS[one.map] || one.map, value: one[key].mean, low: one[key].low, high: one[key].high, quiet: one.control,
        strong: !one.control && faithfulness.filter(({ control }) => control).every((other) => (sign > 0 ? one[key].low > other[key].high : one[key].high < other[key].low)),
        title: `${one.map}: ${minus(one[key].mean.toFixed(3))} (${within(one[key], 3)}), ${one[key].images} test images` }));
      return make("div", { "data-score": key }, make("b", {}, name), make("p", "note", text), forest(rows, endsOf(rows)));
    });
    return this.part("faithful", "Do its maps show what the answer rests on?", make("p", "note",
      `Measured on ${images.map.toLocaleString("en")} test images, beside three maps that know nothing of the network (grey squares). Grad-CAM is that of layer4.1. Of a map with several channels, or with one map for each place that asks, the mean is used. A filled dot lies beyond all three. The lines are 95 % intervals.`), make("div", "scores", ...parts));
  }

  // ---- were they learned, do they agree with Grad-CAM

  learned({ tensors, images }) {
    const rows = (kind) => tensors.filter((one) => one[kind]).map((one) => ({ label: one.tensor, value: one[kind].mean, low: one[kind].low, high: one[kind].high,
      title: `${one.tensor}: ${minus(one[kind].mean.toFixed(2))} (${within(one[kind])}), ${one[kind].images} test images` }));
    const [twin, agreement] = [rows("twin"), rows("agreement")];
    if (!twin.length && !agreement.length) return "";
    const list = (name, text, some) => some.length > 0 && make("div", { "data-score": name }, make("p", "note", text), forest(some, [-1, 1], { zero: 0 }));
    return this.part("learned", "Was it learned, and does Grad-CAM agree?", make("p", "note", `Rank correlation within a picture, on ${images.twin} test images, without those where a map is flat: 1 means the same order, 0 no relation.`), make("div", "scores",
      list("twin", "With the same tensor before training. Near 1, the map was there before training.", twin),
      list("agreement", "With Grad-CAM at the same block. Near 0, the two show different things.", agreement)));
  }
}
function spread(classes, size, of) { // elements, those in which the classes differ most first
  const range = (element) => {
    const values = Array.from({ length: classes }, (_, i) => of(i)[element]);
    return Math.max(...values) - Math.min(...values);
  };
  const ranges = Float64Array.from({ length: size }, (_, element) => range(element));
  return [...ranges.keys()].sort((a, b) => ranges[b] - ranges[a]);
}
