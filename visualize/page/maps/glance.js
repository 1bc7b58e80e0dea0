// Networks x blocks: what each network answers, and small pictures of its own attention in every block. Real, fixed
// scales; a click shows that block large.

import { button, keep, later, make, oneStop, roving } from "../elements.js";
import { start } from "../engine.js";
import { change, isReplaced } from "../lab/whatif.js";
import { along, area, drawThumb, heights, table } from "./draw.js";
import { bars, curve, drawnAs, gridLines, largest, order, panelsOf, percent, position, range, stack, tiles } from "./record.js";

const LINES = ["curve", "areas", "bars"]; // what is drawn as a curve, the others as a map
const FIRST = ["pairwise", "cross", "spatial", "volume", "profile", "maps", "grid"]; // which map stands for a block
const sharp = () => Math.min(2, globalThis.devicePixelRatio || 1);

export class Glance {
  constructor(state, description, columns, isDark, { open, titles, used }) {
    Object.assign(this, { state, description, columns, isDark, open, titles, used, rows: new Map() });
    this.node = document.querySelector("#glance");
    [this.list, this.sum] = [".rows", ".summary"].map((part) => this.node.querySelector(part));
    const heads = description.blocks.map((block) =>
      make("span", { class: "head" }, block.replace("layer", ""), make("small", {}, "0 × 0".replaceAll("0", 32 >> (block[5] - 1)))));
    this.head = make("div", { class: "row heads", "aria-hidden": "true" }, make("span", "who", "Network"), make("span", "answer", "Answer"),
      make("span", { class: "thumbs" }, ...heads));
    this.list.append(this.head);
    roving(this.list, () => this.thumbs());
    this.inView = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const row = this.rows.get(target.dataset.key);
        if (row) row.seen = isIntersecting;
        if (row && isIntersecting) this.want(row), this.sketch(row); // before those out of sight
      }
    }, { rootMargin: "80px" });
  }
  thumbs() { return [...this.list.querySelectorAll("button.thumb")]; }

  *show(record) { // in steps: there may be many networks
    this.record = record;
    const chosen = this.columns.names().filter((key) => !this.columns.missing.has(key)), there = new Map(record.mechanisms.map((column) => [column.key, column]));
    for (const [key, row] of this.rows) if (!chosen.includes(key)) row.node.remove(), this.inView.unobserve(row.node), this.rows.delete(key);
    const nodes = [];
    for (const key of chosen) {
      nodes.push(this.row(key, there.get(key)));
      yield;
    }
    keep(this.list, [this.head, ...nodes]);
    this.list.style.setProperty("--count", nodes.length);
    const waiting = nodes.some((node) => node.classList.contains("pending"));
    this.sum.classList.toggle("pending", waiting); // it is about the picture before
    if (!waiting) this.summary(record); // once, when all have answered
    this.legend(record);
    oneStop(this.thumbs());
  }
  row(key, column) {
    if (!this.rows.has(key)) {
      const name = this.titles.get(key), row = { key, column: null, answer: make("div", { class: "answer" }), thumbs: make("div", { class: "thumbs" }), blocks: new Map() };
      row.name = button(name, { class: "name", title: `${name}: all blocks, formula, paper, measurements` }, () => this.open(key));
      row.facts = make("p", "facts", "on its way …");
      row.use = make("p", { class: "facts use", hidden: true, title: "Percent right in the test with its average in place of the attention: see “Is the attention used?” below" });
      row.away = button("×", { class: "away", hidden: true, "aria-label": `Remove ${name}`, title: `Remove ${name}` }, () => this.remove(key));
      row.node = make("div", { class: "row", "data-key": key }, make("div", "who", row.name, row.facts, row.use, row.away), row.answer, row.thumbs);
      this.rows.set(key, row);
      this.inView.observe(row.node);
    }
    const row = this.rows.get(key);
    row.node.classList.toggle("pending", !column || Boolean(column.pending));
    row.answer.setAttribute("aria-busy", !column || Boolean(column.pending));
    if (column && !column.pending && row.column !== column) {
      row.column = column;
      this.who(row, column);
      this.answer(row, column);
      this.cells(row, column);
    }
    this.sketch(row);
    return row.node;
  }
  who(row, column) {
    const { value, low, high, recipe } = column.accuracy || {};
    const { replace_note: why } = column, facts = column.random ? "random weights, not trained" : why ? "answers as trained" : value == null ? "not measured" : `${value.toFixed(1)} % right in the test`;
    const title = why || `${column.parameters.toLocaleString("en")} parameters` + (value == null ? "" : `; 95 % interval ${low} to ${high} %; recipe ${recipe}`);
    row.node.classList.toggle("random", Boolean(column.random));
    const use = (!column.random && this.used.line(column.key)) || "";
    Object.assign(row.facts, { textContent: facts, title, className: column.random ? "facts telling" : "facts" }); // also said on a phone
    Object.assign(row.use, { textContent: use, hidden: !use });
    row.away.hidden = false;
  }
  remove(key) { // who walks by the keys stays among the rows
    const all = [...this.list.querySelectorAll(".row[data-key] .away")], at = all.indexOf(this.rows.get(key).away);
    (all[at + 1] || all[at - 1])?.focus();
    this.state.change("mechanisms", this.columns.names().filter((other) => other !== key));
  }
  answer(row, column) {
    const { probabilities } = column, before = column.replace_note ? null : column.before;
    const ranked = order(probabilities), was = before ? order(before)[0] : ranked[0], few = ranked.slice(0, 3);
    if (!few.includes(was)) few[2] = was; // what it answered as trained stays in sight
    const bar = (index) => make("li", index === ranked[0] ? "first" : "", make("span", {}, this.columns.classes[index]),
      make("data", {}, percent(probabilities[index]), before && index === was && make("small", {}, ` ${change(before[index], probabilities[index])}`)),
      make("i", { class: before ? "changed" : "", style: `--p: ${probabilities[index]}; --was: ${before?.[index]}` }));
    row.answer.replaceChildren(make("ol", "bars", ...few.map(bar)), make("ol", "bars every", ...ranked.map(bar)));
    row.answer.tabIndex = 0;
    row.answer.setAttribute("role", "group");
    row.answer.setAttribute("aria-label", `What ${column.name} answers`);
  }
  own(column) { return column.maps.filter((map) => map.kind !== "cam"); }
  cells(row, column) { // the frame: a button for each block that has something, so that nothing moves later
    const own = this.own(column), { blocks } = this.description;
    const old = new Map((row.cells || []).map((cell) => [cell.block, cell.canvases]));
    Object.assign(row, { cells: [], wants: new Map() });
    if (!own.length) {
      row.thumbs.replaceChildren(make("p", "without note", "No attention of its own: compare the others with it."));
      return;
    }
    keep(row.thumbs, blocks.map((block) => { // nodes stay where they are, and the focus with them
      const some = own.some((map) => map.block === block), kept = row.blocks.get(block + some);
      const node = kept || (some ? button("", { class: "thumb", tabIndex: -1, "data-block": block, "aria-label": `${column.name}, ${block}` }, () => this.choose(block))
        : make("span", "thumb empty"));
      row.blocks.set(block + some, node);
      if (some) row.cells.push({ block, node, canvases: old.get(block) || [] }); // the old picture stays until the new one is drawn
      return node;
    }));
  }
  choose(block) {
    this.state.merge("view", { block, pairwise_block: null });
    const bar = document.querySelector("#bar"), { top } = bar.getBoundingClientRect();
    if (top > innerHeight * 0.6) document.querySelector("#maps").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
  isLine(map) { return LINES.includes(this.description.kinds[map.kind].drawn); }
  drawn(column, block) { // one map and one curve stand for a block
    const own = this.own(column).filter((map) => map.block === block), active = own.filter((map) => map.role !== "features" && !map.static);
    const rank = (map) => (FIRST.indexOf(map.kind) + 99) % 99, some = active.length ? active : own;
    const places = some.filter((map) => !this.isLine(map)).sort((a, b) => rank(a) - rank(b));
    return [places[0], some.find((map) => this.isLine(map))].filter(Boolean);
  }
  panels(row, block) {
    const view = { ...this.state.view, scale: "fixed" }, maps = this.drawn(row.column, block);
    return panelsOf({ ...this.record, mechanisms: [row.column] }, row.column, maps, view, this.columns.parts([row.column]))
      .sort((a, b) => maps.indexOf(a.map) - maps.indexOf(b.map));
  }
  want(row) { for (const wants of [...(row.wants?.values() || [])].flat()) this.columns.fetch(row.column, wants); }
  sketch(row) {
    if (row.column) for (const cell of row.cells) later(`glance ${row.key} ${cell.block}`, () => this.cell(row, cell), row.seen);
  }
  cell(row, cell) {
    const { view } = this.state;
    cell.node.setAttribute("aria-pressed", cell.block === view.block);
    cell.node.classList.toggle("replaced", this.own(row.column).some((map) => map.block === cell.block && isReplaced(row.column, map)));
    const panels = this.panels(row, cell.block), there = panels.filter((panel) => panel.values);
    row.wants.set(cell.block, panels.filter((panel) => !panel.values).map((panel) => panel.wants));
    if (row.seen) this.want(row);
    cell.node.classList.toggle("fetching", there.length < panels.length);
    const marked = there.some((panel) => this.description.kinds[panel.kind].part) && view.query;
    const look = [view.colours, this.isDark(), marked, view.head, there.map((panel) => panel.tensor)].join();
    if (!there.length || (cell.look === look && cell.column === row.column)) return;
    Object.assign(cell, { look, column: row.column });
    cell.canvases = there.map((panel, i) => this.thumb(panel, cell.canvases[i] || make("canvas", { "aria-hidden": "true" })));
    if (cell.node.children.length !== there.length) cell.node.replaceChildren(...cell.canvases);
    const words = there.map((panel) => `${panel.tensor.split(".").at(-1)} ${range(panel)}`).join("; ");
    cell.node.title = words;
    cell.node.setAttribute("aria-label", `${row.column.name}, ${cell.block}: ${words}. Show this block`);
  }
  thumb(panel, canvas) {
    const drawn = drawnAs(panel);
    const inks = this.description.inks[this.isDark() ? "dark" : "light"], colours = table(this.description.colours[this.state.view.colours]);
    const at = (x) => position(panel, x);
    if (LINES.includes(drawn) || drawn === "grid") {
      canvas.className = "lines";
      Object.assign(canvas, { width: 72 * sharp(), height: 72 * sharp() });
      const context = canvas.getContext("2d"), { width, height } = canvas;
      context.fillStyle = inks.ground;
      context.fillRect(0, 0, width, height);
      context.fillStyle = context.strokeStyle = inks.accent;
      if (drawn === "curve") sorted(context, heights(panel, curve(panel), height), width, height);
      if (drawn === "areas") for (const { from, to, strength } of stack(panel).areas) {
        context.globalAlpha = strength;
        area(context, heights(panel, to, height), heights(panel, from, height), width);
      }
      if (drawn === "bars") bars(panel).forEach(({ from, to }, i, all) => {
        const [start, end] = heights(panel, [from, to], height);
        context.fillRect((i + 0.1) * width / all.length, end, 0.8 * width / all.length, start - end);
      });
      if (drawn === "grid") {
        context.lineWidth = sharp();
        context.beginPath();
        for (const line of gridLines(panel))
          line.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"]((x / 3.2 + 0.5) * width, (y / 3.2 + 0.5) * height));
        context.stroke();
      }
      return canvas;
    }
    canvas.className = "cells";
    const flat = panel.flat ? () => at(panel.values.find((x) => !Number.isNaN(x))) : at;
    if (drawn === "tiles") {
      const { values, height, width } = tiles(panel)[0];
      return drawThumb(canvas, values, [height, width], flat, colours);
    }
    return drawThumb(canvas, panel.values, panel.shape.slice(-2), flat, colours);
  }

  summary(record) {
    const votes = new Map(), ready = record.mechanisms.filter((column) => !column.pending && !column.random);
    for (const { probabilities } of ready) {
      const name = this.columns.classes[largest(probabilities)];
      votes.set(name, (votes.get(name) || 0) + 1);
    }
    const counts = [...votes].sort((a, b) => b[1] - a[1]);
    const together = counts.length === 1 && ready.length > 1;
    const verdict = together ? `${ready.length === 2 ? "Both" : `All ${ready.length}`} say ${counts[0][0]}`
      : counts.map(([name, count]) => `${count} ${count === 1 ? "says" : "say"} ${name}`).join(", ");
    const known = this.columns.unlike || "They know ten classes only and call any picture one of them.";
    this.sum.textContent = ready.length ? `${verdict}. ${known}`
      : record.mechanisms.length ? "Random weights give random answers." : start().mechanisms.some(({ trained }) => trained) ? "None of these networks can be shown."
        : "No network is trained yet: python -m models.train plain trains the first one.";
  }
  legend(record) { // what the small pictures are, said once
    const { blocks, kinds } = this.description, own = record.mechanisms.flatMap((column) => blocks.flatMap((block) => this.drawn(column, block)));
    const has = (test) => own.some(test), maps = (test) => own.some((map) => !this.isLine(map) && test(map)), words = [];
    if (maps((map) => map.scale === "0-1")) words.push("gates from 0 (dark) to 1 (light)");
    if (maps((map) => map.scale === "1-2")) words.push("gates from 1 (dark, unchanged) to 2 (light, doubled)");
    if (maps((map) => map.scale === "uniform=1" && kinds[map.kind].marked)) words.push("what the marked place reads, ¹⁄₁₆ to 16 times an equal share");
    if (maps((map) => map.scale === "uniform=1" && !kinds[map.kind].marked)) words.push("shares, ¹⁄₁₆ to 16 times an equal one");
    if (has((map) => map.kind === "channel" && map.role === "gate")) words.push("channel gates as a curve, the largest first");
    if (has((map) => map.kind === "branch")) words.push("branch weights, stacked");
    if (has((map) => map.scale === "signed")) words.push("with a sign: each to its own largest value");
    this.node.querySelector(".legend-line").textContent = own.length
      ? `Own attention, block by block: ${words.join("; ") || "small maps"}. Click one to see its block large.` : "";
  }
}
function sorted(context, top, width, height) { // a line, and lightly what is below it
  context.globalAlpha = 0.28;
  area(context, top, top.map(() => height), width);
  context.globalAlpha = 1;
  context.lineWidth = 2 * sharp();
  along(context, top, width);
  context.stroke();
}
