// The comparison grid, part 3 of 4: what is around the maps. The crop, one mechanism in detail, the link that
// restores a view, and the files to take along.

// ---- crop: a square of the whole picture, dragged, sized at its corner, or moved by the keys

let square = null; // [left, top, side] in pixels of the whole picture
let wished = null; // the square that was asked for, until its record comes
let cropping = false, cropTimer = 0;
function buildCrop() {
  const { source, crop } = record, own = Array.isArray(crop);
  $("[data-ask=crop]").value = own ? "own" : crop || "centre";
  $(".adjust").hidden = !own;
  $(".crop").hidden = !own || !cropping;
  if (!own) return;
  const image = $(".crop img");
  if (image.src !== source.data) image.src = source.data;
  image.style.width = 300 * Math.min(1, source.width / source.height) + "px";
  if (wished?.join() === crop.join()) wished = null;
  if (!wished && !cropTimer && !$(".square").matches(":active")) showSquare(crop);
}
function askSquare() {
  cropTimer = 0;
  wished = square;
  ask({ crop: square });
}
function showSquare([left, top, side]) { // moved inside the picture
  const { width, height } = record.source, most = Math.min(width, height);
  side = Math.round(Math.max(Math.min(8, most), Math.min(most, side)));
  left = Math.round(Math.max(0, Math.min(width - side, left)));
  top = Math.round(Math.max(0, Math.min(height - side, top)));
  square = [left, top, side];
  const share = (x, all) => (100 * x) / all + "%";
  Object.assign($(".square").style,
    { left: share(left, width), top: share(top, height), width: share(side, width), height: share(side, height) });
  $(".square").setAttribute("aria-valuetext", `left ${left}, top ${top}, side ${side} of ${width} × ${height} pixels`);
}
function squareByDefault() { // three quarters of the largest one, in the middle
  const { width, height } = record.source, side = 0.75 * Math.min(width, height);
  return [(width - side) / 2, (height - side) / 2, side].map(Math.round);
}
function askCrop() {
  const choice = $("[data-ask=crop]").value;
  cropping = choice === "own";
  ask({ crop: cropping ? squareByDefault() : choice });
}
for (const [name, open] of [[".adjust", true], [".done", false]])
  $(name).addEventListener("click", (event) => { event.preventDefault(); cropping = open; buildCrop(); });
$(".square").addEventListener("pointerdown", (event) => {
  const node = event.currentTarget, start = square, corner = event.target.closest(".corner");
  const scale = record.source.width / $(".crop img").clientWidth, from = [event.clientX, event.clientY];
  const drag = ({ clientX, clientY }) => {
    const [x, y] = [(clientX - from[0]) * scale, (clientY - from[1]) * scale], [left, top, side] = start;
    const { width, height } = record.source;
    if (corner) showSquare([left, top, Math.min(side + Math.max(x, y), width - left, height - top)]);
    else showSquare([left + x, top + y, side]);
  };
  node.setPointerCapture(event.pointerId);
  node.addEventListener("pointermove", drag);
  node.addEventListener("lostpointercapture", () => {
    node.removeEventListener("pointermove", drag);
    if (square.join() !== start.join()) askSquare();
  }, { once: true });
});
$(".square").addEventListener("keydown", (event) => {
  const step = Math.max(1, Math.round(record.source.width / 32)), [left, top, side] = square;
  const moved = {
    ArrowLeft: [left - step, top, side], ArrowRight: [left + step, top, side], ArrowUp: [left, top - step, side],
    ArrowDown: [left, top + step, side], "+": [left, top, side + step], "-": [left, top, side - step],
  }[event.key];
  if (!moved) return;
  event.preventDefault();
  showSquare(moved);
  clearTimeout(cropTimer); // when the keys have come to rest
  cropTimer = setTimeout(askSquare, 500);
});

// ---- one mechanism in detail: all its maps at all blocks

let opener = null; // the name that was pressed, as `focusPath` finds it again
function openDetail(key) {
  opener = focusPath($(".sections"), document.activeElement);
  state.detail = key;
  trigger("card", { name: key }); // its text, below
  build();
  $(".detail h2").focus({ preventScroll: true });
  $(".detail").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}
function closeDetail() {
  state.detail = null;
  build();
  $(".sections").querySelectorAll(opener?.[0] || "button.name")[Math.max(0, opener?.[1] || 0)]?.focus();
}
function buildDetail() {
  const mechanism = record.mechanisms.find((candidate) => candidate.key === state.detail);
  $(".detail").hidden = !mechanism;
  if (!mechanism) return $(".detail").replaceChildren();
  const rows = SECTIONS.flatMap((section) => {
    const locals = new Map(mapsOf(mechanism, section.kinds).map((map) => [localOf(map), section]));
    return [...locals.keys()].map((local) => detailRow(section, mechanism, local, locals.size > 1));
  });
  const shut = button("close", "link", closeDetail);
  const title = make("h2", "", `${mechanism.name}: all blocks`), note = make("p", "");
  title.tabIndex = -1; // takes the focus when it is opened
  note.textContent = rows.length > 1 ? "From the first block to the last, on the same scales as above. Its formula " +
    "and its place in the network stand below." : "This network has no attention: Grad-CAM is all there is to see.";
  $(".detail").replaceChildren(make("header", "", title, shut, note), ...rows);
}
function detailRow(section, mechanism, local, several) {
  const shown = mapsOf(mechanism, section.kinds, local).map((only) =>
    figureOf({ section, mechanism, local, only, group: "detail", wide: modeOf(only) === "tiles", siblings: 1 }));
  const name = make("h3", "", section.title, ...(several ? [make("code", "", local)] : []));
  return make("section", "blocks", name, make("div", "maps", ...shown));
}

// ---- a link that restores the view, in our own words; version 1

const LOOKS = ["site", "head", "colours", "cells", "scale", "tab"];
function linkOf() {
  const picture = record.example || record.image.replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  const query = new URLSearchParams({
    view: 1, picture, mechanisms: record.mechanisms.map((mechanism) => mechanism.key), class: record.target,
    cam: record.cam, block: BLOCKS[state.block], place: state.query, overlay: state.overlay,
  });
  if (record.example && record.crop !== "centre") query.set("crop", record.crop);
  for (const key of LOOKS) if (state[key]) query.set(key, state[key]);
  if (!$(".detail").hidden) query.set("detail", state.detail);
  return `${location.origin}${location.pathname}?${query}`.replace(/%2C/g, ",");
}
function restore() { // takes what a link says of the look, and returns the rest, which is for the server
  const query = new URLSearchParams(location.search), said = Object.fromEntries(query);
  if (said.view !== "1") return null;
  const bounded = (x, most) => (x !== undefined && x >= 0 && x <= most ? +x : null);
  const place = (said.place || "").split(",").map((x) => bounded(x, 31));
  const [block, overlay] = [BLOCKS.indexOf(said.block), bounded(said.overlay, 1)];
  if (block >= 0) state.block = block;
  if (overlay !== null) state.overlay = overlay;
  if (place.length === 2 && !place.includes(null)) state.query = place.map(Math.floor);
  for (const key of ["colours", "cells", "scale"])
    if ([...$(`[data-set=${key}]`).options].some((option) => option.value === said[key])) state[key] = said[key];
  if (BLOCKS.includes(said.site)) state.site = said.site;
  if (/^\d{1,2}$/.test(said.head)) state.head = said.head;
  if (SECTIONS.some((section) => section.tab === said.tab)) state.tab = said.tab;
  state.detail = said.detail || null;
  const { picture, mechanisms, class: target, cam, crop, detail } = said;
  return { picture, mechanisms, target, cam, crop, detail };
}
async function copyLink() {
  const link = linkOf();
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link);
  } catch { // no permission, or a page without https
    const box = make("textarea", "", link);
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
  say("The link is copied. It holds this picture and every setting.");
}

// ---- files to take along

const FORMS = { png: "Figure PNG", pdf: "PDF", npz: "Numbers NPZ", json: "Report JSON" };
function take(form) {
  const { block, site, query, head, overlay, colours, cells, scale } = state;
  const look = { block: BLOCKS[block], pairwise_block: site, query, head, overlay, colours, cells, scale };
  const mechanisms = record.mechanisms.map((mechanism) => mechanism.key);
  say(`Making the file …`);
  trigger("take", { form, image: record.image, mechanisms, target: record.target, cam: record.cam, look });
}
function buildTake() {
  const files = Object.entries(FORMS).map(([form, label]) => {
    const node = button(label, "link", () => take(form));
    node.dataset.form = form;
    return node;
  });
  $(".take").replaceChildren(make("span", "", "Take it along:"), button("Copy link", "link", copyLink), ...files);
}
document.addEventListener("taken", () => say()); // the browser has the file
