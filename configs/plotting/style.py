"""How the page looks, and what it does: CSS and JavaScript.

A link to a card makes it the target of the page's address, and CSS shows the
target alone: that needs no script. The script moves the focus, marks the links
to the card and closes it with Escape.
"""

CSS = """
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.35rem; margin: 0 2rem .25rem 0; }
header p, nav h2 + ul { margin: .25rem 0 1rem; max-width: 60rem; }
a { color: var(--decoder-only); }
a:focus-visible, section:focus-visible, div:focus-visible {
  outline: 3px solid var(--ink); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 0; background: var(--paper); z-index: 2; }
.drawing { overflow-x: auto; }
.drawing svg { display: block; width: 100%; min-width: 60rem; height: auto;
  max-width: 82rem; }
.tree a { cursor: pointer; text-decoration: none; }
.tree a:is(:hover, :focus-visible, [aria-current]) .box rect {
  stroke: var(--ink); stroke-width: 3; }
.tree a:is(:hover, :focus-visible, [aria-current]) .line { stroke: var(--ink); }
.tree a:is(:hover, :focus-visible, [aria-current]) .edge text {
  fill: var(--ink); }
nav { margin-top: 1.5rem; }
nav h2 { font-size: 1rem; color: var(--own); }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap;
  gap: .25rem 1rem; }
nav a { display: inline-block; padding: .3rem 0; }
nav a[aria-current] { font-weight: bold; }
section { display: none; }
section:target { display: block; position: fixed; inset: auto 0 0; z-index: 1;
  max-height: 58vh; overflow: auto; padding: 1rem; background: var(--paper);
  border-top: 4px solid var(--own); box-shadow: 0 0 1.5rem #0006; }
html:has(section:target) { scroll-padding-bottom: 60vh; }
body:has(section:target) { padding-bottom: 60vh; }
.close { position: sticky; top: 0; float: right; padding: .3rem .8rem;
  border: 1px solid var(--rule); border-radius: .4rem; color: var(--ink);
  background: var(--paper); text-decoration: none; }
.facts { color: var(--faint); margin: 0 0 .75rem; }
section p { margin: .5rem 0; max-width: 45rem; overflow-wrap: anywhere; }
code { font-size: .875em; overflow-wrap: anywhere; }
.grids { display: flex; flex-wrap: wrap; gap: 1.25rem 3rem; margin-top: 1rem; }
.grids > * { max-width: 100%; margin: 0; }
.wide { overflow-x: auto; }
.wide .note { max-width: 45rem; }
table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0;
  border-top: 1px solid var(--rule); font-variant-numeric: tabular-nums; }
thead th { border-top: 0; color: var(--faint); font-weight: 500; }
tbody th { font-weight: 500; }
.numbers td, .numbers thead th { white-space: nowrap; }
.note { color: var(--faint); font-size: .875rem; }
.numbers { min-width: min(18rem, 80vw); }
.words th { min-width: 6rem; }
.words td { min-width: 7rem; max-width: 24rem; }
.difference td { max-width: 20rem; overflow-wrap: break-word; }
.difference .new { font-weight: 600; }
@media (min-width: 90rem) {
  section:target { inset: 0 0 0 auto; width: 34rem; max-height: none;
    border-top: 0; border-left: 4px solid var(--own); }
  html:has(section:target) { scroll-padding-bottom: 0; }
  body:has(section:target) { padding: 1rem 35rem 1rem 1rem; }
}
@media print {
  section:target { position: static; width: auto; max-height: none;
    box-shadow: none; }
  body:has(section:target) { padding: 0; }
  .close, .skip, nav { display: none; }
  .drawing svg { min-width: 0; }
}
"""

JS = """
let from = null;
function show() {
  const name = decodeURIComponent(location.hash.slice(1));
  for (const link of document.querySelectorAll('svg a, nav a')) {
    const here = link.getAttribute('href') === '#' + name;
    if (here) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
    if (here && link.closest('svg')) {
      link.scrollIntoView({block: 'nearest', inline: 'nearest'});
    }
  }
  const card = document.getElementById(name);
  if (card && card.matches('section')) {
    card.scrollTop = 0;
    card.focus({preventScroll: true});
  } else if (from) {
    from.focus({preventScroll: true});
    from = null;
  }
}
addEventListener('hashchange', show);
addEventListener('load', show);
addEventListener('click', (event) => {
  const link = event.target.closest('.drawing a, nav a');
  if (link) from = link;
});
addEventListener('keydown', (event) => {
  if (event.key === 'Escape') location.hash = '#closed';
});
"""
