// Puts a bench into every place for one: <div class="lab" data-bench="look" data-first="resnet20">…</div>; how it begins is optional.

/** @type {Record<string, (place: HTMLElement, first?: string) => unknown>} */
const BENCHES = {
  look: async (place, first) => (await import("./look.js")).look(place, first),
  "take-out": async (place, first) => (await import("./takeout.js")).takeOut(place, first),
  race: async (place, first) => (await import("./race.js")).race(place, first),
  scrub: async (place) => (await import("./scrub.js")).scrub(place),
  networks: async (place) => (await import("./networks.js")).list(place),
  build: async (place, first) => (await import("./build.js")).build(place, first),
};

for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".lab[data-bench]"))) {
  BENCHES[place.dataset.bench ?? ""]?.(place, place.dataset.first);
}
