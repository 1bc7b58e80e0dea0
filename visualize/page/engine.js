// The engine: the only door to numbers. The page knows it by its functions and never asks where the numbers come from:
// from the server; from networks that run in this browser (browser/engine.js), where the page was made without a
// server; or from both (browser/beside.js), where the server offers that. `pixels` is base64 of 32 x 32 RGB, row by row.
// What goes wrong is an EngineError with one sentence; `away` says that the server cannot answer at the moment, `final`
// that asking once more is of no use.

export class EngineError extends Error {}
export const UNREADABLE = "This browser cannot read that file: choose a picture as JPEG, PNG, WebP, GIF or AVIF.";
export const unloaded = () => { throw new EngineError("A part of this page could not be loaded: try once more in a moment."); };
const away = (sentence) => Object.assign(new EngineError(sentence), { away: true });

const ROOT = new URL("../", import.meta.url); // works under any path of any host
const GONE = "The server does not answer. It may be starting again: try once more in a moment.";
const BROKEN = "The connection to the server broke off: try once more.";

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw away(GONE);
  }
  if (answer.ok) return answer;
  const refused = await answer.json().catch(() => ({})); // a proxy in between answers with a page of its own
  if (refused.error) throw Object.assign(new EngineError(refused.error), { away: Boolean(refused.full), final: !refused.full });
  throw answer.status === 413 ? new EngineError("This file is too large for the server.") : away(GONE);
}

const post = (path, body, signal) =>
  ask(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

async function whole(reading, signal) { // the body of an answer, which may break off as well
  try {
    return await reading;
  } catch (error) {
    throw signal?.aborted ? error : away(BROKEN);
  }
}

function parsed(line) { // of a proxy's own page none is JSON
  try {
    return JSON.parse(line);
  } catch {
    throw away(BROKEN);
  }
}

async function* lines(answer, signal) { // of JSON, as they come
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await whole(reader.read(), signal);
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield parsed(part);
  }
}

export const server = {
  // One comparison. Calls back with {place, seconds} while others are served, or with {loaded, total} bytes while the
  // browser loads networks, then for each network with its column of the record, or {key, name, reason}.
  // `replace` is null or {name, scope, strength, only, other, by_hand}; a column then has `before`. `signal` stops it. `device`:
  // the visitor wants it computed on this device; a column that was says so, and is given back to `row` with that.
  async look(pixels, names, { target = "predicted", cam = "GradCAM", random = false, replace = null } = {}, listeners = {}, signal) {
    const { onWaiting, onColumn, onUnavailable } = listeners;
    const answer = await post("look", { image: pixels, mechanisms: names, target, cam, random, replace }, signal);
    for await (const { waiting, column, unavailable, done, error, full } of lines(answer, signal)) {
      if (waiting) onWaiting?.(waiting);
      if (column) onColumn?.(column);
      if (unavailable) onUnavailable?.(unavailable);
      if (error) throw full ? away(error) : new EngineError(error);
      if (done) return;
    }
    throw away(BROKEN);
  },

  // A part of a map that did not travel with the record: {data, lo, hi, shape}. One more argument for other engines:
  // {device, onLoading, signal}, as of the column, and as above.
  async row(pixels, name, tensor, query, replace = null, { signal } = {}) {
    return whole((await post("row", { image: pixels, mechanism: name, tensor, query, replace }, signal)).json(), signal);
  },

  // What a trained network answers to some pictures: for each the probabilities of the classes. `how` as for `row`;
  // `onAnswer` is called after each where they come one by one.
  async answers(pictures, name, { signal } = {}) {
    return (await whole((await post("probabilities", { images: pictures, mechanism: name }, signal)).json(), signal)).probabilities;
  },

  // The feature maps of the channels that a gate opens most and least: {channels, gates, data, lo, hi, shape}.
  async features(pixels, name, tensor, { signal } = {}) {
    return whole((await post("features", { image: pixels, mechanism: name, tensor }, signal)).json(), signal);
  },

  // A file to take along, "png", "pdf", "npz" or "json": {blob, name}. `onLoading` as above.
  async file(form, { image, mechanisms, target, cam, view, replace = null }) {
    const answer = await post("file", { form, image, mechanisms, target, cam, view, replace });
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))?.[1];
    if (!name) throw away(BROKEN); // a proxy's own page
    return { blob: await whole(answer.blob()), name };
  },

  // A picture file that the browser cannot read: {picture: PNG, notes: [sentence]}.
  async decode(file) {
    const answer = await ask("decode", { method: "POST", body: file });
    return { picture: await whole(answer.blob()), notes: JSON.parse(decodeURIComponent(answer.headers.get("Notes"))) };
  },

  // What there is to say of a mechanism, as HTML: {html: {language: words}, placement, measured}.
  async card(name) {
    return whole((await ask(`card/${encodeURIComponent(name)}`)).json());
  },

  // Test pictures on which networks differ, see models/results/disagreement.py; `picture`: where all of them are.
  async disagreement() {
    const picture = new URL("page/examples/disagreement.png", ROOT).href;
    return { ...(await whole((await ask("page/examples/disagreement.json")).json())), picture };
  },

  // What was measured of a network's attention, see visualize/texts/evidence.py; null where nothing was.
  async evidence(name) {
    return whole((await ask(`evidence/${encodeURIComponent(name)}`)).json());
  },
};

async function chosen() {
  const { site, device } = start(), later = () => { throw away(GONE); };
  if (site) return (await import("./browser/engine.js").catch(later)).browser;
  return device ? (await import("./browser/beside.js").catch(later)).beside : server;
}
export const engine = Object.fromEntries(Object.keys(server).map((act) => [act, async (...given) => (await chosen())[act](...given)]));

const started = JSON.parse(document.getElementById("start").textContent);
export const start = () => started; // what the page was made with; see start_value in visualize/answers.py
export function unlike(findings) { // what is said of a picture that most networks find unusual; null: who does not know takes no part
  const known = findings.filter((one) => typeof one === "boolean"), count = known.filter(Boolean).length, { one, many } = start().unlike;
  if (2 * count <= known.length) return null;
  return known.length === 1 ? one : many.replace("{count}", count).replace("{known}", known.length);
}
