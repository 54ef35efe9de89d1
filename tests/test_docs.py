"""What the README and the pages show runs."""

import os
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


def snippets(page):
    return re.findall(r'^```python\n(.*?)^```', page.read_text('utf-8'), re.M | re.S)


@pytest.mark.parametrize(
    'page', [page for page in PAGES if snippets(page)], ids=lambda page: page.stem
)
def test_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    codes = snippets(page)
    if any("Dataset('data'" in code for code in codes):
        raw = os.environ.get('PYG_DIFFREC_DATA')
        if raw is None:
            pytest.skip("'PYG_DIFFREC_DATA' is not set")
        codes = [code.replace('/datasets/', f'{raw}/') for code in codes]
        for folder in Path(raw).iterdir():  # As if they had been downloaded.
            if folder.is_dir():
                (tmp_path / 'data' / folder.name).mkdir(parents=True)
                (tmp_path / 'data' / folder.name / 'raw').symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {'__name__': '__main__'}
    for code in codes:
        exec(compile(code, str(page), 'exec'), names)


def test_links_of_pages_lead_somewhere():
    for page in PAGES:
        text = page.read_text('utf-8')
        for target in re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', text):
            if not target.startswith('http'):
                assert (page.parent / target).exists(), f'{page.name}: {target}'


def test_the_page_of_the_package_stands_alone():
    text = (ROOT / 'docs' / 'package.md').read_text('utf-8')
    assert all(x.startswith('http') for x in re.findall(r'\]\(([^)]+)\)', text))
    assert "readme = 'docs/package.md'" in (ROOT / 'pyproject.toml').read_text('utf-8')


def test_the_source_distribution_holds_the_plots_that_pages_show():
    manifest = (ROOT / 'MANIFEST.in').read_text('utf-8')
    for page in PAGES:
        for plot in re.findall(r'\]\(\.\./(.*?\.png)\)', page.read_text('utf-8')):
            assert f'include {plot}\n' in manifest
