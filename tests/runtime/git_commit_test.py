"""The commit of the code that runs."""

import subprocess

from flan_jax.runtime import git_commit


def git(folder, *arguments) -> str:
  identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
  done = subprocess.run(
    ('git', *identity, '-C', folder, *arguments),
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return done.stdout.strip()


def test_the_commit_of_the_current_folder_comes_first(tmp_path, monkeypatch):
  package, project = tmp_path / 'package', tmp_path / 'project'
  for folder in (package, project):
    folder.mkdir()
    (folder / 'file').write_text(folder.name)
  monkeypatch.setattr(git_commit, 'PACKAGE', package)
  monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path))
  monkeypatch.chdir(project)
  assert git_commit.commit() == ''
  for folder in (package, project):
    git(folder, 'init', '--quiet')
    git(folder, 'add', '.')
    git(folder, 'commit', '--quiet', '--message', folder.name)
    assert git_commit.commit() == git(folder, 'rev-parse', 'HEAD')
  (project / 'other').touch()
  assert git_commit.commit() == git(project, 'rev-parse', 'HEAD')
  (project / 'file').write_text('changed')
  assert git_commit.commit() == git(project, 'rev-parse', 'HEAD') + '+changes'


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert git_commit.commit() == ''
