// Which networks are compared: a search box, families, and quick ways to take all, none or only one.

import { button, close, kept, make } from "./elements.js";

const PAIRS = [["se", "cbam"], ["cbam", "danet"], ["non_local", "self_attention"], ["plain", "se"]];

// `table`: the networks, as `mechanisms` of the page's start; `groups`: family -> what its mechanisms weigh; `first`: the first choice;
// `device`: the networks that this device could compute, where there is a server too.
export function chooser(state, table, groups, first, device) {
  const panel = document.querySelector("#chooser"), opener = document.querySelector("#open-chooser");
  const said = document.querySelector("#networks .chosen"), titles = new Map(table.map((row) => [row.key, row.name]));
  const known = (key) => table.find((row) => row.key === key);
  const choose = (keys) => state.change("mechanisms", keys);
  const toggle = (key, on) => {
    const rest = state.mechanisms.filter((other) => other !== key);
    choose(on ? [...rest, key] : rest);
  };

  const search = make("input", { type: "search", placeholder: "Search, such as SE or non-local", "aria-label": "Search networks" });
  const untrained = table.filter((row) => !row.trained && row.offered !== false), trained = table.filter((row) => row.trained && row.available);
  const rest = make("details", { class: "untrained", hidden: !untrained.length },
    make("summary", {}, `${untrained.length} untrained networks, with random weights. Their maps mean nothing yet.`));
  const nothing = make("p", { class: "note nothing", role: "status" });
  const empty = make("p", { class: "note", hidden: true }, "Choose at least one network: until then the page keeps what it shows.");
  const quick = make("div", { class: "buttons quick" },
    button("All trained", {}, () => choose(trained.map((row) => row.key))),
    button("None", {}, () => choose([])),
    button("First choice", {}, () => choose(first)),
    ...PAIRS.filter((pair) => pair.every((key) => known(key)?.available)).map((pair) =>
      button(pair.map(short).join(" and "), { class: "pair" }, () => choose(pair))));
  panel.append(
    make("header", {}, make("h2", {}, "Networks"), button("Done", "main", () => close(panel))),
    search, quick, device ? here(device) : "", empty, families(trained, false), nothing, rest);
  rest.append(families(untrained, true));
  const faults = table.filter((row) => row.trained && !row.available).map((row) => row.reason);
  if (faults.length) panel.append(make("p", { class: "note" }, faults.join(" ")));

  function here({ megabytes: [engine, network] }) {
    const box = make("input", { type: "checkbox", id: "here", checked: state.device });
    box.addEventListener("change", () => { kept.set("device", box.checked ? "yes" : "no"), state.change("device", box.checked); });
    const words = `The picture is sent only for what this device cannot do: a figure, or where it fails. Loads up to ${engine} MB once and up to ${network} MB a network, for those that are trained.`;
    return make("p", { class: "here" }, make("label", {}, box, "Compute on this device"), " ", make("span", { class: "note" }, words));
  }
  function short(key) { // the field's own abbreviation, where the name is long
    return titles.get(key).length > 14 ? key.toUpperCase() : titles.get(key);
  }
  function families(rows, random) {
    const parts = Object.entries(groups).map(([family, label]) => {
      const members = rows.filter((row) => row.family === family);
      return members.length > 0 && make("fieldset", { class: random ? "random" : "" }, make("legend", {}, label), ...members.map(line));
    });
    return make("div", "families", ...parts);
  }
  function line({ key, name }) {
    const box = make("input", { type: "checkbox", "data-key": key });
    box.addEventListener("change", () => toggle(key, box.checked));
    const only = button("only this", { class: "link only", "aria-label": `only this: ${name}` }, () => choose([key]));
    return make("div", { class: "line", "data-words": `${key} ${name}`.toLowerCase().replace(/[^a-z0-9]/g, "") }, make("label", {}, box, name), only);
  }
  search.addEventListener("input", () => {
    const typed = search.value.trim(), wanted = typed.toLowerCase().replace(/[^a-z0-9]/g, "");
    let found = 0;
    for (const one of panel.querySelectorAll(".line")) {
      one.hidden = Boolean(typed && !wanted) || !one.dataset.words.includes(wanted); // no name has other letters
      if (!one.hidden) found++;
    }
    for (const group of panel.querySelectorAll("fieldset")) group.hidden = !group.querySelector(".line:not([hidden])");
    if (wanted) rest.open = Boolean(rest.querySelector(".line:not([hidden])"));
    nothing.textContent = found ? "" : "No network is called that.";
  });
  search.addEventListener("keydown", (event) => { // Enter takes the first that is left
    const box = event.key === "Enter" && !event.isComposing && search.value.trim() && panel.querySelector(".line:not([hidden]) input");
    if (box) box.click();
  });
  panel.addEventListener("toggle", (event) => { if (event.newState === "open") (matchMedia("(pointer: fine)").matches ? search : panel.querySelector("header button")).focus(); });

  function show() {
    for (const box of panel.querySelectorAll("[data-key]")) box.checked = state.mechanisms.includes(box.dataset.key);
    if (state.mechanisms.some((key) => untrained.some((row) => row.key === key))) rest.open = true;
    const count = state.mechanisms.length, names = state.mechanisms.map((key) => titles.get(key));
    opener.textContent = `Networks: ${count || "none"} chosen`;
    said.textContent = names.length > 8 ? `${names.slice(0, 7).join(", ")} and ${names.length - 7} more` : names.join(", ");
    empty.hidden = count > 0;
  }
  state.addEventListener("change", ({ detail }) => { if (detail === "mechanisms") show(); });
  show();
  return { isRandom: (key) => !known(key)?.trained, titles };
}
