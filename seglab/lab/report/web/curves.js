// Validation and training curves of the chosen runs, four panels over one legend.
const PANELS = [
  ["val/miou", "validation mIoU, %"],
  ["val/loss", "validation loss"],
  ["train/miou", "training mIoU, %"],
  ["train/loss", "training loss"],
];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const SERIES_COLORS = 8;
const PAPER_WIDTH = 690; // pixels between the margins of A4
const switchedOff = new Set(); // groups that the legend has switched off

// Plotly reads <, & and %{ in a text as its own markup.
const plotlyText = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "%&#123;");
const groupColor = (group) => cssColor(`--series-${group % SERIES_COLORS}`);

// The library takes longer to start than all else on the page, so it waits until a chart is near.
function startPlotly() {
  if (!window.Plotly) document.body.append(element("script", {}, $("#plotly").textContent));
}

function plotLayout(more) {
  startPlotly();
  const [ink, line] = [cssColor("--muted"), cssColor("--line")];
  const axis = { gridcolor: line, linecolor: line, zeroline: false, tickfont: { color: ink }, automargin: true };
  return {
    axis,
    layout: {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: ink },
      margin: { l: 8, r: 12, t: 28, b: 8 },
      hoverlabel: { bgcolor: cssColor("--surface"), bordercolor: line, font: { color: cssColor("--ink"), size: 13 }, align: "left" },
      hovermode: "closest",
      showlegend: false,
      width: printing ? PAPER_WIDTH : undefined,
      ...more,
    },
  };
}

function curveTraces(axis, kind) {
  const runs = chosenRuns().filter((run) => !switchedOff.has(data.runs[run].group));
  const firsts = new Set();
  const crowded = runs.length > 16;
  return runs.flatMap((run) => {
    const { group, label, curves } = data.runs[run];
    const first = !firsts.has(group);
    firsts.add(group);
    const line = {
      color: groupColor(group),
      width: (first ? 2 : 1.2) * (crowded ? 0.75 : 1),
      dash: DASHES[Math.floor(group / SERIES_COLORS) % DASHES.length],
    };
    return PANELS.map(([key], panel) => ({
      x: curves[axis],
      y: kind(key) === "percent" ? curves[key].map((value) => value && 100 * value) : curves[key],
      xaxis: panel ? `x${panel + 1}` : "x",
      yaxis: panel ? `y${panel + 1}` : "y",
      mode: "lines",
      connectgaps: true,
      opacity: first ? 1 : crowded ? 0.5 : 0.75,
      line,
      uid: `run${run}-${panel}`,
      meta: run,
      hovertemplate: `<b>${plotlyText(label)}</b><br>${axis === "epoch" ? "epoch" : "images seen"} %{x:,}<br>${PANELS[panel][1].replace(", %", "")} %{y:.${kind(key) === "percent" ? "1f} %" : "4g}"}<extra></extra>`,
    }));
  });
}

function drawCurves() {
  const box = $("#curves-plot");
  const axis = $("[name=curve-axis]:checked").value;
  const narrow = !printing && box.clientWidth < 640;
  const { axis: style, layout } = plotLayout({ height: narrow ? 960 : 620, uirevision: axis });
  const title = axis === "epoch" ? "epoch" : "images seen";
  const few = axis === "epoch" && chosenRuns().every((run) => data.runs[run].curves.epoch.length <= 12);
  if (few) style.dtick = 1; // no half epochs
  layout.annotations = [];
  for (const [panel, [, heading]] of PANELS.entries()) {
    const [column, row] = narrow ? [0, panel] : [panel % 2, Math.floor(panel / 2)];
    const rows = narrow ? 4 : 2;
    const top = 1 - row / rows - (row ? 0.045 : 0);
    const x = narrow ? [0, 1] : column ? [0.54, 1] : [0, 0.46];
    const y = [1 - (row + 1) / rows + (narrow ? 0.03 : 0.045), top];
    const n = panel ? panel + 1 : "";
    const last = row === rows - 1;
    layout[`xaxis${n}`] = { ...style, domain: x, anchor: `y${n}`, ...(panel ? { matches: "x" } : {}), title: last ? { text: title } : undefined };
    layout[`yaxis${n}`] = { ...style, dtick: undefined, domain: y, anchor: `x${n}` };
    layout.annotations.push({ text: `<b>${heading}</b>`, xref: "paper", yref: "paper", x: x[0], y: top, xanchor: "left", yanchor: "bottom", showarrow: false, font: { color: cssColor("--ink"), size: 13 } });
  }
  drawCurvesLegend();
  const percents = (key) => (key.endsWith("miou") ? "percent" : "number");
  Plotly.react(box, curveTraces(axis, percents), layout, { displayModeBar: false, responsive: true });
}

function drawCurvesLegend() {
  const legend = $("#curves-legend");
  const focused = document.activeElement?.dataset?.legend;
  const buttons = chosenGroups().map((group) => {
    const on = String(!switchedOff.has(group));
    const button = element("button", { type: "button", "aria-pressed": on, "data-legend": String(group) });
    button.append(swatch(group), " ", data.groups[group].label);
    button.addEventListener("click", () => {
      switchedOff[switchedOff.has(group) ? "delete" : "add"](group);
      drawCurves();
    });
    for (const [event, on] of [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]]) {
      button.addEventListener(event, () => emphasise(on ? (run) => data.runs[run].group === group : null));
    }
    return button;
  });
  legend.replaceChildren(...buttons);
  if (focused != null) $(`[data-legend="${focused}"]`, legend)?.focus();
}

// Fades every curve but those of the runs for which `which` holds; none fades all back in.
function emphasise(which) {
  for (const trace of $$("#curves-plot .scatterlayer .trace")) {
    const run = Number(/tracerun(\d+)-/.exec(trace.getAttribute("class"))?.[1]);
    trace.classList.toggle("faded", which !== null && !which(run));
  }
}

// Arrow keys walk over a chart's points as the mouse does: left and right within a trace, up and down between runs.
function walkable(box, stops, say) {
  let [run, point] = [0, 0];
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const rows = stops();
    if (!step || !rows.length) return;
    event.preventDefault();
    run = (run + step[0] + rows.length) % rows.length;
    point = Math.max(0, Math.min(rows[run].length - 1, point + step[1]));
    Plotly.Fx.hover(box, rows[run][point].hover, rows[run][point].subplots);
    say(rows[run][point].text);
  });
  box.addEventListener("blur", () => Plotly.Fx.unhover(box));
}

function curveStops() {
  const box = $("#curves-plot");
  const axis = $("[name=curve-axis]:checked").value;
  const stops = [];
  for (let first = 0; first < (box.data ?? []).length; first += PANELS.length) {
    const traces = box.data.slice(first, first + PANELS.length);
    stops.push(
      traces[0].x.map((x, i) => ({
        hover: traces.map((_, panel) => ({ curveNumber: first + panel, pointNumber: i })),
        subplots: traces.map((trace) => trace.xaxis + trace.yaxis),
        text: `${data.runs[traces[0].meta].label}, ${axis === "epoch" ? "epoch" : "images seen"} ${x}: ${PANELS.map(([, name], panel) => `${name} ${traces[panel].y[i]?.toPrecision(4) ?? "none"}`).join("; ")}`,
      })),
    );
  }
  return stops;
}

function startCurves() {
  const box = $("#curves-plot");
  whenNear($("#curves"), () => {
    if (!chosen.size) return;
    const isFirst = !box.data;
    drawCurves();
    if (!isFirst) return;
    box.on("plotly_hover", ({ points: [at] }) => emphasise((run) => run === at.data.meta));
    box.on("plotly_unhover", () => emphasise(null));
  });
  for (const radio of $$("[name=curve-axis]")) radio.addEventListener("change", drawCurves);
  walkable(box, curveStops, (text) => ($("#curves-said").textContent = text));
}
