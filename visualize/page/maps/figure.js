// One panel on the page: name, number under the pointer, picture, legend, words. And what all of them share: the
// place under the pointer, which is framed in every picture, and what is in view.

import { button, later, make, unmodified } from "../elements.js";
import { drawPanel, hit } from "./draw.js";
import { isReplaced } from "../lab/whatif.js";
import { translated } from "../language/language.js";
import { describe, drawnAs, judged, marks, order, position, queryOf, valueAt } from "./record.js";

const WIDE = ["tiles", "bars", "curve", "areas"];
const PRINTED = 320; // pixels of width on paper, where the screen gives none
const ids = new WeakMap();
let count = 0;
const idOf = (object) => (object && typeof object === "object" ? ids.get(object) || (ids.set(object, ++count), count) : object);

export class Figures {
  constructor(state, description, columns, isDark) {
    Object.assign(this, { state, description, columns, isDark, all: new Map(), hover: null, printing: false });
    this.inView = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const figure = this.all.get(target.dataset.figure);
        if (figure?.node !== target) continue;
        figure.seen = isIntersecting;
        if (isIntersecting) this.want(figure), this.paint(figure);
      }
    }, { rootMargin: "120px" });
    this.sizes = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) {
        const figure = this.all.get(target.dataset.figure);
        if (figure?.canvas === target) figure.width = Math.round(contentRect.width), this.paint(figure);
      }
    });
    columns.addEventListener("change", () => { if (!document.activeElement.matches("canvas")) this.hover = null; }); // the keys stay where they are
    for (const type of ["pointermove", "click"]) document.addEventListener(type, (event) => this.point(event));
    document.addEventListener("pointerout", (event) => { if (event.pointerType === "mouse" && !event.relatedTarget) this.look(null); });
    document.addEventListener("keydown", (event) => this.step(event));
    document.addEventListener("focusout", (event) => { if (event.target.matches?.("canvas")) this.look(null); });
  }
  wide(panel) { return WIDE.includes(this.description.kinds[panel.kind].drawn) || panel.kind === "table"; }

  // The figure of that key, made or kept: a figure keeps its node, so that the old picture stays until the new one
  // can be drawn. `heading` makes what stands above it.
  figure(key, heading) {
    if (this.all.has(key)) return this.all.get(key);
    const figure = { key, page: 0, panel: null, seen: false, width: 0 };
    figure.value = make("span", "value");
    figure.canvas = make("canvas", { role: "img", "aria-label": "on its way" });
    figure.legend = make("div", { class: "legend", "aria-hidden": "true" });
    figure.pager = make("div", "pager");
    figure.said = make("div", "said");
    figure.tensor = make("code", "tensor");
    figure.node = make("figure", { class: "map", "data-figure": key }, make("figcaption", {}, heading(), figure.value),
      figure.canvas, figure.pager, figure.legend, figure.said, figure.tensor);
    figure.canvas.dataset.figure = key;
    this.all.set(key, figure);
    this.inView.observe(figure.node);
    this.sizes.observe(figure.canvas);
    return figure;
  }
  waiting(key, kept) { // the node of a figure that is there, while what it is made from is on its way; else null
    const figure = this.all.get(key);
    if (!figure) return null;
    figure.node.classList.add("fetching");
    kept.add(key);
    return figure.node;
  }
  clear(prefix, kept = new Set()) { // those whose keys begin so, but for these
    for (const [key, { node, canvas }] of this.all)
      if (key.startsWith(prefix) && !kept.has(key)) this.inView.unobserve(node), this.sizes.unobserve(canvas), node.remove(), this.all.delete(key);
  }
  show(figure, panel, record, column, stays = false) { // stays: while the column is on its way nothing is drawn anew
    const { node } = figure;
    node.classList.toggle("random", Boolean(column.random));
    node.classList.toggle("pending", Boolean(column.pending));
    node.dataset.mechanism = panel.key;
    Object.assign(node.dataset, { kind: panel.kind, role: panel.role });
    node.classList.toggle("wide", this.wide(panel));
    node.classList.toggle("replaced", isReplaced(column, panel));
    figure.canvas.setAttribute("aria-busy", String(Boolean(column.pending || !panel.values)));
    const other = panel.kind === "cam" && (column.about.cam !== record.cam || column.about.target !== record.target); // than what it is called
    if (column.pending && (stays || other || !panel.values)) return; // it keeps its old picture
    node.classList.toggle("fetching", !panel.values);
    Object.assign(figure, { wants: panel.values ? null : panel.wants, column });
    if (panel.values) Object.assign(figure, { panel, picture: column.pixels }); // else the old ones stay together
    else figure.text = null, figure.canvas.setAttribute("aria-label", `${panel.name}, ${panel.tensor}: on its way`);
    this.want(figure);
    this.paint(figure);
  }
  want(figure) { if (figure.seen && figure.wants) this.columns.fetch(figure.column, figure.wants); }

  paint(figure) { if (figure?.panel) later(figure.key, () => this.draw(figure), figure.seen); }
  draw(figure) {
    const { panel, canvas, picture, page } = figure, { view } = this.state, dark = this.isDark(), width = figure.width || (this.printing ? PRINTED : 0);
    if (!width) return; // not on the page yet, or on another page of a phone, which paper has too
    const drawn = drawnAs(panel), marked = this.description.kinds[panel.kind].marked;
    const mine = this.hover && this.hover.key === panel.key && this.hover.tensor === panel.tensor;
    const hover = this.hover && (mine || (this.hover.kind === "places" && ["places", "tiles"].includes(drawn))) ? this.hover : null;
    const look = [view.overlay, view.colours, view.cells, dark, width, page, marked && view.query, hover && JSON.stringify(hover),
      idOf(panel.values), panel.ends, panel.flat, idOf(picture), panel.others?.map(idOf)].join();
    if (look !== figure.look) {
      figure.look = look;
      const { height, pages } = drawPanel(canvas, panel, { view, picture, description: this.description, dark, width, page, hover, say: translated });
      canvas.style.aspectRatio = `${width} / ${height}`;
      canvas.classList.toggle("pick", drawn !== "grid");
      if (!["tiles", "grid"].includes(drawn)) canvas.tabIndex = 0, canvas.setAttribute("role", "slider"); // the arrow keys read it
      figure.page = Math.min(page, pages - 1); // another block may have fewer
      this.pages(figure, pages);
    }
    if (!figure.mark || !figure.wants) this.words(figure);
    figure.legend.querySelector(".ramp").style.background = this.ramp(); // also where the words wait for another part of the map
    this.number(figure);
  }
  words(figure) {
    const { panel, legend } = figure, { view } = this.state;
    const text = [describe(panel, view), panel.endWords].join("|");
    if (text === figure.text) return;
    figure.text = text;
    figure.canvas.setAttribute("aria-label", describe(panel, view));
    figure.said.replaceChildren(...panel.said.map((line, i) => make("p", i ? "note" : "range", line)));
    figure.tensor.replaceChildren(...panel.tensor.split(/(?<=\.)/).flatMap((part) => [part, make("wbr")]));
    const { least, most, mean, base } = marks(panel), share = (x) => 100 * x + "%";
    legend.hidden = drawnAs(panel) === "grid";
    figure.mark = make("i", { class: "mark", hidden: true });
    legend.replaceChildren(make("span", {}, panel.endWords[0]),
      make("span", { class: "ramp" }, base !== null && make("i", { class: "one", style: `left: ${share(base)}` }),
        make("i", { class: "extent", style: `left: ${share(least)}; right: ${share(1 - most)}` }),
        make("i", { class: "mean", style: `left: ${share(mean)}` }), figure.mark),
      make("span", {}, panel.endWords[1]));
  }
  ramp() {
    return `linear-gradient(90deg, ${this.description.colours[this.state.view.colours].split(" ").map((hex) => "#" + hex).join(", ")})`;
  }
  pages(figure, pages) {
    const text = pages > 1 ? `page ${figure.page + 1} of ${pages}` : "";
    if (figure.pager.dataset.text === text) return;
    figure.pager.dataset.text = text;
    const focused = [...figure.pager.children].indexOf(document.activeElement);
    const step = (by, sign, label) => {
      const page = figure.page + by;
      return button(sign, { "aria-label": `${label} page`, disabled: page < 0 || page >= pages }, () => { figure.page = page; this.paint(figure); });
    };
    figure.pager.replaceChildren(...(text ? [step(-1, "‹", "previous"), make("span", {}, text), step(1, "›", "next")] : []));
    const free = [...figure.pager.querySelectorAll("button:enabled")];
    if (focused >= 0) (free.find((one) => one === figure.pager.children[focused]) || free[0])?.focus({ preventScroll: true });
  }
  number(figure) { // under the pointer
    const { panel, value, mark } = figure, found = this.hover && !figure.wants && valueAt(panel, this.hover); // else it is of another place
    value.textContent = found ? found.text : "";
    const known = found && found.value !== null;
    mark.hidden = !known;
    if (known) mark.style.left = 100 * Math.max(0, Math.min(1, position(panel, found.value))) + "%";
    this.speak(figure);
  }
  speak(figure) { // where the keys are, and what stands there, for who does not see it
    const { panel, canvas } = figure;
    if (canvas.getAttribute("role") !== "slider") return;
    const places = drawnAs(panel) === "places", [x, y] = this.state.view.query, [rows, columns] = places ? panel.shape : [];
    const found = valueAt(panel, places ? { kind: "places", over: true, x, y } : this.hover);
    const row = Math.floor((y * rows) / 32), column = Math.floor((x * columns) / 32), last = judged(panel).length - 1;
    const said = figure.wants ? "on its way" : found?.text || "–";
    const now = places ? row * columns + column : this.hover?.index ?? 0, text = places ? `row ${row + 1}, column ${column + 1}: ${said}` : said;
    if (figure.spoken === `${last} ${now} ${text}`) return;
    figure.spoken = `${last} ${now} ${text}`;
    for (const [name, value] of Object.entries({ valuemin: 0, valuemax: last, valuenow: Math.min(now, last), valuetext: text }))
      canvas.setAttribute(`aria-${name}`, value);
  }

  // ---- what the visitor points at

  look(hover) {
    if (JSON.stringify(hover) === JSON.stringify(this.hover)) return;
    this.hover = hover;
    for (const figure of this.all.values()) if (figure.seen) this.paint(figure);
  }
  pointed(event) {
    const canvas = event.target.closest?.("canvas");
    if (canvas?.dataset.figure) return hit(canvas, event);
    if (!canvas?.dataset.place) return null;
    const box = canvas.getBoundingClientRect(), cell = (at, size) => Math.max(0, Math.min(31, Math.floor((at / size) * 32)));
    return { kind: "places", over: true, x: cell(event.clientX - box.left, box.width), y: cell(event.clientY - box.top, box.height) };
  }
  point(event) {
    const at = this.pointed(event);
    if (event.type === "click" || event.pointerType !== "touch") this.look(at);
    if (event.type === "click" && at?.kind === "places" && at.over) this.state.merge("view", { query: [at.x, at.y] });
  }
  step(event) { // arrow keys move the mark by one cell of the map that has the focus, and walk along a curve
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const canvas = event.target.matches?.("canvas") && event.target;
    if (!move || !canvas || !unmodified(event) || !(canvas.dataset.figure || canvas.dataset.place)) return;
    const panel = this.all.get(canvas.dataset.figure)?.panel;
    if (panel && drawnAs(panel) !== "places") return this.walk(event, panel, move);
    event.preventDefault();
    const { query } = this.state.view, cells = this.cellsOf(panel); // across and down
    const moved = query.map((at, axis) => {
      const to = Math.floor((at * cells[axis]) / 32) + move[axis];
      return move[axis] ? Math.floor(((Math.max(0, Math.min(cells[axis] - 1, to)) + 0.5) * 32) / cells[axis]) : at;
    });
    this.state.merge("view", { query: moved });
    this.look({ kind: "places", over: true, x: moved[0], y: moved[1] });
  }
  walk(event, panel, [right, down]) { // to the next smaller channel, the next bar, over a matrix
    const kind = drawnAs(panel), { key, tensor, shape } = panel, values = judged(panel), { hover } = this;
    if (!right && kind !== "matrix") return;
    event.preventDefault();
    const sorted = ["curve", "areas"].includes(kind) && order(values);
    const at = hover?.kind === kind && hover.key === key && hover.tensor === tensor ? (sorted ? sorted.indexOf(hover.index) : hover.index) : -1;
    const to = at < 0 ? 0 : at + right + down * shape.at(-1);
    if (to >= 0 && to < values.length) this.look({ kind, key, tensor, index: sorted ? sorted[to] : to });
  }
  cellsOf(panel) { // how many of them the mark has, across and down
    if (panel && !this.description.kinds[panel.kind].marked) return [panel.shape[1], panel.shape[0]];
    const side = panel ? queryOf(panel.map, this.state.view).side : this.side();
    return [side, side];
  }
  side() { // of the grid that the mark stands in: that of the pairwise maps on the page, or pixels
    for (const { panel, node } of this.all.values())
      if (panel && node.isConnected && this.description.kinds[panel.kind].marked) return queryOf(panel.map, this.state.view).side;
    return 32;
  }
}
