// How a picture comes in: chosen, dropped or pasted anywhere, taken by the camera, or one of the examples; and which
// square of it the networks see. Everything ends in `state.change("picture", ...)`.

import { button, covered, hold, make, oneStop, put, roving, unmodified } from "./elements.js";
import { EngineError, UNREADABLE, start } from "./engine.js";
import { Disguised, checkCanvas, fromBase64, open, rgba, squareOf, surface, toNetwork } from "./picture.js";

const $ = (selector) => document.querySelector(selector);
const WHOLE = 300; // longest side of the whole picture in the crop box, in CSS pixels

async function readable(file, here) { // throws where there is no use in sending it, or nothing is sent
  await file.slice(0, 1).arrayBuffer().catch(() => { throw new EngineError("This cannot be read: it is a folder, or the file is no longer there."); });
  if (here) throw new EngineError(UNREADABLE);
  if (file.size > start().largest) throw new EngineError("This file is too large for the server.");
}
export function input(state, engine, { examples, photographs }, say) {
  let newest = 0, last = state.picture.source; // of quick wishes the last one counts
  const usual = $("#sent").textContent, sent = () => { $("#sent").textContent = state.device ? "It is sent only for what this device cannot do." : usual; };
  if (state.device) sent();

  // ---- where pictures come from

  async function take(file) {
    const mine = ++newest, release = hold();
    say("Opening the picture …");
    try {
      let opened;
      try {
        opened = await open(file);
      } catch (error) { // this browser cannot; the server knows more formats, or says what is wrong
        if (error instanceof Disguised) throw error; // it could, and a whole photograph is not sent for that
        await readable(file, state.device || start().site);
        const { picture, notes } = await engine.decode(file);
        opened = await open(picture);
        opened.notes.unshift(...notes);
      }
      if (mine === newest) show({ source: opened.picture, notes: opened.notes });
    } catch (error) {
      if (mine !== newest) return;
      state.picture.fault = error.message; // also when the networks on their way have answered
      say(error.message);
    } finally {
      release();
    }
  }
  function show(given) { // a dragged square of one picture means nothing on another
    const crop = typeof state.picture.crop === "string" ? state.picture.crop : "centre";
    set({ own: true, crop, notes: [], ...given });
  }
  function set(picture) {
    state.change("picture", { ...picture, pixels: picture.source ? toNetwork(picture.source, picture.crop) : picture.pixels });
  }
  function example(name, crop = typeof state.picture.crop === "string" ? state.picture.crop : "centre", notes = []) {
    newest++;
    set({ example: name, source: rgba(fromBase64(examples[name])), crop, notes });
  }

  const first = (list) => [...(list || [])].find((file) => file.type.startsWith("image/")) || list?.[0];
  for (const chooser of [$("#file"), $("#shot")])
    chooser.addEventListener("change", () => {
      if (chooser.files[0]) take(chooser.files[0]);
      chooser.value = ""; // the same file may be chosen again
    });
  $("#choose").addEventListener("click", () => $("#file").click());
  $("#remove").addEventListener("click", () => {
    example("cat", "centre", ["Your picture was removed: the example is shown again."]);
    $("#choose").focus();
  });

  // Whatever is dropped on the page, the browser must not open it in our place.
  const carries = (event) => [...(event.dataTransfer?.types || [])].some((type) => type === "Files" || type === "text/uri-list");
  let gone = 0;
  const hint = (shown) => { clearTimeout(gone), ($("#drop").hidden = !shown); };
  for (const type of ["dragenter", "dragover"]) // again and again, as long as it is over the page
    addEventListener(type, (event) => { if (carries(event)) event.preventDefault(), hint(true), (gone = setTimeout(hint, 700, false)); });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    hint(false);
    const file = first(event.dataTransfer?.files);
    if (file) take(file);
    else say("Only a file can be dropped here: save that picture first, or copy and paste it.");
  });
  addEventListener("paste", (event) => {
    const file = first(event.clipboardData?.files);
    if (!file) return;
    event.preventDefault();
    take(file);
  });

  const pasting = $("#paste"), shooting = $("#camera");
  pasting.hidden = !(isSecureContext && navigator.clipboard?.read);
  pasting.addEventListener("click", async () => {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((one) => one.startsWith("image/"));
        if (type) return take(await item.getType(type));
      }
      say("There is no picture in the clipboard.");
    } catch {
      say("The browser does not give out the clipboard: press Ctrl+V (or ⌘V) instead.");
    }
  });
  const byHand = matchMedia("(pointer: coarse)").matches; // a phone's own camera app needs no https
  shooting.hidden = !byHand && !(isSecureContext && navigator.mediaDevices?.getUserMedia);
  shooting.addEventListener("click", () => (byHand ? $("#shot").click() : shoot(take, say)));

  const strip = $("#examples");
  function offer(pixels, words, attributes, act) {
    const picture = make("canvas", { width: 32, height: 32, "aria-hidden": "true" });
    put(picture, rgba(fromBase64(pixels)));
    strip.append(button("", attributes, act));
    strip.lastChild.append(picture, make("span", {}, words));
  }
  for (const [name, pixels] of Object.entries(examples)) offer(pixels, name, { "data-name": name, title: name }, () => example(name));
  for (const [name, pixels] of Object.entries(photographs))
    offer(pixels, "photo", { "data-photo": name, "aria-label": `photo: a ${name}`, title: `A photograph of a ${name}, large enough to be cropped` }, () => photograph(name));
  async function photograph(name) { // as a visitor's own
    const mine = ++newest, release = hold(), answer = await fetch(new URL(`examples/photo-${name}.jpg`, import.meta.url)).catch(() => null);
    const file = answer?.ok ? await answer.blob().catch(() => null) : null;
    if (mine === newest && file) await take(file);
    else if (mine === newest) say((state.picture.fault = "The photograph cannot be loaded at the moment."));
    release();
  }
  roving(strip, () => [...strip.children]);
  oneStop([...strip.children]);

  // ---- crop: a square of the whole picture, dragged, sized at its corner, or moved by the keys

  const box = $("#crop"), choice = $("#crop-choice select"), square = $("#crop .square"), whole = $("#crop canvas");
  let cropping = false, drawn = null;
  function recrop(crop) {
    const { source } = state.picture;
    state.merge("picture", { crop, pixels: toNetwork(source, crop) });
  }
  choice.addEventListener("change", () => {
    cropping = choice.value === "own";
    if (!cropping) return recrop(choice.value);
    const { width, height } = state.picture.source, side = 0.75 * Math.min(width, height); // in the middle
    recrop(squareOf(state.picture.source, [(width - side) / 2, (height - side) / 2, side]));
    square.focus();
  });
  for (const [node, open] of [[$("#adjust"), true], [$("#crop .done"), false]])
    node.addEventListener("click", () => { cropping = open; crops(); (open ? square : choice).focus(); });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !cropping || covered()) return;
    cropping = false;
    if (box.contains(document.activeElement)) choice.focus();
    crops();
  });
  square.addEventListener("pointerdown", (event) => {
    const { source, crop: [left, top, side] } = state.picture, corner = event.target.closest(".corner");
    const scale = source.width / whole.clientWidth, from = [event.clientX, event.clientY];
    const drag = ({ clientX, clientY }) => {
      const [x, y] = [(clientX - from[0]) * scale, (clientY - from[1]) * scale];
      recrop(squareOf(source, corner ? [left, top, Math.min(side + Math.max(x, y), source.width - left, source.height - top)]
        : [left + x, top + y, side]));
    };
    square.setPointerCapture(event.pointerId);
    square.addEventListener("pointermove", drag);
    square.addEventListener("lostpointercapture", () => square.removeEventListener("pointermove", drag), { once: true });
  });
  square.addEventListener("keydown", (event) => {
    const { source, crop: [left, top, side] } = state.picture, step = Math.max(1, Math.round(source.width / 32));
    const moved = {
      ArrowLeft: [left - step, top, side], ArrowRight: [left + step, top, side], ArrowUp: [left, top - step, side],
      ArrowDown: [left, top + step, side], "+": [left, top, side + step], "-": [left, top, side - step],
    }[event.key];
    if (!moved || !unmodified(event)) return;
    event.preventDefault();
    recrop(squareOf(source, moved));
  });
  for (const [node, sign] of [[$("#crop .less"), -1], [$("#crop .more"), 1]])
    node.addEventListener("click", () => {
      const { source, crop: [left, top, side] } = state.picture, by = 2 * sign * Math.max(1, Math.round(source.width / 32));
      recrop(squareOf(source, [left - by / 2, top - by / 2, side + by]));
    });
  whole.addEventListener("click", ({ offsetX, offsetY }) => { // a click beside the square takes it there
    const { source, crop: [, , side] } = state.picture, scale = source.width / whole.clientWidth;
    recrop(squareOf(source, [offsetX * scale - side / 2, offsetY * scale - side / 2, side]));
  });
  function crops() { // what the crop box shows of the state
    const { source, crop } = state.picture, own = Array.isArray(crop);
    choice.value = own ? "own" : crop;
    $("#adjust").hidden = !own;
    box.hidden = !own || !cropping;
    if (box.hidden || !source) return;
    if (drawn !== source) {
      Object.assign(whole, { width: source.width, height: source.height });
      put(whole, source);
      const shrink = Math.min(WHOLE, document.documentElement.clientWidth - 50) / Math.max(source.width, source.height);
      Object.assign(whole.style, { width: source.width * shrink + "px", height: source.height * shrink + "px" });
      drawn = source;
    }
    const [left, top, side] = crop, share = (x, all) => (100 * x) / all + "%", { width, height } = source;
    Object.assign(square.style, { left: share(left, width), top: share(top, height), width: share(side, width), height: share(side, height) });
    for (const [name, value] of Object.entries({ valuenow: side, valuemax: Math.min(width, height) })) square.setAttribute(`aria-${name}`, value);
    square.setAttribute("aria-valuetext", `left ${left}, top ${top}, side ${side} of ${width} × ${height} pixels`);
  }

  state.addEventListener("change", ({ detail }) => {
    if (detail === "device") sent();
    if (detail !== "picture") return;
    if (!state.picture.source) state.picture.source = rgba(state.picture.pixels); // it came in a link
    if (state.picture.source !== last) last = state.picture.source, newest++; // what is still being opened comes too late
    $("#remove").hidden = Boolean(state.picture.example);
    for (const part of strip.querySelectorAll("[data-name]")) part.setAttribute("aria-pressed", part.dataset.name === state.picture.example);
    crops();
  });
  return { example };
}

// The camera of a computer: what it sees, until it is taken.
async function shoot(take, say) {
  try {
    checkCanvas();
  } catch (error) {
    return say(error.message);
  }
  const dialog = $("#shoot"), video = make("video", { autoplay: true, muted: true, playsInline: true });
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return say("No camera can be used: there is none, or the browser was not allowed to.");
  }
  video.srcObject = stream;
  dialog.replaceChildren(video, make("p", { class: "buttons" },
    button("Take the picture", "main", async () => {
      if (!video.videoWidth) return; // it shows nothing yet
      const context = surface(video.videoWidth, video.videoHeight);
      context.drawImage(video, 0, 0);
      const file = await new Promise((done) => context.canvas.toBlob(done));
      dialog.close();
      take(file);
    }),
    button("Cancel", "", () => dialog.close())));
  dialog.addEventListener("close", () => stream.getTracks().forEach((track) => track.stop()), { once: true });
  dialog.showModal();
}
