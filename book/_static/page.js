// @ts-check
/** On paper every fold is open; afterwards each is as it was. */

/** @type {HTMLDetailsElement[]} */
let opened = [];

addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details")].filter((fold) => fold.closest("article") && !fold.open);
  for (const fold of opened) fold.open = true;
});

addEventListener("afterprint", () => {
  for (const fold of opened) fold.open = false;
  opened = [];
});

export {};
