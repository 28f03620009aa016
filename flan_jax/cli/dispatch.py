"""`flan VERB`: parses and dispatches. Standard library only: `--help` is instant."""

import argparse
import importlib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from flan_jax import __version__
from flan_jax.cli import (
  ask_flags,
  export_flags,
  launch_flags,
  outcome,
  rows_flags,
  study_flags,
)
from flan_jax.cli.gin_flags import split_gin
from flan_jax.cli.parsers import Parser
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import compilation_cache, malloc, modules, platform, signals


def _gin(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--gin_file',
    action='append',
    default=[],
    metavar='FILE',
    help='gin file, shipped (gin/runs/demo.gin) or your own; repeatable',
  )
  parser.add_argument(
    '--gin_search_paths',
    action='append',
    default=[],
    metavar='DIR[,DIR]',
    help='folders to look for gin files in; repeatable',
  )
  parser.epilog = (
    '--gin.NAME=VALUE, or --gin_bindings="NAME = VALUE", sets a macro or a binding; '
    'it overrides the files. Repeatable; of several for one name, the last one counts.'
  )


def _data(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--data-dir', metavar='DIR', help='TFDS data directory (default: $TFDS_DATA_DIR)'
  )


def _json(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--json', action='store_true', help='print JSON on standard output'
  )


def _tokenizer(parser: argparse.ArgumentParser, default: str) -> None:
  parser.add_argument(
    '--tokenizer',
    default=default,
    metavar='FILE',
    help='SentencePiece .model, tokenizer.json, `bytes`, or `train` '
    f'(default: {default})',
  )


def _multihost(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--multihost',
    nargs='?',
    const='auto',
    metavar='ADDRESS:PORT,HOSTS,HOST',
    help='run as one process of several hosts; no value: ask the cluster',
  )


def _train(parser):
  """train a model, then evaluate it zero-shot on HELD_OUT"""
  _gin(parser)
  _multihost(parser)
  parser.add_argument(
    '--profile',
    type=int,
    default=0,
    metavar='STEPS',
    help='trace this number of steps for xprof, into MODEL_DIR/profile',
  )


def _eval(parser):
  """evaluate a checkpoint zero- or few-shot on held-out clusters"""
  _gin(parser)
  _multihost(parser)


def _infer(parser):
  """run a checkpoint over a file of prompts, a task or a mixture"""
  _gin(parser)
  _multihost(parser)


def _tasks(parser):
  """list datasets, their splits, rates and templates"""
  parser.add_argument(
    '--mixture',
    nargs='?',
    const='',
    metavar='NAME',
    help='show counts, caps, rates and shares of NAME; no NAME: list all mixtures',
  )
  _json(parser)


def _columns(parser):
  for column, holds in (('inputs', 'prompts'), ('targets', 'answers')):
    parser.add_argument(
      f'--{column}',
      metavar='COLUMN',
      default=column,
      help=f'column of the {holds} in a file of examples (default {column})',
    )


def _messages(parser):
  parser.add_argument(
    '--messages',
    metavar='COLUMN',
    help='column of conversations, in place of the two (default: messages, if they '
    'are not there)',
  )


def _show(parser):
  """render prompts of a task, with fields, options and token counts"""
  parser.add_argument(
    'task', metavar='TASK', nargs='?', help='task, as flan_rte; or a file of examples'
  )
  _columns(parser)
  _messages(parser)
  parser.add_argument(
    '--n', type=int, default=1, metavar='N', help='examples (default 1)'
  )
  parser.add_argument('--template', type=int, metavar='I', help='this template only')
  parser.add_argument('--split', default='train', choices=('train', 'dev', 'test'))
  parser.add_argument(
    '--html',
    metavar='FILE',
    help='write an HTML page of the whole catalog (or of TASK) instead',
  )
  _tokenizer(parser, 'bytes')
  _data(parser)


def _lint(parser):
  """check every template"""
  parser.add_argument('datasets', nargs='*', metavar='DATASET', help='default: all')
  _json(parser)


def _fetch(parser):
  """prepare raw datasets with TFDS, or from a folder of JSON Lines"""
  parser.epilog = (
    'exit code: 0 if every dataset is ready or partial; 1 if one is missing, failed '
    'or needs a manual download; 2 for bad usage or a bad record'
  )
  parser.add_argument('datasets', nargs='*', metavar='DATASET', help='dataset, as rte')
  parser.add_argument('--all', action='store_true', help='all declared datasets')
  parser.add_argument(
    '--from',
    dest='folder',
    metavar='DIR',
    help='read datasets of TFDS from DIR/<builder>/<config>/<split>.jsonl instead of '
    'downloading them; other files are declared (docs/howto/own_tasks.md)',
  )
  parser.add_argument(
    '--workers', type=int, default=4, metavar='N',
    help='datasets to download at a time (default 4; 1 with --from)',
  )  # fmt: skip
  _data(parser)
  _json(parser)


def _materialize(parser):
  """render and tokenize a mixture, or the data of a run, once, into a store"""
  _gin(parser)
  parser.add_argument(
    '--mixture', metavar='NAME', help='mixture, task, or a file of examples'
  )
  _columns(parser)
  _messages(parser)
  parser.add_argument(
    '--chat-template',
    metavar='FILE',
    help='template of conversations, or chatml (default: that beside the tokenizer)',
  )
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument(
    '--repair',
    action='store_true',
    help='find damaged parts of the store DIR, and rebuild them alone',
  )
  parser.add_argument(
    '--workers', type=int, metavar='N', help='processes (default: one per core)'
  )
  parser.add_argument(
    '--runner',
    metavar='NAME',
    help='run on Apache Beam instead: DirectRunner, FlinkRunner, ...',
  )
  _tokenizer(parser, 'train')
  parser.add_argument('--vocab-size', type=int, default=32_000, metavar='N')
  parser.add_argument(
    '--template-seed', type=int, default=0, metavar='N',
    help='seed for the template of each example; TEMPLATE_SEED of a run (default 0)',
  )  # fmt: skip
  parser.add_argument('--epochs', type=int, metavar='E')
  parser.add_argument(
    '--steps', type=int, metavar='N', help='render the epochs that N steps need'
  )
  parser.add_argument('--batch-tokens', type=int, default=8192, metavar='N')
  parser.add_argument('--sequence-length', type=int, metavar='N')
  parser.add_argument(
    '--task-feature-lengths', metavar='NAME=N,...',
    help='maximum tokens of a feature (default inputs=1024,targets=256)',
  )  # fmt: skip
  parser.add_argument('--missing', default='refuse', choices=('refuse', 'skip'))
  _data(parser)


def _report(parser):
  """print the table of a report, of many side by side, or of the change from another"""
  parser.add_argument(
    'folders',
    metavar='DIR',
    nargs='+',
    help='MODEL_DIR, an evaluation, its report.json, or a folder that holds several; '
    'many are one table',
  )
  parser.add_argument(
    '--against',
    metavar='OLD',
    help='compare with another report: print the changes from OLD to DIR',
  )
  parser.add_argument(
    '--html',
    metavar='FILE',
    help='page of many reports (default: reports.html in DIR, or, of several, here)',
  )
  parser.add_argument('--csv', metavar='FILE', help='write every number of the table')
  parser.add_argument('--latex', metavar='FILE', help='write the table for a paper')
  _json(parser)


def _convert(parser):
  """import a Hugging Face or GGUF model, or export one of ours"""
  parser.add_argument(
    'source',
    metavar='SRC',
    help='Hugging Face folder, .gguf file, the name `smollm2`, or (--to hf) a '
    'model of ours, as `runs/x` or its step `runs/x@200`',
  )
  parser.add_argument('destination', metavar='DST', help='new folder')
  parser.add_argument(
    '--to', default='ours', choices=('ours', 'hf'), help='target format (default: ours)'
  )
  parser.add_argument(
    '--family',
    metavar='MODEL_TYPE',
    help='--to hf: model family to export to (default: the first that fits)',
  )
  _json(parser)


def _lm_eval(parser):
  """run lm-eval, with a model of ours as --model flan_jax"""
  parser.usage = 'flan lm-eval --model_args pretrained=MODEL --tasks TASKS [ARGS ...]'
  parser.epilog = (
    'ARGS are those of lm-eval: `flan lm-eval run --help` lists them, `flan lm-eval ls '
    'tasks` the tasks. Without --model it is flan_jax. See docs/howto/lm_eval.md.'
  )


def _plan(parser):
  """compile the step of a run for a TPU slice: memory, time, energy"""
  _gin(parser)
  parser.add_argument(
    '--topology',
    metavar='SLICE',
    help='TPU slice by its sides (v3:8x8) or its size (v3-128)',
  )
  parser.add_argument(
    '--step',
    default='train',
    choices=('train', 'evaluate', 'decode'),
    help='step to compile (default: train)',
  )
  parser.add_argument(
    '--search',
    action='store_true',
    help='try settings with less memory and larger slices until the step fits',
  )
  parser.add_argument(
    '--print-sharding',
    action='store_true',
    help='print the sharding of the parameters only',
  )
  parser.add_argument(
    '--cache', metavar='DIR', help="folder for JAX's cache of compiled programs"
  )
  parser.add_argument(
    '--chip-watts', type=float, metavar='W', help='mean power of a chip'
  )
  parser.add_argument(
    '--pue', type=float, metavar='X', help='power usage effectiveness (default 1.10)'
  )
  parser.add_argument(
    '--grid', type=float, metavar='KG', help='kg CO2e per kWh (default 0.0576)'
  )
  _json(parser)


VERBS = {
  'train': _train,
  'eval': _eval,
  'ask': ask_flags.add,
  'infer': _infer,
  'tasks': _tasks,
  'show': _show,
  'lint': _lint,
  'fetch': _fetch,
  'materialize': _materialize,
  'rows': rows_flags.add,
  'study': study_flags.add,
  'report': _report,
  'convert': _convert,
  'export': export_flags.add,
  'lm-eval': _lm_eval,
  'launch': launch_flags.add,
  'plan': _plan,
}


def parser() -> argparse.ArgumentParser:
  """Returns the parser of every verb."""
  top = Parser(
    prog='flan',
    description='FLAN instruction tuning in JAX: tune on all clusters but one, '
    'then measure zero-shot on the one never seen.',
  )
  top.add_argument('--version', action='version', version=f'flan {__version__}')
  verbs = top.add_subparsers(dest='verb', metavar='VERB')
  for name, add in VERBS.items():
    verb = verbs.add_parser(name, help=add.__doc__, description=add.__doc__)
    add(verb)
    verb.add_argument(
      '--module',
      action='append',
      default=[],
      metavar='PKG.MODULE',
      help='your module, which registers tasks and more; repeatable',
    )
  return top


_MODULE = f'{modules.MACRO}='


def split_modules(gin: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits off the macro of modules: (other NAME=VALUE, names of modules)."""
  flags = [flag.removeprefix(_MODULE) for flag in gin if flag.startswith(_MODULE)]
  names = [
    name.strip(' \'"') for flag in flags for name in flag.strip('()[] ').split(',')
  ]
  rest = [flag for flag in gin if not flag.startswith(_MODULE)]
  return rest, list(filter(None, names))


def admitted(gin: Sequence[str], named: Sequence[str]) -> list[str]:
  """Imports the modules of --module and of its macro; returns the other gin flags."""
  rest, names = split_modules(gin)
  modules.admit(named)
  modules.admit(names, setting=f'--gin.{modules.MACRO}')
  return rest


def _split_command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits at `--`: (arguments before it, the command after it)."""
  arguments = list(arguments)
  if '--' not in arguments:
    return arguments, []
  at = arguments.index('--')
  return arguments[:at], arguments[at + 1 :]


def _split_passed(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits off the arguments of lm-eval, which a verb runs: all but our own."""
  arguments = list(arguments)
  if arguments[:1] != ['lm-eval'] or arguments[1:2] in (['-h'], ['--help']):
    return arguments, []
  own, passed = arguments[:1], []
  left = iter(arguments[1:])
  for argument in left:
    if argument == '--module':
      own += [argument, *itertools.islice(left, 1)]
    else:
      (own if argument.startswith('--module=') else passed).append(argument)
  return own, passed


def _check_text(arguments: Sequence[str]) -> None:
  """Refuses what is no text: it would fail wherever it is written or printed."""
  for argument in arguments:
    try:
      argument.encode('utf-8')
    except UnicodeEncodeError:
      raise InputError(f'argument {argument!r}: no text; must be UTF-8') from None
    if '\0' in argument:
      raise InputError(f'argument {argument!r}: has a NUL; must be a text')


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs one verb; returns the exit code: 0 done, 1 failed, 2 bad input.

  After SIGINT it is 130, after SIGTERM 143.
  """
  arguments = sys.argv[1:] if arguments is None else list(arguments)
  try:
    with signals.ending():
      return _run(arguments)
  except BaseException as error:
    return outcome.of(error)


def command() -> NoReturn:
  """Runs `flan` as a process."""
  signals.leave(main())


def _run(arguments: list[str]) -> int:
  platform.prepare()
  modules.forget_expected()
  if arguments[:1] == ['plan']:
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # plan compiles and runs nothing
  _check_text(arguments)
  arguments, passed = _split_passed(arguments)
  arguments, command = _split_command(arguments)
  arguments, gin = split_gin(arguments)
  if arguments and not arguments[0].startswith('-') and arguments[0] not in VERBS:
    raise InputError(
      f'verb {arguments[0]!r}: must be one of {", ".join(VERBS)}'
      + did_you_mean(arguments[0], VERBS)
    )
  options = parser().parse_args(arguments)
  if options.verb is None:
    parser().print_help()
    return 0
  if gin and not hasattr(options, 'gin_file'):
    raise InputError(f'--gin.{gin[0]}: `flan {options.verb}` takes no gin settings')
  if command and options.verb != 'launch':
    raise InputError(f'--: `flan {options.verb}` takes no command after it')
  options.gin, options.command = admitted(gin, options.module), command
  options.passed = passed
  if options.verb in ('train', 'eval', 'ask', 'infer'):
    malloc.keep()
    if getattr(options, 'multihost', None) is None:
      os.environ.update(compilation_cache.environment(os.environ))
  verb = importlib.import_module(f'flan_jax.cli.{options.verb.replace("-", "_")}')
  return verb.run(options)
