
"use strict";
(() => {
  // Only what the page cannot do by itself: filter the problems, open or close them all, open the one that a link names.
  const form = document.querySelector(".filter");
  const problems = [...document.querySelectorAll(".problem")];
  const status = form.querySelector("[role=status]");
  form.hidden = problems.length < 2;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const problem of problems) {
      problem.hidden = !words.every((word) => problem.dataset.text.includes(word));
      shown += problem.hidden ? 0 : 1;
    }
    status.textContent = words.length ? `${shown} of ${problems.length}` : "";
  });
  for (const button of form.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      for (const problem of problems) if (!problem.hidden) problem.open = Boolean(button.dataset.open);
    });
  }
})();
