"""The style of a report: light, dark, on a phone and in print."""

from train.comparing.charts import COLOURS

_LIGHT, _DARK = (
  ';'.join(f'--line{i}:{pair[side]}' for i, pair in enumerate(COLOURS))
  for side in (0, 1)
)
_PAPER = '--ink:#1b1f24;--soft:#59636e;--paper:#fff;--band:#f3f5f7;'
_PAPER += '--grid:#dde2e7;--link:#0b57b4;--mark:#fff3bf'
_NIGHT = '--ink:#e6e9ed;--soft:#a4adb8;--paper:#14171a;--band:#20252a;'
_NIGHT += '--grid:#3a424b;--link:#82b6ff;--mark:#4d430f'

STYLE = f"""
:root{{color-scheme:light dark;{_PAPER};{_LIGHT}}}
@media screen and (prefers-color-scheme:dark){{:root{{{_NIGHT};{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;padding:1rem;max-width:76rem;color:var(--ink);
background:var(--paper);font:1rem/1.5 system-ui,sans-serif}}
h1{{font-size:1.6rem;line-height:1.2;margin:.4rem 0;overflow-wrap:anywhere}}
h2{{font-size:1.25rem;margin:2rem 0 .6rem;border-bottom:1px solid var(--grid)}}
h3{{font-size:1rem;margin:1.2rem 0 .4rem;overflow-wrap:anywhere}}
a{{color:var(--link)}}
a:focus-visible,[tabindex]:focus-visible,summary:focus-visible{{
outline:2px solid var(--link);outline-offset:2px}}
nav a{{display:inline-block;padding:.35rem .6rem .35rem 0}}
.notes{{padding:.6rem 1rem .6rem 2rem;background:var(--band);
border-left:4px solid var(--line1);overflow-wrap:anywhere}}
.note,figcaption,.facts{{color:var(--soft);font-size:.875rem}}
.note{{overflow-wrap:anywhere}}
.facts{{padding-left:1.2rem;overflow-wrap:anywhere}}
.grid{{display:grid;gap:1rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr))}}
figure{{margin:0;max-width:40rem}}
figure svg{{display:block;width:100%;height:auto}}
figure svg text{{font-family:"DejaVu Sans",Verdana,sans-serif!important}}
figcaption{{text-align:center}}
.key{{list-style:none;padding:0;display:flex;flex-wrap:wrap;
gap:.3rem 1.4rem;overflow-wrap:anywhere}}
.scroll{{overflow-x:auto;margin:.6rem 0}}
table{{border-collapse:collapse;font-size:.9rem;
font-variant-numeric:tabular-nums}}
caption{{text-align:left;font-weight:600;padding:.3rem 0}}
caption span{{display:block;position:sticky;left:0;width:max-content;
max-width:calc(100vw - 2rem)}}
th,td{{padding:.35rem .7rem;text-align:left;vertical-align:top;
border-bottom:1px solid var(--grid);max-width:26rem;overflow-wrap:break-word}}
th.n,td.n{{text-align:right}}
td.n,tbody th.n{{white-space:nowrap}}
thead th{{background:var(--band);vertical-align:bottom;min-width:4.5rem}}
th:first-child{{font-weight:600;min-width:8rem}}
tbody th:first-child{{position:sticky;left:0;background:var(--paper);
overflow-wrap:break-word;max-width:18rem}}
td small{{display:block;font-size:.8rem}}
tr:target,tr:target th:first-child{{background:var(--mark)}}
pre{{overflow:auto;max-height:24rem;padding:.7rem;background:var(--band);
white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}}
summary{{font-weight:600;padding:.5rem 0;cursor:pointer;
overflow-wrap:anywhere}}
@media (max-width:40rem){{body{{padding:.75rem}}
th:first-child,tbody th:first-child{{max-width:9.5rem;font-size:.8rem}}
th,td{{padding:.35rem .5rem}}}}
@media print{{@page{{margin:12mm}}
body{{max-width:none;padding:0;font-size:10pt}}nav{{display:none}}
a{{color:inherit;text-decoration:none}}
.scroll,pre{{overflow:visible;max-height:none}}
table{{font-size:7.5pt;width:100%}}th,td{{padding:2pt 3pt;min-width:0}}
thead th,th:first-child{{min-width:0}}thead{{display:table-header-group}}
td.n{{white-space:normal}}td small{{font-size:6.5pt}}
tbody th:first-child{{position:static}}
tr,figure,.key{{break-inside:avoid}}h2,h3,caption{{break-after:avoid}}
.grid{{grid-template-columns:1fr 1fr}}
details::details-content{{content-visibility:visible;height:auto}}}}
"""
