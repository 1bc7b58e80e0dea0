// What if: something else is put in the place of the networks' own attention, and they answer again. One row above the
// answers says what and where; "by hand", channels are switched in a curve and gates are painted in a map.

import { button, make, put, select } from "../elements.js";
import { fromBase64, rgba, toBase64 } from "../picture.js";
import { drawnAs, largest, percent, scopeName } from "../maps/record.js";

const AS_TRAINED = { name: "", words: "as trained", question: "Put something else in place of the networks’ attention, and see what they answer." };
const EVERYWHERE = "all", HAND = "by hand", STRENGTH = "strength", OTHER = "another picture's", WARNING = "factor 1";
const SMALL = 0.005; // of a share: not worth a word

export class WhatIf {
  constructor(state, description, replacements, examples) {
    Object.assign(this, { state, description, examples, replacements: [AS_TRAINED, ...replacements], brush: 0 });
    this.node = document.querySelector("#whatif");
    this.choice = select("What if the attention were", this.replacements.map(({ name, words = name }) => [name, words]), "", (name) => this.choose(name));
    this.where = select("Where", [], "", (scope) => state.merge("replace", { scope }));
    this.picture = make("canvas", { width: 32, height: 32, role: "img", "aria-label": "The other picture" });
    this.strength = slider("Strength", 2, "strength", (strength) => state.merge("replace", { strength }));
    this.value = slider("Value", 1, "value", (value) => { this.brush = value; });
    this.back = button("As trained", "back", () => { this.choose(""), this.choice.lastChild.focus(); }); // it goes away itself
    this.question = make("span");
    this.result = make("span", { role: "status" });
    this.text = make("p", "note", this.question, this.result);
    const how = make("div", "how", this.back, this.where, this.picture, this.strength.node, this.value.node); // what changes stands last
    for (const node of how.children) node.hidden = true; // as trained
    this.node.append(this.choice, how, this.text);
  }
  follow(columns, figures) {
    Object.assign(this, { columns, figures });
    for (const type of ["pointerdown", "pointermove", "click", "keydown"]) document.addEventListener(type, (event) => this.touch(event), true);
  }
  choose(name) {
    const { replace } = this.state, scope = replace?.scope || EVERYWHERE;
    this.state.change("replace", name ? { name, scope: name === HAND ? EVERYWHERE : scope, strength: 1, by_hand: null, only: null } : null);
  }

  // ---- the other picture: A where one is pinned, of A itself B, else the next example

  other(pixels) { // {name, image: its pixels in base64}
    const { pinned, picture } = this.state, names = Object.keys(this.examples), own = toBase64(pixels);
    const image = [pinned, pinned && picture.pixels].filter(Boolean).map(toBase64).find((one) => one !== own);
    if (image) return { name: image, image };
    const name = names[(names.indexOf(picture.example) + 1) % names.length];
    return { name, image: this.examples[name] };
  }
  draw() {
    const { pinned, picture } = this.state, { name, image } = this.other(picture.pixels);
    put(this.picture, rgba(fromBase64(image)));
    this.picture.title = name === image ? "What they give to picture A" : `What they give to the ${name}`;
  }

  // ---- the row

  show(record) {
    const { replace } = this.state, name = replace?.name || "";
    this.node.classList.toggle("on", Boolean(name));
    document.documentElement.toggleAttribute("data-hand", name === HAND);
    this.choice.lastChild.value = name;
    this.scopes(record);
    this.where.hidden = !name || name === HAND;
    this.picture.hidden = name !== OTHER;
    this.strength.node.hidden = name !== STRENGTH;
    this.value.node.hidden = name !== HAND;
    this.back.hidden = !name;
    if (replace) this.strength.set(replace.strength);
    this.value.set(this.brush);
    if (name === OTHER) this.draw();
    this.result.setAttribute("aria-busy", record.mechanisms.some(({ pending }) => pending)); // it is said when all have answered
    const [question, result] = this.words(record, name), key = `${question}|${result}`;
    if (this.said !== key) this.question.textContent = question, this.result.textContent = result && ` ${result}`, this.said = key;
  }
  scopes(record) { // all, every place where one of the networks has attention, and of the chosen block each kind of it
    const all = record.mechanisms.flatMap((column) => column.maps.filter(isAttention).map(({ tensor, block }) => ({ network: column.key, tensor, block, place: placeOf(tensor) })));
    const found = new Set(all.map(({ place }) => place)), here = all.filter(({ block }) => block === this.state.view.block);
    const several = here.filter((one) => here.some((other) => other.network === one.network && other.tensor !== one.tensor));
    const { scope = EVERYWHERE } = this.state.replace || {}, ordered = [...this.description.blocks.filter((block) => found.delete(block)), ...[...found].sort()];
    ordered.push(...new Set(several.map(({ tensor }) => tensor)));
    if (scope !== EVERYWHERE && !ordered.includes(scope)) ordered.push(scope);
    const options = [[EVERYWHERE, "all blocks"], ...ordered.map((one) => [one, scopeName(one)])], box = this.where.lastChild;
    if (box.dataset.all !== ordered.join()) box.replaceChildren(...options.map(([value, text]) => new Option(text, value))), box.dataset.all = ordered.join();
    box.value = scope;
  }
  words(record, name) { // the question, and what came out
    const { question } = this.replacements.find((one) => one.name === name), ready = record.mechanisms.filter((column) => !column.pending && column.before && !column.replace_note);
    if (!name) return [question, ""];
    if (name === HAND && !this.state.replace.by_hand) return ["Click a channel in a curve to set it to this value, or paint on a map of gates below. A second click takes it back.", ""];
    return [name === WARNING ? "A factor of 1 takes away the usual size of the gates, on which the network relies: a loss says little about attention." : question, found(ready, this.columns.classes)];
  }

  // ---- by hand

  touch(event) {
    const { stroke } = this;
    this.stroke = null; // where it leaves the map it ends
    if (event.type === "pointerdown") this.takesBack = false; // a stroke that begins elsewhere paints
    if (this.state.replace?.name !== HAND || !event.target.matches?.("canvas[data-figure]")) return;
    const figure = this.figures.all.get(event.target.dataset.figure), { panel } = figure || {};
    if (!panel || !byHand(panel)) return;
    const places = drawnAs(panel) === "places", key = event.type === "keydown";
    if (key && ![" ", "Enter"].includes(event.key)) return;
    const [x, y] = this.state.view.query, { hover } = this.figures; // where the arrow keys have moved to
    const at = !key ? this.figures.pointed(event) : places ? { kind: "places", x, y } : hover?.key === panel.key && hover.tensor === panel.tensor && hover;
    if (event.type === "click" || key) event.preventDefault(), event.stopPropagation(); // it marks no place here
    if (!at || at.kind !== drawnAs(panel)) return;
    const { shape } = panel, cell = [at.x, at.y].map((place, axis) => Math.floor((place * shape[1 - axis]) / 32));
    const cells = (from) => (places ? between(from, cell).map(([x, y]) => y * shape[1] + x) : [at.index]);
    const begins = key || event.type === (places ? "pointerdown" : "click") && !event.button, goesOn = places && event.type === "pointermove" && event.buttons & 1;
    const from = goesOn && stroke?.figure === figure ? stroke.cell : cell; // a quick hand leaves out cells
    if (begins) this.takesBack = cells(cell)[0] in (this.byHand(panel)[panel.tensor] || {}); // all along the stroke
    if (begins || goesOn) this.stroke = { figure, cell }, this.set(panel, cells(from));
  }
  byHand({ key }) { // tensor -> index -> value, of that network
    const { replace } = this.state;
    return replace.only === key ? structuredClone(replace.by_hand || {}) : {};
  }
  set({ key, tensor }, indices) { // to the chosen value, or back to what the network computes
    const mine = this.byHand({ key }), values = (mine[tensor] ||= {});
    const changed = indices.filter((index) => (this.takesBack ? index in values : values[index] !== this.brush));
    if (!changed.length) return;
    for (const index of changed)
      if (this.takesBack) delete values[index];
      else values[index] = this.brush;
    if (!Object.keys(values).length) delete mine[tensor];
    const some = Object.keys(mine).length > 0;
    this.state.merge("replace", { by_hand: some ? mine : null, only: some ? key : null });
  }
}

function slider(label, most, name, moved) {
  const bar = make("input", { type: "range", min: 0, max: most, step: 0.05 }), number = make("output", { "aria-hidden": "true" });
  const set = (value) => { bar.value = value, number.value = (+value).toFixed(2); };
  bar.addEventListener("input", () => { set(bar.value), moved(+bar.value); });
  return { node: make("label", `choice ${name}`, make("span", {}, label), bar, number), set };
}

// ---- what is said of it

function between([x, y], [toX, toY]) { // the cells from one to another, both included
  const steps = Math.max(Math.abs(toX - x), Math.abs(toY - y), 1);
  return Array.from({ length: steps + 1 }, (_, i) => [x + Math.round(((toX - x) * i) / steps), y + Math.round(((toY - y) * i) / steps)]);
}
const isAttention = ({ role }) => role === "gate" || role === "share";
const placeOf = (tensor) => /^(layer\d\.\d|[^.]+)/.exec(tensor)[1]; // as in models/replacements.py
export const isReplaced = ({ replaced }, { tensor, role }) => role !== "difference" && Boolean(replaced?.includes(tensor)); // whether a map shows what was put there
function byHand(panel) { // a gate whose every value is drawn
  return panel.role === "gate" && panel.values && ["curve", "places"].includes(drawnAs(panel)) && panel.values.length === panel.map.shape.reduce((a, b) => a * b, 1);
}
export function change(before, after) { // in points
  const points = Math.round(100 * (after - before));
  return points ? `${points > 0 ? "+" : "−"}${Math.abs(points)}` : "±0";
}
function found(columns, classes) { // how many keep their answer, and where most changes
  if (!columns.length) return "";
  const same = columns.filter(({ before, probabilities }) => largest(before) === largest(probabilities)).length;
  const moved = ({ before, probabilities }) => Math.abs(probabilities[largest(before)] - before[largest(before)]);
  const most = columns.reduce((a, b) => (moved(b) > moved(a) ? b : a)), { name, before, probabilities } = most, at = largest(before);
  const keep = columns.length === 1 ? `${name} ${same ? "keeps" : "changes"} its answer` : same === columns.length ? `${same === 2 ? "Both" : `All ${same}`} keep their answers` : `${same} of ${columns.length} keep their answers`;
  if (moved(most) < SMALL) return `${keep}, and no probability changes much.`;
  return `${keep}. ${columns.length > 1 ? `The largest change is at ${name}` : "It changes"}: ${classes[at]} ${percent(before[at])} → ${percent(probabilities[at])}.`;
}
