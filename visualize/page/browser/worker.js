// Runs networks, one at a time. Messages: {id, act, ...} in, {id, found} or {id, error, kind} out, where `kind` says
// what is to blame: the "picture", the "request", the graphics "card", which no longer answers, or the "engine". The
// words of the last two are not for visitors.
//
//   start   engine: address of ONNX Runtime's module, binary: its WebAssembly, packed
//   open    name, facts, graph (packed), weights, averages: buffers (averages may be null),
//           test: what a graphics card must answer, null to do without -> "webgpu" or "wasm"
//   close   name
//   column  name, image, target, cam, replace -> a column of the record
//   part    name, image, target, replace, tensor, query -> a part of a map
//   features name, image, tensor of a gate -> the feature maps of channels, as trained
//   answer  name, image -> probabilities, as trained
//   arrays  name, image, target, cam, replace -> {logits, strength, maps: path -> {values, range}, before, replaced, replace_note}

import { unpacked } from "./packed.js";
import { fromBase64 } from "../picture.js";
import { NotFinite, answer, apart, cams, column, features, part, probabilities, strengths } from "./column.js";
import { AS_TRAINED, Refused, averagesOf, edits, reason, replaced } from "./edits.js";

const KEPT = 10e6; // bytes of the runs whose numbers are kept: four of most networks
const networks = new Map(), runs = new Map();
class CardLost extends Error {} // the graphics card no longer answers
let ort;

const acts = {
  async start({ engine, binary }) {
    ort = await import(engine);
    Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await unpacked(binary) });
  },
  async open({ name, facts, graph, weights, averages, test }) {
    const content = new Uint8Array(await unpacked(graph)), externalData = [{ path: facts.weights.name, data: new Uint8Array(weights) }];
    const about = { facts, settings: settings(facts), ...averagesOf(facts, averages || new ArrayBuffer(0)) };
    const on = async (provider) => {
      const session = await ort.InferenceSession.create(content, { executionProviders: [provider], externalData });
      networks.set(name, { ...about, session, provider });
    };
    if (!test || !(await passes(name, test, on))) await on("wasm");
    for (const read of [weights, ort.env.wasm.wasmBinary]) giveUp(read); // the engine has copies, and would hold these: 25 MB
    return networks.get(name).provider;
  },
  async close({ name }) {
    await networks.get(name)?.session.release();
    networks.delete(name);
    for (const key of runs.keys()) if (key.startsWith(`${name} `)) runs.delete(key);
  },
  async column({ name, image, target, cam, replace }) {
    const network = networks.get(name), before = await run(name, image, target);
    if (!replace) return column(network.facts, before, cam);
    const note = reason(replace, network.facts, network);
    const found = column(network.facts, note ? before : await run(name, image, target, replace), cam, before);
    return { ...found, before: probabilities(before), replace_note: note, replaced: note ? [] : replaced(replace, network.facts) };
  },
  async part({ name, image, target, replace, tensor, query }) {
    const outputs = await run(name, image, target, replace), { facts } = networks.get(name);
    return part(facts.maps.find((map) => map.tensor === tensor), outputs[tensor], query);
  },
  async features({ name, image, tensor }) {
    const outputs = await run(name, image, null), { block } = networks.get(name).facts.maps.find((map) => map.tensor === tensor);
    return features(outputs[tensor], outputs[`${block}.output`]);
  },
  async answer({ name, image }) {
    return answer(await compute(name, image, null)); // not kept: nobody asks twice
  },
  async arrays({ name, image, target, cam, replace }) {
    const before = replace && (await run(name, image, target)).logits, network = networks.get(name), { facts } = network, maps = {};
    const outputs = await run(name, image, target, replace), note = replace && reason(replace, facts, network);
    for (const { path, values, range } of cams(facts, outputs, cam)) maps[path] = { values, range };
    for (const { tensor } of facts.maps) maps[tensor] ||= { values: outputs[tensor] };
    const framed = replace && !note ? replaced(replace, facts) : [];
    return { logits: outputs.logits, strength: strengths(facts, outputs), maps, before, replaced: framed, replace_note: note };
  },
};

// Whether the graphics card answers a picture as it should, and soon: {image, column, within, milliseconds}.
async function passes(name, { image, column: wanted, within, milliseconds }, on) {
  try {
    await on("webgpu");
    const found = column(networks.get(name).facts, await run(name, image, null), "GradCAM"), begun = performance.now();
    await compute(name, image, null); // the first time, programs were made for the card
    if (performance.now() - begun <= milliseconds && apart(found, wanted) <= within) return true;
  } catch {} // something in the network, or the card, does not do
  await acts.close({ name });
  return false;
}

const giveUp = (buffer) => buffer.byteLength && structuredClone(buffer, { transfer: [buffer] });

// The inputs of a graph that say what is replaced, for the network as trained.
function settings({ attention }) {
  if (!attention.length) return {};
  const shares = () => tensor(new Float32Array(attention.length), [attention.length]), found = { shuffled: shares(), ignored: shares() };
  attention.forEach(({ shape }, i) => {
    const size = shape.reduce((a, b) => a * b, 1);
    found[`keep.${i}`] = tensor(new Float32Array(size).fill(1), [1, ...shape]);
    found[`shift.${i}`] = tensor(new Float32Array(size), [1, ...shape]);
  });
  return found;
}
const tensor = (values, shape) => new ort.Tensor(values instanceof Uint8Array ? "uint8" : "float32", values, shape);

// All numbers of one run, by name. `target`: index of a class, or null for the predicted one.
async function run(name, image, target, replace = null) {
  const network = networks.get(name), meant = replace && !reason(replace, network.facts, network) ? replace : null;
  const key = `${name} ${target} ${image} ${JSON.stringify(meant)}`;
  const outputs = runs.get(key) || (await compute(name, image, target, meant));
  runs.delete(key);
  runs.set(key, outputs); // the last one used
  for (const old of runs.keys()) if (old !== key && bytes(runs) > KEPT) runs.delete(old);
  return outputs;
}
const bytes = (found) => [...found.values()].flatMap((outputs) => Object.values(outputs)).reduce((all, { byteLength }) => all + byteLength, 0);
async function compute(name, image, target, replace) {
  const { session, provider, facts, settings, averages, best } = networks.get(name);
  const other = replace?.name === "another picture's" ? await run(name, replace.other, null) : null;
  const { keep, shift, shuffled, ignored } = replace ? edits(replace, facts, { averages, best, other }) : AS_TRAINED;
  const feeds = { ...settings, pixels: tensor(planes(fromBase64(image)), [1, 3, 32, 32]), target: tensor(oneHot(target), [1, 10]) };
  for (const [parts, key] of [[keep, "keep"], [shift, "shift"]])
    for (const [i, values] of parts) feeds[`${key}.${i}`] = tensor(values, [1, ...facts.attention[i].shape]);
  for (const [marked, key] of [[shuffled, "shuffled"], [ignored, "ignored"]])
    if (marked.size) feeds[key] = tensor(Float32Array.from(facts.attention, (_, i) => (marked.has(i) ? 1 : 0)), [facts.attention.length]);
  const lost = (error) => { throw provider === "webgpu" ? new CardLost(error.message) : error; };
  const given = await session.run(feeds).catch(lost), outputs = {};
  for (const [path, { data }] of Object.entries(given)) outputs[path] = data;
  return outputs;
}
const oneHot = (target) => Float32Array.from({ length: 10 }, (_, i) => (i === target ? 1 : 0));
function planes(pixels) { // red, green and blue apart
  const found = new Uint8Array(pixels.length), cells = pixels.length / 3;
  for (let i = 0; i < cells; i++) for (let c = 0; c < 3; c++) found[c * cells + i] = pixels[3 * i + c];
  return found;
}

let last = Promise.resolve(); // acts follow one another
addEventListener("message", ({ data: { id, act, ...given } }) => {
  last = last.then(async () => {
    try {
      postMessage({ id, found: await acts[act](given) });
    } catch (error) {
      const kind = error instanceof NotFinite ? "picture" : error instanceof Refused ? "request" : error instanceof CardLost ? "card" : "engine";
      postMessage({ id, error: String(error?.message || error), kind });
    }
  });
});
