"""The look of a report's page: light and dark, wide and narrow, on paper."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--text:#1d1d1f;--faint:#5c5c62;--back:#fff;--line:#d8d8dd;
--stripe:#f4f4f7;--link:#0059a8;--warn:#fff4e0;--warn-line:#c77700}
@media(prefers-color-scheme:dark){:root{--text:#e9e9ec;--faint:#a9a9b2;--back:#17171a;
--line:#3a3a42;--stripe:#212126;--link:#7bbcff;--warn:#33260c;--warn-line:#e0a030}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0;color:var(--text);background:var(--back)}
main{max-width:1100px;margin:0 auto;padding:1.2rem}
h1{font-size:1.7rem;margin:.2em 0}
h2{font-size:1.25rem;margin:1.8em 0 .4em}
a{color:var(--link)}
nav{display:flex;flex-wrap:wrap;gap:.3em 1em;border-block:1px solid var(--line);padding:.7em 0;
font-size:.9rem;margin-top:2em}
ul{padding-left:1.2em}
li,p,td,th,summary{overflow-wrap:anywhere}
td:not(:first-child):not(.long){white-space:nowrap;overflow-wrap:normal}
th:not(:first-child){max-width:16rem;overflow-wrap:normal;word-break:break-word}
td.long{min-width:16rem}
tr.differs td{font-weight:600}
.reading{max-width:75ch}
.how{color:var(--faint);font-size:.9rem}
.warning{background:var(--warn);border-left:4px solid var(--warn-line);padding:.1em 1em;
margin-top:1em}
.warning h2{margin-top:.6em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;min-width:min(100%,24rem)}
th,td{text-align:left;padding:.3em .8em .3em .3em;vertical-align:top;
border-bottom:1px solid var(--line)}
td:first-child{min-width:11rem}
th{font-weight:600}
tbody tr:nth-child(even){background:var(--stripe)}
figure{margin:1em 0;overflow-x:auto}
figure img{display:block;max-width:100%;height:auto;background:#fff;padding:6px;border-radius:4px}
.scenes{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:1em}
.scene{background:#fff;color:#222;min-height:420px;border-radius:4px;overflow:hidden}
pre{font-size:.8rem;overflow:auto;max-height:40rem;background:var(--stripe);padding:1em}
@media(max-width:600px){main{padding:.7rem}body{font-size:15px}
figure img{max-width:none}}
@media print{:root{--text:#000;--faint:#444;--back:#fff;--line:#bbb;--stripe:#fff;--link:#000}
nav,.scenes,.scene{display:none}figure,table{break-inside:avoid}h2{break-after:avoid}
body{font-size:11pt}.scroll,figure{overflow:visible}figure img{max-width:100%}}
"""
