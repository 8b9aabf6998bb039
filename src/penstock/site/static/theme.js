// Before the first paint: the theme that the reader chose, and that there are scripts.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // without storage the system's theme stays
}
