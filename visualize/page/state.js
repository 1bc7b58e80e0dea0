// What the page shows: one object. The link, the figure and every request are made from it.
//
//   picture     {example} or {own: true}, with pixels (3,072 RGB bytes), source (to crop from), crop, notes, fault (of a file after it)
//   mechanisms  keys of the chosen networks, in the order of their columns
//   target      "predicted" or a class; cam: the method
//   view        block, pairwise_block (null: follows the block), query, head, overlay, colours, cells, scale
//   detail      key of the mechanism whose single view is open, or null
//   pinned      pixels of the picture that is kept as A, or null
//   replace     what is put in the place of attention, or null: {name, scope, strength, by_hand, only}, where `by_hand`
//               is {tensor: {index: value}} of the network `only`; see models/replacements.py
//   device      whether this device shall compute, where a server could: this visitor's, so it is in no link

import { fromLink, toLink } from "./picture.js";

export class State extends EventTarget {
  constructor(start) {
    super();
    Object.assign(this, structuredClone(start));
  }
  change(part, value) { // one "change" event, which names the part
    this[part] = value;
    this.dispatchEvent(new CustomEvent("change", { detail: part }));
  }
  merge(part, values) { this.change(part, { ...this[part], ...values }); }
}

// ---- the link: everything stands in the fragment, which never reaches a server. The end is marked, so that a link
// that lost its tail is known as one.

const VERSION = "2", END = "end";
const BAD_LINK = "This link is damaged or was cut off: the page stays as it is.";
const OTHER_VERSION = "This link is of another version of the page, or of one with other networks: the page stays as it is.";

export async function linkOf({ picture, mechanisms, target, cam, view, detail, pinned, replace }, usual) { // usual: the view that a link need not name
  const { crop } = picture, said = new URLSearchParams({ view: VERSION });
  said.set("picture", picture.example || `pixels:${await toLink(picture.pixels)}`);
  if (picture.example && crop !== "centre") said.set("crop", crop);
  said.set("networks", mechanisms);
  const others = Object.entries(view).filter(([key, value]) => String(value) !== String(usual[key]));
  for (const [key, value] of Object.entries({ class: target === "predicted" ? null : target, cam: cam === "GradCAM" ? null : cam, ...Object.fromEntries(others), detail }))
    if (value !== null) said.set(key, value);
  if (pinned) said.set("pinned", await toLink(pinned));
  if (replace) {
    const { name, scope, strength, by_hand, only } = replace, hand = Object.entries(by_hand || {});
    for (const [key, value] of Object.entries({ replace: name, scope, strength, only })) if (value != null) said.set(key, value);
    const changed = (values) => Object.entries(values).map(([at, value]) => `${at}*${value}`).join();
    if (hand.length) said.set("by_hand", hand.map(([tensor, values]) => `${tensor}:${changed(values)}`).join(";"));
  }
  return `#${said}&${END}`.replace(/%2C/g, ",").replace(/%3A/g, ":");
}

// What a link says, or null where there is none. Throws where it is damaged: `known` holds what there is to choose.
export async function fromHash(hash, known) {
  if (!hash.startsWith("#view=")) return null;
  const said = Object.fromEntries(new URLSearchParams(hash.slice(1)));
  const need = (right) => { if (!right) throw new RangeError(BAD_LINK); };
  const one = (value, choices) => { need(choices.includes(value)); return value; };
  const whole = (value, most) => { need(/^\d{1,3}$/.test(value) && +value <= most); return +value; };
  const ours = (right) => { if (!right) throw new RangeError(END in said ? OTHER_VERSION : BAD_LINK); };
  ours(said.view === VERSION);
  need(END in said && said.picture && said.networks);

  const picture = { crop: "centre", notes: [] };
  if (said.picture.startsWith("pixels:")) {
    picture.own = true;
    picture.pixels = await fromLink(said.picture.slice(7)).catch(() => need(false));
  } else picture.example = one(said.picture, known.examples);
  if (said.crop) picture.crop = said.crop.includes(",") ? said.crop.split(",").map((at) => whole(at, 999))
    : one(said.crop, ["centre", "squeeze"]);
  need((picture.example || !said.crop) && (!Array.isArray(picture.crop) || picture.crop.length === 3));

  const mechanisms = said.networks.split(",");
  need(new Set(mechanisms).size === mechanisms.length);
  ours(mechanisms.every((name) => known.mechanisms.includes(name)));
  const view = {}, place = said.query?.split(",") || [];
  for (const key of ["block", "pairwise_block", "colours", "cells", "scale"])
    if (key in said) view[key] = one(said[key], known[key]);
  if ("query" in said) {
    need(place.length === 2);
    view.query = place.map((at) => whole(at, 31));
  }
  if ("head" in said) view.head = said.head === "mean" ? "mean" : whole(said.head, 63);
  if ("overlay" in said) {
    need(/^[01](\.\d+)?$/.test(said.overlay) && +said.overlay <= 1);
    view.overlay = +said.overlay;
  }
  const target = said.class ? one(said.class, known.targets) : "predicted";
  const detail = said.detail ? one(said.detail, known.cards) : null;
  const pinned = said.pinned ? await fromLink(said.pinned).catch(() => need(false)) : null;
  return { picture, mechanisms, pinned, replace: replaceOf(said, known, { need, one }), target, cam: said.cam ? one(said.cam, known.cams) : "GradCAM", view, detail };
}

const MOST_BY_HAND = 4096; // values
function replaceOf({ replace: name, scope = "all", strength = "1", only = null, by_hand }, known, { need, one }) {
  if (!name) return null;
  const found = { name: one(name, known.replacements), scope, strength: +strength, by_hand: null, only: only && one(only, known.mechanisms) };
  need(/^[\w.]{1,80}$/.test(scope) && found.strength >= 0 && found.strength <= 2);
  if (!by_hand) return found;
  need(only);
  const pair = (text) => { need(/^(0|[1-9]\d{0,6})\*-?\d{1,9}(\.\d+)?$/.test(text)); const [at, value] = text.split("*"); return [at, +value]; };
  found.by_hand = Object.fromEntries(by_hand.split(";").map((text) => {
    const [, tensor, values] = /^([\w.]{1,80}):(.+)$/.exec(text) || need(false);
    return [tensor, Object.fromEntries(values.split(",").map(pair))];
  }));
  need(Object.values(found.by_hand).reduce((all, values) => all + Object.keys(values).length, 0) <= MOST_BY_HAND);
  return found;
}
