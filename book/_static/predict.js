// @ts-check
/** Predict cards: choose, then see. What was chosen stays in this browser, and the chapter's end counts it. */

const KEY = `predict:${location.pathname}`;
const cards = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("div.predict")]);

/** @returns {Record<string, string>} the letter chosen on each card */
function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {}; // no storage here, or not ours
  }
}

/** @param {Record<string, string>} chosen */
function save(chosen) {
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen));
  } catch {
    // no storage here: the page forgets
  }
}

/**
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {string} [text]
 */
function element(tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/** @param {HTMLElement} item of a list: "A the text of the choice" */
const letterOf = (item) => item.querySelector("strong")?.textContent ?? "";

let chosen = load();
const tally = element("aside", { class: "tally", "aria-live": "polite" });

/** @param {HTMLElement} card */
function dress(card) {
  const reveal = /** @type {HTMLDetailsElement} */ (card.querySelector("details.reveal"));
  const lists = [...card.querySelectorAll("ul")].filter((list) => !reveal.contains(list));
  const list = /** @type {HTMLElement} */ (lists.at(-1));
  const verdict = element("p", { class: "predict-verdict" });
  reveal.querySelector("summary")?.after(verdict);
  list.classList.add("predict-choices");
  for (const item of /** @type {HTMLElement[]} */ ([...list.children])) {
    const letter = letterOf(item);
    const button = element("button", { type: "button", "data-letter": letter });
    const content = item.querySelector(":scope > p") ?? item;
    button.append(...content.childNodes);
    content.append(button);
    button.addEventListener("click", () => {
      chosen = { ...chosen, [card.id]: letter };
      save(chosen);
      show(card);
      reveal.open = true;
      count();
    });
  }
  show(card);
}

/** Mark what was chosen on a card. @param {HTMLElement} card */
function show(card) {
  const letter = chosen[card.id];
  const right = card.dataset.right ?? "";
  const reveal = /** @type {HTMLDetailsElement} */ (card.querySelector("details.reveal"));
  card.classList.toggle("answered", Boolean(letter));
  for (const button of card.querySelectorAll("button[data-letter]")) {
    const own = button.getAttribute("data-letter");
    button.setAttribute("aria-pressed", String(own === letter));
    button.classList.toggle("right", Boolean(letter) && own === right);
    button.classList.toggle("wrong", own === letter && own !== right);
  }
  for (const item of /** @type {HTMLElement[]} */ ([...reveal.querySelectorAll("li")])) {
    item.classList.toggle("yours", Boolean(letter) && letterOf(item) === letter);
  }
  const verdict = /** @type {HTMLElement} */ (reveal.querySelector(".predict-verdict"));
  verdict.textContent = !letter ? "" : letter === right ? `You chose ${letter}. It is right.` : `You chose ${letter}. It is ${right}.`;
  const summary = /** @type {HTMLElement} */ (reveal.querySelector("summary"));
  summary.textContent = letter ? "The answer" : "See the answer without choosing";
}

/** Tell, at the chapter's end, how often the reader was right and on what not. */
function count() {
  const answered = cards.filter((card) => chosen[card.id]);
  const missed = answered.filter((card) => chosen[card.id] !== card.dataset.right);
  tally.hidden = answered.length === 0;
  const right = answered.length - missed.length;
  const left = cards.length - answered.length;
  const rest = left ? ` ${left} ${left === 1 ? "card waits" : "cards wait"} for your choice.` : "";
  const all = right === answered.length && answered.length > 1 ? "all " : "";
  tally.replaceChildren(element("p", {}, `You were right on ${all}${right} of ${answered.length}.${rest}`.replace(/all (\d+) of \d+/, "all $1")));
  if (missed.length) {
    tally.append(element("p", {}, "Worth another look:"));
    const list = element("ul");
    for (const card of missed) {
      const item = element("li");
      item.append(element("a", { href: `#${card.id}` }, question(card)));
      list.append(item);
    }
    tally.append(list);
  }
  const button = element("button", { type: "button", class: "predict-clear" }, "Clear my choices");
  button.addEventListener("click", () => {
    chosen = {};
    save(chosen);
    for (const card of cards) {
      /** @type {HTMLDetailsElement} */ (card.querySelector("details.reveal")).open = false;
      show(card);
    }
    count();
  });
  tally.append(button);
}

/** The last sentence of a card's question. @param {HTMLElement} card */
function question(card) {
  const text = (card.querySelector("p")?.textContent ?? "").replace(/^\s*Predict\.\s*/, "").trim();
  return text.length > 90 ? `${text.slice(0, 88).replace(/\s+\S*$/, "")} …` : text;
}

for (const card of cards) dress(card);
const end = document.querySelector("section#summary") ?? document.querySelector("article section");
end?.append(tally);
count();
