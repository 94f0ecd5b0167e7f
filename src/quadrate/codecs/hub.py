"""Codecs on the Hugging Face Hub: `BaseCodec.push_to_hub`, `from_pretrained`, hf:// addresses.

A repository holds the codec's own file, a card, and its summary as config.json. Nothing that comes
from there is executed: the file is checked as any other codec's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quadrate.codecs.model_card import Scores, card_text
from quadrate.codecs.zoo_index import CodecSummary
from quadrate.core.names import check_text
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs.base_codec import BaseCodec

FILE = "model.safetensors"  # the name by which the hub knows that it holds tensors alone
SCHEME = "hf://"
_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>.+\.safetensors))?"
)


class Address(NamedTuple):
    """A codec's file on the hub: "hf://user/name", "hf://user/name@revision/file.safetensors"."""

    repo: str
    revision: str | None
    file: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            QuadrateError: If it is none.
        """
        found = _ADDRESS.fullmatch(text)
        if not found or ".." in text.split("/"):
            raise QuadrateError(
                f"{text!a} is no codec on the hub: write hf://user/name, and after it"
                " /file.safetensors if the file is not model.safetensors; a revision follows the"
                " name as @revision"
            )
        return cls(found["repo"], found["revision"], found["file"] or FILE)


def fetch(address: Address, **options: Any) -> Path:
    """Download a codec's file, unless the cache of huggingface_hub has it.

    Args:
        address: Where it is.
        options: Of `huggingface_hub.hf_hub_download`: token, cache_dir, force_download,
            local_files_only.

    Raises:
        QuadrateError: If huggingface_hub is missing, or the file cannot be had.
    """
    download = _hub().hf_hub_download
    repo, revision, file = address
    with _describing(f"{file} of {repo} cannot be fetched"):
        return Path(download(repo_id=repo, filename=file, revision=revision, **options))


def find(name: Path | str, file: str, revision: str | None, **options: Any) -> Path:
    """A codec's file in a local folder, or else in a repository of the hub.

    Arguments and errors as of `BaseCodec.from_pretrained`.
    """
    if Path(name).is_dir():
        return Path(name) / file
    text = f"{name}" if revision is None else f"{name}@{revision}"
    return fetch(Address.parse(f"{SCHEME}{text}/{file}"), **options)


def save(codec: BaseCodec, folder: Path | str, license: str | None, scores: Scores | None) -> None:
    """Write what a repository holds to a folder; arguments as of `BaseCodec.save_pretrained`."""
    place = Path(folder)
    with _describing(f"cannot write {place}"):
        _published()(codec, license, scores).save_pretrained(place, config=_config(codec))


def push(
    codec: BaseCodec, repo: str, license: str | None, scores: Scores | None, **options: Any
) -> str:
    """Publish a codec; arguments as of `BaseCodec.push_to_hub`."""
    check_text("the name of a repository", repo)
    published = _published()(codec, license, scores)
    options = {"commit_message": "Publish a codec of Quadrate", **options}
    card = {"repo": repo}
    with _describing(f"cannot publish to {repo}"):
        return str(
            published.push_to_hub(repo, config=_config(codec), model_card_kwargs=card, **options)
        )


def _config(codec: BaseCodec) -> dict[str, Any]:
    """What tells which .quad files a codec reads, without the download of its weights."""
    return {"library": "quadrate", "kind": codec.kind, **asdict(CodecSummary.of(codec))}


def _hub() -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise QuadrateError(
            f"the hub needs huggingface_hub, which cannot be imported ({error}): pip install"
            " 'quadrate[hub]' -c constraints.txt"
        ) from None


@cache
def _published() -> Any:
    """The hub's mixin around a codec, made on first use so that codecs do without the hub."""
    hub = _hub()

    class Published(hub.ModelHubMixin):  # type: ignore[name-defined]
        def __init__(self, codec: BaseCodec, license: str | None, scores: Scores | None) -> None:
            self.codec, self.license, self.scores = codec, license, scores

        def _save_pretrained(self, save_directory: Path) -> None:
            self.codec.save(save_directory / FILE)

        def generate_model_card(self, repo: str | None = None) -> Any:
            card = card_text(self.codec, repo, self.license, self.scores)
            return hub.ModelCard(card, ignore_metadata_errors=False)

    return Published


@contextmanager
def _describing(what: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into one line."""
    try:
        yield
    except QuadrateError:
        raise
    except Exception as error:  # of the system, of HTTP and of the client's own
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines)[:300] or type(error).__name__
        raise QuadrateError(f"{what}: {reason}") from None
