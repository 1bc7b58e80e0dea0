// What the networks said: the columns that are there, and those that are asked for. Only what is missing is asked
// for; wishes are gathered for a moment, and what runs for an older one is stopped.

import { hold } from "../elements.js";
import { fromBase64, toBase64 } from "../picture.js";

const MOMENT = { mechanisms: 600, picture: 120, target: 0, cam: 0 }; // milliseconds until a change is asked for
const PATIENCE = 20_000; // milliseconds without a sign from the engine
const KEPT = 150; // columns, of the pictures seen last
const ROWS_KEPT = 256, TRIES = 5, PAUSE = 1500; // of large maps: answers kept, requests for one, milliseconds between

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

export class Columns extends EventTarget { // "change": the record is another one; "row": a part of a large map came
  constructor(engine, state, { isRandom, titles, most }) {
    super();
    Object.assign(this, { engine, state, isRandom, titles, most, kept: new Map(), shown: new Map(), running: null });
    Object.assign(this, { missing: new Map(), refused: new Set() }); // why a network cannot be shown; for this picture
    Object.assign(this, { classes: [], images: new Map(), unlike: null, rows: new Map(), tries: new Map(), timer: 0, release: null, key: null, before: [] });
    this.said = { text: "", again: null };
    state.addEventListener("change", ({ detail }) => {
      if (detail in MOMENT) this.wish(MOMENT[detail]);
    });
  }
  place(record) { // a record that is there already, such as the first
    this.classes = record.classes;
    for (const column of record.mechanisms) this.keep(column, this.about({ ...record, pixels: fromBase64(record.image) }));
    this.unlike = record.unlike || null;
    for (const { key, reason } of record.unavailable || []) this.missing.set(key, reason), this.refused.add(key);
    this.key = this.about().key;
  }
  about({ pixels, target, cam } = { pixels: this.state.picture.pixels, target: this.state.target, cam: this.state.cam }) {
    const image = toBase64(pixels);
    if (!this.images.has(image)) this.images.set(image, pixels);
    return { image, target, cam, pixels: this.images.get(image), key: [image, target, cam].join(" ") };
  }
  keep(column, about) {
    const known = `${about.key} ${column.key}`;
    this.kept.delete(known);
    this.kept.set(known, { ...column, pixels: about.pixels, image: about.image });
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
  }

  names() { // of the columns: as long as none is chosen, those before
    if (this.state.mechanisms.length) this.before = this.state.mechanisms;
    return this.before;
  }

  // What the page draws: a record. A column that is not there yet is represented by its forerunner, as `pending`.
  record() {
    const { target, cam } = this.state, { image, pixels, key } = this.about(), names = this.names(), columns = [];
    for (const name of names) {
      const fresh = this.kept.get(`${key} ${name}`), old = this.shown.get(name);
      if (fresh) this.shown.set(name, fresh);
      if (fresh || old) columns.push(fresh || (old.pending ? old : this.wait(old)));
    }
    for (const name of this.shown.keys()) if (!names.includes(name)) this.shown.delete(name);
    return { version: 1, classes: this.classes, image, pixels, target, cam, mechanisms: columns };
  }
  wait(column) {
    const waiting = { ...column, pending: true };
    this.shown.set(column.key, waiting);
    return waiting;
  }
  wanted() { // names of the columns that must be asked for
    const { key } = this.about();
    return this.state.mechanisms.filter((name) => !this.kept.has(`${key} ${name}`) && !this.refused.has(name));
  }

  wish(after) {
    const { key } = this.about(), { running } = this;
    if (this.key !== key) this.refused.clear(); // another picture, another chance
    this.key = key;
    const wanted = this.wanted();
    this.changed();
    clearTimeout(this.timer);
    const same = running?.key === key && running.names.every((name) => this.state.mechanisms.includes(name));
    if (same && wanted.every((name) => running.names.includes(name))) return; // it is on its way
    this.stop();
    if (wanted.length) {
      this.release ||= hold();
      this.say("Looking …");
      this.timer = setTimeout(() => this.ask(), after);
    } else this.rest();
  }
  stop() {
    this.running?.controller.abort();
    this.running = null;
    clearTimeout(this.patience);
  }
  async ask() {
    this.stop();
    const all = this.wanted(), names = all.slice(0, this.most), about = this.about(), controller = new AbortController();
    if (!names.length) return this.rest();
    const mine = (this.running = { key: about.key, names, controller });
    const whole = names.length === this.state.mechanisms.length;
    const current = (act) => (given) => { if (this.running === mine) this.hear(), act(given); };
    let done = 0;
    const progress = () => {
      const next = names.find((name) => !this.kept.has(`${about.key} ${name}`) && !this.refused.has(name));
      if (next) this.say(`Looking with ${this.titles.get(next)}: ${done} of ${names.length} done`);
    };
    const heard = {
      onWaiting: current(({ place, seconds }) =>
        this.say(`Place ${place} in the queue, about ${seconds} second${seconds === 1 ? "" : "s"} …`)),
      onLoading: current(({ loaded, total }) => this.say(`Loading networks into this browser: ${megabytes(loaded)} of ${megabytes(total)} MB …`)),
      onColumn: current((column) => {
        this.keep(column, about);
        this.missing.delete(column.key);
        done++;
        progress();
        this.changed();
      }),
      onUnavailable: current((entry) => {
        this.missing.set(entry.key, entry.reason);
        this.refused.add(entry.key);
        done++;
        this.changed();
      }),
    };
    this.release ||= hold();
    this.hear();
    progress();
    try {
      const options = { target: about.target, cam: about.cam, random: names.some(this.isRandom) };
      const { unlike } = await this.engine.look(about.image, names, options, heard, controller.signal);
      if (this.running !== mine) return;
      this.unlike = unlike || (whole ? null : this.unlike);
      if (this.wanted().length) return this.ask(); // there were more than one request may ask for
      this.stop();
      this.rest();
      this.changed();
    } catch (error) {
      if (this.running !== mine) return;
      this.stop();
      this.free();
      this.say(error.message, () => this.ask());
    }
  }
  free() {
    this.release?.();
    this.release = null;
  }
  hear() { // a sign from the engine
    clearTimeout(this.patience);
    const gone = "The server does not answer at the moment. What is on the page still works.";
    this.patience = setTimeout(() => this.say(gone, () => this.ask()), PATIENCE);
  }
  rest() { // nothing is going on
    this.free();
    const { picture } = this.state, { key } = this.about(), names = this.names();
    const columns = names.map((name) => this.kept.get(`${key} ${name}`)).filter(Boolean);
    const count = columns.length, answered = count ? `${count} network${count === 1 ? " has" : "s have"} answered.` : "";
    const notes = columns.filter((column) => column.note).map((column) => `${column.name}: ${column.note}`);
    const missing = names.filter((name) => this.missing.has(name)).map((name) => this.missing.get(name));
    this.say([answered, ...picture.notes, ...notes, ...missing].filter(Boolean).join(" "));
  }
  say(text, again = null) {
    this.said = { text, again };
    this.dispatchEvent(new Event("said"));
  }
  changed() { this.dispatchEvent(new Event("change")); }

  // ---- parts of large maps: one row of an affinity, or a whole matrix. `part` answers at once, `fetch` asks.
  part = (image) => (wants) => this.rows.get(this.rowKey(image, wants)) || null;
  rowKey = (image, { mechanism, tensor, query }) => [image, mechanism, tensor, query].join(" ");
  async fetch(image, wants) {
    const key = this.rowKey(image, wants), tried = this.tries.get(key) || 0;
    if (this.rows.has(key) || tried >= TRIES) return;
    this.rows.set(key, null);
    this.tries.set(key, tried + 1);
    if (this.rows.size > ROWS_KEPT) this.rows.delete(this.rows.keys().next().value);
    const release = hold();
    let part = null;
    try {
      part = await this.engine.row(image, wants.mechanism, wants.tensor, wants.query);
    } catch { // the server is busy, or gone: again in a moment
    }
    if (part) this.rows.set(key, part), this.tries.delete(key);
    else setTimeout(() => { this.rows.delete(key); this.dispatchEvent(new Event("row")); }, PAUSE);
    this.dispatchEvent(new Event("row"));
    release();
  }
}
