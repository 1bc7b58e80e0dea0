// Files that are packed with gzip, unless their host has unpacked them on the way.

export function isPacked(content) {
  const [first, second] = new Uint8Array(content, 0, Math.min(2, content.byteLength));
  return first === 0x1f && second === 0x8b;
}
export function unpacked(content) {
  return isPacked(content) ? new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer() : content;
}
