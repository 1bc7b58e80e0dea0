// What a visitor takes along that needs no server: the numbers (NPZ) and a report on them (JSON), as
// visualize/export/files.py writes them.

import { largest } from "../maps/record.js";
import { fromBase64 } from "../picture.js";
import { entry, softmax } from "./column.js";

const bytesOf = (text) => new TextEncoder().encode(text);
const sha256 = async (bytes) => (globalThis.crypto?.subtle ? hex(await crypto.subtle.digest("SHA-256", bytes)) : null); // needs https
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// `found`: [{facts, logits, strength, maps, before, replaced, replace_note}] as the worker's "arrays" gives them.
export async function report(found, missing, { pixels, target, cam, replace, view }, { classes, versions }) {
  const content = {
    attnscope: "report", date: new Date().toISOString().slice(0, 19) + "+00:00",
    picture: { size: [32, 32], mode: "RGB", sha256: await sha256(pixels) }, settings: { target, cam, replace: replace && (await wholeOf(replace)), ...view }, versions, classes,
    networks: found.map((one) => network(one, target, classes)), unavailable: missing,
  };
  return bytesOf(JSON.stringify(content, null, 1) + "\n");
}
async function wholeOf({ name, scope, strength, only = null, by_hand: byHand, other }) { // as in visualize/inspection/replaced.py
  const other_sha256 = name === "another picture's" ? await sha256(fromBase64(other)) : null;
  return { name, scope, strength: name === "strength" ? strength : 1, only, by_hand: (name === "by hand" && byHand) || null, other_sha256 };
}
function network({ facts, logits, strength, maps, before, replaced, replace_note: why }, target, classes) {
  const shares = softmax(logits), predicted = classes[largest(shares)];
  const byClass = (values) => Object.fromEntries(classes.map((name, i) => [name, values[i]]));
  return {
    id: facts.about.key, title: facts.about.name, random_weights: false, checkpoint_sha256: facts.sha256,
    accuracy: facts.about.accuracy, parameters: facts.about.parameters,
    probabilities: byClass(shares), ...(before && { before: byClass(softmax(before)), replaced, replace_note: why }), predicted,
    target: target === "predicted" ? predicted : target, strength,
    maps: facts.maps.map((map) => ({ tensor: map.tensor, kind: map.kind, role: map.role, ...summary(map, maps[map.tensor]) })),
  };
}
function summary({ axes, shape, static: same }, { values, range }) {
  const { lo, hi } = entry(values, shape, true), strongest = [];
  for (let at = values.indexOf(hi), i = shape.length - 1; i >= 0; at = Math.floor(at / shape[i--])) strongest[i] = at % shape[i];
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { axes, shape, static: same, least: lo, most: hi, mean, strongest, ...(range && { range_before_stretching: range }) };
}

// name -> array as recorded, in NumPy's own format.
export function arrays(found, { pixels, target, cam, replace }, { classes, title }) { // title: of the network that `replace.only` names
  const shares = (logits) => npy("<f4", [logits.length], Float32Array.from(softmax(logits)));
  const files = { pixels: npy("|u1", [32, 32, 3], pixels), classes: texts([classes.length], classes), target: texts([], [target]), cam: texts([], [cam]) };
  if (replace) files.replaced = texts([], [words(replace, title)]);
  for (const { facts: { about: { key }, maps: known }, logits, maps, before, replace_note: why } of found) {
    files[`${key}/probabilities`] = shares(logits);
    if (before) files[`${key}/before`] = shares(before);
    if (why) files[`${key}/replace_note`] = texts([], [why]);
    for (const { tensor, shape } of known) {
      const { values, range } = maps[tensor];
      files[`${key}/${tensor}`] = npy("<f4", shape, values);
      if (range) files[`${key}/${tensor}_range`] = npy("<f4", [range.length], Float32Array.from(range));
    }
  }
  return zip(Object.fromEntries(Object.entries(files).map(([name, content]) => [`${name}.npy`, content])));
}
function words({ name, scope, strength }, title) { // as in visualize/inspection/replaced.py
  const how = name === "strength" ? `strength ${+strength.toPrecision(6)}` : name;
  const at = /^stage\d$/.test(scope) ? `after layer${scope[5]}` : `in ${scope}`, where = [scope !== "all" && at, title && `in ${title} alone`].filter(Boolean);
  return `${how}, ${where.join(" ") || "everywhere"}`;
}
function texts(shape, lines) {
  const longest = Math.max(...lines.map((line) => line.length)), letters = new Uint32Array(lines.length * longest);
  lines.forEach((line, i) => [...line].forEach((letter, j) => { letters[i * longest + j] = letter.codePointAt(0); }));
  return npy(`<U${longest}`, shape, letters);
}
function npy(type, shape, values) {
  let header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  header = header.padEnd(64 * Math.ceil((header.length + 11) / 64) - 11) + "\n";
  const length = [header.length & 255, header.length >> 8], data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return joined([Uint8Array.of(0x93, ...bytesOf("NUMPY"), 1, 0, ...length), bytesOf(header), data]);
}

// ---- a ZIP file whose parts are stored as they are

function zip(files) {
  const parts = [], directory = [];
  let at = 0, size = 0, count = 0;
  for (const [path, content] of Object.entries(files)) {
    const name = bytesOf(path), sum = crc(content), long = content.length;
    // version 2.0, no flags, stored, on the first day of 1980
    const about = [[20, 2], [0, 2], [0, 2], [0, 2], [0x21, 2], [sum, 4], [long, 4], [long, 4], [name.length, 2], [0, 2]];
    parts.push(fields([0x04034b50, 4], ...about), name, content);
    const entry = joined([fields([0x02014b50, 4], [20, 2], ...about, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), name]);
    directory.push(entry);
    at += 30 + name.length + long, size += entry.length, count++;
  }
  return joined([...parts, ...directory, fields([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [at, 4], [0, 2])]);
}
function fields(...numbers) { // [value, bytes], the lowest byte first
  return Uint8Array.from(numbers.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, i) => (value >>> (8 * i)) & 255)));
}
function joined(parts) {
  const whole = new Uint8Array(parts.reduce((all, part) => all + part.length, 0));
  let at = 0;
  for (const part of parts) whole.set(part, at), (at += part.length);
  return whole;
}
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let i = 0; i < 8; i++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});
function crc(bytes) {
  let sum = ~0;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}
