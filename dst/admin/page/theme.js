// Before anything is drawn: the reader's choice between light, dark, and what the system says.
(() => {
  const choices = ["system", "light", "dark"];
  let chosen = "system";
  try {
    chosen = localStorage.getItem("dst-theme") ?? "system";
  } catch { /* no storage: the system decides */ }
  const apply = (theme) => {
    chosen = choices.includes(theme) ? theme : "system";
    document.documentElement.dataset.theme = chosen;
  };
  apply(chosen);
  window.dstTheme = {
    get: () => chosen,
    next: () => {
      apply(choices[(choices.indexOf(chosen) + 1) % choices.length]);
      try {
        localStorage.setItem("dst-theme", chosen);
      } catch { /* it is forgotten with the page */ }
      return chosen;
    },
  };
})();
