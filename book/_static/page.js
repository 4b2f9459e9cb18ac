// @ts-check
/** On paper every fold is open, and the ground is white; afterwards all is as it was. */

/** @type {HTMLDetailsElement[]} */
let opened = [];
let theme = "";

addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details")].filter((fold) => fold.closest("article") && !fold.open);
  for (const fold of opened) fold.open = true;
  theme = document.documentElement.dataset.theme ?? "";
  document.documentElement.dataset.theme = "light";
});

addEventListener("afterprint", () => {
  for (const fold of opened) fold.open = false;
  opened = [];
  document.documentElement.dataset.theme = theme;
});

export {};
