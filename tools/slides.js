/* Starts reveal.js, typesets the formulas, and makes what is higher than a slide as small as it must be. */
/* global MathJax, Reveal, RevealNotes */
window.addEventListener("load", async () => {
  const height = 720;
  await MathJax.startup.promise;
  await MathJax.typesetPromise();
  await Reveal.initialize({
    width: 1280, height, margin: 0.03, center: false, hash: true, slideNumber: true, transition: "none",
    plugins: [RevealNotes],
  });
  for (const slide of Reveal.getSlides()) {
    const hidden = [slide, slide.parentElement].map((each) => [each, each.style.cssText]);
    for (const [each] of hidden) each.style.setProperty("display", "block", "important");
    for (let zoom = 1; slide.scrollHeight * zoom > height - 20 && zoom > 0.4; zoom -= 0.04) {
      slide.style.zoom = zoom - 0.04; // lines get longer too
    }
    for (const [each, css] of hidden) each.style.cssText = `${css}; zoom: ${each.style.zoom || 1}`;
  }
  Reveal.layout();
});
