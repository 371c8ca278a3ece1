// Sends photographs, shows what comes back, and holds the controls beside it.
import { Stage } from "./stage.js";

const $ = (selector) => document.querySelector(selector);
const data = JSON.parse($("#data").textContent);
const hidden = new Set([0]); // the first class is the background, which overlays leave as it is
const stage = new Stage(data.classes, data.colors, hidden);
const opacity = $("#opacity");
let asked = new AbortController();

// Asks for the classes of a photograph: `body` is a file, none for an example.
async function ask(query, body = null) {
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  const started = performance.now();
  const ticking = setInterval(() => {
    $("#elapsed").textContent = ` ${Math.round((performance.now() - started) / 1000)} s`;
  }, 1000);
  $("#fault").hidden = true;
  $("#busy-with").textContent = `Predicting ${query.name} …`;
  $("#elapsed").textContent = "";
  $("#busy").hidden = false;
  try {
    if (body?.size > data.megabytes * 1e6) throw new Error(`${query.name}: has more than ${data.megabytes} MB; save it smaller`);
    await show(await answer(`predict?${new URLSearchParams(query)}`, { method: "POST", body, signal }));
  } catch (error) {
    if (signal.aborted) return; // another photograph has taken its place
    $("#fault").textContent = error.message;
    $("#fault").hidden = false;
  } finally {
    clearInterval(ticking);
    if (signal === asked.signal) $("#busy").hidden = true;
  }
}

async function answer(url, options) {
  const response = await fetch(url, options).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("seglab demo does not answer: is it still running?");
  });
  if (response.ok) return response.formData();
  if (response.status === 422) throw new Error(await response.text());
  throw new Error(`seglab demo failed (${response.status}): its terminal says why`);
}

async function show(form) {
  const facts = JSON.parse(form.get("facts"));
  const preds = new Uint8Array(await form.get("preds").arrayBuffer());
  await stage.show(URL.createObjectURL(form.get("photograph")), preds, facts.width, facts.height);
  $("main").classList.remove("empty");
  for (const id of ["#stage", "#right"]) $(id).hidden = false;
  $("#stage").scrollIntoView({ block: "nearest" });
  $("#name").textContent = facts.name;
  $("#facts").textContent = `${facts.width} × ${facts.height} pixels, predicted in ${facts.seconds.toFixed(2)} s`;
  URL.revokeObjectURL($("#save-mask").href);
  $("#save-mask").href = URL.createObjectURL(form.get("mask"));
  $("#save-mask").download = fileName("mask");
  listClasses();
  $("#said").textContent = `${facts.name}: ${$("#areas tbody").innerText}`;
}

const fileName = (kind) => `${$("#name").textContent.split("/").at(-1).replace(/\.[^.]+$/, "")}-${kind}.png`;

function listClasses() {
  const shares = stage.shares();
  const found = [...shares.keys()].filter((label) => shares[label] > 0).sort((a, b) => shares[b] - shares[a]);
  $("#areas tbody").replaceChildren(...found.map((label) => row(label, shares[label])));
  const absent = data.classes.filter((_, label) => shares[label] === 0);
  $("#absent").textContent = absent.length ? `Not found: ${absent.join(", ")}` : "";
}

function row(label, share) {
  const line = document.createElement("tr");
  const name = line.appendChild(document.createElement("th"));
  const area = line.appendChild(document.createElement("td"));
  const button = name.appendChild(document.createElement("button"));
  const swatch = button.appendChild(document.createElement("i"));
  name.scope = "row";
  button.type = "button";
  button.append(data.classes[label]);
  button.setAttribute("aria-pressed", String(!hidden.has(label)));
  swatch.style.background = `rgb(${data.colors[label]})`;
  area.textContent = share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
  area.dataset.share = share;
  line.style.setProperty("--share", `${100 * share}%`);
  button.addEventListener("click", () => {
    if (!hidden.delete(label)) hidden.add(label);
    button.setAttribute("aria-pressed", String(!hidden.has(label)));
    stage.paint();
  });
  line.addEventListener("mouseenter", () => stage.paint(label));
  line.addEventListener("mouseleave", () => stage.paint());
  return line;
}

function setOpacity() {
  $("#classes").style.opacity = opacity.value / 100;
  $("#opacity-said").textContent = `${opacity.value} %`;
}

async function saveOverlay() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await stage.picture(opacity.value / 100));
  link.download = fileName("overlay");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // by then it is read
}

const take = (files) => files.length && ask({ name: files[0].name }, files[0]);

startTheme();
setOpacity();
opacity.addEventListener("input", setOpacity);
$("#save-overlay").addEventListener("click", saveOverlay);
$("#file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = ""; // the same file can be chosen again
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("#drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? $("#drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("#drop").classList.remove("over");
  take(event.dataTransfer.files);
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => ask({ name: button.dataset.example, example: "" }));
}
