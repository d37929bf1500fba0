"""Hook of MkDocs: the site has the pages of the repository, each at its path, so links stay valid.

README.md is the first page. Other files that pages link to are copied.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "docs/*.md")

API = """
# Python
## The model
::: sentiment.load
::: sentiment.Predictor
::: sentiment.Scorer
::: sentiment.InputError

## Jobs
::: pipelines.train.run
::: pipelines.training.config.TrainConfig
::: pipelines.evaluate.run
::: pipelines.evaluation.config.EvaluateConfig
::: pipelines.score.run
::: pipelines.scoring.config.ScoreConfig
::: pipelines.scoring.totals.Scored
"""
"""The page docs/api.md, made from docstrings."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by those of the repository that belong to the site."""
    docs = [file for file in files if (file.abs_src_path or "").startswith(config.docs_dir)]
    for file in docs:
        files.remove(file)
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    paths = pages | {target for page in pages for target in targets(page)}
    for path in sorted(paths):
        name = str(path.relative_to(ROOT))
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, "docs/api.md", content=API))
    return files


def targets(page: Path) -> set[Path]:
    """The files that a page links to, save pages."""
    links = re.findall(r"\]\(([^)#:]+)", page.read_text())
    paths = {(page.parent / link).resolve() for link in links}
    return {path for path in paths if path.is_file() and path.suffix != ".md"}
