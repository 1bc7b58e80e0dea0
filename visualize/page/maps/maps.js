// The chosen block, large: every kind of map that the networks have there, one section for each kind.

import { button, keep, make, select } from "../elements.js";
import { differenceOf, sentenceOf } from "../lab/difference.js";
import { drawnAs, localName, methodName, pairwiseBlock, pairwiseBlocks, panelsInSteps, place, range } from "./record.js";

export class Maps {
  constructor(state, description, columns, figures, { open }) {
    Object.assign(this, { state, description, columns, figures, open, sections: new Map() });
    this.root = document.querySelector("#maps .sections");
    new ResizeObserver(([{ contentRect }]) => { this.width = contentRect.width; this.tracks(); }).observe(this.root);
  }
  *show(record) { // in steps: there may be many networks
    this.two = record.mechanisms.length === 2; // two large columns, and their difference
    this.root.classList.toggle("two", this.two);
    const rows = [], all = record.mechanisms.length ? panelsInSteps(record, this.state.view, this.columns.parts(record.mechanisms)) : [];
    for (const row of all) {
      if (row) rows.push(row);
      yield;
    }
    const order = [...rows.filter(({ section }) => section.kind !== "cam"), ...rows.filter(({ section }) => section.kind === "cam")];
    const kept = new Set(), nodes = [];
    for (const row of order) nodes.push(yield* this.section(row, record, kept));
    this.figures.clear("map ", kept);
    for (const kind of this.sections.keys()) if (!order.some(({ section }) => section.kind === kind)) this.sections.delete(kind);
    keep(this.root, nodes);
    this.tracks();
    this.differ(order, record);
  }
  differ(rows, record) { // of two networks: in words, where they differ
    const node = document.querySelector("#differ"), columns = record.mechanisms;
    const own = this.two ? rows.filter(({ section }) => section.kind !== "cam") : [];
    const lines = own.map(({ section, cells }) => [section.title, columns.map(({ key, name }) => {
      const found = cells[key], known = Array.isArray(found) && found.find((panel) => panel.values);
      return known ? `${name} ${range(known)}` : Array.isArray(found) ? `${name} …` : `${name} has ${found.none}`;
    }).join("; ")]);
    const text = lines.length ? sentenceOf(own, columns, this.state.view.block) : "", key = text + lines.join();
    node.classList.toggle("pending", text === null || columns.some(({ pending }) => pending)); // it is about what was before
    if (text === null) return;
    node.hidden = !lines.length;
    if (node.dataset.key === key) return;
    node.dataset.key = key;
    node.replaceChildren(make("b", {}, text), make("ul", {}, ...lines.map(([title, words]) => make("li", {}, make("b", {}, title), `: ${words}.`))));
  }
  *section({ section, block, cells }, record, kept) {
    const { kind } = section, known = this.sections.get(kind) || this.frame(section);
    const columns = new Map(record.mechanisms.map((column) => [column.key, column])), shown = [], none = [];
    for (const [key, found] of Object.entries(cells)) {
      if (!Array.isArray(found)) none.push([columns.get(key), found]);
      else for (const panel of found) {
        const name = `map ${kind} ${key} ${localName(panel.tensor)}`, column = columns.get(key);
        const figure = this.figures.figure(name, () => this.heading(column, found.length > 1 && localName(panel.tensor)));
        kept.add(name);
        shown.push([figure, panel, column]);
        yield;
      }
    }
    const nodes = this.two ? this.beside(known, section, shown, none, record, kept) : shown.map(([figure]) => figure.node);
    keep(known.maps, nodes);
    for (const [figure, panel, column] of shown) {
      this.figures.show(figure, panel, record, column);
      yield;
    }
    this.words(known, section, block, this.two ? [] : none, record);
    known.wide = Math.max(section.pairwise ? 2 : 1, shown.reduce((sum, [, panel]) => sum + (this.figures.wide(panel) ? 2 : 1), 0));
    return known.node;
  }
  beside(known, section, shown, none, record, kept) { // rows of one network, the other, and the difference
    const [one, other] = record.mechanisms, of = ({ key }) => shown.filter(([, panel]) => panel.key === key), nodes = [];
    const lacks = (column, i) => { // what one has not is said in its place
      const name = `${column.key} ${i}`, found = none.find(([each]) => each === column)?.[1];
      const words = found && !i ? `${column.name} has ${found.none}.` : "";
      if (known.lacks.get(name)?.words !== words) known.lacks.set(name, { words, node: make("p", "none-here lacks note", words) });
      return known.lacks.get(name).node;
    };
    for (let i = 0; i < Math.max(of(one).length, of(other).length); i++) {
      const [a, b] = [of(one)[i], of(other)[i]], places = a && b && a[1].values && drawnAs(a[1]) === "places"; // channels of two networks have nothing to do with each other
      const difference = places && differenceOf(a[1], b[1], `${other.name} minus ${one.name}`);
      nodes.push(a?.[0].node || lacks(one, i), b?.[0].node || lacks(other, i));
      const name = `map ${section.kind} difference ${i}`;
      if (!difference) {
        const node = a && b && !(a[1].values && b[1].values) && this.figures.waiting(name, kept); // so that nothing moves
        if (node) nodes.push(node);
        continue;
      }
      const figure = this.figures.figure(name, () => make("span", "heading", "difference"));
      kept.add(figure.key);
      this.figures.show(figure, difference, record, other.pending ? other : one.pending ? one : other, Boolean(other.pending) !== Boolean(one.pending));
      figure.node.classList.add("difference");
      nodes.push(figure.node);
    }
    return nodes;
  }
  frame(section) {
    const node = make("section", { class: "section", "data-section": section.kind, "data-tab": section.tab });
    const known = { node, lacks: new Map(), title: make("h2", { tabIndex: -1 }), text: make("p"), controls: make("div", "controls"), none: make("p", "none-here note"), maps: make("div", "figures") };
    node.append(make("header", {}, known.title, known.controls, known.text), known.maps, known.none);
    this.sections.set(section.kind, known);
    return known;
  }
  heading(column, local) {
    const name = button(column.name, { class: "name", title: `${column.name}: all blocks, formula, paper, measurements` }, () => this.open(column.key));
    return make("span", "heading", name, local && make("small", {}, local), column.random && make("i", {}, "random weights"));
  }
  words(known, section, block, none, record) {
    const said = section.title + section.text;
    if (known.said !== said) known.title.textContent = section.title, known.text.textContent = section.text;
    known.said = said;
    this.controls(known, section, block, record);
    const parts = [];
    for (const [column, { none: words, at }] of none) {
      if (at.length) parts.push(make("span", {}, `${column.name}: ${words}. `, ...at.map((one) => button(`go to ${one}`, "link", () => {
        known.title.focus({ preventScroll: true }); // the button goes away
        this.state.merge("view", section.pairwise ? { pairwise_block: one } : { block: one });
      }))));
      else if (record.mechanisms.length <= 4) parts.push(make("span", {}, `${column.name}: ${words}.`));
    }
    const key = parts.map((part) => part.textContent).join();
    if (known.none.dataset.key !== key) known.none.replaceChildren(...parts), known.none.dataset.key = key;
    known.none.hidden = !parts.length;
  }
  controls(known, section, block, record) {
    const { view, target, cam } = this.state, heads = this.heads(section, record);
    const blocks = section.pairwise ? pairwiseBlocks(record) : [], where = blocks.map((one) => [one, place(this.between(record, one), one)]);
    const key = JSON.stringify([section.kind, heads, where, view.block, view.pairwise_block, view.head, target, cam]);
    if (known.key === key) return;
    const focused = known.controls.contains(document.activeElement) && [...known.controls.querySelectorAll("select")].indexOf(document.activeElement);
    known.key = key;
    known.controls.replaceChildren();
    if (section.kind === "cam") {
      const classes = [["predicted", "its own answer"], ...this.columns.classes.map((name) => [name, name])];
      const methods = Object.keys(this.description.methods).map((name) => [name, methodName(name)]);
      known.controls.append(select("Class", classes, target, (value) => this.state.change("target", value)),
        select("Method", methods, cam, (value) => this.state.change("cam", value)));
    }
    if (blocks.length) {
      const nearest = new Map(where).get(pairwiseBlock(record, { ...view, pairwise_block: null }));
      const options = [["", `nearest to the block: ${nearest}`], ...where];
      known.controls.append(select("Where", options, view.pairwise_block || "", (value) => this.state.merge("view", { pairwise_block: value || null })));
    }
    if (heads > 1) {
      const options = [["mean", "mean"], ...Array.from({ length: heads }, (_, i) => [String(i), `head ${i + 1}`])];
      known.controls.append(select("Heads", options, view.head === "mean" ? "mean" : Math.min(view.head, heads - 1), (value) => this.state.merge("view", { head: value === "mean" ? value : +value })));
    }
    if (focused !== false) known.controls.querySelectorAll("select")[focused]?.focus({ preventScroll: true });
  }
  between(record, block) { // a tensor at that block, which knows whether it stands after a layer or in the block
    const kinds = this.description.sections.filter((section) => section.pairwise).flatMap((section) => section.kinds);
    return record.mechanisms.flatMap((column) => column.maps).find((map) => map.block === block && kinds.includes(map.kind)).tensor;
  }
  heads(section, record) {
    const maps = record.mechanisms.flatMap((column) => column.maps).filter((map) => section.kinds.includes(map.kind) && map.axes.startsWith("head q"));
    return Math.max(1, ...maps.map((map) => map.shape[0]));
  }
  tracks() { // as many columns as fit; few figures get larger ones
    const { width } = this, gap = 20, spans = [...this.sections.values()].map(({ wide }) => wide || 1);
    if (!width) return;
    if (this.two) return this.root.style.setProperty("--tracks", 1);
    const total = spans.reduce((a, b) => a + b, 0), phone = width < 560;
    const best = total <= 8 ? 260 : total <= 14 ? 220 : 184, most = Math.max(2, Math.floor((width + gap) / (150 + gap)));
    const count = phone ? 2 : Math.max(2, Math.min(most, Math.round((width + gap) / (best + gap))));
    this.root.style.setProperty("--tracks", count);
    for (const { node, wide } of this.sections.values()) node.style.setProperty("--span", Math.min(count, Math.max(phone ? 2 : 1, wide || 1)));
  }
}
