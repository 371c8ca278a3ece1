// The test images: photograph, label, and the predictions and errors of the chosen runs; drawn as they come into view.
const articles = data.images.map(({ name, size: [width, height] }, image) => {
  const heading = element("h3", {}, name);
  const facts = element("p", { class: "facts" });
  const tiles = element("div", { class: "tiles" });
  const article = element("article", { style: `--aspect:${width}/${height}` }, element("header", {}, heading, facts), tiles);
  return Object.assign(article, { image, tiles, facts, near: false });
});
const inView = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) drawImage(target);
      else if (target.near) clearImage(target);
      target.near = isIntersecting;
    }
  },
  { rootMargin: "600px 0px" },
);
let pickedClass = null;

const worse = (run, image) => {
  const { wrong, miou } = data.runs[run];
  if ($("#measure").value === "wrong") return wrong[image];
  return miou[image] == null ? null : 1 - miou[image];
};
const measured = (run, image) => {
  const wrong = $("#measure").value === "wrong";
  return `${percent(data.runs[run][wrong ? "wrong" : "miou"][image])} % ${wrong ? "wrong" : "mIoU"}`;
};
const usesTwo = () => ["differ", "a", "b"].includes($("#order").value);
const pair = () => [Number($("#run-a").value), Number($("#run-b").value)];

// The runs whose pictures are shown, best first; A and B come before all others where the order is about them.
function galleryRuns() {
  const most = Number($("#most").value) || Infinity;
  const groups = new Set();
  const runs = chosenRuns().filter((run) => {
    const seen = groups.has(data.runs[run].group);
    groups.add(data.runs[run].group);
    return !(seen && $("#one-seed").checked);
  });
  return [...new Set(usesTwo() ? [...pair(), ...runs] : runs)].slice(0, most);
}

function meanWorse(image) {
  const values = chosenRuns().map((run) => worse(run, image)).filter((value) => value != null);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

// What an order sorts by, the largest first; null comes last.
function keyOf(image) {
  const order = $("#order").value;
  if (order === "hardest") return meanWorse(image);
  const [a, b] = pair().map((run) => worse(run, image));
  if (a == null || b == null) return null;
  return { differ: Math.abs(a - b), a: b - a, b: a - b }[order];
}

function sortedImages() {
  const needed = $("#with-class").value;
  const images = [...data.images.keys()].filter((image) => needed === "" || data.images[image].classes.includes(Number(needed)));
  if ($("#order").value === "name") return images;
  const keys = new Map(images.map((image) => [image, keyOf(image) ?? -Infinity]));
  return images.sort((i, j) => keys.get(j) - keys.get(i) || i - j);
}

function sayFacts(article) {
  const { image, facts } = article;
  if (!usesTwo()) {
    const mean = meanWorse(image);
    const wrong = $("#measure").value === "wrong";
    facts.textContent = mean == null ? "nothing scored" : `${percent(wrong ? mean : 1 - mean)} % ${wrong ? "wrong" : "mIoU"} on average`;
    return;
  }
  const [a, b] = pair();
  const [worseA, worseB] = [worse(a, image), worse(b, image)];
  const gap = worseA == null || worseB == null ? "" : `, ${percent(Math.abs(worseA - worseB))} points apart`;
  facts.textContent = `A ${measured(a, image)}, B ${measured(b, image)}${gap}`;
}

function figure(run, ...children) {
  const { group, label } = data.runs[run];
  const letters = usesTwo() ? pair().flatMap((other, i) => (other === run ? ["AB"[i]] : [])) : [];
  const name = element("span", {}, ...letters.map((letter) => element("b", { class: "letter" }, letter)), swatch(group), " ", label);
  return element("figure", { "data-run": String(run) }, ...children, element("figcaption", {}, name));
}

async function drawImage(article) {
  const { image } = article;
  const drawing = (article.drawing = Symbol("drawing"));
  const runs = galleryRuns();
  const [labels, ...packs] = await Promise.all(["labels", ...runs].map(unpack));
  if (article.drawing !== drawing) return; // another order or choice came in between
  const kinds = $("#kinds").value;
  const colors = classColors(pickedClass);
  const verdicts = [rgba(cssColor("--right")), rgba(cssColor("--wrong"))];
  const label = pixels(labels, image);
  const scene = element("figure", { class: "scene" });
  const photograph = photo(image);
  if (photograph) {
    const labelled = maskPicture(image, label, `label of ${data.images[image].name}`, colors);
    tellClasses(labelled, image, [["label", label]]);
    scene.append(photograph, labelled, element("figcaption", {}, "photograph and label"));
  }
  const figures = runs.map((run, i) => {
    const mask = pixels(packs[i], image);
    if (!mask) return figure(run, element("p", { class: "hint" }, "kept no predictions"));
    const pictures = [];
    const named = `${data.runs[run].label} on ${data.images[image].name}`;
    if (kinds !== "error" || !photograph) pictures.push(maskPicture(image, mask, `prediction of ${named}`, colors));
    if (kinds !== "prediction" && photograph) pictures.push(errorPicture(image, label, mask, `errors of ${named}`, verdicts));
    for (const canvas of pictures) tellClasses(canvas, image, [...(photograph ? [["label", label]] : []), ["predicted", mask]]);
    const made = figure(run, ...pictures);
    $("figcaption", made).append(element("small", {}, measured(run, image)));
    return made;
  });
  article.tiles.replaceChildren(...(photograph ? [scene] : []), ...figures);
  article.classList.add("ready");
}

function clearImage(article) {
  article.drawing = null;
  article.tiles.replaceChildren(); // canvases of images far away would fill the memory
  article.classList.remove("ready");
}

function drawGallery() {
  const runs = chosenRuns();
  if (!runs.length) return;
  for (const [i, select] of [$("#run-a"), $("#run-b")].entries()) {
    const isNew = !select.options.length;
    fillSelect(select, runs);
    if (isNew && i) select.selectedIndex = Math.min(otherGroup(runs), runs.length - 1);
  }
  const list = $("#images");
  list.style.setProperty("--tile", `${$("#tile").value}px`);
  list.className = $("#kinds").value;
  const images = sortedImages();
  const shown = new Set(images);
  for (const article of articles) {
    if (!shown.has(article.image)) article.remove();
  }
  list.append(...images.map((image) => articles[image]));
  for (const image of images) {
    sayFacts(articles[image]);
    articles[image].style.setProperty("--height", `${heightOf(image)}px`);
    inView.unobserve(articles[image]);
    inView.observe(articles[image]); // says anew whether it is in view, which draws it
  }
  $("#images-said").textContent = `${images.length} image${images.length === 1 ? "" : "s"}`;
}

// About how high an image's article will be, so that what is below hardly moves when it is drawn.
function heightOf(image) {
  const [width, height] = data.images[image].size;
  const both = $("#kinds").value === "both" ? 2 : 1;
  const tile = Number($("#tile").value);
  const inRow = Math.max(1, Math.floor(($("#images").clientWidth + 13) / (tile + 13)));
  const rows = Math.ceil((galleryRuns().length + 3 - both) / inRow);
  return 28 + rows * (both * (3 + (tile * height) / width) + 68);
}

function otherGroup(runs) {
  const other = runs.findIndex((run) => data.runs[run].group !== data.runs[runs[0]].group);
  return other < 0 ? 1 : other;
}

function startGallery() {
  if (!$("#images")) return; // the page has no pictures
  document.body.append(element("div", { id: "tip", role: "presentation", hidden: true }));
  whenNear($("#gallery"), drawGallery);
  for (const id of ["order", "measure", "with-class", "kinds", "most", "tile", "one-seed"]) {
    $(`#${id}`).addEventListener("change", drawGallery);
  }
  for (const select of [$("#run-a"), $("#run-b")]) {
    select.addEventListener("change", () => {
      if (!usesTwo()) $("#order").value = "differ";
      drawGallery();
    });
  }
  $("#palette").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const index = Number(button.dataset.class);
    pickedClass = pickedClass === index ? null : index;
    for (const other of $$("#palette button")) other.setAttribute("aria-pressed", String(Number(other.dataset.class) === pickedClass));
    drawGallery();
  });
  // A page that is printed before it was scrolled shows the first images, too.
  addEventListener("load", () => setTimeout(() => {
    refresh(drawings.get($("#gallery")), true);
    for (const article of $$("#images article").slice(0, 4)) drawImage(article);
  }, 1500));
}
