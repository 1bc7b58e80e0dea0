// What the channels see that a gate opens most, and those that it opens least: their feature maps behind the block.

import { make } from "../elements.js";
import { drawThumb, table } from "../maps/draw.js";
import { decode, number } from "../maps/record.js";
import { Here } from "./here.js";

const isGate = ({ kind, role, tensor }) => kind === "channel" && role === "gate" && tensor.includes(".refine."); // of the block's own channels

export class Seen extends Here {
  constructor(engine, columns, state, description) {
    super(engine, columns, state, {
      name: "seen", title: "What do its channels see?", press: "Show their feature maps",
      text: "First the four channels that the gate of the chosen block opens most, then the four that it opens least: what they say at each place behind the block, the shortcut included.",
    });
    this.description = description;
  }
  asked(_, column) {
    const found = column.maps.filter((map) => isGate(map) && map.block === this.state.view.block);
    return found.length ? found : null;
  }
  async answer(record, column, how) {
    const colours = table(this.description.colours[this.state.view.colours]), parts = [];
    for (const { tensor } of this.asked(record, column)) {
      const found = await this.engine.features(record.image, column.key, tensor, how), { shape: [, ...place], values } = decode(found);
      const size = place[0] * place[1], most = Math.max(...values) || 1;
      const pictures = found.channels.map((channel, i) => {
        const shown = values.subarray(i * size, (i + 1) * size), words = `channel ${channel}: ${number(found.gates[i])}`;
        const canvas = drawThumb(make("canvas", { role: "img", "aria-label": `${tensor}, ${words}` }), shown, place, (x) => x / most, colours);
        return make("figure", {}, canvas, make("figcaption", {}, words));
      });
      parts.push(make("div", "profiles", make("code", {}, tensor), make("div", "tiles four", ...pictures), make("p", "note", `All on one scale, from 0 to ${number(most)}; beside each channel stands its gate.`)));
    }
    return parts;
  }
}
