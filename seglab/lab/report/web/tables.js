// Tables that sort by their columns, and buttons that copy a command.
function sortRows(table, header) {
  const column = [...header.parentNode.children].indexOf(header);
  const before = header.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : header.dataset.first === "descending";
  for (const other of $$("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what has no value stays last
    const difference = Number(x) - Number(y);
    const order = Number.isNaN(difference) ? x.localeCompare(y, "en", { numeric: true }) : difference;
    return descending ? -order : order;
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
}

function startTables() {
  for (const header of $$("table.sortable th:has(button)")) {
    $("button", header).addEventListener("click", () => sortRows(header.closest("table"), header));
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { class: "hidden-text" }, text);
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function startCopying() {
  for (const button of $$("button.copy")) {
    button.addEventListener("click", async () => {
      const done = await copy($("code", button.parentNode).textContent);
      button.textContent = done ? "Copied" : "Select and copy by hand";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }
}
