"""The user's own networks, terms, judges and sources, described so that a changed one shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from quadrate.core.identity import Indescribable, code_digest, is_built_in
from quadrate.networks.decoders import DECODERS
from quadrate.networks.family import FAMILIES, Family
from quadrate.objectives import Term
from quadrate.sources import Source
from quadrate.training.judges import Judge


class OwnCode:
    """What the user's own things in a run compute.

    Attributes:
        described: For config.json and the folder's digest: weights, and digests of code or versions
            that the user gave; empty if all is built in.
        unknown: What cannot be told from other code, a line each; then nothing that was made before
            may be used.
    """

    def __init__(
        self,
        family: Family,
        terms: Sequence[Term],
        source: Source,
        judge: Judge | None,
        decoders: Iterable[str] = (),
    ) -> None:
        self.described: dict[str, Any] = {}
        self.unknown: list[str] = []
        if not (family.name in FAMILIES.built_in and family is FAMILIES[family.name]):
            networks = (family.encoder, family.decoder, family.critic)
            self.described["family"] = {"name": family.name} | self._code(
                f"family {family.name!r}", networks, family.version, "Family"
            )
        for name in sorted(set(decoders) - DECODERS.built_in):
            kind = DECODERS.find(name)
            self.described[f"decoder {name}"] = self._code(
                f"decoder kind {name!r}", kind.build, kind.version, "DecoderKind"
            )
        if terms:
            self.described["terms"] = [
                {"name": term.name, "weight": term.weight, "ramp": term.ramp}
                | self._code(f"term {term.name!r}", term.loss, term.version, "Term")
                for term in terms
            ]
        if own_source := _own_parts(source):
            self.described["source"] = self._code(
                f"source {source.name!r}",
                own_source,
                getattr(source, "version", ""),
                "the source's class",
            )
        if judge and not judge.is_built_in:
            version = judge.provenance.get("version", "")
            self.described["judge"] = self._code(
                f"judge {judge.name!r}", judge.module, version, "the judge's provenance"
            )

    def _code(self, what: str, value: object, version: str, where: str) -> dict[str, str]:
        if version:
            return {"version": version}
        try:
            return {"code": code_digest(value)}
        except Indescribable as reason:
            self.unknown.append(
                f"what {what} computes cannot be told ({reason}); a version (of {where}) would"
                " stand for it"
            )
            return {"code": "unknown"}


def _own_parts(source: Source) -> tuple[Any, ...]:
    """A source's own class, and what it holds besides images; nothing for Quadrate's sources."""
    usual = {field.name for field in dataclasses.fields(Source)}
    more = {name: value for name, value in vars(source).items() if name not in usual}
    return () if is_built_in(type(source)) and not more else (type(source), more)
