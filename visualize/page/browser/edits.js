// What a network gets in place of its own attention, as the inputs of its graph: for each gate or share t
//
//     keep t + shift + shuffled (t with its cells shuffled) + ignored (t averaged over those who ask)
//
// See models/replacements.py for what the replacements mean, and visualize/site/graph.py for the graph.

export const AS_TRAINED = { keep: new Map(), shift: new Map(), shuffled: new Set(), ignored: new Set() };

const length = ({ shape }) => shape.reduce((a, b) => a * b, 1);
const filled = (each, value) => new Float32Array(length(each)).fill(value);
const inside = (each, scope) => scope === "all" || scope === each.block || scope === each.path;

export function reason({ name, scope, by_hand = {} }, { about, attention }, { averages, best }) { // why it has no meaning; else null
  if (!attention.length) return `${about.name} has no attention that could be replaced: it answers as trained.`;
  const chosen = attention.filter((each) => inside(each, scope));
  if (!chosen.length) return `${about.name} has no attention there: it answers as trained.`;
  if (name === "by hand" && !chosen.some((each) => each.path in by_hand))
    return `${about.name} has nothing that was changed by hand: it answers as trained.`;
  if (!chosen.some((each) => each.can.includes(name)))
    return `This replacement does not apply to the attention that ${about.name} has there: it answers as trained.`;
  const needed = { average: averages, strength: averages, level: averages, "best constant": best };
  if (name in needed && !needed[name]?.size)
    return name === "best constant" ? `The best constants of ${about.name} are not measured yet: it answers as trained.`
      : `The average attention of ${about.name} is not measured yet: it answers as trained.`;
  return null;
}

export const replaced = ({ name, scope, by_hand = {} }, { attention }) => attention // paths of what is replaced
  .filter((each) => inside(each, scope) && each.can.includes(name) && (name !== "by hand" || each.path in by_hand))
  .map(({ path }) => path);

// A replacement that does not fit into a network; the message is one sentence for the visitor, and the server's.
export class Refused extends Error {}
function check(byHand, attention) { // nothing is changed beyond a tensor's end
  for (const [path, values] of Object.entries(byHand)) {
    const each = attention.find((one) => one.path === path); // else of another network
    if (each && Math.max(...Object.keys(values)) >= length(each))
      throw new Refused(`The tensor ${path} has ${length(each).toLocaleString("en")} values, and one beyond them was changed.`);
  }
}

// `given`: `averages` and `best`, each path -> values; `other`: path -> what another picture's tensor is.
export function edits(replace, { attention }, { averages, best, other }) {
  const { name, strength = 1, by_hand = {} } = replace, paths = replaced(replace, { attention });
  const found = { keep: new Map(), shift: new Map(), shuffled: new Set(), ignored: new Set() };
  if (name === "by hand") check(by_hand, attention);
  attention.forEach((each, i) => {
    if (!paths.includes(each.path)) return;
    const put = (keep, shift) => { found.keep.set(i, keep); found.shift.set(i, shift); };
    const instead = (values) => put(filled(each, 0), values);
    if (name === "average") instead(averages.get(each.path));
    if (name === "best constant") instead(best.get(each.path));
    if (name === "another picture's") instead(other[each.path]);
    if (name === "level") instead(filled(each, each.level));
    if (name === "factor 1") instead(filled(each, 1));
    if (name === "strength")
      put(filled(each, strength), averages.get(each.path).map((value) => (1 - strength) * value));
    if (name === "shuffled" || name === "query ignored") {
      instead(filled(each, 0));
      (name === "shuffled" ? found.shuffled : found.ignored).add(i);
    }
    if (name === "by hand") {
      put(filled(each, 1), filled(each, 0));
      for (const [at, value] of Object.entries(by_hand[each.path])) {
        found.keep.get(i)[at] = 0;
        found.shift.get(i)[at] = value;
      }
    }
  });
  return found;
}

// The file of averages: for each gate or share m, and after all of them the best constants, if they were fitted.
export function averagesOf({ attention }, buffer) {
  const all = new Float32Array(buffer), found = [new Map(), new Map()];
  let at = 0;
  for (const part of found)
    for (const each of attention)
      if (at + length(each) <= all.length) part.set(each.path, all.subarray(at, (at += length(each))));
  return { averages: found[0], best: found[1] };
}
