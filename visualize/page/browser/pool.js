// The workers, the networks that they hold, and what is still to be done. Files come one at a time, in the order in
// which they are asked for. The workers together hold at most four networks, two on a phone or with little memory: a
// worker takes first what it holds, then closes what it used longest ago. With `test`, of a network's name, networks are
// tried on the graphics card: it gives what must come out there.

import { EngineError } from "../engine.js";
import { isPacked } from "./packed.js";

const MOST = 4, MOST_SMALL = 2, SMALL = 4; // networks in memory; on a device with so many GB
const AHEAD = 2; // networks whose files wait for a worker
const BROKE_OFF = "A part of the networks could not be loaded: the connection broke off. Try once more.";
const SILENCE = 15_000; // milliseconds without a byte: the connection is dead, whatever the browser thinks
const GRACE = 2000; // milliseconds in which a file goes on coming that nobody waits for: one press later somebody may

export class Pool extends EventTarget { // "loading": more bytes have come
  constructor(root, engine, networks, test = null) {
    super();
    const small = matchMedia("(pointer: coarse)").matches || navigator.deviceMemory <= SMALL; // not every browser says how much it has
    const most = small ? MOST_SMALL : MOST;
    Object.assign(this, { root, engine, networks, test, most, jobs: [], workers: [], files: new Map(), coming: null });
    this.size = Math.min(most, navigator.hardwareConcurrency || 2);
    this.each = Math.floor(most / this.size);
    this.loading = { loaded: 0, total: 0 };
    this.providers = {}; // network -> "webgpu" or "wasm", where it was computed
    this.works = this.hopeless = false; // whether the engine has opened a network; whether it did not start
  }

  // What a network's worker makes of a message; throws an AbortError when nobody waits for it any more.
  ask(name, message, signal) {
    if (!this.networks[name]) return Promise.reject(new EngineError(`${name} cannot be computed in this browser.`));
    return new Promise((resolve, reject) => {
      const job = { name, message, resolve, reject };
      const leave = () => {
        this.jobs = this.jobs.filter((other) => other !== job);
        reject(signal.reason);
        setTimeout(() => { if (this.coming && !this.waitsFor(this.coming.name)) this.coming.controller.abort(); }, GRACE);
      };
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener("abort", leave, { once: true });
      this.jobs.push(job);
      this.fetch();
      this.work();
    });
  }
  waitsFor(name) { return this.jobs.some((job) => job.name === name); }
  holds(name) { return this.workers.some(({ held }) => held.includes(name)); }

  // ---- files

  async fetch() { // of the next network that needs them
    await null; // until all that is asked for at once is known
    if (this.jobs.length) for (const name of [...this.files.keys()]) if (!this.waitsFor(name)) this.files.delete(name); // nobody opens it any more
    if (this.coming || this.files.size >= AHEAD || (this.hopeless && this.workers.length)) return;
    const name = this.jobs.map((job) => job.name).find((one) => !this.files.has(one) && !this.holds(one));
    if (!name) {
      if (!this.jobs.length) this.loading = { loaded: 0, total: 0 }; // what comes later is counted from nothing
      return;
    }
    const controller = new AbortController(), { graph, weights, averages } = this.networks[name];
    const mine = (this.coming = { name, controller }), giveUp = () => controller.abort(new EngineError(BROKE_OFF));
    const get = (file) => file && this.download(file, controller.signal, giveUp);
    this.loading.total = this.loading.loaded + this.missing();
    try {
      this.binary ||= await get(this.engine.binary);
      const found = { graph: await get(graph), weights: await get(weights), averages: await get(averages) };
      this.files.set(name, found);
    } catch (error) {
      const { aborted, reason } = controller.signal, left = aborted && !(reason instanceof EngineError);
      if (!left) this.fail(name, error instanceof EngineError ? error : new EngineError(BROKE_OFF));
    }
    if (this.coming === mine) this.coming = null;
    this.work();
    this.fetch();
  }
  missing() { // bytes of all that must still come
    const names = new Set(this.jobs.map((job) => job.name).filter((name) => !this.files.has(name) && !this.holds(name)));
    const files = [...names].flatMap((name) => filesOf(this.networks[name]));
    return [...(this.binary ? [] : [this.engine.binary]), ...files].reduce((all, { bytes }) => all + bytes, 0);
  }
  fail(name, error) {
    const failed = this.jobs.filter((job) => job.name === name);
    this.jobs = this.jobs.filter((job) => job.name !== name);
    for (const job of failed) job.reject(error);
  }
  async download({ file, bytes }, signal, giveUp) {
    const address = new URL(file, this.root).href, store = await kept(this.root);
    const before = this.loading.loaded, count = (loaded) => {
      this.loading.loaded = before + loaded;
      this.dispatchEvent(new Event("loading"));
    };
    const whole = (content) => content.byteLength === bytes || (file.endsWith(".gz") && !isPacked(content)); // some hosts unpack on the way
    const stored = await (await store?.match(address))?.arrayBuffer();
    if (stored && whole(stored)) return count(bytes), stored;
    let loaded = 0, silent = 0, content;
    const heard = () => { clearTimeout(silent), (silent = setTimeout(giveUp, SILENCE)); };
    const counted = new TransformStream({ transform(part, out) { heard(), count((loaded += part.length)), out.enqueue(part); } });
    heard();
    try {
      const answer = await fetch(address, { signal, cache: store ? "no-cache" : "default" });
      if (!answer.ok) throw new EngineError("A part of the networks is missing on this site: load the page again.");
      content = await new Response(answer.body.pipeThrough(counted)).arrayBuffer();
    } finally {
      clearTimeout(silent);
    }
    if (!whole(content)) throw new EngineError(BROKE_OFF); // half a file would be kept for good
    await store?.put(address, new Response(content)).catch(() => {}); // there is no room
    count(bytes);
    return content;
  }

  // ---- workers

  work() {
    for (const worker of this.workers) if (!worker.busy) this.give(worker);
    const waiting = this.jobs.some((job) => this.files.has(job.name));
    if (waiting && this.workers.length < this.size && this.workers.every(({ busy }) => busy)) {
      const worker = new Thread(this.engine, this.root, this.binary);
      this.workers.push(worker);
      this.give(worker);
    }
  }
  async give(worker) {
    const job = this.jobs.find(({ name }) => worker.held.includes(name)) || this.jobs.find(({ name }) => this.files.has(name));
    if (!job) return;
    const { name, message } = job;
    worker.busy = true;
    this.jobs.splice(this.jobs.indexOf(job), 1);
    try {
      if (!worker.held.includes(name)) await this.open(worker, name);
      worker.held.push(...worker.held.splice(worker.held.indexOf(name), 1)); // the last one used
      job.resolve(await worker.ask({ name, ...message }));
    } catch (error) {
      if (error.kind === "card") { // it is lost, and with it what it held: once more, without it
        this.test = null;
        worker.end(error.message);
        this.jobs.unshift(job);
      } else {
        job.reject(error);
        if (worker.broken && !this.works) { // the engine itself does not do: no use to load more
          this.hopeless = true;
          for (const { name: other } of this.jobs) this.fail(other, error);
          this.coming?.controller.abort();
        }
      }
      if (worker.broken) this.workers = this.workers.filter((other) => other !== worker);
    }
    worker.busy = false;
    this.fetch();
    this.work();
  }
  async open(worker, name) {
    const files = this.files.get(name);
    this.files.delete(name);
    while (worker.held.length >= this.each) await worker.ask({ act: "close", name: worker.held.shift() });
    worker.held.push(name);
    this.fetch(); // the next one, while this one is opened
    const test = await this.test?.(name).catch(() => null), given = { act: "open", name, facts: this.networks[name], test, ...files };
    try {
      this.providers[name] = await worker.ask(given, Object.values(files).filter(Boolean));
      this.works = true;
      this.hopeless = false;
    } catch (error) {
      worker.held = worker.held.filter((other) => other !== name);
      if (!worker.broken) { // what cannot be opened may have come wrong: next time it comes anew
        const store = await kept(this.root), wrong = [...filesOf(this.networks[name]), ...(this.works ? [] : [this.engine.binary])];
        for (const { file } of wrong) await store?.delete(new URL(file, this.root).href).catch(() => {});
      }
      throw error;
    }
  }
}

class Thread { // one worker; what goes wrong in it becomes an error of whoever asked
  constructor(engine, root, binary) {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    Object.assign(this, { held: [], busy: false, broken: false, asked: new Map(), next: 0 });
    this.worker.addEventListener("message", ({ data: { id, found, error, kind } }) => {
      const { resolve, reject } = this.asked.get(id);
      this.asked.delete(id);
      if (error === undefined) resolve(found);
      else reject(Object.assign(new EngineError(kind === "engine" ? this.sentence(error) : error), { kind, detail: error }));
    });
    this.worker.addEventListener("error", (event) => this.end(event.message || "its script did not load"));
    this.ask({ act: "start", engine: new URL(engine.module.file, root).href, binary }).catch((error) => this.end(error.detail || error.message));
  }
  sentence(detail) { return `The networks cannot be computed in this browser (${detail}): the ten examples can be looked at.`; }
  end(detail) { // it is beyond help
    this.broken = detail;
    this.worker.terminate();
    for (const { reject } of this.asked.values()) reject(new EngineError(this.sentence(detail)));
    this.asked.clear();
  }
  ask(message, transferred = []) {
    if (this.broken) return Promise.reject(new EngineError(this.sentence(this.broken)));
    return new Promise((resolve, reject) => {
      const id = this.next++;
      this.asked.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message }, transferred);
    });
  }
}

export const filesOf = ({ graph, weights, averages }) => [graph, weights, averages].filter(Boolean); // of a network

// The browser's own store, where it has one: files stay there under names that change with their contents.
const kept = (root) => globalThis.caches?.open(`attnscope ${root}`).catch(() => null);
export async function forget(root, files) { // what an older edition left there
  const store = await kept(root), known = new Set(files.map((file) => new URL(file, root).href));
  for (const { url } of (await store?.keys()) || []) if (!known.has(url)) await store.delete(url);
}
