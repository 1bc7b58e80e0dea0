// Is attention used? For all networks: points of accuracy with a replacement in all blocks, as a table, and in each
// block alone, as a picture. The numbers come from the files beside the checkpoints and are only written out here.

import { button, hold, make, tryAgain } from "../elements.js";
import { scopeName } from "../maps/record.js";
import { endsOf, forest, minus, points, within } from "./forest.js";

const NAMES = { "another picture's": "another’s" }; // where a column is narrow

export class Used {
  constructor(engine, columns, { networks, questions, alone, caption }) {
    Object.assign(this, { engine, columns, networks, questions, chosen: alone[0], known: new Map(), seen: false, faults: new Map() });
    this.root = document.querySelector("#used");
    this.root.querySelector(".none").hidden = networks.length > 0;
    if (!networks.length) return;
    this.panels = make("div", "panels");
    this.question = make("p", "note");
    this.choice = make("div", { class: "segments", role: "group", "aria-label": "Replacement" }, ...alone.map((name) =>
      button(name, { "data-replacement": name }, () => { this.chosen = name; this.draw(); })));
    this.root.querySelector(".inside").append(this.table(), make("p", "note", caption), this.warning(),
      make("h3", {}, "Block by block: points lost"), this.choice, this.question, this.panels);
    new IntersectionObserver((entries, watch) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) watch.disconnect(), this.seen = true, this.show();
    }, { rootMargin: "200px" }).observe(this.panels);
    this.draw();
  }
  line(key) { return this.networks.find((network) => network.key === key)?.line; } // a few words, or none

  // ---- in all blocks at once

  table() {
    const names = Object.keys(this.questions).filter((name) => name !== "factor 1" && this.networks.some(({ rows }) => rows[name]));
    const head = make("tr", {}, ...["Network", "as trained", ...names].map((name) =>
      make("th", { scope: "col", title: this.questions[name] || "" }, NAMES[name] || name)));
    const body = this.networks.map(({ key, title, right, images, rows }) => make("tr", { "data-key": key }, make("th", { scope: "row" }, title),
      make("td", { title: `percent right of ${images.toLocaleString("en")} test images` }, right.toFixed(1)),
      ...names.map((name) => {
        const row = rows[name];
        if (!row) return make("td", { title: "This replacement does not apply here." }, "–");
        return make("td", { title: about(row), ...(row.verdict === "same" ? {} : { "aria-description": row.words }) }, make(row.verdict === "same" ? "span" : "b", {}, points(0 - row.lost.value)));
      })));
    return scroll("Accuracy with replaced attention", make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
  }
  warning() { // why the most obvious replacement is not in the table
    const measured = this.networks.filter(({ rows }) => rows["factor 1"]), spared = measured.filter(({ rows }) => rows.average.verdict === "same");
    if (!measured.length) return "";
    const why = " To switch gates off, one may set them all to 1. But the network has learnt to live with their usual size, about one half in many, and meets sizes that it never saw.";
    return make("p", "warning", make("b", {}, "Factor 1 is no fair question."), why, spared.length > 0 && this.example(spared));
  }
  example(spared) { // of those that lose nothing with their average the one that factor 1 costs most
    const lost = ({ rows }) => rows["factor 1"].lost.value;
    const { right, title, rows: { "factor 1": one, average } } = spared.reduce((a, b) => (lost(b) > lost(a) ? b : a));
    return ` ${title} then falls from ${right.toFixed(1)} to ${one.right.toFixed(1)} %, and the loss says nothing about its attention: with its average it keeps ${average.right.toFixed(1)} %.`;
  }

  // ---- in each block alone, of the networks on the page

  show() {
    if (!this.networks.length || !this.seen) return;
    const names = this.columns.names().filter((key) => this.networks.some((network) => network.key === key) && !this.known.has(key));
    for (const name of names) this.fetch(name);
    this.draw();
  }
  async fetch(name) { // once for each network; what fails is asked for at the next change
    const release = hold();
    this.known.set(name, null);
    try {
      this.known.set(name, await this.engine.evidence(name));
      this.faults.delete(name);
    } catch (error) {
      this.known.delete(name);
      this.faults.set(name, error.message);
    }
    release();
    this.draw();
  }
  draw() {
    for (const part of this.choice.children) part.setAttribute("aria-pressed", part.dataset.replacement === this.chosen);
    this.question.textContent = `${this.questions[this.chosen]} The lines are 95 % intervals of each row alone; a filled dot is more than chance, also after Holm's correction for all rows of a network.`;
    const shown = this.columns.names().map((key) => [this.networks.find((network) => network.key === key), this.known.get(key)])
      .filter(([network, evidence]) => network && evidence)
      .map(([network, { rows }]) => [network, rows.filter((row) => row.replacement === this.chosen)]);
    const some = this.columns.names().some((key) => this.networks.some((network) => network.key === key));
    const failed = this.columns.names().map((key) => !this.known.has(key) && this.faults.get(key)).find(Boolean);
    const look = [this.chosen, some, failed, ...shown.map(([{ key }]) => key)].join();
    if (look === this.look) return; // what was measured does not change
    this.look = look;
    if (!some) return this.panels.replaceChildren(make("p", "note", "This is not measured yet for any network on the page: choose other networks above."));
    const ends = endsOf(shown.flatMap(([, rows]) => rows.map((row) => row.lost)), 0);
    this.panels.replaceChildren(...shown.map(([{ key, title }, rows]) => make("figure", { "data-key": key }, make("figcaption", {}, title),
      rows.length ? losses(rows, (row) => scopeName(row.scope), ends) : make("p", "note", "This replacement does not apply here."))));
    if (failed) this.panels.append(make("p", {}, failed, " ", tryAgain(() => this.choice.firstChild, () => this.show())));
  }
}
export const losses = (rows, label, ends) => forest(rows.map((row) => ({ label: label(row), ...row.lost, strong: row.verdict !== "same", title: about(row) })),
  ends, { zero: 0, text: (value) => minus(value.toFixed(1)) }); // points of accuracy
export const scroll = (label, node) => make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": label }, node);
export function about({ words, lost, p, images }) { // a row in one sentence
  const chance = p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
  return `${words}: ${minus(lost.value.toFixed(2))} points lost (${within(lost)} for this row alone), ${images.toLocaleString("en")} test images, ${chance} after Holm's correction`;
}
