// The confusion matrix of one run, or of one less another's.
function confusionCell(row, column, share, less) {
  if (share == null || (less !== undefined && less == null)) return element("td", {}, "–");
  if (less === undefined) {
    const cell = element("td", { style: `--share:${share / 10}%` }, percent(share / 1000, 0));
    cell.classList.toggle("high", share >= 620);
    cell.classList.toggle("low", share < 5);
    return cell;
  }
  const change = (share - less) / 10;
  const good = row === column ? change > 0 : change < 0;
  const cell = element("td", { style: `--share:${Math.min(70, 2 * Math.abs(change))}%` }, Math.abs(change) < 0.5 ? "0" : points(change / 100).replace(/\.\d$/, ""));
  cell.className = Math.abs(change) < 0.5 ? "low" : good ? "gain" : "loss";
  return cell;
}

function drawConfusion() {
  if (!chosen.size) return;
  const [select, less] = [$("#confusion-run"), $("#confusion-less")];
  fillSelect(select, chosenRuns());
  fillSelect(less, chosenRuns(), [element("option", { value: "" }, "nothing")]);
  const matrix = data.runs[select.value].confusion;
  const other = less.value === "" ? null : data.runs[less.value].confusion;
  const heads = data.classes.map(({ name }) => element("th", { scope: "col", class: "turned" }, element("span", {}, name)));
  const rows = data.classes.map(({ name }, i) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      ...data.classes.map((_, j) => {
        const cell = confusionCell(i, j, matrix[i]?.[j], other ? other[i]?.[j] : undefined);
        cell.title = `labelled ${name}, predicted ${data.classes[j].name}`;
        if (i === j) cell.classList.add("diagonal");
        return cell;
      }),
    ),
  );
  const corner = element("th", { class: "corner" }, element("span", {}, "predicted →"), element("span", {}, "labelled ↓"));
  $("table.confusion").replaceChildren(
    element("thead", {}, element("tr", {}, corner, ...heads)),
    element("tbody", {}, ...rows),
  );
}

function startConfusion() {
  whenNear($("#confusion"), drawConfusion);
  for (const select of $$("#confusion select")) select.addEventListener("change", drawConfusion);
}
