"""What each verb does: reads its options, calls the library, prints.

Each function imports what it needs and no more; `flan --help` imports none of it.
"""

import argparse
import dataclasses
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
  if options.multihost is None:
    return _train(options, Progress())
  from flan_jax.train import hosts

  hosts.initialize(options.multihost)
  return hosts.guarded(lambda: _train(options, Progress(quiet=not hosts.first())))


def _train(options: argparse.Namespace, progress: Progress) -> int:
  _quiet_absl()
  progress.stage('Configuration')
  from flan_jax import config

  if not options.gin_file:
    raise InputError('--gin_file: not given; try --gin_file=gin/runs/demo.gin')
  if options.profile < 0:
    raise InputError(f'--profile: got {options.profile}; must be 0 or more steps')
  parsed = config.load(options.gin_file, options.gin)
  run = parsed.build('Run')
  progress.line(
    f'MODEL_DIR {run.model_dir}, seed {run.seed}, data seed {run.data_seed}'
  )
  from flan_jax.train import loop

  outcome = loop.train(
    run, text=parsed.text(run), profile=options.profile, progress=progress
  )
  if outcome.interrupted:
    return loop.INTERRUPTED
  if outcome.report is not None:
    from flan_jax.evaluate import tables

    tables.print_table(outcome.report)
    progress.stage(f'Done: {run.model_dir}/report/report.html')
  else:
    progress.stage(f'Done: {run.model_dir}/model')
  return 0


def eval(options: argparse.Namespace) -> int:  # the verb's own name
  progress = Progress()
  _quiet_absl()
  progress.stage('Configuration')
  from flan_jax import config

  files = options.gin_file or ['gin/evaluate/zero_shot.gin']
  parsed = config.load(files, options.gin)
  settings = parsed.build('Evaluation')
  text = parsed.text(settings)
  from flan_jax.evaluate import held_out, tables
  from flan_jax.train import bucket

  settings = dataclasses.replace(
    settings,
    checkpoint=bucket.here('CHECKPOINT', settings.checkpoint),
    store=bucket.here('STORE', settings.store),
  )

  found = held_out.evaluate_checkpoint(settings, text=text, progress=progress)
  tables.print_table(found)
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
  from flan_jax.evaluate import difference, tables
  from flan_jax.evaluate import report as report_lib
  from flan_jax.train import bucket, ledger

  given = pathlib.Path(bucket.here('MODEL_DIR', options.folder))
  spent = ledger.summarize(ledger.read(given / ledger.FILE))
  if spent is not None and options.against is None and not _has_report(given):
    if options.json:
      _print_json({'goodput': spent._asdict()})
    else:
      _print_goodput(spent)
    return 0
  folder = _report_folder(str(given))
  if options.against is not None:
    changed = difference.write(folder, _report_folder(options.against))
    if options.json:
      _print_json(changed)
    else:
      tables.print_difference(changed)
      print(folder / 'difference.html')
    return 0
  found = report_lib.load(folder)
  if options.json:
    _print_json(found if spent is None else {**found, 'goodput': spent._asdict()})
    return 0
  report_lib.render(folder)
  tables.print_table(found)
  print(folder / 'report.html')
  if spent is not None:
    _print_goodput(spent)
  return 0


def _print_goodput(spent: Any) -> None:
  """A `ledger.Summary`, as a table."""
  rows = [
    (kind, f'{seconds:,.1f}', f'{seconds / spent.wall:.1%}' if spent.wall else '')
    for kind, seconds in spent.seconds.items()
    if seconds
  ]
  sides = {'where the time went': 'left', 'seconds': 'right', 'share': 'right'}
  _table(
    f'{spent.steps:,} steps in {spent.wall:,.1f} s, {spent.starts} starts, '
    f'{spent.lost_steps:,} steps done again: goodput {spent.goodput:.1%}',
    sides,
    rows,
  )


def _has_report(given: pathlib.Path) -> bool:
  return any((place / 'report.json').is_file() for place in (given, given / 'report'))


def _report_folder(name: str) -> pathlib.Path:
  """The folder of a report: that one, or its report/."""
  for folder in (pathlib.Path(name), pathlib.Path(name) / 'report'):
    if (folder / 'report.json').is_file():
      return folder
  raise InputError(f'{name!r}: no report.json; must be MODEL_DIR or an evaluation')


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


def launch(options: argparse.Namespace) -> int:
  from flan_jax.pod import gcloud as gcloud_lib
  from flan_jax.pod import launch as launch_lib
  from flan_jax.pod import slice as slice_lib

  type = slice_lib.accelerator_type(options.type) if options.type else None
  gcloud = gcloud_lib.Gcloud(dry_run=options.dry_run)
  if options.engine != 'tpu-vm':
    print(_manifest(options, type, gcloud), end='')
    return 0
  slice = slice_lib.Slice(
    gcloud,
    options.tpu,
    zone=options.zone,
    type=type,
    project=options.project,
    spot=options.spot,
    queued=options.queued,
    runtime=options.runtime,
    create_arguments=tuple(options.create_arg),
    say=launch_lib.say,
  )
  job = launch_lib.Launch(
    slice,
    gcloud,
    say=launch_lib.say,
    max_restarts=options.max_restarts,
    grace_s=options.grace,
  )
  code = 0
  try:
    if options.command:
      code = job.run(options.command)
      launch_lib.say(f'Done: exit code {code}')
    if options.stop:
      job.stop()
    if options.delete:
      launch_lib.say(f'Deleting TPU {options.tpu}')
      slice.delete()
    elif options.command:
      launch_lib.say(
        f'TPU {options.tpu} stays, and costs: `flan launch --tpu {options.tpu} '
        f'--zone {options.zone} --delete` gives it back'
      )
    if not (options.command or options.stop or options.delete):
      launch_lib.Launch(slice, gcloud).run(())  # says what a command looks like
  except gcloud_lib.Failed as error:
    launch_lib.say(f'error: {error}')
    return 1
  except KeyboardInterrupt:
    launch_lib.say(
      'the run goes on there: the same command follows it again, --stop ends it'
    )
    return 130
  return code


def _manifest(options: argparse.Namespace, type: str | None, gcloud: Any) -> str:
  from flan_jax.pod import commit as commit_lib
  from flan_jax.pod import launch as launch_lib
  from flan_jax.pod import manifests

  needed = ('type', 'cluster', 'image') if options.engine == 'xpk' else ('type',)
  for name in needed:
    if getattr(options, name) is None:
      raise InputError(f'--{name}: not given; --engine={options.engine} needs it')
  commit = commit_lib.Commit(gcloud)
  job = launch_lib.job(options.command, commit=commit)
  if job.files:
    raise InputError(
      f'--gin_file: {job.files[0]!r} is not in commit {commit.name}, which is what '
      f'{options.engine} installs; commit it'
    )
  common = {
    'name': options.tpu,
    'accelerator': type,
    'zone': options.zone,
    'commit': commit.name,
    'spot': options.spot,
    'max_restarts': options.max_restarts,
  }
  if options.engine == 'skypilot':
    return manifests.skypilot(job.command, runtime=options.runtime, **common)
  return manifests.xpk(
    job.command,
    cluster=options.cluster,
    image=options.image,
    project=options.project,
    grace_s=options.grace,
    **common,
  )


def plan(options: argparse.Namespace) -> int:
  import dataclasses

  progress = Progress()
  from flan_jax import config
  from flan_jax.pod import topology as topology_lib

  if not options.gin_file:
    raise InputError('--gin_file: not given; try --gin_file=gin/runs/flan_137b.gin')
  if options.topology is None:
    raise InputError('--topology: not given; try --topology v3:8x8')
  topology = topology_lib.parse(options.topology)
  parsed = config.load(options.gin_file, options.gin)
  # What a run needs to start, and a plan does not.
  parsed.give(
    {
      'MODEL_DIR': '', 'MIXTURE_OR_TASK_NAME': '', 'INITIAL_CHECKPOINT_PATH': None,
      'TRAIN_STEPS': 1,
    },
    origin='--topology',
  )  # fmt: skip
  run = parsed.build('Run')
  if run.model is None and run.initial_checkpoint is not None:
    from flan_jax.train import model_folder

    shape = model_folder.config(run.initial_checkpoint, asked=None)
    run = dataclasses.replace(run, model=shape)
  progress.stage(f'Loading the TPU compiler for {topology.name}')
  from flan_jax.pod import page, search
  from flan_jax.pod import plan as plan_lib

  devices = topology_lib.devices(topology)
  if options.print_sharding:
    rows = plan_lib.sharding(run, devices=devices)
    if options.json:
      _print_json([row._asdict() for row in rows])
    else:
      print(page.table(rows), end='')
    return 0
  given = {'watts': options.chip_watts, 'pue': options.pue, 'grid': options.grid}
  asked = {
    'kind': options.step,
    'assumptions': plan_lib.Assumptions(
      **{name: value for name, value in given.items() if value is not None}
    ),
    'cache': options.cache,
  }
  progress.stage(f'Compiling the {options.step} step of {topology.cores:,} devices')
  if options.search:
    found = search.search(run, topology, progress=progress.line, **asked)
    plans = [trial.plan for trial in found]
    if not options.json:
      print(search.text(found), end='')
  else:
    plans = [plan_lib.plan(run, topology, devices=devices, **asked)]
  last = plans[-1]
  if options.json:
    _print_json(page.as_json(last))
  else:
    print(page.text(last), end='')
  return 0 if last.fits else 1
