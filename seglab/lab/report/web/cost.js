// Score against cost, with the Pareto front of the chosen runs.
const COSTS = {
  seconds: { title: "time, seconds", more: false },
  images_per_second: { title: "training speed, images/s", more: true },
  parameters: { title: "parameters", more: false },
  gflops: { title: "GFLOPs", more: false },
  peak_memory_mib: { title: "peak memory, MiB", more: false },
};
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

// From the cheapest to the dearest, the runs that score more than every cheaper one.
function paretoFront(runs, kind) {
  const sign = COSTS[kind].more ? -1 : 1;
  const cost = (run) => sign * data.runs[run].cost[kind];
  const sorted = [...runs].sort((a, b) => cost(a) - cost(b) || data.runs[b].score - data.runs[a].score);
  let best = -Infinity;
  return sorted.filter((run) => data.runs[run].score > best && ((best = data.runs[run].score), true));
}

const shortened = (label, length) => (label.length > length ? `${label.slice(0, length - 1)}…` : label);

function costRuns(kind) {
  return chosenRuns().filter((run) => data.runs[run].cost[kind] != null);
}

function drawCost() {
  if (!chosen.size) return;
  const kind = $("#cost-kind").value;
  const runs = costRuns(kind);
  const front = paretoFront(runs, kind);
  const cost = (run) => data.runs[run].cost[kind];
  const score = (run) => 100 * data.runs[run].score;
  const values = runs.map(cost);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const log = least > 0 && most > 20 * least;
  const middle = log ? Math.sqrt(least * most) : (least + most) / 2;
  const { axis, layout } = plotLayout({ height: 420 });
  layout.margin = { l: 8, r: 24, t: 16, b: 8 };
  layout.xaxis = { ...axis, title: { text: COSTS[kind].title }, type: log ? "log" : "linear" };
  layout.yaxis = { ...axis, title: { text: `${data.metric}, %` } };
  const narrow = !printing && $("#cost-plot").clientWidth < 640;
  const named = front.filter((run, i) => front.findIndex((other) => data.runs[other].group === data.runs[run].group) === i);
  const traces = [
    {
      x: front.map(cost),
      y: front.map(score),
      mode: "lines",
      line: { color: cssColor("--muted"), width: 1.5, dash: "dot", shape: "hv" },
      hoverinfo: "skip",
    },
    {
      x: runs.map(cost),
      y: runs.map(score),
      mode: "markers+text",
      text: runs.map((run) => (named.includes(run) ? plotlyText(shortened(data.groups[data.runs[run].group].label, narrow ? 14 : 32)) : "")),
      textposition: runs.map((run) => (cost(run) < middle ? "top right" : "top left")),
      textfont: { color: cssColor("--ink"), size: 12 },
      cliponaxis: false,
      customdata: runs.map((run) => plotlyText(data.runs[run].label)),
      marker: {
        color: runs.map((run) => groupColor(data.runs[run].group)),
        opacity: 1,
        symbol: runs.map((run) => ["circle", "square", "diamond", "triangle-up"][Math.floor(data.runs[run].group / SERIES_COLORS) % 4]),
        size: runs.map((run) => (front.includes(run) ? 12 : 9)),
        line: { color: cssColor("--page"), width: 1 },
      },
      hovertemplate: `<b>%{customdata}</b><br>${COSTS[kind].title} %{x:,.4~g}<br>${data.metric} %{y:.1f} %<extra></extra>`,
    },
  ];
  Plotly.react($("#cost-plot"), traces, layout, { displayModeBar: false, responsive: true });
  const without = chosen.size - runs.length;
  $("#cost-front").textContent =
    `On the front: ${front.map((run) => data.runs[run].label).join("; ") || "none"}.` +
    (without ? ` ${without} of the chosen runs did not record this cost.` : "");
}

function costStops() {
  const kind = $("#cost-kind").value;
  const runs = costRuns(kind);
  const order = [...runs.keys()].sort((i, j) => data.runs[runs[i]].cost[kind] - data.runs[runs[j]].cost[kind]);
  return [
    order.map((i) => ({
      hover: [{ curveNumber: 1, pointNumber: i }],
      subplots: ["xy"],
      text: `${data.runs[runs[i]].label}: ${COSTS[kind].title} ${number.format(data.runs[runs[i]].cost[kind])}, ${percent(data.runs[runs[i]].score)} %`,
    })),
  ].filter((stops) => stops.length);
}

function startCost() {
  whenNear($("#cost"), drawCost);
  $("#cost-kind").addEventListener("change", drawCost);
  walkable($("#cost-plot"), costStops, (text) => ($("#cost-said").textContent = text));
}
