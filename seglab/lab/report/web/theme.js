// Light, dark, or as the system has it; `changed` is called at the start and when the theme is another.
function startTheme(changed = () => {}) {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.querySelector("#theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const say = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    changed();
  };
  try {
    const kept = localStorage.getItem("seglab-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch {
    // A page from disk may have no storage; the system's theme holds then.
  }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("seglab-theme", root.dataset.theme);
    } catch {
      // Not kept.
    }
    say();
  });
  dark.addEventListener("change", say);
  say();
}
