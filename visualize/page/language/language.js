// The page in another language. Everything is written in English where it is made; where the visitor reads another
// language, each text is exchanged as it comes into the document, by words.<language>.json: English -> that language.
//
// {0}, {1}, ... stand for what changes: any words, which are looked up themselves, or a number where it is {#0}. A longer
// text is taken apart: into sentences, then at semicolons, colons and commas. What is not known stays English, and so do
// code, formulas, and everything in an element with translate="no".

import { start } from "../engine.js";
import { kept } from "../elements.js";

const LANGUAGES = { en: "English", zh: "中文" };
const asked = [new URLSearchParams(location.search).get("lang"), kept.get("language"), ...(navigator.languages || [])];
export let language = asked.map((one) => one?.slice(0, 2)).find((one) => one in LANGUAGES) || "en";

// ---- what the visitor reads

const exact = new Map(); // English -> words
const meant = [], short = []; // texts with holes, long ones and others: [{pattern, words, order of the holes, length}]
const HOLE = /\{(#?)(\d)\}/, ANY = "(.+?)", NUMBER = "([^\\p{L}]+?)"; // a number may have signs and units such as ×
const LONG = 24; // letters: what is so long is meant, and tried before a text is taken apart
const STOP = /(?<=[^.])\.$/, SENTENCES = [/(?<=[.!?…])\s+/, ""];
const PARTS = [[/;\s+/, "；"]], SMALLER = [[/(?<=\)),\s+/, "，"], [/:\s+/, "："], [/,\s+/, "，"]];
const escape = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");

function learn(english, words) {
  if (!HOLE.test(english)) {
    exact.set(english, words);
    if (STOP.test(english) && !exact.has(english.replace(STOP, ""))) exact.set(english.replace(STOP, ""), words.replace(/。$/, ""));
    return;
  }
  const [first, ...parts] = english.split(HOLE), order = [];
  let pattern = escape(first), length = first.length;
  for (let i = 0; i < parts.length; i += 3) {
    order.push(+parts[i + 1]);
    pattern += (parts[i] ? NUMBER : ANY) + escape(parts[i + 2]);
    length += parts[i + 2].length;
  }
  (length >= LONG ? meant : short).push({ pattern: new RegExp(`^${pattern}$`, "su"), words, order, length });
}
function filled(text, some) {
  for (const { pattern, words, order } of some) {
    const [, ...values] = pattern.exec(text) || [];
    if (values.length) return words.replace(/\{(\d)\}/g, (_, hole) => translated(values[order.indexOf(+hole)]));
  }
  return null;
}
function apart(text, separators) {
  for (const [separator, ours] of separators) {
    const parts = text.split(separator), said = parts.length > 1 ? parts.map(translated) : parts;
    if (said.some((part, i) => part !== parts[i])) return said.join(ours);
  }
  return null;
}
function found(text) { // null where nothing of it is known
  if (exact.has(text)) return exact.get(text);
  const whole = apart(text, [SENTENCES]) ?? filled(text, meant);
  if (whole !== null) return whole;
  const rest = STOP.test(text) && found(text.replace(STOP, ""));
  if (rest) return `${rest}。`;
  return apart(text, PARTS) ?? filled(text, short) ?? apart(text, SMALLER);
}
const known = new Map(), MOST = 5000; // texts that were looked up
export function translated(text) { // the same text where nothing of it is known, or where it is translated already
  if (language === "en" || !/\p{Script=Latin}{2}/u.test(text) || /\p{Script=Han}/u.test(text)) return text;
  if (known.size > MOST) known.clear(); // of numbers and places there are ever new ones
  if (!known.has(text)) known.set(text, found(text.trim()) ?? text);
  return known.get(text);
}

// ---- what comes into the document

const ATTRIBUTES = ["title", "aria-label", "aria-description", "aria-valuetext", "placeholder", "data-label"];
const OURS = "script, style, code, math, [translate=no]"; // what stays as it is

function exchange(node) {
  if (node.nodeType === Node.TEXT_NODE) {
    const words = translated(node.data);
    if (words !== node.data && !node.parentElement?.closest(OURS)) node.data = words;
  } else if (node.nodeType === Node.ELEMENT_NODE && !node.matches(OURS)) {
    for (const name of ATTRIBUTES) if (node.hasAttribute(name)) exchangeIn(node, name);
    for (const child of node.childNodes) exchange(child);
  }
}
function exchangeIn(node, name) {
  const before = node.getAttribute(name), words = translated(before);
  if (words !== before && !node.closest(OURS)) node.setAttribute(name, words);
}

const given = language === "en" ? null : await fetch(new URL(`words.${language}.json`, import.meta.url))
  .then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);
if (!given) language = "en";
else {
  for (const [english, words] of Object.entries(given)) learn(english, words);
  for (const some of [meant, short]) some.sort((a, b) => b.length - a.length); // what says more is tried first
  for (const { name } of start().cards) exact.set(name, name); // networks keep their names
  document.documentElement.lang = language;
  exchange(document.documentElement);
  new MutationObserver((changes) => {
    for (const { type, target, addedNodes, attributeName } of changes) {
      if (type === "attributes") exchangeIn(target, attributeName);
      else if (type === "characterData") exchange(target);
      else if (!target.closest?.(OURS)) for (const node of addedNodes) exchange(node);
    }
  }).observe(document.documentElement, { childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ATTRIBUTES });
}

// ---- the other language

export function offer(button, link, whole) { // `link`: gives the fragment that holds what is on the page; `whole`: the picture
  const other = Object.keys(LANGUAGES).find((one) => one !== language);
  Object.assign(button, { textContent: LANGUAGES[other], lang: other });
  button.addEventListener("click", async () => {
    kept.set("language", other);
    const fragment = await link(), here = new URL(location.href); // as it is by now
    here.searchParams.set("lang", other);
    here.hash = fragment;
    history.replaceState(null, "", here);
    try {
      history.replaceState({ picture: whole() }, "");
    } catch { /* it is too large for this browser: the link's 32 x 32 pixels must do */ }
    location.reload(); // also where the address says that language already, and its words did not come
  });
}
export const chosen = (texts) => texts[language] ?? texts.en; // of one text in several languages
