// What is known of the networks that run here.

import { describe } from "./models.js";
import { explain, make, percent } from "./page.js";

/** @param {HTMLElement} place */
export async function list(place) {
  try {
    const { networks, labels } = await describe();
    const head = ["network", "file", "parameters", "multiply-adds", `right of ${labels.length}`, "test accuracy"];
    const rows = networks.map(({ title, bytes, parameters, multiply_adds, correct, test }) => [
      title,
      `${(bytes / 1e6).toFixed(2)} MB`,
      parameters.toLocaleString("en"),
      multiply_adds.toLocaleString("en"),
      `${correct}, ${percent(correct / labels.length)}`,
      percent(test, 2),
    ]);
    place.replaceChildren(
      make(
        "div",
        { class: "lab-scroll lab-build", tabindex: 0, role: "region", "aria-label": "The networks" },
        make(
          "table",
          {},
          make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
          make(
            "tbody",
            {},
            ...rows.map(([name, ...cells]) =>
              make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((text) => make("td", {}, text))),
            ),
          ),
        ),
      ),
    );
  } catch (error) {
    place.replaceChildren(make("p", { role: "status" }, explain(error)));
  }
}
