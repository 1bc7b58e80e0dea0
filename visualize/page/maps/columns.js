// What the networks said: the columns that are there, and those that are asked for. Only what is missing is asked
// for; wishes are gathered for a moment, and what runs for an older one is stopped.

import { hold } from "../elements.js";
import { EngineError, start, unlike } from "../engine.js";
import { fromBase64, toBase64 } from "../picture.js";

const MOMENT = { mechanisms: 600, picture: 120, target: 0, cam: 0, pinned: 0, replace: 30, device: 0 }; // milliseconds until a change is asked for
const PATIENCE = 20_000; // milliseconds without a sign from the engine
const KEPT = 150; // columns, of the pictures seen last
const ROWS_KEPT = 256, TRIES = 5, PAUSE = 1500; // of large maps: answers kept, requests for one, milliseconds between

export function patiently(act, signal) { // `act` gets a signal, and what to call at each sign of life; where none comes for long, it is given up
  const control = new AbortController();
  signal?.addEventListener("abort", () => control.abort(signal.reason), { once: true });
  return new Promise((done, fail) => {
    let timer = 0;
    const giveUp = () => { fail(new EngineError(start().site ? "This takes long on this device." : "The server does not answer at the moment.")), control.abort(); };
    const sign = () => { clearTimeout(timer), (timer = setTimeout(giveUp, PATIENCE)); };
    sign();
    act(control.signal, sign).then(done, fail).finally(() => clearTimeout(timer));
  });
}
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

export class Columns extends EventTarget { // "change": the record is another one; "row": a part of a large map came
  constructor(engine, state, { isRandom, titles, most, other }) {
    super();
    Object.assign(this, { engine, state, isRandom, titles, most, other, kept: new Map(), shown: new Map(), running: null });
    Object.assign(this, { missing: new Map(), refused: new Set() }); // why a network cannot be shown; for this picture
    Object.assign(this, { classes: [], images: new Map(), rows: new Map(), tries: new Map(), timer: 0, release: null, key: null, near: null, before: [], late: false }); // late: what stands there of a slider's place before will stay a while
    this.said = { text: "", again: null };
    state.addEventListener("change", ({ detail }) => {
      if (detail === "device") this.forget(), this.stop(); // also what is on its way
      if (detail in MOMENT) this.wish(MOMENT[detail]);
    });
  }
  place(record, rows = {}) { // a record that is there already, such as the first, and parts of its large maps
    this.classes = record.classes;
    for (const column of record.mechanisms) this.keep(column, this.about({ ...record, replace: null, pixels: fromBase64(record.image) }));
    for (const [wanted, part] of Object.entries(rows)) this.rows.set([record.image, "", wanted].join(" "), part);
    for (const { key, reason } of record.unavailable || []) this.missing.set(key, reason), this.refused.add(key);
    const { key, near } = this.about();
    Object.assign(this, { key, near });
  }
  // What is asked for: `key` names it; `near` is the same for all that a slider or a brush goes through.
  about({ pixels, target, cam, replace } = { ...this.state, pixels: this.state.picture.pixels }) {
    const image = toBase64(pixels), plain = [image, target, cam].join(" ");
    if (!this.images.has(image)) this.images.set(image, pixels);
    if (this.images.size > KEPT) this.images.delete(this.images.keys().next().value);
    const empty = replace?.name === "by hand" && !Object.keys(replace.by_hand || {}).length;
    const put = replace && !empty ? replace : null, other = put?.name === "another picture's" ? this.other(pixels) : null;
    const name = (what) => (what ? JSON.stringify([what, other?.name]) : ""), what = name(put), near = name(put && { ...put, strength: null, by_hand: null });
    return { image, target, cam, pixels: this.images.get(image) || pixels, replace: put, other, what, key: plain + what, near: plain + near, plain };
  }
  known = ({ key, plain, replace }, name) => `${replace?.only && replace.only !== name ? plain : key} ${name}`;
  options(about, names) { // for the engine
    const { target, cam, replace, other } = about, { device } = this.state;
    return { target, cam, device, random: names.some(this.isRandom), replace: replace && { ...replace, other: other && other.image } };
  }
  keep(column, about) {
    const known = this.known(about, column.key), kept = { ...column, about };
    this.kept.delete(known);
    this.kept.set(known, Object.assign(kept, { pixels: about.pixels, replace: column.before ? about.replace : null }));
    if (this.kept.size > Math.max(KEPT, 4 * this.names().length)) this.kept.delete(this.kept.keys().next().value); // two pictures, each as trained, too
    if (this.shown.get(column.key)?.about.near === about.near) this.shown.set(column.key, kept); // where the slider was a moment ago
  }
  got(known) { // what is used is forgotten last
    const found = this.kept.get(known);
    if (found) this.kept.delete(known), this.kept.set(known, found);
    return found;
  }

  forget() { // what is on the screen shall be computed again
    const about = this.about();
    for (const name of this.names()) this.kept.delete(this.known(about, name));
  }

  // What is said of a picture that most networks on the page find unusual, as trained where they were asked so: what is
  // put into them says nothing of the picture.
  get unlike() {
    const about = this.about(), columns = this.names().map((name) => this.got(`${about.plain} ${name}`) || this.got(this.known(about, name)));
    return unlike(columns.filter(Boolean).map(({ unusual }) => unusual));
  }

  names() { // of the columns: as long as none is chosen, those before
    if (this.state.mechanisms.length) this.before = this.state.mechanisms;
    return this.before;
  }

  // What the page draws: a record. A column that is not there yet is represented by its forerunner, as `pending`.
  record() {
    const about = this.about(), { image, pixels, target, cam, near } = about, names = this.names(), columns = [];
    for (const name of names) {
      const fresh = this.got(this.known(about, name)), old = this.shown.get(name);
      if (fresh) this.shown.set(name, fresh), this.missing.delete(name);
      if (fresh || (old && !this.refused.has(name))) columns.push(fresh || (old.pending || (old.about.near === near && !this.late) ? old : this.wait(old)));
    }
    for (const name of this.shown.keys()) if (!names.includes(name)) this.shown.delete(name);
    return { classes: this.classes, image, pixels, target, cam, mechanisms: columns };
  }
  wait(column) {
    const waiting = { ...column, pending: true };
    this.shown.set(column.key, waiting);
    return waiting;
  }
  wanted() { // names of the columns that must be asked for
    const about = this.about();
    return this.names().filter((name) => !this.kept.has(this.known(about, name)) && !this.refused.has(name));
  }

  wish(after) {
    const { key, near } = this.about(), { running } = this, sliding = this.near === near && this.key !== key && (running || this.timer);
    if (this.near !== near) this.refused.clear(); // another picture, another chance
    this.state.picture.fault = null; // of a file that could not be read
    Object.assign(this, { key, near });
    const wanted = this.wanted();
    this.changed();
    if (sliding) return; // what runs comes to its end, then the newest is asked for
    clearTimeout(this.timer);
    this.timer = 0;
    const same = running?.key === key && running.names.every((name) => this.names().includes(name));
    if (same && wanted.every((name) => running.names.includes(name))) return; // it is on its way
    this.stop();
    if (wanted.length) {
      this.release ||= hold();
      this.timer = setTimeout(() => this.ask(), after);
      this.say("Looking …");
    } else this.rest();
  }
  stop() {
    this.running?.controller.abort();
    this.running = null;
    clearTimeout(this.patience);
  }
  async ask() {
    this.stop();
    this.timer = 0;
    const all = this.wanted(), names = all.slice(0, this.most), about = this.about(), controller = new AbortController();
    if (!names.length) return this.rest();
    const mine = (this.running = { key: about.key, names, controller });
    const current = (act) => (given) => { if (this.running === mine) this.hear(), act(given); };
    let done = 0;
    const progress = () => {
      const next = names.find((name) => !this.kept.has(this.known(about, name)) && !this.refused.has(name));
      if (next) this.say(`Looking with ${this.titles.get(next)}: ${done} of ${names.length} done`);
    };
    const heard = {
      onWaiting: current(({ place, seconds }) => {
        this.say(`Place ${place} in the queue, about ${seconds} second${seconds === 1 ? "" : "s"} …`);
        this.behind();
      }),
      onLoading: current((bytes) => (this.behind(), this.loading(bytes))),
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
    this.late = false;
    this.hear();
    progress();
    try {
      await this.engine.look(about.image, names, this.options(about, names), heard, controller.signal);
      if (this.running !== mine) return;
      this.late = false;
      this.tries.clear(); // who could not fetch a part of a map may try again
      if (this.wanted().length) return this.ask(); // there were more than one request may ask for
      this.stop();
      this.rest();
      this.changed();
    } catch (error) {
      if (this.running !== mine) return;
      this.stop();
      this.free();
      this.behind();
      this.say(error.message, () => this.ask());
    }
  }
  behind() {
    if (this.late) return;
    this.late = true;
    this.changed();
  }
  loading({ loaded, total }) { this.say(`Loading networks into this browser: ${megabytes(loaded)} of ${megabytes(total)} MB …`, null); }
  free() {
    this.release?.();
    this.release = null;
  }
  hear() { // a sign from the engine
    clearTimeout(this.patience);
    const gone = start().site || this.state.device ? "This takes long on this device." : "The server does not answer at the moment. What is on the page still works.";
    this.patience = setTimeout(() => (this.behind(), this.say(gone, () => this.ask())), PATIENCE);
  }
  rest() { // nothing is going on
    if (this.running || this.timer) return; // but something is
    this.free();
    const { picture } = this.state, about = this.about(), names = this.names();
    const columns = names.map((name) => this.kept.get(this.known(about, name))).filter(Boolean);
    const count = columns.length, here = columns.filter(({ device }) => device).length;
    const untouched = columns.map((column) => column.replace_note).filter(Boolean), many = untouched.length > 1; // each says so in its row
    const where = here === count ? ", on this device" : here ? `, ${here} of them on this device` : "";
    const how = many ? `, ${untouched.length} of them as trained: their attention cannot be replaced in this way, or what this needs is not measured yet` : "";
    const answered = count ? `${count} network${count === 1 ? " has" : "s have"} answered${where}${how}.` : "";
    const notes = [...columns.map(({ name, note }) => note && `${name}: ${note}`), ...(many ? [] : untouched)].filter(Boolean);
    const missing = names.filter((name) => this.missing.has(name)).map((name) => this.missing.get(name));
    const none = !this.state.mechanisms.length && "Choose at least one network: until then the page keeps what it shows.";
    this.say([answered, none, ...picture.notes, picture.fault, ...notes, ...missing].filter(Boolean).join(" "));
  }
  // What is still missing may be asked for, whatever else there is to say.
  say(text, again = this.running || this.timer || !this.wanted().length ? null : () => this.ask()) {
    this.said = { text, again };
    this.dispatchEvent(new Event("said"));
  }
  changed() { this.dispatchEvent(new Event("change")); }

  // ---- parts of large maps: one row of an affinity, or a whole matrix. `parts` answers at once, `fetch` asks.
  parts = (columns) => {
    const there = new Map(columns.map((column) => [column.key, column]));
    return (wants) => this.rows.get(this.rowKey(there.get(wants.mechanism), wants)) || null;
  };
  rowKey = ({ about, key, replace }, { tensor, query }) => [about.image, replace ? about.what : "", key, tensor, query].join(" ");
  async fetch(column, wants) {
    const key = this.rowKey(column, wants), { about } = column, tried = this.tries.get(key) || 0;
    if (this.rows.has(key) || tried >= TRIES) return;
    this.rows.set(key, null);
    this.tries.set(key, tried + 1);
    if (this.rows.size > ROWS_KEPT) this.rows.delete(this.rows.keys().next().value);
    const release = hold();
    let part = null, why = "", loads = false;
    const onLoading = (bytes) => { if (!this.running && !this.said.again) loads = true, this.loading(bytes); };
    try {
      const { replace } = this.options(about, []);
      part = await patiently((signal, sign) => this.engine.row(about.image, wants.mechanism, wants.tensor, wants.query, column.replace && replace,
        { device: column.device, signal, onLoading: (bytes) => { sign(), onLoading(bytes); } }));
    } catch (error) { // the server is busy, or gone: again in a moment
      why = error.message;
    }
    if (loads && !this.said.again) this.rest();
    if (part) this.rows.set(key, part), this.tries.delete(key);
    else if (tried + 1 === TRIES) this.rows.delete(key), this.say(`A part of the maps cannot be fetched at the moment. ${why}`, () => { this.tries.clear(), this.dispatchEvent(new Event("row")); });
    else setTimeout(() => { this.rows.delete(key); this.dispatchEvent(new Event("row")); }, PAUSE);
    this.dispatchEvent(new Event("row"));
    release();
  }
}
