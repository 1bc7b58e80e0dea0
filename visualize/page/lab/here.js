// A question about this picture in the single view of a network: it is asked for by a press, for it takes a moment.
// What was found goes, and what is under way is stopped, when what the page shows of the network is another.

import { button, hold, make, tryAgain } from "../elements.js";
import { start } from "../engine.js";
import { patiently } from "../maps/columns.js";

export class Here { // who extends it says what is `asked(record, column)`, or null, and `answer(record, column)`s with nodes
  constructor(engine, columns, state, { name, title, text, press }) {
    Object.assign(this, { engine, columns, state, key: null });
    this.press = button(press, {}, () => this.ask());
    this.result = make("div", { role: "status", tabIndex: -1 });
    this.node = make("section", { class: `lab ${name}`, hidden: true }, make("h3", {}, title), make("p", "note", text), this.press, this.result);
  }
  show(record, column) { // of a trained network that can be computed, as trained
    const usable = column && !column.pending && !column.random && !column.before && start().mechanisms.find(({ key }) => key === column.key)?.offered !== false;
    const asked = usable ? this.asked(record, column) : null, { block, colours } = this.state.view;
    this.node.hidden = !asked;
    const key = asked && [record.image, column.key, record.target, record.cam, block, colours].join(" ");
    if (this.key === key) return;
    this.control?.abort();
    Object.assign(this, { key, record, column });
    this.press.hidden = false;
    this.result.replaceChildren();
  }
  async ask() {
    const { key, record, column, columns } = this, release = hold(), control = (this.control = new AbortController());
    this.result.replaceChildren(make("p", "note", "Looking …"));
    this.result.focus({ preventScroll: true });
    this.press.hidden = true; // it goes away itself
    let shown, loads = false;
    const onLoading = (bytes) => { if (!columns.running && !columns.said.again) loads = true, columns.loading(bytes); };
    try {
      shown = await patiently((signal, sign) => this.answer(record, column, { device: column.device, signal, onAnswer: sign, onLoading: (bytes) => { sign(), onLoading(bytes); } }), control.signal);
    } catch (error) {
      shown = [make("p", {}, error.message, " ", !error.final && tryAgain(() => this.result, () => this.ask()))];
    }
    if (loads && !columns.said.again) columns.rest();
    release();
    if (this.key === key && this.control === control) this.result.replaceChildren(...shown);
  }
}
