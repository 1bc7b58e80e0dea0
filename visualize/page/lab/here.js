// A question about this picture in the single view of a network: it is asked for by a press, for it takes a moment.
// What was found goes when the picture, the network, the class activation method or the block is another.

import { button, hold, make, tryAgain } from "../elements.js";

export class Here { // who extends it says what is `asked(record, column)`, or null, and `answer(record, column)`s with nodes
  constructor(engine, columns, state, { name, title, text, press }) {
    Object.assign(this, { engine, columns, state, key: null });
    this.start = button(press, {}, () => this.ask());
    this.result = make("div", { role: "status" });
    this.node = make("section", { class: `lab ${name}`, hidden: true }, make("h3", {}, title), make("p", "note", text), this.start, this.result);
  }
  show(record, column) { // of a trained network, as trained
    const usable = column && !column.pending && !column.random && !column.before, asked = usable ? this.asked(record, column) : null;
    this.node.hidden = !asked;
    const key = asked && [record.image, column.key, record.cam, this.state.view.block].join(" ");
    if (this.key === key) return;
    Object.assign(this, { key, record, column });
    this.start.hidden = false;
    this.result.replaceChildren();
  }
  async ask() {
    const { key, record, column } = this, release = hold();
    this.start.hidden = true;
    this.result.replaceChildren(make("p", "note", "Looking …"));
    const how = { device: column.device, onLoading: (bytes) => this.columns.loading(bytes) };
    let shown;
    try {
      shown = await this.answer(record, column, how);
    } catch (error) {
      shown = [make("p", {}, error.message, " ", tryAgain(() => this.node.closest("dialog").querySelector(".main"), () => this.ask()))];
    }
    this.columns.rest();
    release();
    if (this.key === key) this.result.replaceChildren(...shown);
  }
}
