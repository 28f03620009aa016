"""Materialise a mixture: records -> words -> tokens, once, into a store.

The same mixture, data, tokenizer and seed give the same bytes on any machine, and a
store appears whole or not at all.
"""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax import catalogue, guard, rates, sources
from flan_jax.catalogue import CLUSTERS, Dataset, Mixture
from flan_jax.data import draw, plan, rendering
from flan_jax.data import recipe as recipe_lib
from flan_jax.data import rows as rows_lib
from flan_jax.data import store as store_lib
from flan_jax.data import tokenizer as tokenizer_lib
from flan_jax.data.build import Build, Progress, clamped, read
from flan_jax.data.rendering import Limits
from flan_jax.errors import InputError, did_you_mean

TRAIN = 'train'
"""As a tokenizer: train one on the rendered rows."""

TOKENIZER_ROWS = 4_000
"""Most rows of one dataset that a tokenizer is trained on."""

MARGIN = 1.02
"""Draws are estimated from mean lengths: render a little more than they say."""

_BAR = 64


def materialize(
  mixture: Mixture,
  *,
  out: str | os.PathLike,
  tokenizer: str | os.PathLike = TRAIN,
  vocab_size: int = 8192,
  seed: int = 0,
  epochs: int | None = None,
  steps: int | None = None,
  batch_tokens: int | None = None,
  row_length: int | None = None,
  data_dir: str | None = None,
  evaluate: Sequence[str] | None = None,
  missing: str = 'refuse',
  limits: tuple[int, int] = Limits(),
  progress: Progress | None = None,
) -> dict[str, Any]:
  """Writes the store of a mixture, or opens it if the same one is there already.

  Args:
    mixture: what trains, and what is held out.
    out: directory of the store. It appears whole or not at all.
    tokenizer: what `flan_jax.data.tokenizer.load` takes, or the word `train`.
    vocab_size: of the tokenizer that `train` makes.
    seed: data seed: which template each row and epoch gets.
    epochs: how many epochs to render; 1 if `steps` is not given either.
    steps: length of the run instead: render what it will draw of each dataset. Never
      more epochs than templates: after those, the plan takes up the first again.
    batch_tokens: positions of a step (rows x row_length); needed with `steps`.
    row_length: most positions of an example; None for the sum of the limits.
    data_dir: TFDS data directory.
    evaluate: clusters to keep dev and test rows of; None for those held out.
    missing: `refuse`, or `skip` datasets that are not prepared.
    limits: most tokens of inputs and of targets, each with its EOS.
    progress: called as work goes on.

  Returns:
    The manifest.

  Raises:
    InputError: on bad arguments, a dataset that is not prepared, a bad row (named),
      or another store at `out`.
  """
  limits = Limits(*limits)
  out = pathlib.Path(out)
  evaluate = tuple(mixture.held_out if evaluate is None else evaluate)
  _check(mixture, evaluate, epochs, steps, batch_tokens, missing)
  if epochs is None and steps is None:
    epochs = 1
  report = progress or (lambda *_: None)
  given = None if str(tokenizer) == TRAIN else tokenizer_lib.load(tokenizer)
  training, evaluated, absent = _datasets(mixture, evaluate, data_dir, missing)
  request = {
    'epochs': epochs,
    'steps': steps,
    'batch_tokens': batch_tokens,
    'row_length': row_length,
    'tokenizer': given.digest if given else f'{TRAIN}:{vocab_size}',
  }
  head = {
    'version': store_lib.VERSION,
    'mixture': mixture.name,
    'family': mixture.family,
    'held_out': list(mixture.held_out),
    'excluded': list(mixture.excluded),
    'evaluate': list(evaluate),
    'seed': seed,
    'request': request,
    'limits': {**limits._asdict(), 'policy': rendering.POLICY},
    'missing': absent,
    'style': dataclasses.asdict(mixture.style),
    'shared_cap': mixture.shared_cap,
  }
  declared = {
    d.name: recipe_lib.declaration(d, sizes) for d, sizes in training + evaluated
  }
  recipe = recipe_lib.digest(
    {**head, 'declared': declared, 'trains': [d.name for d, _ in training]}
  )
  done = _finished(out, recipe)
  if done is not None:
    return done
  with _partial(out) as folder:
    done = _finished(out, recipe)  # another process may have been first
    if done is not None:
      return done
    for name in ('train', 'evaluation', 'spool'):
      (folder / name).mkdir()
    works = [Build(folder, dataset, sizes, data_dir) for dataset, sizes in training]
    for work in works:
      work.read(seed, report)
    if given is None:
      given = tokenizer_lib.train(_texts(works, seed), vocab_size=vocab_size)
    if given.filename:
      given.save(folder / given.filename)
    for work in works:
      work.start(
        given,
        seed=seed,
        limits=limits,
        row_length=row_length,
        shots=mixture.style.shots,
      )
      work.render(min(epochs or 1, work.templates), report)
    if steps is None:
      needs = dict.fromkeys([work.dataset.name for work in works], epochs)
    else:
      needs = _epochs_needed(mixture, works, steps * batch_tokens, given.bos_id)
      for work in works:
        work.render(min(needs[work.dataset.name], work.templates), report)
    shutil.rmtree(folder / 'spool')
    drawn = _rates(mixture, works)
    trained = {
      name: work.entry(needs[name], rate=drawn[name])
      for name, work in ((work.dataset.name, work) for work in works)
    }
    if not any(entry['rate'] for entry in trained.values()):
      raise InputError(
        f'mixture {mixture.name!r}: no training rows are left to draw from'
      )
    held = {
      dataset.name: _evaluation(folder, dataset, sizes, data_dir, report)
      for dataset, sizes in evaluated
    }
    manifest = _manifest(head, recipe, given, training + evaluated, trained, held)
    lengths = [rows_lib.length(*w.index.T, given.bos_id) for w in works]
    manifest['length_histogram'] = _histogram(np.concatenate(lengths))
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    manifest['files'] = {
      path.relative_to(folder).as_posix(): path.stat().st_size for path in files
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + '\n'
    (folder / store_lib.MANIFEST).write_text(text, encoding='utf-8')
    folder.rename(out)
  return manifest


def _check(mixture, evaluate, epochs, steps, batch_tokens, missing) -> None:
  if not mixture.datasets:
    raise InputError(f'mixture {mixture.name!r}: no datasets; must have at least one')
  if missing not in ('refuse', 'skip'):
    raise InputError(
      f"missing {missing!r}: must be 'refuse' or 'skip'"
      + did_you_mean(missing, ['refuse', 'skip'])
    )
  if epochs is not None and steps is not None:
    raise InputError(f'epochs {epochs} and steps {steps}: give one of them')
  for name, value in (('epochs', epochs), ('steps', steps)):
    if value is not None and value < 1:
      raise InputError(f'{name} {value}: must be at least 1')
  if steps is not None and not batch_tokens:
    raise InputError(
      f'steps {steps}: needs batch_tokens as well, the positions of a step'
    )
  for cluster in evaluate:
    if cluster not in CLUSTERS:
      raise InputError(
        f'cluster {cluster!r}: must be one of {", ".join(CLUSTERS)}'
        + did_you_mean(cluster, CLUSTERS)
      )
  guard.prove(mixture)
  for dataset in mixture.members:
    if not dataset.train:
      raise InputError(
        f'mixture {mixture.name!r}: {dataset.name!r} has no training split'
      )


Sized = tuple[Dataset, Mapping[str, int]]


def _datasets(
  mixture: Mixture, evaluate: Sequence[str], data_dir: str | None, missing: str
) -> tuple[list[Sized], list[Sized], dict[str, str]]:
  """(datasets that train, datasets to evaluate, the missing); with their sizes."""
  family = catalogue.family(mixture.family)
  wanted = [
    mixture.members,
    [dataset for dataset in family.values() if dataset.cluster in evaluate],
  ]
  found: list[list[Sized]] = [[], []]
  absent = {}
  for here, datasets in zip(found, wanted, strict=True):
    for dataset in datasets:
      try:
        here.append((dataset, dict(sources.sizes(dataset, data_dir=data_dir))))
      except InputError as error:
        if missing == 'refuse':
          raise
        absent[dataset.name] = str(error)
  if not found[0]:
    raise InputError(
      f'mixture {mixture.name!r}: none of its {len(mixture.datasets)} datasets is '
      'prepared'
    )
  return found[0], found[1], absent


def _finished(out: pathlib.Path, recipe: str) -> dict[str, Any] | None:
  """The manifest at `out` if that recipe is done there; None if nothing is there.

  Raises:
    InputError: if something else is there.
  """
  if not out.exists() or (out.is_dir() and not any(out.iterdir())):
    return None
  if not (out / store_lib.MANIFEST).is_file():
    raise InputError(
      f'out {str(out)!r}: exists and is not a store; name a new directory'
    )
  manifest = dict(store_lib.Store.open(out).manifest)
  got = manifest['digests']['recipe']
  if got != recipe:
    raise InputError(
      f'store {str(out)!r}: holds {manifest["mixture"]!r} of recipe {got[:12]}, not '
      f'{recipe[:12]}; a finished store is not rewritten: delete it or name another'
    )
  return manifest


@contextlib.contextmanager
def _partial(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """An empty sibling of `out` to write in; gone afterwards if it was not renamed.

  What a killed process left is cleared; a living one keeps it locked.
  """
  out.parent.mkdir(parents=True, exist_ok=True)
  folder = out.parent / f'.{out.name}.partial'
  folder.mkdir(exist_ok=True)
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      ours = os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except (BlockingIOError, FileNotFoundError):
      ours = False
    if not ours:
      raise InputError(
        f'store {str(out)!r}: another process is writing it; wait until it is done'
      )
    for left in folder.iterdir():
      if left.is_dir():
        shutil.rmtree(left)
      else:
        left.unlink()
    try:
      yield folder
    finally:
      # Once renamed, the name may already be another process's.
      with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
          shutil.rmtree(folder)
  finally:
    os.close(descriptor)


def _texts(works: Sequence[Build], seed: int) -> Iterator[str]:
  """Rendered rows of epoch 0, to train a tokenizer on."""
  for work in works:
    for row in itertools.islice(work.rows(), TOKENIZER_ROWS):
      template = draw.template(seed, row.row_id, 0, work.templates)
      yield from catalogue.render(work.dataset, template, row)


def _rates(mixture: Mixture, works: Sequence[Build]) -> dict[str, int]:
  """Rates of the rows that are really there (design decision 8)."""
  return rates.of(mixture, {work.dataset.name: work.examples for work in works})


def _epochs_needed(
  mixture: Mixture, works: Sequence[Build], positions: int, bos_id: int | None
) -> dict[str, int]:
  """Epochs of each dataset that a run of `positions` positions draws, from epoch 0."""
  drawn = _rates(mixture, works)
  total = sum(drawn.values())
  if not total:
    return dict.fromkeys(drawn, 1)
  mean = sum(
    drawn[work.dataset.name] / total
    * float(np.mean(rows_lib.length(*work.index.T, bos_id)))
    for work in works
    if len(work.index)
  )  # fmt: skip
  draws = plan.drawn(math.ceil(positions / mean * MARGIN))
  return {
    work.dataset.name: max(
      1,
      math.ceil(draws * drawn[work.dataset.name] / total / max(1, work.examples)),
    )
    for work in works
  }


def _evaluation(
  folder: pathlib.Path,
  dataset: Dataset,
  sizes: Mapping[str, int],
  data_dir: str | None,
  report: Progress,
) -> dict[str, Any]:
  """Writes the dev and test rows of a dataset; returns its entry in the manifest."""
  filters: collections.Counter[str] = collections.Counter()
  rows = {}
  digests = {}
  for split in ('dev', 'test'):
    if split not in dataset.slices:
      continue
    total = dataset.rows(split, sizes)
    digest = hashlib.sha256()
    kept = 0
    path = folder / 'evaluation' / f'{dataset.name}.{split}.jsonl'
    with path.open('wb') as file:
      for row in read(dataset, split, sizes=sizes, data_dir=data_dir, filters=filters):
        if not row.answer.text.strip():
          filters['empty'] += 1
          continue
        line = store_lib.evaluation_line(row).encode('utf-8')
        digest.update(line)
        file.write(line)
        kept += 1
    report('evaluate', f'{dataset.name}.{split}', total, total)
    rows[split] = kept
    digests[split] = digest.hexdigest()
  return {
    'cluster': dataset.cluster,
    'tfds': dataset.tfds,
    'rows_read': filters['read'],
    'rows': rows,
    'filters': {key: filters[key] for key in ('unlabelled', 'empty')},
    'clamped': clamped(dataset, sizes),
    'digest': digests,
  }


def _histogram(lengths: np.ndarray) -> dict[str, list[int]]:
  """How many entries have a length in [edge, next edge), in positions."""
  counts = np.bincount(lengths // _BAR)
  return {
    'edges': (np.arange(len(counts) + 1) * _BAR).tolist(),
    'counts': counts.tolist(),
  }


def _manifest(
  head: Mapping[str, Any],
  recipe: str,
  tokenizer: tokenizer_lib.Tokenizer,
  datasets: Sequence[Sized],
  trained: Mapping[str, Mapping[str, Any]],
  held: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
  clusters = {entry['cluster'] for entry in trained.values() if entry['rate']}
  digests = {
    'templates': recipe_lib.digest(
      {dataset.name: recipe_lib.templates(dataset) for dataset, _ in datasets}
    ),
    'tokenizer': tokenizer.digest,
    'recipe': recipe,
  }
  keys = ('rows', 'rate', 'epochs', 'digest')
  content = {
    'tokenizer': tokenizer.digest,
    'train': {name: {k: entry[k] for k in keys} for name, entry in trained.items()},
    'evaluation': {name: entry['digest'] for name, entry in held.items()},
  }
  return {
    **head,
    'digest': recipe_lib.digest(content),
    'digests': digests,
    'trained_on': [cluster for cluster in CLUSTERS if cluster in clusters],
    'tokenizer': {
      'name': tokenizer.name,
      'file': tokenizer.filename,
      'vocab_size': tokenizer.vocab_size,
      'bos_id': tokenizer.bos_id,
      'eos_id': tokenizer.eos_id,
      'pad_id': tokenizer.pad_id,
      'digest': tokenizer.digest,
    },
    'tfds': {dataset.name: dataset.tfds for dataset, _ in datasets if dataset.tfds},
    'datasets': dict(trained),
    'evaluation': dict(held),
  }
