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
function press(name, tiny = true) {
  document.documentElement.toggleAttribute("data-tiny", tiny); // page.css draws its pixels as they are
  for (const button of strip.children) button.setAttribute("aria-pressed", button.dataset.name === name);
}
press("cat"); // the first picture of the page
document.addEventListener("compared", (event) => {
  press(event.detail.example, event.detail.tiny); // no name: the visitor's own picture
});
element.addEventListener("click", (event) => {
  const name = event.target.closest("button")?.dataset.name;
  if (!name) return;
  press(name);
  document.dispatchEvent(new Event("asked"));
  trigger("choose", { name });
});

// The box beside the strip is Gradio's. When it holds a picture, its upload button would only empty it: a click on
// the button or the picture opens a file chooser of ours instead, and what is pasted anywhere goes the same way.
const box = () => document.querySelector("#picture"), chooser = document.createElement("input");
Object.assign(chooser, { type: "file", accept: "image/*" });
chooser.addEventListener("change", () => { if (chooser.files[0]) give(chooser.files[0]); });
async function give(file) {
  box().querySelector('[aria-label="Remove Image"]')?.click();
  for (let tries = 0; tries < 50 && !box().querySelector("input[type=file]"); tries++)
    await new Promise((resolve) => setTimeout(resolve, 40));
  const input = box().querySelector("input[type=file]"), data = new DataTransfer();
  data.items.add(file);
  input.files = data.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}
document.addEventListener("click", (event) => {
  if (!event.target.closest?.('#picture img, #picture [aria-label="Upload file"]') || !box().querySelector("img")) return;
  event.stopPropagation();
  chooser.value = ""; // the same file may be chosen again
  chooser.click();
}, true);
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
  if (file) give(file);
});
