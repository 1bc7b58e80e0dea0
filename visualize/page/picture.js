// From a picture of any size to the 32 x 32 pixels that the networks see, and those pixels as text. Everything but
// `open` is a pure function. A picture is {width, height, data}: RGBA bytes, row by row, as in ImageData.

export const SIDE = 32;
const KEPT_SIDE = 1024; // longest side of a picture in memory, as on the server

// ---- Pillow's bicubic filter: when it shrinks, each output pixel takes in everything that it covers

const BITS = 22; // of the fixed-point weights

function bicubic(x) {
  const at = Math.abs(x), a = -0.5;
  if (at < 1) return ((a + 2) * at - (a + 3)) * at * at + 1;
  return at < 2 ? (((at - 5) * at + 8) * at - 4) * a : 0;
}

// For each of `count` outputs that lie side by side from `start` to `end`: the first input, and its weights.
function windows(size, start, end, count) {
  const scale = (end - start) / count, wide = Math.max(1, scale), reach = 2 * wide;
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), last = Math.min(size, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: last - first }, (_, j) => bicubic((j + first - centre + 0.5) / wide));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((weight) => Math.round((weight / sum) * 2 ** BITS)) };
  });
}

// One axis of a resize. `step` and `line` are the distances of neighbours along and across it, in input pixels.
function resample(pixels, channels, outputs, lines, step, line) {
  const result = new Uint8ClampedArray(lines * outputs.length * 3);
  let to = 0;
  for (let row = 0; row < lines; row++)
    for (const { first, weights } of outputs)
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (BITS - 1), from = (row * line + first * step) * channels + channel;
        for (let i = 0; i < weights.length; i++, from += step * channels) sum += pixels[from] * weights[i];
        result[to++] = Math.floor(sum / 2 ** BITS);
      }
  return result;
}

// A rectangle [left, top, right, bottom] of a picture as `width` x `height` RGB bytes.
export function resize(picture, width, height, [left, top, right, bottom]) {
  const across = windows(picture.width, left, right, width), down = windows(picture.height, top, bottom, height);
  const first = down[0].first, rows = down.at(-1).first + down.at(-1).weights.length - first; // that are needed
  const narrow = resample(picture.data.subarray(4 * first * picture.width), 4, across, rows, 1, picture.width);
  for (const output of down) output.first -= first;
  const turned = resample(narrow, 3, down, width, width, 1); // column by column
  const result = new Uint8Array(turned.length);
  for (let x = 0; x < width; x++)
    for (let y = 0; y < height; y++)
      for (let c = 0; c < 3; c++) result[3 * (y * width + x) + c] = turned[3 * (x * height + y) + c];
  return result;
}

// `crop`: "centre", "squeeze", or [left, top, side] of a square in pixels, which is moved inside the picture.
export function toNetwork(picture, crop) {
  const { width, height } = picture;
  if (crop === "squeeze") return resize(picture, SIDE, SIDE, [0, 0, width, height]);
  const [left, top, side] = squareOf(picture, crop);
  return resize(picture, SIDE, SIDE, [left, top, left + side, top + side]);
}
export function squareOf({ width, height }, crop) { // [left, top, side] in whole pixels, inside the picture
  const most = Math.min(width, height);
  if (!Array.isArray(crop)) return [Math.floor((width - most) / 2), Math.floor((height - most) / 2), most];
  const side = Math.round(Math.max(Math.min(8, most), Math.min(most, crop[2])));
  const inside = (at, size) => Math.round(Math.max(0, Math.min(size - side, at)));
  return [inside(crop[0], width), inside(crop[1], height), side];
}

export function rgba(rgb) { // the bytes that a network sees, as a picture
  const data = new Uint8ClampedArray(4 * SIDE * SIDE).fill(255);
  for (let i = 0; i < SIDE * SIDE; i++) data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  return { width: SIDE, height: SIDE, data };
}

// ---- a file that a visitor gives

const EXIF_UPRIGHT = 1;
const OPAQUE = 250; // of 255, and above: WebKit's resizing leaves 254 in an opaque picture
const SLIGHT = 8; // of 255: some browsers change pixels by one or two, which no network minds

// A browser that gives out other pixels than were drawn, so that no page knows its visitor again by them, as Tor's does.
export class Disguised extends Error {
  constructor() {
    super("This browser hides the pixels of pictures from pages: allow this page to read its canvas, or take one of the ten examples.");
  }
}
export function surface(width, height) { // to draw on and to read from: an element, for only of these a browser asks its visitor
  return Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
}
export function checkCanvas() { // throws where what is read is not what was drawn
  const marks = Uint8ClampedArray.from({ length: 4 * 64 }, (_, i) => (i % 4 === 3 ? 255 : (37 * i) % 256)), context = surface(8, 8);
  context.putImageData(new ImageData(marks, 8), 0, 0);
  if (context.getImageData(0, 0, 8, 8).data.some((value, i) => Math.abs(value - marks[i]) > SLIGHT)) throw new Disguised();
}

// Returns {picture, notes}; throws where the browser cannot decode the file, or hides what is in it.
export async function open(file) {
  checkCanvas();
  let bitmap = await createImageBitmap(file); // colours managed, turned upright
  const notes = sizeNotes(bitmap), shrink = KEPT_SIDE / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * Math.min(1, shrink))));
  if (shrink < 1) {
    const small = await createImageBitmap(bitmap, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
    bitmap.close();
    bitmap = small;
  }
  const context = surface(width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const head = new Uint8Array(await file.slice(0, 2 ** 16).arrayBuffer());
  if (isGif(head) ? (await frames(file)) > 1 : moves(head)) notes.push("This is an animation: its first frame is shown.");
  if (orientation(head) !== EXIF_UPRIGHT) notes.push("The picture was turned upright, as its camera recorded.");
  let { data } = context.getImageData(0, 0, width, height);
  if (data.some((value, i) => i % 4 === 3 && value < OPAQUE)) {
    notes.push("Transparent areas are shown on white.");
    Object.assign(context, { globalCompositeOperation: "destination-over", fillStyle: "#fff" });
    context.fillRect(0, 0, width, height);
    ({ data } = context.getImageData(0, 0, width, height));
  }
  return { picture: { width, height, data }, notes };
}
function sizeNotes({ width, height }) {
  return Math.min(width, height) < SIDE ? [`The picture was enlarged, because one of its sides is shorter than ${SIDE} pixels.`] : [];
}
const isGif = (head) => String.fromCharCode(...head.subarray(0, 3)) === "GIF";
function moves(head) { // an animated WebP, PNG or AVIF
  const text = String.fromCharCode(...head.subarray(0, 4096)), webp = /^RIFF....WEBPVP8X....(.)/s.exec(text);
  return webp ? (webp[1].charCodeAt(0) & 2) > 0 : text.startsWith("\x89PNG") ? text.includes("acTL") : text.startsWith("ftypavis", 4);
}
async function frames(file) { // of an animation; 1 where the browser cannot tell
  if (!globalThis.ImageDecoder) return 1;
  try {
    const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type: "image/gif" });
    await Promise.all([decoder.completed, decoder.tracks.ready]);
    const { frameCount } = decoder.tracks.selectedTrack;
    decoder.close();
    return frameCount;
  } catch {
    return 1;
  }
}

// The orientation that a camera wrote into a JPEG, 1 to 8; 1 where there is none. `head`: the file's first bytes.
export function orientation(head) {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length < 4 || view.getUint16(0) !== 0xffd8) return EXIF_UPRIGHT;
  try {
    for (let at = 2; view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint16(at) !== 0xffe1 || view.getUint32(at + 4) !== 0x45786966) continue; // "Exif"
      const tiff = at + 10, little = view.getUint16(tiff) === 0x4949;
      const start = tiff + view.getUint32(tiff + 4, little), count = view.getUint16(start, little);
      for (let entry = start + 2; entry < start + 2 + 12 * count; entry += 12) {
        const value = view.getUint16(entry + 8, little);
        if (view.getUint16(entry, little) === 0x0112) return value >= 1 && value <= 8 ? value : EXIF_UPRIGHT;
      }
      return EXIF_UPRIGHT;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the block ends too early
  }
  return EXIF_UPRIGHT;
}

// ---- pixels as text: as they travel to the engine, and as short as they can be in a link

export function toBase64(bytes) { // in parts, for no engine takes 100,000 arguments
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}
export const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const toUrl = (text) => text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const fromUrl = (text) => text.replace(/-/g, "+").replace(/_/g, "/");

// What a pixel is guessed to be from those left of it, above it, and above left: the median edge detector of LOCO-I.
// What is left of a photograph after that guess, with green taken off red and blue, deflates to two thirds.
function differences(rgb, decoding) {
  const planes = new Int16Array(rgb.length), result = new Uint8Array(rgb.length), area = SIDE * SIDE;
  for (const channel of [1, 0, 2])
    for (let i = 0; i < area; i++) {
      const plane = planes.subarray(channel * area, (channel + 1) * area), [x, y] = [i % SIDE, Math.floor(i / SIDE)];
      const above = y ? plane[i - SIDE] : x ? plane[i - 1] : 0, left = x ? plane[i - 1] : above;
      const corner = x && y ? plane[i - SIDE - 1] : above, [low, high] = [Math.min(left, above), Math.max(left, above)];
      const guess = corner >= high ? low : corner <= low ? high : left + above - corner;
      const green = channel === 1 ? 0 : planes[area + i];
      if (!decoding) plane[i] = rgb[3 * i + channel] - green;
      else plane[i] = ((rgb[channel * area + i] + guess + green) & 255) - green;
      if (decoding) result[3 * i + channel] = plane[i] + green;
      else result[channel * area + i] = plane[i] - guess;
    }
  return result;
}
async function through(bytes, stream) {
  const answer = new Response(new Blob([bytes]).stream().pipeThrough(stream));
  return new Uint8Array(await answer.arrayBuffer());
}
export async function toLink(rgb) { // 3,072 bytes as about 2,700 letters; zlib adds a checksum
  return toUrl(toBase64(await through(differences(rgb, false), new CompressionStream("deflate"))));
}
const MOST_LETTERS = 5000; // of a picture in a link: 4,096 where nothing can be saved, and what zlib adds
export async function fromLink(text) { // throws where the text is damaged, or more than a picture could be in it
  const bytes = text.length <= MOST_LETTERS && (await through(fromBase64(fromUrl(text)), new DecompressionStream("deflate")));
  if (bytes.length !== 3 * SIDE * SIDE) throw new RangeError("This is no picture of 32 x 32 pixels.");
  return differences(bytes, true);
}
