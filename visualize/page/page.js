// The page: its parts, and what a change of the state does to them.

import { engine, start } from "./engine.js";
import * as language from "./language/language.js";
import { atRest, button, close, closeBeside, covered, finishNow, hold, kept, later, make, popovers, put, select, unmodified } from "./elements.js";
import { State, fromHash, linkOf } from "./state.js";
import { fromBase64, rgba } from "./picture.js";
import { configure } from "./maps/record.js";
import { input } from "./input.js";
import { chooser } from "./chooser.js";
import { Columns } from "./maps/columns.js";
import { Figures } from "./maps/figure.js";
import { Glance } from "./maps/glance.js";
import { Maps } from "./maps/maps.js";
import { leaderboard } from "./leaderboard.js";
import { Used } from "./lab/used.js";
import { WhatIf } from "./lab/whatif.js";

const $ = (selector) => document.querySelector(selector), root = document.documentElement;
const given = start(), { record: first, mechanisms: table } = given, description = configure(given.description);
const cards = [...given.cards].sort((a, b) => a.name.localeCompare(b.name));
const names = [...first.mechanisms, ...(first.unavailable || [])].map(({ key }) => key);
const inOrder = table.map(({ key }) => key).filter((key) => names.includes(key));
const pixels = fromBase64(first.image);
const state = new State({
  picture: { example: first.example, pixels, source: rgba(pixels), crop: "centre", notes: [] }, mechanisms: inOrder,
  target: first.target, cam: first.cam, view: description.view, detail: null, pinned: null, replace: null, device: Boolean(given.device) && kept.get("device") === "yes",
});

popovers();

// ---- light and dark

const dim = matchMedia("(prefers-color-scheme: dark)"), theme = $("#theme");
let printing = false; // on paper, everything is light
const able = CSS.supports("color", "light-dark(#fff, #000)"); // else the page is light
const isDark = () => able && !printing && (root.dataset.theme === "dark" || (root.dataset.theme !== "light" && dim.matches));
const asked = new URLSearchParams(location.search).get("__theme") || kept.get("theme");
if (["light", "dark"].includes(asked)) root.dataset.theme = asked;
const offer = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
function toggled() {
  offer();
  redraw();
}
offer();
theme.hidden = !able;
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  kept.set("theme", root.dataset.theme);
  const here = new URL(location.href);
  here.searchParams.delete("__theme"); // the visitor's own wish counts, also after a reload
  history.replaceState(null, "", here);
  toggled();
});
dim.addEventListener("change", toggled);

// ---- parts

const open = (key) => state.change("detail", key);
const chosen = chooser(state, table, given.families, inOrder, given.device);
const whatIf = new WhatIf(state, description, given.replacements, given.examples);
const columns = new Columns(engine, state, { ...chosen, most: given.most, other: (pixels) => whatIf.other(pixels) });
const figures = new Figures(state, description, columns, isDark);
const used = new Used(engine, columns, given.used);
const glance = new Glance(state, description, columns, isDark, { ...chosen, open, used });
const maps = new Maps(state, description, columns, figures, { open });
const say = (text, again) => columns.say(text, again);
whatIf.follow(columns, figures);
const taken = input(state, engine, given, say);
columns.place(first, given.rows);
leaderboard($("#results"), given.results);

// ---- parts that show after a click: the first one fetches them

function onDemand(wanted, load) { // gives what shows the part as soon as it is there
  let part = null, coming = false;
  return async function show() {
    if (part) return part.show(columns.record());
    if (!wanted() || coming) return;
    const release = hold();
    coming = true;
    try {
      part = await load().catch(() => say("A part of the page cannot be fetched at the moment.", show));
      part?.show(columns.record());
    } finally {
      coming = false;
      release();
    }
  };
}
const pair = onDemand(() => state.pinned, async () => {
  const { Pictures } = await import("./lab/pictures.js");
  return new Pictures(state, columns, figures, engine);
});
$("#pin").addEventListener("click", () => state.change("pinned", state.pinned ? null : state.picture.pixels));
const detail = onDemand(() => state.detail, async () => {
  const { Detail } = await import("./maps/detail.js");
  return new Detail(state, description, columns, figures, engine, cards, copy);
});
const pick = select("Mechanism", cards.map(({ key, name }) => [key, name]), "", () => {}); // the arrow keys walk through it
$("#cards .pick").append(pick, button("Show", {}, () => open(pick.lastChild.value)));
const disagree = $("#disagree");
const gallery = onDemand(() => disagree.open, async () => {
  const { gallery: made } = await import("./lab/gallery.js");
  return made(state, engine, columns, chosen.titles);
});
if (given.disagreement) {
  disagree.hidden = false;
  disagree.addEventListener("toggle", gallery);
  const differing = button("", { class: "differing", tabIndex: -1, title: "Test pictures on which the networks differ" }, () => {
    disagree.open = true;
    gallery(); // the event of opening comes a moment later
    disagree.scrollIntoView({ block: "start" });
    disagree.querySelector("summary").focus({ preventScroll: true });
  });
  differing.append(make("b", { "aria-hidden": "true" }, "≠"), make("span", {}, "they differ"));
  $("#examples").append(differing); // the last of the examples, and no stop of its own
}

function redraw() { // what follows the record and the view, part by part
  const record = columns.record();
  seen();
  later("glance", () => glance.show(record));
  later("what if", () => whatIf.show(record));
  later("maps", function* () { yield* maps.show(record); if (figures.side() !== side) seen(); tabs(); }); // the mark is as large as a cell of theirs
  later("pair", pair);
  later("detail", detail);
  later("used", () => used.show());
}
let side = 32;
function seen() {
  side = figures.side();
  const small = new OffscreenCanvas(32, 32);
  put(small, rgba(state.picture.pixels));
  const [x, y] = state.view.query, cell = 32 / side;
  for (const canvas of [$("#seen canvas"), $("#bar .small")]) {
    const context = canvas.getContext("2d"), scale = canvas.width / 32;
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    for (const [colour, thick] of [["#000", 5], ["#fff", 2.5]]) { // seen on every colour
      Object.assign(context, { strokeStyle: colour, lineWidth: thick });
      context.strokeRect(Math.floor(x / cell) * cell * scale, Math.floor(y / cell) * cell * scale, cell * scale, cell * scale);
    }
  }
  $("#seen canvas").setAttribute("aria-valuenow", String(32 * y + x));
  $("#seen canvas").setAttribute("aria-valuetext", `row ${Math.floor(y / cell) + 1}, column ${Math.floor(x / cell) + 1}`);
}

// ---- the bar: block, and how maps are drawn

const bar = $("#bar");
for (const [i, block] of description.blocks.entries()) {
  const box = make("input", { type: "radio", name: "block", value: block, "aria-label": block });
  box.addEventListener("change", () => state.merge("view", { block }));
  $("#bar .blocks").append(make("label", {}, box, make("span", {}, block.replace("layer", ""), make("small", {}, String(32 >> Math.floor(i / 2))))));
}
const options = { colours: Object.keys(description.colours).map((name) => [name, name]),
  cells: Object.entries(description.choices.cells), scale: Object.entries(description.choices.scale) };
for (const control of document.querySelectorAll("[data-view]")) {
  const key = control.dataset.view;
  for (const [value, text] of options[key] || []) control.add(new Option(text, value));
  control.addEventListener("input", () => state.merge("view", { [key]: control.type === "range" ? +control.value : control.value }));
}
function controls() {
  for (const box of document.querySelectorAll("#bar [name=block]")) box.checked = box.value === state.view.block;
  for (const control of document.querySelectorAll("[data-view]")) control.value = state.view[control.dataset.view];
}
const display = $("#display"), looks = $("#looks"), fold = () => display.setAttribute("aria-expanded", "false");
display.addEventListener("click", () => display.setAttribute("aria-expanded", display.getAttribute("aria-expanded") !== "true"));
bar.addEventListener("keydown", (event) => { if (event.key === "Escape" && display.offsetParent && display.getAttribute("aria-expanded") === "true") fold(), display.focus(); });
looks.addEventListener("focusout", ({ relatedTarget: to }) => { if (to && to !== display && !looks.contains(to)) fold(); }); // it would cover it
addEventListener("keydown", (event) => { // the arrows move the block, where they mean nothing else
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], { blocks } = description;
  if (!step || event.defaultPrevented || event.target !== document.body || !unmodified(event) || covered()) return;
  const at = Math.max(0, Math.min(blocks.length - 1, blocks.indexOf(state.view.block) + step));
  state.merge("view", { block: blocks[at] });
});

// ---- one kind of map at a time, on a phone

let tab = null;
function tabs() {
  const all = [...new Set([...document.querySelectorAll("#maps .section")].map((node) => node.dataset.tab))];
  if (!all.includes(tab)) tab = all[0];
  const line = $("#bar .tabs") || bar.appendChild(make("div", { class: "tabs", role: "group", "aria-label": "Kind of map" }));
  if (line.dataset.all !== all.join())
    line.replaceChildren(...all.map((name) => button(name, { "data-tab": name }, () => { tab = name; tabs(); })));
  line.dataset.all = all.join();
  for (const part of line.children) part.setAttribute("aria-pressed", part.dataset.tab === tab);
  for (const node of document.querySelectorAll("#maps .section")) node.classList.toggle("shown", node.dataset.tab === tab);
}

// ---- take it along

const link = () => linkOf({ ...state, mechanisms: columns.names() }, description.view);
language.offer($("#language"), link, () => state.picture);
$("#copy").addEventListener("click", async () => say(await copy()));
async function copy() { // the sentence about it
  const lang = new URLSearchParams(location.search).get("lang"), before = location.origin + location.pathname;
  const fragment = link(), address = fragment.then((text) => before + (lang ? `?lang=${lang}` : "") + text); // what a host adds is of this visit
  const copying = address.then((text) => new Blob([text], { type: "text/plain" }));
  let copied = true;
  try {
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": copying })]); // at once: Safari forgets the click that allows it
  } catch { // no permission, or a page without https
    const box = make("textarea", { value: await address }), from = document.activeElement;
    (document.querySelector("dialog[open]") || document.body).append(box); // what lies beside a dialog cannot be chosen
    box.select();
    copied = document.execCommand("copy");
    box.remove();
    from?.focus({ preventScroll: true });
  }
  history.replaceState(null, "", location.pathname + location.search + (await fragment));
  if (copied) return "The link is copied. It holds this picture and every setting.";
  if (window !== top) return "The link cannot be copied from here: open the page in a tab of its own."; // the address bar is another's
  return "The link is in the address bar: copy it from there. It holds this picture and every setting.";
}
const FORMS = { png: "Figure, PNG", pdf: "Figure, PDF", npz: "Numbers, NPZ", json: "Report, JSON" };
const whose = $("#files").appendChild(select("Of picture", [["B", "B, the current one"], ["A", "A, the pinned one"]], "B", () => {}));
whose.hidden = true; // as long as there is one alone
for (const [form, words] of Object.entries(FORMS)) $("#files").append(button(words, { "data-form": form }, () => take(form)));
const [crowded, many] = [["figure", given.in_figure], ["file", given.most]].map(([what, most]) =>
  $("#files").appendChild(make("p", { class: "note", hidden: true }, `A ${what} has room for ${most} networks: choose fewer of them.`)));
function room() { // without a server there is no figure, and a device takes as many as there are
  const count = columns.names().length, alone = "site" in given;
  crowded.hidden = alone || count <= given.in_figure;
  many.hidden = alone || state.device || count <= given.most;
  for (const [note, forms] of [[crowded, ["png", "pdf"]], [many, ["npz", "json"]]])
    for (const form of forms) $(`#files [data-form=${form}]`).disabled = !note.hidden;
}
async function take(form) {
  close($("#files"));
  const release = hold();
  say("Making the file …");
  const { pinned } = state, picture = pinned ? whose.querySelector("select").value : ""; // "", "A" or "B"
  const about = picture === "A" ? columns.about({ ...state, pixels: pinned }) : columns.about(), mechanisms = columns.names();
  try {
    const { replace } = columns.options(about, mechanisms), { image, target, cam } = about;
    const { blob, name } = await engine.file(form, { image, mechanisms, target, cam, replace, view: state.view, device: state.device, onLoading: (bytes) => columns.loading(bytes) });
    const url = URL.createObjectURL(blob);
    make("a", { href: url, download: picture ? name.replace(/\.\w+$/, `-${picture}$&`) : name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    columns.rest();
  } catch (error) {
    say(error.message, error.final ? undefined : () => take(form));
  } finally {
    release();
  }
}

// ---- how to read this, where it was asked

const reading = $("#reading");
reading.append(make("header", {}, make("h2", {}, "How to read this"), button("Close", "main", () => reading.close())),
  make("div", { class: "inside words", innerHTML: language.chosen(given.reading) }));
for (const node of [$("#read"), ...document.querySelectorAll("button.read")]) node.addEventListener("click", () => reading.showModal());
reading.addEventListener("click", (event) => { // a link of a lesson: what it shows lies below
  if (event.target.closest("a[href^='#']") && unmodified(event)) reading.close(), $("#glance").focus();
});
closeBeside(reading);

// ---- what happens when

columns.addEventListener("said", () => {
  const { text, again } = columns.said;
  $("#status p").textContent = text;
  $("#status .again").hidden = !again;
  aloud();
});
let due = 0;
function aloud() { // for who does not see it: what is so in the end, and of what goes on a word every five seconds
  if (columns.running && due) return;
  clearTimeout(due);
  due = setTimeout(() => { due = 0; $("#voice").textContent = columns.said.text; }, columns.running ? 5000 : 300);
}
$("#status .again").addEventListener("click", () => { // it goes away itself, and so does what it was about
  const { again } = columns.said;
  columns.rest();
  again?.();
  $("#glance").focus({ preventScroll: true });
});
columns.addEventListener("change", () => later("page", redraw));
columns.addEventListener("row", () => later("page", redraw));
state.addEventListener("change", ({ detail: part }) => {
  if (part === "view") controls();
  if (part === "pinned") whose.hidden = !state.pinned;
  if (part === "mechanisms" || part === "device") room();
  if (location.hash.startsWith("#view=") && (part !== "detail" || !state.detail) && settled) history.replaceState(null, "", location.pathname + location.search); // it has moved on
  later("page", redraw);
});
addEventListener("keydown", (event) => { // Escape closes what lies over the answers
  if (event.key !== "Escape") return;
  for (const node of document.querySelectorAll(".answer:is(:hover, :focus)")) {
    node.classList.add("closed");
    for (const type of ["pointerleave", "blur"]) node.addEventListener(type, () => node.classList.remove("closed"), { once: true });
  }
});
for (const [type, begins] of [["beforeprint", true], ["afterprint", false]])
  addEventListener(type, () => {
    printing = figures.printing = begins;
    redraw();
    finishNow();
  });

// ---- a link that was opened

const PATIENCE = 3000; // milliseconds: then what stands below is shown, though a network of a link has not answered yet
let settled = false, newest = "";
async function opened() {
  const { hash } = location, carried = history.state?.picture; // from the page in the other language
  newest = hash;
  settled = false;
  if (carried) history.replaceState(null, ""); // used once: a later reload follows the link
  const known = {
    examples: Object.keys(given.examples), mechanisms: table.map(({ key }) => key), cards: given.cards.map(({ key }) => key), cams: Object.keys(description.methods),
    targets: ["predicted", ...first.classes], replacements: given.replacements.map(({ name }) => name), block: description.blocks, pairwise_block: description.blocks, ...Object.fromEntries(
      Object.entries(options).map(([key, pairs]) => [key, pairs.map(([value]) => value)])),
  };
  try {
    const link = await fromHash(hash, known);
    if (newest !== hash) return; // of two links in a row the last one counts
    if (link) {
      const { picture, view, ...rest } = link;
      for (const [part, value] of Object.entries(rest)) state.change(part, value);
      state.change("view", { ...description.view, ...view });
      if (picture.example) taken.example(picture.example, picture.crop);
      else state.change("picture", carried?.own ? carried : picture);
    }
  } catch (error) {
    if (newest !== hash) return;
    history.replaceState(null, "", location.pathname + location.search);
    state.picture.fault = error.message; // also said when what is under way has come
    columns.rest();
  }
  settled = true;
}
addEventListener("hashchange", opened);

controls();
toggled();
state.change("picture", state.picture);
columns.rest();
await Promise.race([Promise.all([opened(), atRest()]), new Promise((done) => setTimeout(done, PATIENCE))]);
root.dataset.ready = "yes";
