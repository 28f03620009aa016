"""SVG pictures of the code's structure, from its imports: house, imports, data.

Every picture is drawn twice, for a wide column and for a phone; the style sheet shows
the one that fits. Colors are the theme's, so that both modes are readable.
"""

import ast
import collections
import functools
import html
import pathlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
WIDE, NARROW = 700, 340
"""Widths of the two drawings in pixels; text is never scaled below its own size."""
SIZE = 13
LINE = 17
"""Size and line height of text, in pixels."""

LAYERS: Sequence[Mapping[str, str]] = (
  {'cli': 'the command line: one module for each verb of `flan`'},
  {'jobs': 'whole jobs: train and evaluate, evaluate, infer, study, export'},
  {
    'seqio_tasks': 'importing it registers every task with seqio',
    'interop': 'Hugging Face, seqio, t5x and lm-eval, both ways',
    'report': 'report.json, tables, plots, the HTML page, comparisons',
    'tpu': 'compile for a TPU slice without one; launch on its hosts',
    'microworld.pretrain': 'training of the base model that ships with the package',
  },
  {
    'evaluate': 'held-out evaluation, metrics, statistics, contamination',
    'train': 'trainer, hooks, optimizers, LoRA, loss guard',
  },
  {'inference': 'log-likelihoods, prefix trees, generation, chat'},
  {
    'checkpoints': 'the model folder and its weights',
    'partitioning': 'device mesh and logical axis rules',
  },
  {'model': 'decoder, attention, KV cache, TPU kernels'},
  {'data': 'sources, prompts, tokens, the store, packing, the loader'},
  {
    'microworld': 'the small generated datasets of the demo',
    'tasks': "FLAN's datasets and their templates, a file for each cluster",
    'mixtures': 'names, caps, rates and held-out splits',
  },
  {'catalog': 'what a dataset, template and mixture are; leakage check'},
  {'config': 'gin files to frozen dataclasses'},
  {
    'runtime': 'progress, processes, object store, atomic files',
    'errors': 'the error that names a bad input',
  },
)
"""Layers of the house, the highest first: folder or module -> its purpose.

Inside a layer, too, a folder stands before those that it imports.
"""

EVERYWHERE = ('runtime', 'errors')
"""The ground floor: every layer may use it, so boxes do not list it."""


class Stage(NamedTuple):
  name: str
  module: str
  """Module that does it, from the package on."""


WAY: Mapping[str, Sequence[Stage]] = {
  'Once, when the store is built': (
    Stage('raw record', 'data.raw_records'),
    Stage('fields', 'catalog.dataset'),
    Stage('prompt from a template', 'catalog.prompt'),
    Stage('tokens, cut to length', 'data.prompts'),
    Stage('store', 'data.store.materialize'),
  ),
  'Planned once, then looked up': (
    Stage('store', 'data.store.store'),
    Stage('packing plan', 'data.packing'),
    Stage('sequence k', 'data.batch'),
    Stage('batch', 'data.loader'),
  ),
  'Every training step': (
    Stage('batch', 'data.loader'),
    Stage('decoder', 'model.decoder'),
    Stage('loss', 'train.losses'),
    Stage('optimizer', 'train.optimizer'),
    Stage('checkpoint', 'train.checkpoint'),
  ),
  'Evaluation': (
    Stage('checkpoint', 'checkpoints.model_dir'),
    Stage('log-likelihoods, generations', 'inference.rank_options'),
    Stage('metrics', 'evaluate.metrics'),
    Stage('intervals', 'evaluate.statistics'),
    Stage('report', 'report.build'),
  ),
}
"""Lane -> its stages, in the order that data passes them."""


def modules() -> dict[str, pathlib.Path]:
  """Module -> its file, without the package's name; `tasks` and `mixtures` too."""
  found = {}
  for top, folder in (
    ('', 'flan_jax'),
    ('tasks', 'tasks'),
    ('mixtures', 'mixtures'),
  ):
    for path in (ROOT / folder).rglob('*.py'):
      parts = path.relative_to(ROOT / folder).with_suffix('').parts
      name = '.'.join(part for part in (top, *parts) if part)
      found[name.removesuffix('.__init__')] = path
  return found


@functools.cache
def imports() -> dict[str, collections.Counter[str]]:
  """Folder -> the folders that its modules import, with the number of imports."""
  known = modules()
  found = {name: collections.Counter() for layer in LAYERS for name in layer}
  for module, path in known.items():
    if module in ('__init__', '__main__'):
      continue
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for target in {name for node in ast.walk(tree) for name in _names(node)}:
      name = target.removeprefix('flan_jax.')
      name = name if name in known else name.rpartition('.')[0]
      if name in known and folder(name) != folder(module):
        found[folder(module)][folder(name)] += 1
  return found


def _names(node: ast.AST) -> Iterable[str]:
  """Names of the package that a node imports, those in a string included."""
  if isinstance(node, ast.ImportFrom):
    names = [f'{node.module}.{alias.name}' for alias in node.names]
  elif isinstance(node, ast.Import):
    names = [alias.name for alias in node.names]
  elif isinstance(node, ast.Call) and _called(node) == 'import_module':
    names = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
  else:
    return []
  return [name for name in names if str(name).startswith('flan_jax.')]


def _called(call: ast.Call) -> str:
  """The last name of what is called; '' for what has none."""
  return getattr(call.func, 'attr', getattr(call.func, 'id', ''))


def folder(module: str) -> str:
  """Returns the entry of LAYERS that a module belongs to, the longest that fits.

  Raises:
    KeyError: if its folder is in no layer.
  """
  entries = [
    name
    for layer in LAYERS
    for name in layer
    if module == name or module.startswith(f'{name}.')
  ]
  if not entries:
    raise KeyError(f'{module}: in no layer of docs/generate/architecture.py')
  return max(entries, key=len)


def render_house() -> str:
  return _twice('The layers of flan_jax: each imports only what lies below it', _house)


def render_imports() -> str:
  return _twice('Which folder imports which: every mark lies on one side', _matrix)


def render_way() -> str:
  missing = {s.module for lane in WAY.values() for s in lane} - set(modules())
  if missing:
    raise KeyError(f'{sorted(missing)}: no module; docs/generate/architecture.py')
  return _twice('The way of the data, from a raw record to the report', _way)


def _twice(title: str, draw) -> str:
  parts = []
  for name, width in (('wide', WIDE), ('narrow', NARROW)):
    body, height = draw(width)
    parts.append(
      f'<svg class="{name}" role="img" aria-label="{html.escape(title)}" '
      f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
      f'<title>{html.escape(title)}</title>{"".join(body)}</svg>'
    )
  return f'<div class="picture">{"".join(parts)}</div>'


def _text(x: float, y: float, text: str, kind: str = '', anchor: str = 'start') -> str:
  return (
    f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">'
    f'{html.escape(text)}</text>'
  )


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
  return (
    f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" '
    f'class="{kind}"/>'
  )


def _wrapped(text: str, width: float) -> list[str]:
  return textwrap.wrap(text, int(width / (SIZE * 0.53)), break_long_words=False)


def _house(width: int) -> tuple[list[str], float]:
  graph, body, y = imports(), [], 0.0
  across = 3 if width == WIDE else 1
  for layer in LAYERS:
    names = list(layer)
    rows = [names[i : i + across] for i in range(0, len(names), across)]
    top = y
    y += 8
    for row in rows:
      gap = 8
      each = (width - 16 - gap * (len(row) - 1)) / len(row)
      texts = [_box_lines(name, layer[name], graph[name], each - 20) for name in row]
      height = max(map(len, texts)) * LINE + 16
      for index, lines in enumerate(texts):
        x = 8 + index * (each + gap)
        body.append(_rect(x, y, each, height, 'box'))
        body += [
          _text(x + 10, y + 20 + n * LINE, text, kind)
          for n, (text, kind) in enumerate(lines)
        ]
      y += height + 8
    body.insert(0, _rect(0, top, width, y - top, 'layer'))
    y += 8
  return body, y - 8


def _box_lines(
  name: str, purpose: str, used: Mapping[str, int], width: float
) -> list[tuple[str, str]]:
  order = [other for layer in LAYERS for other in layer]
  below = [other for other in order if used.get(other) and other not in EVERYWHERE]
  lines = [(name, 'name')]
  lines += [(line, '') for line in _wrapped(purpose.replace('`', ''), width)]
  if below:
    lines += [(line, 'quiet') for line in _wrapped('→ ' + ', '.join(below), width)]
  return lines


def _matrix(width: int) -> tuple[list[str], float]:
  """A triangle of marks: a row's folder imports the one at the foot of the column.

  Names stand left of the diagonal, which has no marks; a line leads up from each.
  """
  graph = imports()
  names = [name for layer in LAYERS for name in layer]
  left, line = 62, 20
  cell = (width - left) / len(names)
  side = min(cell, line) - 4
  body = []
  for row, name in enumerate(names):
    x, y = left + cell * row, line * row
    if row % 2 == 0:
      body.insert(0, _rect(0, y, width, line, 'band'))
    middle, center = x + cell / 2, y + line / 2
    users = [index for index, user in enumerate(names) if graph[user][name]]
    if users:
      start = line * users[0] + line / 2
      body.append(f'<path class="guide" d="M{middle:g} {start:g}V{center:g}"/>')
    body.append(f'<circle cx="{middle:g}" cy="{center:g}" r="2" class="self"/>')
    body.append(_text(x - 2, y + 14, name, 'name', 'end'))
    body += [
      _rect(middle - side / 2, line * user + (line - side) / 2, side, side, 'mark')
      for user in users
    ]
  return body, line * len(names)


def _way(width: int) -> tuple[list[str], float]:
  body, y = [], 0.0
  for title, stages in WAY.items():
    body.append(_text(0, y + 16, title, 'title'))
    draw = _lane_down if width == NARROW else _lane_across
    lane, y = draw(stages, width, y + 26)
    body += lane
    y += 18
  return body, y - 16


GAP = 22
"""Pixels between two stages."""


def _lane_across(stages: Sequence[Stage], width: int, y: float):
  each = (width - GAP * (len(stages) - 1) - 2) / len(stages)
  texts = [_stage_lines(stage, each) for stage in stages]
  height = max(map(len, texts)) * LINE + 14
  body = []
  for index, lines in enumerate(texts):
    x = 1 + index * (each + GAP)
    body += _stage(x, y, each, height, lines)
    if index:
      body.append(_arrow(x - GAP, y + height / 2, x, y + height / 2))
  return body, y + height


def _lane_down(stages: Sequence[Stage], width: int, y: float):
  body = []
  for index, stage in enumerate(stages):
    if index:
      body.append(_arrow(width / 2, y, width / 2, y + GAP))
      y += GAP
    lines = _stage_lines(stage, width)
    height = len(lines) * LINE + 14
    body += _stage(1, y, width - 2, height, lines)
    y += height
  return body, y


def _stage_lines(stage: Stage, width: float) -> list[tuple[str, str]]:
  names = [(line, 'name') for line in _wrapped(stage.name, width - 12)]
  return names + [(line, 'quiet') for line in _module_lines(stage.module, width - 12)]


def _stage(x: float, y: float, width: float, height: float, lines) -> list[str]:
  texts = [
    _text(x + width / 2, y + 20 + n * LINE, text, kind, 'middle')
    for n, (text, kind) in enumerate(lines)
  ]
  return [_rect(x, y, width, height, 'box'), *texts]


def _module_lines(module: str, width: float) -> list[str]:
  """A module's path, broken after slashes where it is wider than its box."""
  lines = ['']
  for part in module.replace('.', '/').replace('/', '/ ').split():
    if lines[-1] and len(lines[-1] + part) * SIZE * 0.53 > width:
      lines.append('')
    lines[-1] += part
  return lines


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
  """An arrow to the right or down, two pixels short of both ends."""
  if y1 == y2:
    shaft, head = f'M{x1 + 2:g} {y1:g}H{x2 - 2:g}', 'm0 0l-6 -4v8z'
  else:
    shaft, head = f'M{x1:g} {y1 + 2:g}V{y2 - 2:g}', 'm0 0l-4 -6h8z'
  return f'<path class="arrow" d="{shaft}{head}"/>'
