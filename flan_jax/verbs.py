"""What each verb does: reads its options, calls the library, prints.

Each function imports what it needs and no more; `flan --help` imports none of it.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

from flan_jax.errors import InputError
from flan_jax.progress import Progress


def _print_json(value: Any) -> None:
  json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
  print()


def _quiet_absl() -> None:
  """TFDS and Orbax log every file they open; errors are enough."""
  from absl import logging

  logging.set_verbosity(logging.ERROR)


def _table(title: str, columns: dict[str, str], rows: list[tuple]) -> None:
  """A table on standard output; `columns` are heading -> 'left' or 'right'."""
  from rich import box, console, table

  shown = table.Table(title=title, box=box.SIMPLE, title_justify='left')
  for heading, side in columns.items():
    shown.add_column(heading, justify=side, overflow='fold')
  for row in rows:
    shown.add_row(*(f'{c:,}' if isinstance(c, int) else str(c) for c in row))
  width = None if sys.stdout.isatty() else 150
  console.Console(width=width).print(shown)


def train(options: argparse.Namespace) -> int:
  progress = Progress()
  _quiet_absl()
  progress.stage('Configuration')
  from flan_jax import config

  if not options.gin_file:
    raise InputError('--gin_file: not given; try --gin_file=gin/runs/demo.gin')
  parsed = config.load(options.gin_file, options.gin)
  run = parsed.build('Run')
  progress.line(
    f'MODEL_DIR {run.model_dir}, seed {run.seed}, data seed {run.data_seed}'
  )
  from flan_jax.train import loop

  outcome = loop.train(run, text=parsed.text(run), progress=progress)
  if outcome.interrupted:
    return loop.INTERRUPTED
  if outcome.report is not None:
    from flan_jax.evaluate import report

    report.print_table(outcome.report)
    progress.stage(f'Done: {pathlib.Path(run.model_dir) / "report" / "report.html"}')
  else:
    progress.stage(f'Done: {pathlib.Path(run.model_dir) / "model"}')
  return 0


def eval(options: argparse.Namespace) -> int:  # the verb's own name
  progress = Progress()
  _quiet_absl()
  progress.stage('Configuration')
  from flan_jax import config

  files = options.gin_file or ['gin/evaluate/zero_shot.gin']
  settings = config.load(files, options.gin).build('Evaluation')
  from flan_jax.evaluate import held_out, report

  found = held_out.evaluate_checkpoint(settings, progress=progress)
  report.print_table(found)
  progress.stage(f'Done: {pathlib.Path(settings.output_dir) / "report.html"}')
  return 0


def tasks(options: argparse.Namespace) -> int:
  from flan_jax import catalogue, listing

  if options.mixture is None:
    found = listing.datasets()
  elif options.mixture:
    found = listing.mixture(catalogue.mixture(options.mixture))
  else:
    found = listing.all_mixtures()
  if options.json:
    _print_json(found.data)
    return 0
  _table(found.title, found.columns, found.rows)
  for line in found.lines:
    print(line)
  return 0


def show(options: argparse.Namespace) -> int:
  from flan_jax import catalogue
  from flan_jax import show as show_lib

  _quiet_absl()
  if options.html is None:
    if options.task is None:
      raise InputError('show: give a TASK, as flan_rte, or --html FILE for all of them')
    return show_lib.show(
      options.task,
      count=options.n,
      template=options.template,
      split=options.split,
      tokenizer=options.tokenizer,
      data_dir=options.data_dir,
    )
  from flan_jax import catalogue_page
  from flan_jax.data import tokenizer as tokenizer_lib

  if options.task is None:
    datasets = list(catalogue.family('flan').values())
  else:
    datasets = [catalogue.task(options.task)]
  progress = Progress()
  progress.stage('Reading an example of every dataset')
  catalogue_page.write(
    options.html,
    datasets,
    tokenizer=tokenizer_lib.load(options.tokenizer),
    data_dir=options.data_dir,
    progress=progress,
  )
  progress.stage(f'Done: {options.html}')
  return 0


def lint(options: argparse.Namespace) -> int:
  from flan_jax import catalogue
  from flan_jax import lint as lint_lib

  if options.datasets:
    datasets = [catalogue.get(name) for name in options.datasets]
  else:
    datasets = [
      d for world in catalogue.WORLDS for d in catalogue.family(world).values()
    ]
  findings = lint_lib.lint(datasets)
  if options.json:
    _print_json([finding._asdict() for finding in findings])
  else:
    for finding in findings:
      print(finding)
    templates = sum(len(dataset.templates) for dataset in datasets)
    print(
      f'{len(datasets)} datasets, {templates} templates: {len(findings)} findings',
      file=sys.stderr,
    )
  return 1 if findings else 0


def fetch(options: argparse.Namespace) -> int:
  from flan_jax import catalogue

  if options.all == bool(options.datasets):
    raise InputError('fetch: give the names of datasets, or --all')
  if options.all:
    datasets = list(catalogue.family('flan').values())
  else:
    datasets = [catalogue.get(name) for name in options.datasets]
  progress = Progress()
  progress.stage('Loading TensorFlow Datasets')
  _quiet_absl()
  try:
    from flan_jax import fetch as fetch_lib
  except ModuleNotFoundError as error:
    raise InputError(
      f"module {error.name!r}: not installed; pip install 'flan_jax[data]'"
    ) from None
  done = fetch_lib.fetch(
    datasets,
    data_dir=options.data_dir,
    folder=options.folder,
    workers=1 if options.folder else min(options.workers, len(datasets)),
    progress=progress,
  )
  if options.json:
    _print_json([item._asdict() for item in done])
  else:
    rows = [
      (d.standing, ', '.join(d.datasets), d.tfds, d.cause or d.state,
       ', '.join(f'{split} {n:,}' for split, n in d.rows.items()), d.note)
      for d in done
    ]  # fmt: skip
    headings = ('', 'datasets', 'TFDS', 'what happened', 'rows', 'note')
    _table('fetched', dict.fromkeys(headings, 'left'), rows)
    standings = [item.standing for item in done]
    counts = (f'{standings.count(s)} {s}' for s in ('ready', 'partial', 'missing'))
    print(', '.join(counts))
  # With --from, what the folder lacks is no failure; a failed download is.
  return 1 if any(item.state == 'failed' for item in done) else 0


def _repair(options: argparse.Namespace) -> int:
  progress = Progress()
  progress.stage(f'Checking {options.out}')
  from flan_jax.data import repair

  with progress.counter() as count:
    mended = repair.repair(options.out, data_dir=options.data_dir, progress=count)
  for damage in mended:
    print(
      f'{damage.dataset} {damage.part}: {damage.lost:,} of {damage.rows:,} rows were '
      f'lost; made again: {", ".join(damage.files)}'
    )
  progress.stage(f'Done: {len(mended)} damaged parts, all as they were again')
  return 0


def materialize(options: argparse.Namespace) -> int:
  if options.repair:
    return _repair(options)
  if options.mixture is None:
    raise InputError('--mixture: not given; `flan tasks --mixture NAME` shows one')
  progress = Progress()
  _quiet_absl()
  progress.stage(f'Materialising {options.mixture}')
  from flan_jax import catalogue, pool
  from flan_jax.data import materialize as materialize_lib

  mixture = catalogue.mixture(options.mixture)
  with progress.counter() as count:
    manifest = materialize_lib.materialize(
      mixture,
      out=options.out,
      tokenizer=options.tokenizer,
      vocab_size=options.vocab_size,
      seed=options.seed,
      epochs=options.epochs,
      steps=options.steps,
      batch_tokens=options.batch_tokens if options.steps else None,
      row_length=options.row_length,
      data_dir=options.data_dir,
      missing=options.missing,
      workers=pool.cores() if options.workers is None else options.workers,
      runner=options.runner,
      progress=count,
    )
  rows = [
    (name, entry['cluster'], entry['rows'], entry['epochs'], entry['rate'],
     ', '.join(f'{why} {n:,}' for why, n in entry['filters'].items() if n))
    for name, entry in manifest['datasets'].items()
  ]  # fmt: skip
  sides = {'dataset': 'left', 'cluster': 'left', 'rows': 'right', 'epochs': 'right',
           'rate': 'right', 'dropped': 'left'}  # fmt: skip
  _table(f'{options.out}', sides, rows)
  for name, why in manifest['missing'].items():
    print(f'missing: {name} ({why})')
  planned = manifest['plan']
  print(
    f'{planned["examples"]:,} examples in {planned["rows"]:,} rows of '
    f'{planned["row_length"]:,} tokens, {planned["fill"]:.2%} full'
  )
  progress.stage(f'Done: {options.out}, digest {manifest["digest"]}')
  return 0


def rows(options: argparse.Namespace) -> int:
  from flan_jax.data import rows as rows_lib
  from flan_jax.data import store as store_lib

  if not 0 <= options.host < options.hosts:
    raise InputError(f'--host: got {options.host}; must be 0 to {options.hosts - 1}')
  store = store_lib.Store.open(options.store)
  plan = store.plan(
    seed=options.seed,
    rows=options.start + options.count,
    row_length=options.row_length,
    pack=not options.unpacked,
  )
  batch = options.batch_rows or options.hosts
  if batch % options.hosts:
    raise InputError(
      f'--batch-rows: got {batch}; must be a multiple of the {options.hosts} hosts'
    )
  share = batch // options.hosts
  tokenizer = None
  for k in range(options.start, options.start + options.count):
    if k % batch // share != options.host:
      continue
    if options.digest:
      print(k, rows_lib.row_digest(store.row(plan, k)))
      continue
    described = store_lib.describe(store, plan, k)
    if options.json:
      print(json.dumps(described, ensure_ascii=False))
      continue
    tokenizer = tokenizer or store.tokenizer()
    print(f'row {k}: {described["length"]} of {options.row_length} tokens')
    for (name, entry), part in zip(plan.row(k), described['segments'], strict=True):
      example = store.example(name, entry)
      print(
        f'  {name} [{part["cluster"]}] template {part["template"]} {part["row_id"]}'
      )
      for title, ids in (('inputs', example.inputs), ('targets', example.targets)):
        text = tokenizer.decode(ids).replace('\n', '\n           ')
        print(f'  {title:>7}: {text}')
  return 0


def report(options: argparse.Namespace) -> int:
  from flan_jax.evaluate import page
  from flan_jax.evaluate import report as report_lib

  folder = pathlib.Path(options.folder)
  if not (folder / 'report.json').is_file():
    folder = folder / 'report'
  if not (folder / 'report.json').is_file():
    raise InputError(
      f'{options.folder!r}: no report.json; must be MODEL_DIR or an evaluation'
    )
  found = report_lib.load(folder)
  if options.json:
    _print_json(found)
    return 0
  page.write(folder)
  report_lib.print_table(found)
  print(folder / 'report.html')
  return 0


def convert(options: argparse.Namespace) -> int:
  from flan_jax.interop import convert as convert_lib
  from flan_jax.interop import packages

  progress = Progress()
  _quiet_absl()
  progress.stage(f'Converting {options.source}')
  source = packages.find(options.source)
  turn = convert_lib.to_ours if options.to == 'ours' else convert_lib.to_theirs
  done = turn(source, options.destination, progress=progress)
  found = done.agreement
  if options.json:
    _print_json({
      'destination': str(done.folder) if found.passed else None,
      'family': done.family,
      'check': found.as_json(),
    })  # fmt: skip
  else:
    print(
      f'logits against {found.method}: max difference {found.max_difference:.2g} of '
      f'{found.largest:.3g} (allowed {found.allowed:.2g}), KL {found.kl:.2g}, same '
      f'choice at {found.same_choice:.1%} of {found.positions} positions'
    )
    if found.perplexity is not None:
      print(
        f'perplexity of a paragraph {found.perplexity:.1f}, of its words shuffled '
        f'{found.perplexity_shuffled:.0f}'
      )
  if not found.passed:
    print(
      f'flan: error: {options.source}: the logits of the two sides differ by '
      f'{found.max_difference:.2g} (allowed {found.allowed:.2g}; KL {found.kl:.2g}): '
      'nothing is written',
      file=sys.stderr,
    )
    return 1
  progress.stage(f'Done: {done.folder}')
  return 0
