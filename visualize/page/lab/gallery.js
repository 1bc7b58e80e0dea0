// Test pictures on which trained networks differ: small, opened on demand, each one click from the grid.

import { button, hold, make, oneStop, roving, tryAgain } from "../elements.js";
import { SIDE, checkCanvas, rgba, surface } from "../picture.js";

const say = (count) => `${count} ${count === 1 ? "says" : "say"}`;

export function gallery(state, engine, columns, titles) {
  const root = document.querySelector("#disagree"), list = make("div", { class: "pictures", role: "group", "aria-label": "Pictures on which networks differ" });
  const readout = make("p", { class: "readout note", role: "status" }), rest = "Point at a picture, or walk through them with the arrow keys; a click shows it to the networks.";
  let found = null, loading = false;
  roving(list, () => [...list.children]);
  root.querySelector(".inside").append(list, readout);
  return { show: () => { if (root.open && !found && !loading) load(); } };

  async function load() {
    const release = hold();
    loading = true;
    readout.textContent = "Fetching the pictures …";
    try {
      found = await engine.disagreement();
      await show();
      readout.textContent = rest;
    } catch (error) {
      found = null;
      readout.setAttribute("aria-live", "polite");
      readout.replaceChildren(error.message, " ", tryAgain(() => root.querySelector("summary"), load));
    } finally {
      loading = false;
      release();
    }
  }
  async function show() {
    const image = make("img", { src: found.picture });
    await image.decode().catch(() => { throw new Error("The pictures cannot be fetched at the moment."); });
    const across = image.naturalWidth / SIDE, rows = image.naturalHeight / SIDE;
    list.replaceChildren(...found.pictures.map((picture, i) => {
      const [x, y] = [i % across, Math.floor(i / across)], words = sentence(picture);
      const place = `background: url("${found.picture}") ${(100 * x) / (across - 1)}% ${(100 * y) / Math.max(1, rows - 1)}% / ${100 * across}% ${100 * rows}%`;
      const node = button("", { style: place, "aria-label": words, title: words }, () => take(image, x, y, picture));
      for (const type of ["pointerenter", "focus"]) node.addEventListener(type, () => { readout.setAttribute("aria-live", "off"), readout.textContent = words; }); // which is its name, too
      return node;
    }));
    oneStop([...list.children]);
  }
  function sentence({ index, label, answers }) { // "Test picture 12, a bird: 5 say cat (Plain, SE, ...); 3 say bird (...)"
    const by = new Map();
    answers.forEach((answer, i) => by.set(answer, [...(by.get(answer) || []), titles.get(found.networks[i].key) || found.networks[i].key]));
    const said = [...by].sort((a, b) => b[1].length - a[1].length).map(([answer, names]) => `${say(names.length)} ${columns.classes[answer]} (${names.join(", ")})`);
    return `Test picture ${index.toLocaleString("en")}, ${/^[aeiou]/.test(columns.classes[label]) ? "an" : "a"} ${columns.classes[label]}: ${said.join("; ")}.`;
  }
  function take(image, x, y, picture) {
    try {
      checkCanvas();
    } catch (error) {
      readout.setAttribute("aria-live", "polite");
      readout.textContent = error.message;
      return;
    }
    const context = surface(SIDE, SIDE);
    context.drawImage(image, x * SIDE, y * SIDE, SIDE, SIDE, 0, 0, SIDE, SIDE);
    const pixels = context.getImageData(0, 0, SIDE, SIDE).data.filter((_, i) => i % 4 < 3);
    state.change("picture", { own: true, crop: "centre", notes: [sentence(picture)], pixels: Uint8Array.from(pixels), source: rgba(pixels) });
    document.querySelector("#glance").scrollIntoView({ block: "start" });
  }
}
