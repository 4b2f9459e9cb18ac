// @ts-check
/** On paper every fold is open, and the ground is white; afterwards all is as it was. Signs stay with their formulas. */

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

// A sign behind a formula stays on the formula's line.
for (const formula of document.querySelectorAll("article span.math")) {
  const next = formula.nextSibling;
  if (!(next instanceof Text)) continue;
  const sign = /^[.,;:?!)\]]+/.exec(next.data)?.[0];
  if (!sign) continue;
  const together = document.createElement("span");
  together.style.whiteSpace = "nowrap";
  formula.before(together);
  together.append(formula, sign);
  next.data = next.data.slice(sign.length);
}

export {};
