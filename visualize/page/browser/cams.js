// Class activation maps from a block's output and its gradient, both (C, h, w), as visualize/inspection/cam.py and the
// package grad-cam compute them.

const FLAT = 1e-5, NO_SIDE = 1e-5; // see cam.py
const SQUARINGS = 20; // of the power iteration: the first component stands for all that is left of the others

// (h, w) as one array, not negative, in the method's own unit. `channels`: how many the block has.
export function classMap(method, activations, gradients, channels) {
  const cells = activations.length / channels;
  const map = method === "EigenCAM" ? principalMap(activations, channels, cells)
    : PIXEL[method] ? summed(channels, cells, (at) => PIXEL[method](activations[at], gradients[at]))
      : weighted(activations, channels, cells, (from) => WEIGHT[method](
        activations.subarray(from, from + cells), gradients.subarray(from, from + cells)));
  return Float32Array.from(map, (value) => (value < 0 ? 0 : value));
}

// What becomes of one value of a channel, before the channels are added up.
const PIXEL = { HiResCAM: (a, g) => a * g, LayerCAM: (a, g) => a * Math.max(g, 0) };

// A channel's weight, from its cells.
const WEIGHT = {
  GradCAM: (a, g) => sum(g) / g.length,
  XGradCAM(a, g) {
    const all = sum(a) + 1e-7;
    return g.reduce((weight, value, i) => weight + (value * a[i]) / all, 0);
  },
  "GradCAM++"(a, g) {
    const all = sum(a);
    return g.reduce((weight, value) => (value > 0 ? weight + value ** 3 / (2 * value ** 2 + all * value ** 3 + 1e-6) : weight), 0);
  },
};

const sum = (values) => values.reduce((a, b) => a + b, 0);

function summed(channels, cells, valueAt) {
  const map = new Float64Array(cells);
  for (let c = 0; c < channels; c++) for (let i = 0; i < cells; i++) map[i] += valueAt(c * cells + i);
  return map;
}
function weighted(activations, channels, cells, weightOf) {
  const map = new Float64Array(cells);
  for (let c = 0, at = 0; c < channels; c++) {
    const weight = weightOf(at);
    for (let i = 0; i < cells; i++) map[i] += weight * activations[at++];
  }
  return map;
}

// The first principal component of the cells, positive where they are more active: by squaring the matrix of how the
// channels, or the cells where they are fewer, vary together.
function principalMap(activations, channels, cells) {
  const centred = Float64Array.from(activations); // a row for each channel, which sums to 0
  for (let c = 0; c < channels; c++) {
    const row = centred.subarray(c * cells, (c + 1) * cells), mean = sum(row) / cells;
    for (let i = 0; i < cells; i++) row[i] -= mean;
  }
  const columns = new Float64Array(centred.length); // a row for each cell
  for (let c = 0; c < channels; c++) for (let i = 0; i < cells; i++) columns[i * channels + c] = centred[c * cells + i];
  const alongChannels = channels <= cells;
  let right; // what the component is made of, a number for each channel, of length 1
  if (alongChannels) right = first(products(centred, channels), channels);
  else {
    const left = first(products(columns, cells), cells);
    right = Float64Array.from({ length: channels }, (_, c) => dot(centred.subarray(c * cells, (c + 1) * cells), left));
  }
  const length = Math.sqrt(dot(right, right)) || 1, side = sum(right) / length / Math.sqrt(channels);
  const sign = Math.abs(side) <= NO_SIDE ? 0 : Math.sign(side);
  return Float64Array.from({ length: cells }, (_, i) =>
    (sign * dot(columns.subarray(i * channels, (i + 1) * channels), right)) / length);
}
function dot(a, b) {
  let all = 0;
  for (let i = 0; i < a.length; i++) all += a[i] * b[i];
  return all;
}
function products(rows, count) { // of each row with each: symmetric
  const size = rows.length / count, found = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = i; j < count; j++)
      found[i * count + j] = found[j * count + i] = dot(rows.subarray(i * size, (i + 1) * size), rows.subarray(j * size, (j + 1) * size));
  return found;
}
function first(matrix, size) { // its first eigenvector
  for (let turn = 0; turn < SQUARINGS; turn++) {
    let trace = 0, before = 0;
    for (let i = 0; i < size; i++) trace += matrix[i * size + i];
    if (!trace) break; // all cells are alike
    for (let i = 0; i < matrix.length; i++) matrix[i] /= trace, before += matrix[i] ** 2;
    if (1 - before < 1e-14) break; // one component is left
    matrix = products(matrix, size); // the square of a symmetric matrix
  }
  let longest = 0;
  for (let i = 1; i < size; i++) if (matrix[i * size + i] > matrix[longest * size + longest]) longest = i;
  return matrix.slice(longest * size, (longest + 1) * size);
}

// Stretched from its own lowest value at 0 to its own highest at 1; a map that is the same everywhere becomes 0.
export function relative(map) {
  const [low, high] = [Math.min(...map), Math.max(...map)];
  return high - low <= FLAT * high ? new Float32Array(map.length)
    : map.map((value) => Math.fround(value - low) / Math.fround(high - low));
}
