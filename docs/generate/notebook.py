"""Markdown of the notebook: its text and its code, as a page."""

import json
import pathlib

NOTEBOOK = pathlib.Path(__file__).parents[1] / 'tutorials' / 'quickstart.ipynb'


def render() -> str:
  """Renders the cells; the first heading is left to the page."""
  cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
  parts = []
  for cell in cells:
    source = ''.join(cell['source']).strip()
    parts.append(f'```python\n{source}\n```' if cell['cell_type'] == 'code' else source)
  first, _, rest = parts[0].partition('\n')
  parts[0] = rest.strip() if first.startswith('# ') else parts[0]
  return '\n\n'.join(parts)
