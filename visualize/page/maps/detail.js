// One mechanism by itself: all its maps in all blocks, its text, its place in the network, what was measured of it.

import { button, closeBeside, hold, keep, make, select, tryAgain } from "../elements.js";
import { Curve } from "../lab/curve.js";
import { Evidence } from "../lab/evidence.js";
import { Seen } from "../lab/seen.js";
import { chosen, language, translated } from "../language/language.js";
import { headsOf, localName, panelsOf, place, sections } from "./record.js";

export class Detail {
  constructor(state, description, columns, figures, engine, cards, copy) {
    Object.assign(this, { state, description, columns, figures, engine, cards, shown: null });
    this.evidence = new Evidence(state, description, engine, columns);
    this.here = [new Seen(engine, columns, state, description), new Curve(engine, columns, state)];
    this.node = document.querySelector("#detail");
    this.maps = make("div", "blocks");
    this.text = make("div", "card");
    this.title = make("h2", { id: "detail-title" });
    this.choice = select("Mechanism", cards.map(({ key, name }) => [key, name]), null, (key) => this.state.change("detail", key));
    this.said = make("p", { class: "note", role: "status" });
    this.node.append(make("header", {}, this.title, this.choice, button("Copy link", {}, async () => { this.said.textContent = await copy(); }), button("Close", { class: "main" }, () => this.node.close()), this.said),
      make("div", "inside", this.maps, ...this.here.map(({ node }) => node), this.evidence.node, this.text));
    this.node.addEventListener("close", () => { this.shown = null; this.state.change("detail", null); });
    closeBeside(this.node);
  }

  show(record) {
    const { detail } = this.state;
    if (!detail) {
      if (this.node.open) this.node.close();
      this.clear();
      this.evidence.open(null);
      return;
    }
    if (!this.node.open && this.shown === detail) return; // it was closed a moment ago: its event is on the way
    if (!this.node.open) this.node.showModal();
    const column = record.mechanisms.find(({ key }) => key === detail);
    if (this.shown !== detail) {
      this.clear();
      this.shown = detail;
      this.title.textContent = this.cards.find(({ key }) => key === detail)?.name || detail;
      this.choice.querySelector("select").value = detail;
      this.read(detail);
      this.node.scrollTop = 0;
    }
    this.fill(record, column);
    for (const question of this.here) question.show(record, column);
    this.evidence.open(detail);
  }
  clear() {
    this.figures.clear("detail ");
    this.maps.replaceChildren();
    this.said.textContent = "";
    this.rows = new Map();
    this.shown = null;
  }
  async read(key) {
    this.text.replaceChildren(make("p", "note", "Reading …"));
    const release = hold();
    let made;
    try {
      const { html, placement, measured } = await this.engine.card(key);
      made = [...this.words(html), make("div", { class: "numbers", innerHTML: placement + measured })];
    } catch (error) {
      made = [make("p", {}, error.message, " ", tryAgain(() => this.node.querySelector(".main"), () => this.read(key)))];
    }
    release();
    if (this.shown !== key) return;
    this.text.replaceChildren(...made);
    for (const link of this.text.querySelectorAll("a[href^=http]")) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" }); // the page holds what nothing else does
    for (const part of this.text.querySelectorAll("table, math[display=block]"))
      if (part.scrollWidth > part.clientWidth) part.tabIndex = 0; // the keyboard scrolls it
  }
  words(html) { // language -> text: in the visitor's where there is one
    const own = language in html, node = make("div", { class: "words", lang: own ? language : "en", innerHTML: chosen(html) });
    node.translate = own;
    node.querySelector("h1, h2, h3")?.remove(); // it stands above already
    for (const name of node.querySelectorAll("p > strong:first-child")) // a paper is called what it is called
      if (["Paper.", "Source."].includes(name.textContent)) name.textContent = translated(name.textContent), name.parentNode.translate = false;
    return own ? [node] : [make("p", "note", "The explanation is in English."), node];
  }
  fill(record, column) {
    if (!column) {
      const why = this.columns.names().includes(this.shown) ? this.columns.missing.get(this.shown) || "Its maps are on their way."
        : "It is not among the networks on the page, so there are no maps of it here.";
      this.maps.replaceChildren(make("p", "note", why));
      return;
    }
    const own = column.maps.some((map) => map.kind !== "cam"), rows = [];
    if (!this.intro) this.intro = make("p", "note");
    const scales = this.state.view.scale === "shared" ? "each kind on one scale" : "on the same scales as on the page"; // of its own maps alone
    this.intro.textContent = own ? `All its maps, from the first block to the last, ${scales}.`
      : "This network has no attention: class activation maps are all there is to see.";
    const one = { ...record, mechanisms: [column] }, parts = this.columns.parts([column]);
    const list = sections(record.cam);
    for (const section of [...list.filter(({ kind }) => kind !== "cam"), ...list.filter(({ kind }) => kind === "cam")]) {
      const maps = column.maps.filter((map) => section.kinds.includes(map.kind));
      const locals = [...new Set(maps.map((map) => localName(map.tensor)))];
      for (const local of locals) {
        const name = `${section.kind} ${local}`, some = maps.filter((map) => localName(map.tensor) === local);
        const row = this.rows.get(name) || this.row(name, section, locals.length > 1 && local);
        const heads = Math.max(...some.map(headsOf)), each = heads > 1 && this.state.view.head === "mean" && this.state.view.scale !== "shared"; // each head by itself
        const views = each ? Array.from({ length: heads }, (_, head) => ({ ...this.state.view, head })) : [this.state.view];
        const at = ({ block }) => this.description.blocks.indexOf(block);
        const panels = views.flatMap((view) => panelsOf(one, column, some, view, parts).map((panel) => ({ ...panel, others: [], view }))) // no other networks here
          .sort((a, b) => at(a) - at(b));
        const figures = panels.map((panel) => [this.figures.figure(`detail ${panel.tensor} ${panel.view.head}`, () => make("span", "heading", place(panel.tensor, panel.block))), panel]);
        keep(row.figures, figures.map(([figure]) => figure.node));
        for (const [figure, panel] of figures) this.figures.show(figure, panel, one, column);
        rows.push(row.node);
      }
    }
    keep(this.maps, [this.intro, ...rows]);
  }
  row(name, section, local) {
    const row = { figures: make("div", "figures") };
    row.node = make("section", { class: "section", "data-section": section.kind }, make("h3", {}, section.title, " ", local && make("code", {}, local)), row.figures);
    this.rows.set(name, row);
    return row;
  }
}
