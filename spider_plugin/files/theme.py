"""The look of pages that follow the reader's light or dark setting and are readable on a phone: colours, charts, tables.

`page` of files/html.py adds it to each page. Its colours are CSS variables, --run0 to --run7 those of what is compared."""

PALETTE = 8     # colours of runs, or of other things that are compared

_LIGHT = ('#c2185b', '#1f5fa8', '#2f7d4f', '#a8610a', '#6b46c1', '#0d7377', '#a33a2a', '#596273')
_DARK  = ('#ff7aa8', '#79b4ff', '#6fce94', '#f0b35a', '#b79bff', '#5fd0cf', '#ff9a86', '#a9b4c4')

def _variables(colours, **others):
    named = {**others, **{f'run{i}': colour for i, colour in enumerate(colours)}}
    return ' '.join(f'--{name}: {value};' for name, value in named.items())

THEME = f'''
:root {{ color-scheme: light dark; {_variables(_LIGHT, paper='#fbfaf8', card='#ffffff', ink='#1f2328', muted='#57606a',
        rule='#e6e2dc', grid='#eceae6', note='#fff7e6', note_rule='#f0dcae')} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(_DARK, paper='#14171b', card='#1c2127', ink='#e6e9ed',
        muted='#a2abb6', rule='#323941', grid='#2a3038', note='#2b2517', note_rule='#5b4a1f')} }} }}
''' + '''
body { background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; }
main { max-width: 1160px; } .lead, small, .note, .strip span { color: var(--muted); }
main a { color: var(--run1); } h3 { font-size: 16px; margin: 20px 0 6px; }
main { overflow-wrap: anywhere; }
.card, svg, pre { background: var(--card); border-color: var(--rule); } td, th { border-color: var(--rule); }
.honest { background: var(--note); border-color: var(--note_rule); }
pre { border: 1px solid var(--rule); border-radius: 10px; padding: 12px 16px; font-size: 14px; white-space: pre-wrap;
      overflow-wrap: anywhere; }
.wide { overflow-x: auto; } .wide td, .wide th { white-space: nowrap; font-size: 14px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 16px; }
.chart { margin: 0; min-width: 0; } .chart figcaption { font-weight: 600; font-size: 15px; }
.chart svg { display: block; } .chart .at { display: block; min-height: 1.5em; font-size: 13px; color: var(--muted);
      font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.chart .grid { stroke: var(--grid); } .chart .cursor { stroke: var(--muted); }
.chart .zero { stroke: var(--muted); } .chart text { fill: var(--muted); font-size: 12px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 12px 0; padding: 0; list-style: none; font-size: 14px; }
.legend li { min-width: 0; overflow-wrap: anywhere; } .legend label { cursor: pointer; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
''' + ''.join(f'.run{i} {{ color: var(--run{i}); }} .swatch.run{i} {{ background: var(--run{i}); }} '
              f'body.hide{i} .chart .run{i} {{ display: none; }}\n' for i in range(PALETTE)) + '''
.chart .run { fill: none; stroke: currentColor; stroke-width: 2; } .chart .dot { fill: currentColor; stroke: none; }
.chart .level { stroke: currentColor; stroke-width: 1.5; stroke-dasharray: 6 5; }
.chart .interval { stroke: currentColor; stroke-width: 3; stroke-linecap: round; opacity: 0.55; }
.chart .ring { fill: none; stroke: currentColor; stroke-width: 1.5; } .chart text.mark { fill: currentColor; font-weight: 600; }
.chart .whisker { stroke: currentColor; stroke-width: 1; opacity: 0.6; }
@media (max-width: 600px) {
  .strip { grid-template-columns: 1fr; } .strip span { text-align: left; overflow-wrap: anywhere; }
  table.stack tr:first-child { display: none; } table.stack td:empty { display: none; }
  table.stack tr { display: block; padding: 6px 0; border-bottom: 1px solid var(--rule); }
  .wide table.stack td { display: block; border: 0; padding: 1px 0; text-align: left; white-space: normal; }
  table.stack td[data-head]::before { content: attr(data-head) ": "; color: var(--muted); }
}
@media (max-width: 600px) { main { padding: 20px 14px 48px; } h1 { font-size: 24px; } td, th { padding: 5px 6px; } }
'''
