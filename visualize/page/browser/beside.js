// Two engines beside each other: the server answers, and this device where the visitor wants it, or where the server is
// gone or has others to serve for a while. What if follows a slider or a brush on this device, where the network is
// loaded. Where this device cannot, the server does. A column says who computed it: `device`.

import { EngineError, server, start, unloaded } from "../engine.js";

const BUSY = 10, SILENT = 10; // seconds in the line, or without a sign of the server: then this device takes over
const AWAY = Object.assign(new EngineError("The server is busy: try once more in a moment."), { away: true });

let browser = null; // the engine of this device, once it was needed
const here = async () => (browser ??= (await import("./engine.js").catch(unloaded)).browser);
const able = (name) => start().device.names.includes(name);

export const beside = {
  ...server,

  async look(pixels, names, options = {}, listeners = {}, signal) {
    const { device = false, replace = null } = options, heard = new Set();
    const mine = names.filter((name) => able(name) && (device || (replace && browser?.holds(name))));
    const telling = (device) => ({ ...listeners,
      onColumn(column) { heard.add(column.key), listeners.onColumn?.({ ...column, device }); },
      onUnavailable(entry) { heard.add(entry.key), listeners.onUnavailable?.(entry); },
    });
    const onDevice = async (some) => (await here()).look(pixels, some, options, telling(true), signal);
    const onServer = (some, impatient) => (impatient ? impatiently : server.look)(pixels, some, options, telling(false), signal);
    const otherwise = (error, some, other) => { // for what is not answered yet; where the other cannot either, the first one's words stand
      if (signal?.aborted) throw error;
      return other(some.filter((name) => !heard.has(name))).catch((own) => { throw signal?.aborted ? own : error; });
    };
    const rest = names.filter((name) => !mine.includes(name)), replaceable = rest.every(able);
    await Promise.all([
      mine.length ? onDevice(mine).catch((error) => otherwise(error, mine, onServer)) : null,
      rest.length ? onServer(rest, replaceable).catch((error) => {
        if (!error.away || !replaceable) throw error;
        return otherwise(error, rest, onDevice);
      }) : null,
    ]);
  },

  async row(pixels, name, tensor, query, replace = null, how = {}) {
    return either(name, how, (engine) => engine.row(pixels, name, tensor, query, replace, how));
  },

  async features(pixels, name, tensor, how = {}) {
    return either(name, how, (engine) => engine.features(pixels, name, tensor, how));
  },

  async answers(pictures, name, how = {}) {
    return either(name, how, (engine) => engine.answers(pictures, name, how));
  },

  async file(form, about) {
    const ask = (engine) => engine.file(form, about), numbers = form === "npz" || form === "json";
    if (about.device && numbers && about.mechanisms.every(able)) return ask(await here()).catch(() => ask(server));
    return ask(server).catch((error) => insteadOf(error, about.mechanisms, ask));
  },
};

async function either(name, { device }, ask) { // where its column was computed, or the other
  if (device) return ask(await here()).catch((error) => ask(server).catch(() => { throw error; }));
  return ask(server).catch((error) => insteadOf(error, [name], ask));
}
async function insteadOf(error, names, ask) { // this device, where the server is gone
  if (!error.away || !names.every(able)) throw error;
  return ask(await here()).catch(() => { throw error; });
}

async function impatiently(pixels, names, options, listeners, signal) { // asks the server, and throws AWAY where that takes long
  const control = new AbortController(), leave = () => control.abort(signal.reason), giveUp = () => control.abort(AWAY);
  let silent = 0;
  const sign = (act) => (news) => {
    clearTimeout(silent);
    silent = setTimeout(giveUp, 1000 * SILENT);
    act?.(news);
  };
  const onWaiting = (waiting) => { listeners.onWaiting?.(waiting), waiting.seconds > BUSY && giveUp(); };
  const heard = { ...listeners, onWaiting: sign(onWaiting), onColumn: sign(listeners.onColumn), onUnavailable: sign(listeners.onUnavailable) };
  signal?.addEventListener("abort", leave, { once: true });
  if (signal?.aborted) leave();
  sign()();
  try {
    return await server.look(pixels, names, options, heard, control.signal);
  } catch (error) {
    throw control.signal.aborted ? control.signal.reason : error; // not every browser throws the reason
  } finally {
    clearTimeout(silent);
    signal?.removeEventListener("abort", leave);
  }
}
