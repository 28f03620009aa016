"""Takes evaluation data out as tasks of lm-eval; `flan export --lm-eval`.

The prompts are those of `flan eval` with the same settings, in every template.
"""

import dataclasses
import pathlib
from typing import Any, NamedTuple

from flan_jax import __version__
from flan_jax.catalog import leakage, names, registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.checkpoints import model_dir
from flan_jax.config.evaluation import EvalConfig
from flan_jax.data import tokenizers
from flan_jax.data.store.store import Store
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError, did_you_mean
from flan_jax.evaluate import eval_data, prompted
from flan_jax.evaluate.eval_data import Examples
from flan_jax.evaluate.predict import Warnings
from flan_jax.interop.huggingface import conversion_cache
from flan_jax.interop.lm_eval import control_text, tasks
from flan_jax.jobs import measure
from flan_jax.runtime import atomic_file, lock, object_store, yaml_text
from flan_jax.runtime.progress import Progress
from flan_jax.train import step_model

SUMMARY = 'export.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class LmEvalConfig:
  """Settings of an export to lm-eval.

  Attributes:
    out: new folder.
    tokenizer: the model that lm-eval will ask (ours, or exported), or the file of its
      tokenizer; None for that of `store`.
    mixture: mixture whose held-out clusters are exported, or its own datasets if it
      holds out none.
    datasets: datasets, without a mixture.
    clusters: clusters, without a mixture; with one, those of its clusters.
    family: family of the datasets of `clusters`.
    store: store with the examples; None for raw data.
    split: `dev` or `test`; None for test, or dev without a test split, as reported.
    evaluate: settings of the prompts.
    seed: seed for the sample of examples and the exemplars.
    data_dir: TFDS data directory.
    missing: 'refuse' or 'skip' a dataset whose data is not there.
  """

  out: str
  tokenizer: str | None = None
  mixture: str | None = None
  datasets: tuple[str, ...] = ()
  clusters: tuple[str, ...] = ()
  family: str = 'flan'
  store: str | None = None
  split: str | None = None
  evaluate: EvalConfig = EvalConfig()
  seed: int = 0
  data_dir: str | None = None
  missing: str = 'refuse'


class _Reader(NamedTuple):
  """Tokenizer and lengths of the model that will be asked, in FLAN's form."""

  tokenizer: Tokenizer
  sequence_length: int
  max_length: int | None
  chat: None = None


def export(config: LmEvalConfig, *, progress: Progress) -> dict[str, Any]:
  """Writes the tasks.

  Returns:
    The content of export.json: settings, and task -> number of examples.

  Raises:
    InputError: on bad settings, or if OUT holds something.
  """
  out = pathlib.Path(config.out)
  if '://' in config.out:
    raise InputError(f'--lm-eval {config.out!r}: must be a folder of this machine')
  if out.exists() and not (out.is_dir() and not any(out.iterdir())):
    raise InputError(f'--lm-eval {config.out!r}: exists; must be a new folder')
  measure.check_styles(config.evaluate)
  store = None
  if config.store is not None:
    store = Store.open(str(object_store.here('--store', config.store)))
  reader = _reader(config, store)
  datasets, examples = _data(config, _requested(config), store, progress=progress)
  progress.stage(f'Writing {len(datasets)} datasets to {out}')
  with (
    lock.held('--lm-eval', out, beside=True),
    atomic_file.Draft(out, folder=True) as draft,
  ):
    summary = _write(config, reader, datasets, examples, draft.path, progress)
    draft.keep()
  return summary


def _reader(config: LmEvalConfig, store: Store | None) -> _Reader:
  """Finds the tokenizer, and the lengths that the model has."""
  given, longest = config.tokenizer, None
  if given is None and store is None:
    raise InputError(
      '--tokenizer: not given; must be the model that lm-eval will ask, whose end mark '
      'ends the choices: a model of yours, one of `flan convert --to hf`, or a '
      'tokenizer file'
    )
  if given is None:
    assert store is not None
    tokenizer = store.tokenizer()
  elif (step := step_model.find(given)) is not None:
    tokenizer, longest = step_model.tokenizer(step), step_model.config(step).context
  elif pathlib.Path(given).is_dir():
    tokenizer, longest = _of_model(pathlib.Path(given))
  else:
    tokenizer = tokenizers.load(given)
  length = config.evaluate.sequence_length
  return _Reader(tokenizer, min(length, longest or length), longest)


def _of_model(folder: pathlib.Path) -> tuple[Tokenizer, int | None]:
  """The tokenizer of a model, and the tokens that it accepts; None for any number."""
  path = str(folder)
  if not conversion_cache.needs_conversion(path):
    tokenizer = tokenizers.load(model_dir.tokenizer_file(path))
    return tokenizer, model_dir.config(path).context
  for name in ('tokenizer.model', 'tokenizer.json'):
    if (folder / name).is_file():
      return tokenizers.load(folder / name), None
  raise InputError(f'--tokenizer {path!r}: no tokenizer.model or tokenizer.json in it')


def _requested(config: LmEvalConfig) -> list[Dataset]:
  """Datasets to export."""
  clusters = leakage.clusters(config.clusters, setting='--clusters')
  if config.mixture is None:
    if not clusters and not config.datasets:
      raise InputError(
        '--mixture: not given, nor --datasets or --clusters; `flan tasks` lists '
        'datasets, `flan tasks --mixture` mixtures'
      )
    if config.family not in registry.families():
      known = registry.families()
      raise InputError(
        f'--family {config.family!r}: must be one of {", ".join(known)}'
        + did_you_mean(config.family, known)
      )
    return eval_data.requested(config.family, clusters, config.datasets)
  if config.datasets:
    raise InputError('--datasets: with --mixture; give one of the two')
  mixture = names.mixture(config.mixture)
  found = list(map(registry.get, mixture.datasets))
  if mixture.held_out:
    found = registry.of_clusters(mixture.held_out, mixture.families)
  legal = dict.fromkeys(dataset.cluster for dataset in found)
  for cluster in clusters:
    if cluster not in legal:
      what = 'holds out' if mixture.held_out else 'has'
      raise InputError(
        f'--clusters {cluster!r}: mixture {mixture.name!r} {what} {", ".join(legal)}; '
        'must be one of these'
      )
  return [d for d in found if not clusters or d.cluster in clusters]


def _data(
  config: LmEvalConfig,
  datasets: list[Dataset],
  store: Store | None,
  *,
  progress: Progress,
) -> tuple[list[Dataset], Examples]:
  """The datasets that can be read, and the source of their examples."""
  own = [dataset.name for dataset in datasets if measure.is_task(dataset)]
  if own:
    progress.line(f'skipped, measured by metrics of their own: {", ".join(own)}')
  datasets = [dataset for dataset in datasets if dataset.name not in own]
  datasets = measure.configured(datasets, config.evaluate, data_dir=config.data_dir)
  if store is not None:
    examples = eval_data.stored(store, data_dir=config.data_dir, progress=progress)
    return (
      eval_data.in_store(datasets, store, missing=config.missing, progress=progress),
      examples,
    )
  prepared = [
    d
    for d in datasets
    if eval_data.is_prepared(
      d, data_dir=config.data_dir, missing=config.missing, progress=progress
    )
  ]
  return prepared, eval_data.raw(data_dir=config.data_dir, progress=progress)


def _write(
  config: LmEvalConfig,
  reader: _Reader,
  datasets: list[Dataset],
  examples: Examples,
  folder: pathlib.Path,
  progress: Progress,
) -> dict[str, Any]:
  """Writes every file; returns the content of export.json."""
  protocol = measure.protocol_of(config.evaluate, config.seed)
  settings = tasks.Settings(
    eos=control_text.mark(reader.tokenizer, 'eos'),
    max_tokens=protocol.generated,
  )
  warnings = Warnings()
  out = pathlib.Path(config.out).resolve()
  made, counts = [], {}
  for dataset in datasets:
    split = config.split or ('test' if 'test' in dataset.slices else 'dev')
    for part in prompted.prompts(
      reader,
      dataclasses.replace(protocol, splits=(split,)),
      datasets=[dataset],
      examples=examples,
      warnings=warnings,
    ):
      tasks.write(part, folder, settings, out=out)
      made.append(part._replace(prompts=[]))
      counts[tasks.name(part.dataset, part.template)] = len(part.prompts)
  if not made:
    raise InputError('--lm-eval: no dataset has an example of that split')
  for path, content in tasks.groups(made).items():
    (folder / path).write_text(yaml_text.dump(content), encoding='utf-8')
  for line in warnings.lines():
    progress.line(f'warning: {line}')
  summary = {
    'flan_jax': __version__,
    'mixture': config.mixture,
    'tokenizer': reader.tokenizer.digest,
    'eos': settings.eos,
    'seed': config.seed,
    'max_examples': config.evaluate.max_examples,
    'num_fewshot': config.evaluate.num_fewshot,
    'groups': [one['group'] for one in tasks.groups(made).values()],
    'tasks': counts,
  }
  atomic_file.write_json(folder / SUMMARY, summary, ensure_ascii=False)
  return summary
