// The strip of examples. `element`, `props` and `trigger` come from Gradio; the value is {class: base64 PNG}.
const strip = element.querySelector(".examples");
for (const [name, png] of Object.entries(props.value)) {
  const button = document.createElement("button"), picture = new Image();
  picture.src = "data:image/png;base64," + png;
  picture.alt = "";
  button.type = "button";
  button.dataset.name = name;
  button.append(picture, name);
  strip.append(button);
}
function press(name) {
  document.documentElement.toggleAttribute("data-example", Boolean(name)); // page.css draws its pixels as they are
  for (const button of strip.children) button.setAttribute("aria-pressed", button.dataset.name === name);
}
press("cat"); // the first picture of the page
document.addEventListener("compared", (event) => press(event.detail)); // null: the visitor's own picture
element.addEventListener("click", (event) => {
  const name = event.target.closest("button")?.dataset.name;
  if (!name) return;
  press(name);
  trigger("choose", { name });
});
