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
    const higher = slide.scrollHeight / (height - 20);
    for (const [each, css] of hidden) each.style.cssText = css;
    if (higher > 1) slide.style.zoom = 1 / higher;
  }
  Reveal.layout();
});
