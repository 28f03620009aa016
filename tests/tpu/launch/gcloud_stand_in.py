"""A stand-in for gcloud: records calls, answers and fails in gcloud's formats.

Hosts of a slice are local folders: `ssh` runs the command in a real shell with the
folder as HOME, `scp` copies. The whole state is in $STAND_IN/state.json:

  nodes    name -> {type, state, hosts}
  queue    name -> {state, type}, and the states that a request goes through
  faults   [{match, code, err, lines, then, skip}]: the first whose `match` is in a
           call fails it and is removed. `lines`: number of output lines before the
           failure; `then`: state of the node afterwards; `skip`: calls to let through
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(os.environ['STAND_IN'])
STATE = ROOT / 'state.json'
HOSTS = {'v3-8': 1, 'v4-16': 2}


def flag(words, name, default=None):
  for word in words:
    if word.startswith(f'--{name}='):
      return word.partition('=')[2]
  return default


def save(state):
  STATE.write_text(json.dumps(state))


def missing(kind, name):
  print(
    f'ERROR: (gcloud.compute.tpus.{kind}.describe) NOT_FOUND: Resource '
    f"'projects/p/locations/us-central1-a/nodes/{name}' was not found. This command is "
    'authenticated as someone@example.com.',
    file=sys.stderr,
  )
  return 1


def node(name, found):
  where = 'projects/p/locations/us-central1-a'
  return {
    'acceleratorConfig': {'topology': '2x2', 'type': 'V3'},
    'acceleratorType': found['type'],
    'apiVersion': 'V2_ALPHA1',
    'health': 'HEALTHY',
    'name': f'{where}/nodes/{name}',
    'networkEndpoints': [
      {'ipAddress': f'10.128.0.{i + 2}', 'port': 8470} for i in range(found['hosts'])
    ],
    'runtimeVersion': 'tpu-ubuntu2204-base',
    'state': found['state'],
  }


def create(state, name, type):
  state['nodes'][name] = {'type': type, 'state': 'READY', 'hosts': HOSTS[type]}
  for i in range(HOSTS[type]):
    power_off(ROOT / 'hosts' / str(i))
    shutil.copytree(ROOT / 'image', ROOT / 'hosts' / str(i))


def power_off(home):
  """Ends the processes of a host that is gone, and removes its files."""
  mark = f'HOME={home}\0'.encode()
  for environment in pathlib.Path('/proc').glob('[0-9]*/environ'):
    with contextlib.suppress(OSError):  # of another user, or ended meanwhile
      if mark in environment.read_bytes():
        os.kill(int(environment.parent.name), signal.SIGKILL)
  while home.exists():  # one that is being killed may still write
    shutil.rmtree(home, ignore_errors=True)


def homes(state, name, words):
  count = state['nodes'][name]['hosts']
  worker = flag(words, 'worker', '0')
  chosen = range(count) if worker == 'all' else [int(worker)]
  return [ROOT / 'hosts' / str(i) for i in chosen]


def shell(home, command, lines):
  """Runs a command on one host; the connection drops after `lines` lines, if given."""
  environment = {**os.environ, 'HOME': str(home)}
  process = subprocess.Popen(
    ['bash', '-c', command],
    env=environment,
    stdout=subprocess.PIPE,
    text=True,
    cwd=home,
  )
  if lines is not None:
    for _ in range(lines):
      print(process.stdout.readline(), end='', flush=True)
    process.kill()
    return 255
  for line in process.stdout:
    print(line, end='', flush=True)
  return process.wait()


def tpu_vm(state, verb, words):
  if verb == 'scp':
    names = [w for w in words if not w.startswith('--')]
    name, _, to = names[-1].partition(':')
    for home in homes(state, name, words):
      for file in names[:-1]:
        shutil.copy(file, home / to.removeprefix('~/'))
    return 0
  name = words[0]
  if verb == 'create':
    create(state, name, flag(words, 'accelerator-type'))
    return 0
  if name not in state['nodes']:
    return missing('tpu-vm', name)
  if verb == 'describe':
    print(json.dumps(node(name, state['nodes'][name])))
  elif verb == 'delete':
    del state['nodes'][name]
  elif verb == 'ssh':
    if state['nodes'][name]['state'] != 'READY':
      print('ERROR: (gcloud.compute.tpus.tpu-vm.ssh) INVALID', file=sys.stderr)
      return 1
    command = flag(words, 'command')
    codes = [shell(h, command, None) for h in homes(state, name, words)]
    return max(codes)
  return 0


def queued(state, verb, words):
  name = words[0]
  if verb == 'create':
    type = flag(words, 'accelerator-type')
    state['queue'][name] = {'states': state['queue_goes'], 'type': type}
  elif name not in state['queue']:
    return missing('queued-resources', name)
  elif verb == 'describe':
    request = state['queue'][name]
    now = request['states'][0]
    if len(request['states']) > 1:
      request['states'] = request['states'][1:]
    if now == 'ACTIVE' and name not in state['nodes']:
      create(state, name, request['type'])
    print(json.dumps({'name': f'.../queuedResources/{name}', 'state': {'state': now}}))
  elif verb == 'delete':
    del state['queue'][name]
    state['nodes'].pop(name, None)
  return 0


def main(words):
  with (ROOT / 'calls.jsonl').open('a') as file:
    file.write(json.dumps(words) + '\n')
  state = json.loads(STATE.read_text())
  text = ' '.join(words)
  for fault in state['faults']:
    if fault['match'] in text and fault.get('skip'):
      fault['skip'] -= 1
    elif fault['match'] in text:
      state['faults'].remove(fault)
      if 'then' in fault:
        for found in state['nodes'].values():
          found['state'] = fault['then']
      save(state)
      if 'lines' in fault:
        command = flag(words, 'command')
        shell(ROOT / 'hosts' / '0', command, fault['lines'])
      print(fault.get('err', ''), file=sys.stderr)
      return fault['code']
  group, verb = words[2], words[3]
  code = (tpu_vm if group == 'tpu-vm' else queued)(state, verb, words[4:])
  save(state)
  return code


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
