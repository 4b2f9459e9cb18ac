// Puts a bench into every place for one: <div class="lab" data-bench="look" data-first="resnet20">…</div>; how it begins is optional.

/** @type {Record<string, (place: HTMLElement, first?: string) => unknown>} */
const BENCHES = {
  look: async (place, first) => (await import("./look.js")).look(place, first),
  "take-out": async (place, first) => (await import("./takeout.js")).takeOut(place, first),
  links: async (place) => (await import("./takeout.js")).takeOut(place, "densenet-small", "links"),
  paths: async (place) => (await import("./takeout.js")).takeOut(place, "googlenet-small-bn", "paths"),
  race: async (place, first) => (await import("./race.js")).race(place, first),
  scrub: async (place, first) => (await import("./scrub.js")).scrub(place, first),
  networks: async (place) => (await import("./networks.js")).list(place),
  bottleneck: async (place) => (await import("./bottleneck.js")).bottleneck(place),
  build: async (place, first) => (await import("./build.js")).build(place, first),
};

for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".lab[data-bench]"))) {
  BENCHES[place.dataset.bench ?? ""]?.(place, place.dataset.first);
}
