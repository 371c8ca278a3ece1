// What all sections share: the data, the colours of the page, and the one place where runs are chosen.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const data = JSON.parse($("#data").textContent);
const chosen = new Set(data.runs.keys());
const percent = (value, digits = 1) => (value == null ? "–" : (100 * value).toFixed(digits));
const points = (value) => (value < 0 ? "−" : "+") + Math.abs(100 * value).toFixed(1);

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function cssColor(name) {
  const probe = $("#probe");
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const chosenRuns = () => [...data.runs.keys()].filter((run) => chosen.has(run)); // the best first
const chosenGroups = () => [...new Set(chosenRuns().map((run) => data.runs[run].group))];
const swatch = (group) => $(`#chooser [data-group="${group}"] .swatch`).cloneNode(true);

function fillSelect(select, runs, first = []) {
  const before = select.value;
  const options = runs.map((run) => element("option", { value: String(run) }, data.runs[run].label));
  select.replaceChildren(...first, ...options);
  if ($$("option", select).some((option) => option.value === before)) select.value = before;
}

// Sections are drawn when they come near the window, and again when the choice or the theme has changed.
const drawings = new Map();
const nearby = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const drawing = drawings.get(entry.target);
      drawing.near = entry.isIntersecting;
      refresh(drawing);
    }
  },
  { rootMargin: "400px 0px" },
);

function refresh(drawing, anyway = false) {
  if (!drawing.stale || !(drawing.near || anyway)) return;
  drawing.stale = false;
  drawing.draw();
}

function whenNear(section, draw) {
  drawings.set(section, { draw, near: false, stale: true });
  nearby.observe(section);
}

function redraw(anyway = false) {
  for (const drawing of drawings.values()) {
    drawing.stale = true;
    refresh(drawing, anyway);
  }
}

// The choice of runs.
function showChoice() {
  for (const box of $$("#chooser input[data-run]")) box.checked = chosen.has(Number(box.dataset.run));
  for (const item of $$("#chooser li[data-group]")) {
    const boxes = $$("input[data-run]", item);
    const count = boxes.filter((box) => box.checked).length;
    const all = $("input[data-all]", item);
    all.checked = count === boxes.length;
    all.indeterminate = count > 0 && count < boxes.length;
  }
  for (const output of $$(".chosen-count")) output.textContent = `${chosen.size} of ${data.runs.length}`;
  const groups = new Set(chosenGroups());
  for (const row of $$("[data-shown-with-group]")) row.hidden = !groups.has(Number(row.dataset.shownWithGroup));
  for (const item of $$("[data-shown-with-run]")) item.hidden = !chosen.has(Number(item.dataset.shownWithRun));
  for (const note of $$(".nothing-chosen")) note.hidden = chosen.size > 0;
  for (const body of $$(".of-chosen")) body.hidden = chosen.size === 0;
  redraw();
}

function choose(boxes, on) {
  for (const box of boxes) chosen[on ? "add" : "delete"](Number(box.dataset.run));
  showChoice();
}

const listed = () => $$("#chooser li[data-group]:not([hidden]) input[data-run]");

function startChooser() {
  const chooser = $("#chooser");
  chooser.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-run]")) choose([box], box.checked);
    if (box.matches("[data-all]")) choose($$("input[data-run]", box.closest("li")), box.checked);
  });
  $("#choose-all").addEventListener("click", () => choose(listed(), true));
  $("#choose-none").addEventListener("click", () => choose(listed(), false));
  $("#filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of $$("li[data-group]", chooser)) {
      item.hidden = !words.every((word) => item.dataset.words.includes(word));
    }
    $("#nothing-listed").hidden = listed().length > 0;
  });
  const opener = $("#open-chooser");
  const open = (on) => {
    chooser.classList.toggle("open", on);
    opener.setAttribute("aria-expanded", String(on));
    (on ? $("#filter") : opener).focus();
  };
  opener.addEventListener("click", () => open(!chooser.classList.contains("open")));
  $("#close-chooser").addEventListener("click", () => open(false));
  chooser.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chooser.classList.contains("open")) open(false);
  });
}

// Keeps what is scrolled to clear of the header; on a narrow screen only its lower row stays.
function startHeader() {
  const measure = () => {
    const [top, heading] = [$(".top"), $(".heading")].map((node) => node.getBoundingClientRect().height);
    const style = document.documentElement.style;
    style.setProperty("--heading", `${heading}px`);
    style.setProperty("--head", `${matchMedia("(max-width: 46rem)").matches ? top - heading : top}px`);
  };
  new ResizeObserver(measure).observe($(".top"));
  measure();
}

function startNavigation() {
  const nav = $("nav");
  const links = $$("nav a");
  const sections = links.map((link) => $(link.getAttribute("href")));
  const mark = () => {
    const line = $(".top").getBoundingClientRect().bottom + 120;
    const passed = sections.filter((section) => section.getBoundingClientRect().top < line);
    const current = passed.at(-1) ?? sections[0];
    for (const [i, link] of links.entries()) {
      if (sections[i] !== current) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        nav.scrollTo({ left: link.offsetLeft - nav.clientWidth / 3 });
      }
    }
  };
  document.addEventListener("scroll", mark, { passive: true });
  mark();
}

// Printed, everything is on the page, whether it was scrolled to or not, in light colours and as wide as the paper.
let printing = false;

function startPrinting() {
  const root = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    printing = true;
    redraw(true);
  });
  addEventListener("afterprint", () => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    printing = false;
    redraw();
  });
}
