// Two pictures: one is pinned as A, whatever comes next is B. For each network the maps of both at the chosen block, B's
// curves over A's, and the map of their difference.

import { button, hold, keep, make, put, tryAgain } from "../elements.js";
import { rgba } from "../picture.js";
import { patiently } from "../maps/columns.js";
import { largest, localName, panels, percent } from "../maps/record.js";
import { differenceOf, onOneScale } from "./difference.js";

export class Pictures {
  constructor(state, columns, figures, engine) {
    Object.assign(this, { state, columns, figures, engine, asked: null, near: null, triples: new Map(), missing: new Map() }); // why A is not there, by network
    Object.assign(this, { pinned: null, was: new Map() }); // what the networks said of A last, until they have answered anew
    this.pin = document.querySelector("#pin");
    this.node = document.querySelector("#pair");
    [this.a, this.b] = ["A", "B"].map((name) => make("canvas", { width: 32, height: 32, role: "img", "aria-label": `Picture ${name}` }));
    this.said = make("p", { role: "status" });
    this.list = make("div", "triples");
    this.node.append(make("header", {}, make("h2", {}, "Two pictures"), make("span", "both", make("b", {}, "A"), this.a, make("b", {}, "B"), this.b),
      button("Unpin A", {}, () => { state.change("pinned", null), this.pin.focus({ preventScroll: true }); })), this.said, this.list); // it goes away itself
  }
  show(record) {
    const { pinned, picture } = this.state, same = pinned && pinned.every((byte, i) => byte === picture.pixels[i]);
    this.pin.textContent = pinned ? "Unpin A" : "Pin as A";
    this.pin.nextElementSibling.textContent = pinned ? "A is pinned: see below." : "keeps this picture; the next one is B, and both are shown beside each other.";
    this.node.hidden = !pinned;
    if (this.pinned !== pinned) this.was.clear(), this.missing.clear();
    this.pinned = pinned;
    if (!pinned) return this.stop(), this.clear();
    put(this.a, rgba(pinned));
    put(this.b, rgba(picture.pixels));
    this.b.classList.toggle("same", same);
    if (same) {
      this.say("This picture is A. Take another one: it becomes B.");
      return this.stop(), this.clear();
    }
    const about = this.columns.about({ ...this.state, pixels: pinned }), names = record.mechanisms.map(({ key }) => key);
    const kept = new Map(names.map((key) => [key, this.columns.got(this.columns.known(about, key))]).filter(([, column]) => column));
    this.ask(about, names.filter((key) => !kept.has(key) && !this.columns.refused.has(key)));
    for (const [key, column] of kept) this.was.set(key, column);
    const shown = names.filter((key) => this.was.has(key) && !this.missing.has(key)).map((key) => kept.get(key) || { ...this.was.get(key), pending: true });
    this.draw({ ...record, image: about.image, pixels: about.pixels, mechanisms: shown }, record);
  }
  say(text, again = null) {
    const key = text + Boolean(again);
    if (this.said.dataset.key === key) return;
    this.said.dataset.key = key;
    this.said.replaceChildren(text, ...(again ? [" ", tryAgain(() => this.node.querySelector("header button"), again)] : []));
  }
  clear(kept = new Set()) {
    this.figures.clear("pair ", kept);
    for (const [name, triple] of this.triples) if (!kept.has(name)) triple.remove(), this.triples.delete(name);
  }
  stop() {
    this.controller?.abort();
    Object.assign(this, { asked: null, near: null });
  }
  async ask(about, names) { // the columns of A that are not there yet
    const key = `${about.key} ${names}`;
    if (this.asked === key || this.near === about.near) return; // what runs for a slider a moment ago comes to its end
    this.controller?.abort();
    Object.assign(this, { asked: key, near: null });
    this.missing.clear();
    if (!names.length) return this.say("");
    this.near = about.near;
    const { signal } = (this.controller = new AbortController()), release = hold();
    const heard = (sign) => ({ onWaiting: sign, onLoading: sign,
      onColumn: (column) => { sign(), this.columns.keep(column, about); },
      onUnavailable: ({ key: name, reason }) => { sign(), this.missing.set(name, reason); } });
    try {
      for (let at = 0; at < names.length; at += this.columns.most)
        await patiently((given, sign) => this.engine.look(about.image, names.slice(at, at + this.columns.most), this.columns.options(about, names), heard(sign), given), signal);
      this.say("");
    } catch (error) {
      if (!signal.aborted) this.say(error.message, () => { this.asked = null; this.columns.changed(); });
    } finally {
      release();
      if (!signal.aborted) this.near = null, this.columns.changed();
    }
  }

  // ---- A, B, and the difference

  draw(first, second) {
    const there = new Map(first.mechanisms.map((column) => [column.key, column])), { view } = this.state;
    const late = ({ key, pending }) => pending || there.get(key).pending, drawn = new Set([...this.triples.values()].map((node) => node.dataset.mechanism));
    const both = second.mechanisms.filter((column) => there.has(column.key) && (!late(column) || drawn.has(column.key))); // the old pictures stay until the new ones are there
    const rows = (record, wanted) => panels({ ...record, mechanisms: wanted }, view, this.columns.parts(wanted));
    const before = rows(first, both.map(({ key }) => there.get(key))), kept = new Set(), nodes = [];
    const order = rows(second, both).sort((x, y) => (x.section.kind === "cam") - (y.section.kind === "cam")); // stable
    for (const { section, cells } of order) {
      const others = before.find((row) => row.section.kind === section.kind)?.cells || {};
      for (const column of both) {
        if (!Array.isArray(cells[column.key]) || !Array.isArray(others[column.key])) continue;
        for (const b of cells[column.key]) {
          const a = others[column.key].find((panel) => panel.tensor === b.tensor);
          if (a) nodes.push(this.triple(section, a, b, [there.get(column.key), column], [first, second], kept));
        }
      }
    }
    const ready = both.filter((column) => !late(column)), waiting = both.length > 0 && !ready.length && !this.missing.size;
    const failed = Boolean(this.said.querySelector("button"));
    this.said.classList.toggle("pending", waiting && !failed); // it is about the pictures before
    if (!waiting && !failed)
      this.say([ready.length ? this.answers(ready, there) : this.missing.size || there.size ? "" : "Looking at A …", ...this.missing.values()].join(" ").trim());
    this.clear(kept);
    keep(this.list, nodes);
  }
  triple(section, a, b, [was, is], [first, second], kept) {
    const name = `pair ${section.kind} ${b.key} ${localName(b.tensor)}`;
    onOneScale(a, b);
    a.others = [];
    b.others = a.values && a.kind === "channel" && !was.pending ? [a.values] : [];
    const shown = [["A", a, first, was], ["B", b, second, is], ["B minus A", differenceOf(a, b, "B minus A"), second, was.pending ? was : is]];
    const figures = shown.map(([word, panel, record, column]) => {
      const key = `${name} ${word}`;
      if (!panel) return a.values && b.values ? null : this.figures.waiting(key, kept);
      const figure = this.figures.figure(key, () => make("span", "heading", word === "B" && b.kind === "channel" ? "B (grey: A)" : word));
      kept.add(key);
      this.figures.show(figure, panel, record, column, true);
      return figure.node;
    }).filter(Boolean);
    kept.add(name);
    if (!this.triples.has(name)) this.triples.set(name, make("section", { class: "triple", "data-mechanism": b.key, "data-section": section.kind }, make("h3", {}, `${is.name}: `, make("span", "note")), make("div", "figures")));
    const node = this.triples.get(name);
    if (node.titled !== section.title) node.titled = node.querySelector("h3 .note").textContent = section.title; // another method, say
    keep(node.lastChild, figures);
    return node;
  }
  answers(both, there) {
    const answer = ({ probabilities }) => `${this.columns.classes[largest(probabilities)]} (${percent(Math.max(...probabilities))})`;
    return `A and B: ${both.map((column) => `${column.name} says ${answer(there.get(column.key))}, ${answer(column)}`).join("; ")}.`;
  }
}
