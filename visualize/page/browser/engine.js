// The engine that asks nobody: the networks run in this browser, from files that any static host gives out. What the
// ten examples show is stored with the page and needs no engine. The functions are those of ../engine.js. Beside a
// server (beside.js) it knows no more than its networks.

import { EngineError, UNREADABLE, start, unloaded } from "../engine.js";
import { fromBase64 } from "../picture.js";

const ROOT = new URL("../../", import.meta.url), site = start().site || { records: [], ...start().device };
const NEEDS_SERVER = "A figure as PNG or PDF is drawn by a server, which this edition of the page does not have: take the numbers or the report, or print the page.";
const UNABLE = "This browser cannot compute the networks (it has no WebAssembly, or no workers): the ten examples can be looked at.";

const get = async (file) => {
  const answer = await fetch(new URL(file, ROOT)).catch(() => null);
  if (answer?.status === 404) throw new EngineError("A part of this page is missing on this site: load the page again.");
  if (!answer?.ok) unloaded();
  return answer.json();
};
const once = (make) => { // asked for once; again where it failed
  let kept;
  return (...given) => (kept ??= make(...given).catch((error) => { kept = undefined; throw error; }));
};

const WITHIN = 1e-3; // so near must a graphics card come to what is stored, in parts of a map's largest size
const MILLISECONDS = 60; // and so long may it take for a network: WebAssembly takes about that

let opened = null; // the pool, once it is there
const pool = once(async () => {
  if (!globalThis.WebAssembly || !globalThis.Worker || !globalThis.DecompressionStream) throw new EngineError(UNABLE);
  const [{ Pool, filesOf, forget }, { engine, webgpu, networks }, card] = await Promise.all([import("./pool.js").catch(unloaded), get(site.networks), graphicsCard()]);
  forget(ROOT, [engine.binary, webgpu.binary, ...Object.values(networks).flatMap(filesOf)].map(({ file }) => file));
  return (opened = new Pool(ROOT, card ? webgpu : engine, networks, card ? test : null));
});

// Whether WebGPU is worth a try: a card in software is slower than WebAssembly.
async function graphicsCard() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter ? (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter) === false : false; // older browsers say it there
}
async function test(name) { // what a graphics card must answer, see worker.js; null: nothing is known of this network
  const first = start().record, { image, mechanisms } = (await stored(first.image, "record")) || first;
  const column = mechanisms.find(({ key }) => key === name);
  return column ? { image, column, within: WITHIN, milliseconds: MILLISECONDS } : null;
}

const files = new Map(); // address -> promise of what is stored there
async function stored(image, part) { // "record" or "rows" of an example, or null for any other picture
  const file = site.records.find(({ starts }) => image.startsWith(starts))?.[part];
  if (!file) return null;
  if (!files.has(file)) files.set(file, get(file).catch((error) => { files.delete(file); throw error; }));
  const found = await files.get(file);
  return found.image === image ? found : null;
}

const put = (replace, name) => (replace && [null, undefined, name].includes(replace.only) ? replace : null); // in this network
const asked = (name, image, target, cam, replace) => ({ // what a worker is told
  image, cam, target: target === "predicted" ? null : start().record.classes.indexOf(target), replace: put(replace, name),
});

async function heard(workers, onLoading, act) { // calls back as long as that goes on
  const loading = () => onLoading?.(workers.loading);
  workers.addEventListener("loading", loading);
  try {
    return await act(workers);
  } finally {
    workers.removeEventListener("loading", loading);
  }
}

export const browser = {
  holds: (name) => Boolean(opened?.holds(name)), // in memory

  async look(pixels, names, { target = "predicted", cam = "GradCAM", replace = null } = {}, listeners = {}, signal) {
    const { onLoading, onColumn, onUnavailable } = listeners;
    const known = target === "predicted" && cam === "GradCAM" && (await stored(pixels, "record").catch(() => null)); // then it is computed
    let left = [];
    for (const name of names) {
      const column = known && !put(replace, name) && known.mechanisms.find(({ key }) => key === name);
      if (column) onColumn?.(column);
      else if (row(name).offered === false) onUnavailable?.(unavailable(name));
      else left.push(name);
    }
    if (left.length) {
      await heard(await pool(), onLoading, async (workers) => {
        const ends = await Promise.allSettled(left.map(async (name) => { // one that fails keeps no other away
          try {
            onColumn?.(await workers.ask(name, { act: "column", ...asked(name, pixels, target, cam, replace) }, signal));
          } catch (error) {
            if (error.kind !== "picture") throw error;
            onUnavailable?.({ ...unavailable(name), reason: error.message });
          }
        }));
        const failed = ends.find(({ status }) => status === "rejected");
        if (failed) throw failed.reason;
      });
    }
  },

  async row(pixels, name, tensor, query, replace = null, { onLoading, signal } = {}) {
    const known = !put(replace, name) && (await stored(pixels, "rows").catch(() => null)), kept = known && known.rows[[name, tensor, query].join(" ")];
    if (kept) return kept;
    const message = { act: "part", tensor, query, ...asked(name, pixels, "predicted", "GradCAM", replace) };
    return heard(await pool(), onLoading, (workers) => workers.ask(name, message, signal));
  },

  async features(pixels, name, tensor, { onLoading, signal } = {}) {
    return heard(await pool(), onLoading, (workers) => workers.ask(name, { act: "features", image: pixels, tensor }, signal));
  },

  async answers(pictures, name, { onLoading, onAnswer, signal } = {}) {
    const ask = async (workers, image) => { // each by itself: what else is asked for comes in between
      const found = await workers.ask(name, { act: "answer", image }, signal);
      onAnswer?.();
      return found;
    };
    return heard(await pool(), onLoading, (workers) => Promise.all(pictures.map((image) => ask(workers, image))));
  },

  async file(form, { image, mechanisms, target, cam, view, replace = null, onLoading }) {
    if (form === "png" || form === "pdf") throw Object.assign(new EngineError(NEEDS_SERVER), { final: true });
    const [{ arrays, report }, workers] = await Promise.all([import("./files.js").catch(unloaded), pool()]), found = [], missing = {};
    const collect = async (name) => {
      try {
        if (!workers.networks[name]) throw Object.assign(new EngineError(unavailable(name).reason), { kind: "picture" });
        const message = { act: "arrays", ...asked(name, image, target, cam, replace) };
        found.push({ facts: workers.networks[name], ...(await workers.ask(name, message)) });
      } catch (error) {
        if (error.kind !== "picture") throw error;
        missing[name] = error.message;
      }
    };
    await heard(workers, onLoading, async () => { for (const name of mechanisms) await collect(name); });
    if (!found.length) throw new EngineError("None of these networks can be shown.");
    const about = { pixels: fromBase64(image), target, cam, replace, view }, { classes } = start().record;
    const content = form === "npz" ? arrays(found, about, { classes, title: row(replace?.only)?.name }) : await report(found, missing, about, { classes, versions: site.versions });
    const names = mechanisms.length <= 3 ? mechanisms.join("-") : `${mechanisms.length}-networks`;
    return { blob: new Blob([content], { type: form === "npz" ? "application/zip" : "application/json" }), name: `attnscope-${names}-${view.block}.${form}` };
  },

  async decode() {
    throw new EngineError(UNREADABLE);
  },

  async card(name) {
    return get(site.cards[name]);
  },

  async disagreement() {
    const [words, picture] = ["json", "png"].map((ending) => `page/examples/disagreement.${ending}`);
    return { ...(await get(words)), picture: new URL(picture, ROOT).href };
  },

  async evidence(name) {
    return site.evidence[name] ? get(site.evidence[name]) : null;
  },
};

const row = (name) => start().mechanisms.find(({ key }) => key === name);
const unavailable = (name) => ({ key: name, name: row(name).name, reason: row(name).reason });
