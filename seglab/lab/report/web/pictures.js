// Packs of class indices, and the pictures drawn from them.
const UNSCORED = 255;
const offsets = [];
data.images.reduce((start, { size: [width, height] }, i) => ((offsets[i] = start), start + width * height), 0);
const unpacked = new Map();
let photos = null;

// Returns the class indices of all images of a run, or of the labels; null where the page has none.
function unpack(id) {
  if (!unpacked.has(id)) unpacked.set(id, inflate($(`#pack-${id}`).textContent));
  return unpacked.get(id);
}

async function inflate(text) {
  if (!text) return null;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function pixels(pack, image) {
  const [width, height] = data.images[image].size;
  return pack?.subarray(offsets[image], offsets[image] + width * height);
}

function photo(image) {
  photos ??= JSON.parse($("#photos").textContent);
  if (!photos[image]) return null;
  const [width, height] = data.images[image].size;
  return element("img", { src: `data:image/jpeg;base64,${photos[image]}`, alt: `photograph ${data.images[image].name}`, width: String(width), height: String(height) });
}

// A colour as the four bytes of a pixel.
function rgba(color, opacity = 1) {
  const parts = color.startsWith("#") ? color.match(/\w\w/g).map((part) => parseInt(part, 16)) : color.match(/[\d.]+/g).map(Number);
  return new Uint32Array(new Uint8ClampedArray([...parts.slice(0, 3), 255 * opacity]).buffer)[0];
}

// The colour of each index; with one class picked out, the others are faint.
function classColors(picked) {
  const colors = new Uint32Array(256);
  data.classes.forEach(({ color }, index) => (colors[index] = rgba(color, picked === null || picked === index ? 1 : 0.12)));
  return colors;
}

function canvasOf(image, name, colorAt) {
  const [width, height] = data.images[image].size;
  const canvas = element("canvas", { width, height, role: "img", "aria-label": name });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const colors = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < colors.length; i++) colors[i] = colorAt(i);
  context.putImageData(picture, 0, 0);
  return canvas;
}

function maskPicture(image, mask, name, colors) {
  return canvasOf(image, name, (i) => colors[mask[i]]);
}

function errorPicture(image, label, mask, name, [right, wrong]) {
  return canvasOf(image, name, (i) => {
    if (label[i] === UNSCORED || mask[i] === UNSCORED) return 0;
    return label[i] === mask[i] ? right : wrong;
  });
}

// Says the classes under the pointer.
function tellClasses(canvas, image, masks) {
  const tip = $("#tip");
  const name = (index) => data.classes[index]?.name ?? "not scored";
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.min(canvas.width - 1, Math.floor(((event.clientX - box.left) / box.width) * canvas.width));
    const y = Math.min(canvas.height - 1, Math.floor(((event.clientY - box.top) / box.height) * canvas.height));
    const at = Math.max(0, y) * canvas.width + Math.max(0, x);
    tip.textContent = masks.map(([word, mask]) => `${word} ${name(mask[at])}`).join(", ");
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - 180)}px`;
    tip.style.top = `${event.clientY + 16}px`;
    tip.hidden = false;
  });
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
}
