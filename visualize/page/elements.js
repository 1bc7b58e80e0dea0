// Small builders of HTML, and work in small portions, so that the page never stops answering.

export function make(tag, given = {}, ...children) { // `given`: properties; what has a dash, `class`, `for`, `role` are attributes
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(typeof given === "string" ? { class: given } : given)) {
    if (key === "class" || key === "for" || key === "role" || key === "style" || key.includes("-")) node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
export function drawn(tag, attributes, ...children) { // the same in SVG, where all are attributes
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
export function button(text, given, pressed) {
  const node = make("button", { type: "button", ...(typeof given === "string" ? { class: given } : given) }, text);
  node.addEventListener("click", pressed);
  return node;
}
export const tryAgain = (stays, act) => button("Try again", "link", () => { stays().focus(), act(); }); // it goes away itself, and the focus stays
export function select(label, options, value, chosen) { // options: [key, text]
  const node = make("select");
  for (const [key, text] of options) node.add(new Option(text, key, false, String(key) === String(value)));
  node.addEventListener("change", () => chosen(node.value));
  return make("label", "choice", make("span", {}, label), node);
}
export function put(canvas, { width, data }) { // a picture, RGBA bytes row by row, onto a canvas
  canvas.getContext("2d").putImageData(new ImageData(data, width), 0, 0);
}
export function closeBeside(dialog) { // by a click beside it, not on its own margin, nor where a selection ends
  const beside = ({ clientX, clientY }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    return clientX < left || clientX > right || clientY < top || clientY > bottom;
  };
  let pressed = false;
  dialog.addEventListener("pointerdown", (event) => { pressed = beside(event); });
  dialog.addEventListener("click", (event) => { if (pressed && event.target === dialog && beside(event)) dialog.close(); });
}

// What lies over the page: popovers, and in browsers from before 2024, which know none, parts that are hidden or not.
const native = "showPopover" in HTMLElement.prototype, panels = () => [...document.querySelectorAll("[popover]")];
export function popovers() { // what opens them, where the browser does not do it
  if (native) return;
  for (const panel of panels()) panel.hidden = true;
  for (const opener of document.querySelectorAll("[popovertarget]")) {
    const panel = document.getElementById(opener.getAttribute("popovertarget"));
    opener.addEventListener("click", () => { panel.hidden = !panel.hidden; });
  }
  addEventListener("keydown", ({ key }) => { if (key === "Escape") for (const panel of panels()) panel.hidden = true; });
}
export const close = (panel) => (native ? panel.hidePopover() : void (panel.hidden = true));
export const covered = () => document.querySelector("dialog[open]") || panels().some((panel) => (native ? panel.matches(":popover-open") : !panel.hidden));

export function keep(root, nodes) { // these children, in this order; what stays in its place keeps the focus
  const wanted = new Set(nodes);
  for (const node of [...root.children]) if (!wanted.has(node)) node.remove();
  nodes.forEach((node, i) => { if (root.children[i] !== node) root.insertBefore(node, root.children[i] || null); });
}

export const kept = { // for the next visit; a frame of another site may not keep anything
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* for this visit only */ } },
};

export const unmodified = (event) => !(event.altKey || event.ctrlKey || event.metaKey); // a key for the page, no shortcut of the browser

// One tab stop for many: the arrow keys walk among the parts that `parts` finds, left and right in their order, up and
// down to the nearest of the next line; Home and End go to the ends.
export function roving(root, parts) {
  root.addEventListener("keydown", (event) => {
    if (!unmodified(event)) return;
    const all = parts(), from = document.activeElement, at = all.indexOf(from);
    const to = at >= 0 && { ArrowRight: () => all[at + 1], ArrowLeft: () => all[at - 1], ArrowDown: () => beyond(all, from, 1),
      ArrowUp: () => beyond(all, from, -1), Home: () => all[0], End: () => all.at(-1) }[event.key]?.();
    if (!to) return;
    event.preventDefault();
    for (const part of all) part.tabIndex = part === to ? 0 : -1;
    to.focus();
  });
}
const LEVEL = 8; // pixels: parts of one line differ by less; points of a chart, tall with their intervals, by more
function beyond(all, from, way) { // below it, or above it
  const centre = (part) => { const box = part.getBoundingClientRect(); return { part, x: box.x + box.width / 2, y: box.y + box.height / 2 }; };
  const { x, y } = centre(from), far = (one) => [Math.abs(one.y - y), Math.abs(one.x - x)].map(Math.round);
  const others = all.map(centre).filter((one) => way * (one.y - y) > Math.min(LEVEL, from.getBoundingClientRect().height / 2));
  return others.map((one) => [...far(one), one.part]).sort(([a, b], [c, d]) => a - c || b - d)[0]?.[2];
}
export function oneStop(parts) {
  const kept = parts.find((part) => part.tabIndex === 0) || parts[0];
  for (const part of parts) part.tabIndex = part === kept ? 0 : -1;
}

// ---- what is going on: the page is marked as long as anything is held

let held = 0;
const resting = [];
export function atRest() { return new Promise((done) => (held ? resting.push(done) : done())); }
export function hold() { // returns the function that lets go again
  let holding = true;
  held++;
  document.documentElement.dataset.busy = "yes";
  return () => {
    if (!holding) return;
    holding = false;
    if (--held) return;
    delete document.documentElement.dataset.busy;
    for (const done of resting.splice(0)) done();
  };
}

// ---- jobs wait for the next frame; of those with the same key only the newest is done. A job that is a generator may
// be put aside at each `yield`. What need not come `soon`, such as what is out of sight, comes after everything else.

const PORTION = 12; // milliseconds a frame
const QUIET = 3; // frames without a job until all is done: what has come into view asks for more
const urgent = new Map(), others = new Map(); // key -> the steps that are left of the job
let release = null, quiet = 0;
export function later(key, job, soon = true) {
  urgent.delete(key);
  others.delete(key);
  (soon ? urgent : others).set(key, steps(job));
  quiet = 0;
  if (release) return;
  release = hold();
  requestAnimationFrame(work);
}
function* steps(job) {
  const more = job();
  if (more?.next) yield* more;
}
function step() { // of the oldest job: whether there was one
  const jobs = urgent.size ? urgent : others, [key, left] = jobs.entries().next().value || [];
  try {
    if (left?.next().done && jobs.get(key) === left) jobs.delete(key); // not a newer one of that key
  } catch (error) { // the others go on; a job that has thrown is done at its next step
    reportError(error);
  }
  return Boolean(left);
}
function work() {
  const until = performance.now() + PORTION;
  while (step() && performance.now() < until);
  if (urgent.size || others.size || quiet++ < QUIET) return requestAnimationFrame(work);
  release();
  release = null;
}
export function finishNow() { // before the page is printed
  while (step());
}
