// The photograph with its classes laid over: colours, what lies under the pointer, and the picture that is saved.
const canvas = document.querySelector("#classes");
const photograph = document.querySelector("#photograph");
const stage = document.querySelector("#stage");
const pointer = document.querySelector("#pointer");
const tip = document.querySelector("#tip");
const STEPS = 40; // of the arrow keys across the picture
const COARSE = 600; // pixels of a photograph that is shown enlarged: its classes keep their edges

export class Stage {
  // `classes` and `colors` are of all classes; `hidden` holds those that are not laid over.
  constructor(classes, colors, hidden) {
    this.classes = classes;
    this.hidden = hidden;
    this.colors = colors.map(([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);
    this.place = [0.5, 0.5];
    stage.addEventListener("pointermove", (event) => this.follow(event));
    stage.addEventListener("pointerdown", (event) => this.follow(event));
    stage.addEventListener("pointerleave", () => (pointer.hidden = true));
    stage.addEventListener("blur", () => (pointer.hidden = true));
    stage.addEventListener("keydown", (event) => this.step(event));
  }

  // Shows a photograph (a URL) with its class of each pixel, row by row.
  async show(url, preds, width, height) {
    URL.revokeObjectURL(photograph.src);
    photograph.src = url;
    await photograph.decode();
    Object.assign(this, { preds, width, height });
    Object.assign(canvas, { width, height });
    canvas.classList.toggle("coarse", Math.max(width, height) < COARSE);
    stage.style.setProperty("--aspect", width / height);
    pointer.hidden = true;
    this.paint();
  }

  // Lays the classes over that are not hidden, or one alone.
  paint(only = null) {
    const table = new Uint32Array(256);
    for (const [label, color] of this.colors.entries()) {
      if (only === null ? !this.hidden.has(label) : label === only) table[label] = color;
    }
    const pixels = new Uint32Array(this.preds.length);
    for (let i = 0; i < pixels.length; i++) pixels[i] = table[this.preds[i]];
    const picture = new ImageData(new Uint8ClampedArray(pixels.buffer), this.width, this.height);
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  // How much of the picture each class covers, in 0..1.
  shares() {
    const counts = new Array(this.classes.length).fill(0);
    for (const label of this.preds) counts[label]++;
    return counts.map((count) => count / this.preds.length);
  }

  follow(event) {
    const box = canvas.getBoundingClientRect();
    this.point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    pointer.classList.remove("keyed");
  }

  step(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    this.point(this.place[0] + move[0] / STEPS, this.place[1] + move[1] / STEPS);
    pointer.classList.add("keyed");
    document.querySelector("#said").textContent = tip.textContent;
  }

  // Says the class at a place, in 0..1 from the left and the top.
  point(...place) {
    this.place = place.map((share) => Math.min(Math.max(share, 0), 1));
    const [x, y] = this.place;
    const column = Math.min(Math.floor(x * this.width), this.width - 1);
    const row = Math.min(Math.floor(y * this.height), this.height - 1);
    tip.textContent = this.classes[this.preds[row * this.width + column]];
    Object.assign(pointer.style, { left: `${100 * x}%`, top: `${100 * y}%` });
    pointer.classList.toggle("to-the-left", x > 0.6);
    pointer.hidden = false;
  }

  // The picture as it is seen, at the photograph's own size: a Blob.
  picture(opacity) {
    const whole = new OffscreenCanvas(this.width, this.height);
    const context = whole.getContext("2d");
    context.drawImage(photograph, 0, 0);
    context.globalAlpha = opacity;
    context.drawImage(canvas, 0, 0);
    return whole.convertToBlob();
  }
}
