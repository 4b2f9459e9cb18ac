/** How the search orders what it finds: chapters, then pages, then the names of the package. */
var Scorer = {
  /** @param {[string, string, string, string, number, string]} result docname, title, anchor, description, score, file */
  score: ([docname, , , , score]) => score + (/^book\/(exercises|api|state|notation|index|references)/.test(docname) ? 0 : 10),
  objNameMatch: 3,
  objPartialMatch: 1,
  objPrio: { 0: 3, 1: 1, 2: 0 },
  objPrioDefault: 0,
  title: 25,
  partialTitle: 12,
  term: 5,
  partialTerm: 2,
};
