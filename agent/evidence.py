"""The evidence of one verdict as a folder: what was judged, what came of it, on which terms; a hash of each file.

Knows nothing of judging. Whoever has the folder can check that it is whole and judge the candidate again
(`kernelloop rejudge`). The hashes find damage; they are no signature.

Seeds stand here, so a bundle is written only when they are spent: after the search of its problem has ended, by a judge
that draws new ones for everything it judges later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.run_folder import RunFolderError
from sandbox import strict_json
from sandbox.plan import decode
from sandbox.types import Candidate, Operator, Problem, Tolerance, Verdict

FORMAT = 1
MANIFEST = "manifest.json"
_MAX_NAME_CHARACTERS = 80
_FILE_NAME = re.compile(r"(cubins/)?[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_BYTES = 1 << 30  # of all files together


class BundleDamaged(ValueError):
    """The folder is no bundle, or not as it was written: the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """`verdict` is the one that stands; `searching` the one that a search reached before it was confirmed, if any.
    `environment` is the record of the machine that wrote it; what judged says so in the verdict's conditions.
    `settings` are the judge's, as plain data: another version may know other ones."""

    problem: Problem
    candidate: Candidate
    verdict: Verdict
    searching: Verdict | None
    plan: bytes | None
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Writes the whole folder beside `folder`, then puts it there. Raises RunFolderError."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise RunFolderError(f"{folder}: is there and is no bundle, so it is not replaced")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        hashes: dict[str, str] = {}
        for name, content in _contents(bundle):
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(path, content)
            hashes[name] = hashlib.sha256(content).hexdigest()
        _write_durably(temporary / MANIFEST, _json({"format": FORMAT, "sha256": hashes}))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written: {error}") from error


def read_bundle(folder: Path) -> Bundle:
    """Checks every file against the manifest and reads them back. Raises BundleDamaged."""
    files = _checked_files(folder)
    subject, verdicts = _object(folder, files, "subject.json"), _object(folder, files, "verdict.json")
    try:
        problem = _problem(subject["problem"], source=files["problem.py"].decode())
        candidate = _candidate(subject["candidate"], source=files["candidate.py"].decode())
        verdict = Verdict.from_json(verdicts["verdict"])
        searching = None if verdicts["searching"] is None else Verdict.from_json(verdicts["searching"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"is not what a bundle holds: {type(error).__name__}: {error}"
        raise BundleDamaged(f"{folder}: {' '.join(reason.split())}") from error
    if verdict.candidate_id != candidate.id:
        raise BundleDamaged(f"{folder / 'verdict.json'}: is about another candidate than candidate.py")
    return Bundle(
        problem=problem,
        candidate=candidate,
        verdict=verdict,
        searching=searching,
        plan=files.get("plan.json"),
        settings=_object(folder, files, "settings.json"),
        environment=_object(folder, files, "environment.json"),
    )


def _contents(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """Every file but the manifest: its name in the folder and its bytes."""
    verdict, searching = bundle.verdict, bundle.searching
    yield "candidate.py", bundle.candidate.source.encode()
    yield "problem.py", bundle.problem.source.encode()
    yield "subject.json", _json({"problem": _less(bundle.problem), "candidate": _less(bundle.candidate)})
    told = {"verdict": verdict.to_json(), "searching": None if searching is None else searching.to_json()}
    yield "verdict.json", _json(told)
    both = {"verdict": verdict, "searching": searching}
    yield "seeds.json", _json({name: _seeds(each) for name, each in both.items()})
    yield "samples_us.json", _json({name: _samples(each) for name, each in both.items()})
    yield "settings.json", _json(bundle.settings)
    yield "environment.json", _json(bundle.environment)
    if bundle.plan is not None:
        yield "plan.json", bundle.plan
        yield from _cubins(bundle.plan)


def _cubins(plan: bytes) -> Iterator[tuple[str, bytes]]:
    """The machine code, one file a kernel. A name that is no file name, or comes twice, is changed."""
    for number, kernel in enumerate(decode(plan).kernels):
        name = re.sub(r"[^A-Za-z0-9_-]", "_", kernel.name)[:_MAX_NAME_CHARACTERS]
        yield f"cubins/{number:03d}_{name}.cubin", kernel.cubin


def _less(record: Problem | Candidate) -> dict[str, Any]:
    """All of it but the source, which has a file of its own."""
    return {name: value for name, value in asdict(record).items() if name != "source"}


def _seeds(verdict: Verdict | None) -> list[int] | None:
    return None if verdict is None or verdict.correctness is None else list(verdict.correctness.seeds)


def _samples(verdict: Verdict | None) -> dict[str, list[float]] | None:
    if verdict is None or verdict.performance is None:
        return None
    return {name: list(times) for name, times in verdict.performance.samples_us.items()}


def _problem(raw: Mapping[str, Any], *, source: str) -> Problem:
    return Problem(**{**raw, "tolerance": Tolerance(**raw["tolerance"])}, source=source)


def _candidate(raw: Mapping[str, Any], *, source: str) -> Candidate:
    told = {**raw, "operator": Operator(raw["operator"]), "parent_ids": tuple(raw["parent_ids"])}
    return Candidate(**told, source=source)


def _checked_files(folder: Path) -> dict[str, bytes]:
    """Every file that the manifest names, by name. What it does not name is not read."""
    path = folder / MANIFEST
    manifest = _object(folder, {MANIFEST: _bytes(path, most=_MAX_MANIFEST_BYTES)}, MANIFEST)
    hashes = manifest.get("sha256")
    if manifest.get("format") != FORMAT or not isinstance(hashes, dict):
        raise BundleDamaged(f"{path}: is no manifest of format {FORMAT}")
    files: dict[str, bytes] = {}
    left = _MAX_BYTES
    for name, digest in hashes.items():
        if not _FILE_NAME.fullmatch(name):
            raise BundleDamaged(f"{path}: names {name!r:.200}, which is no file of a bundle")
        files[name] = _bytes(folder / name, most=left)
        left -= len(files[name])
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise BundleDamaged(f"{folder / name}: is not the file that the manifest names: its SHA-256 differs")
    needed = ("candidate.py", "problem.py", "subject.json", "verdict.json", "settings.json", "environment.json")
    if missing := [name for name in needed if name not in files]:
        raise BundleDamaged(f"{path}: does not name {missing[0]}")
    return files


def _bytes(path: Path, *, most: int) -> bytes:
    """What a file of the folder holds. Whoever made the folder may have put a link or a pipe there: neither is
    followed."""
    try:
        with open(path, "rb", opener=_unfollowed) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleDamaged(f"{path}: is no plain file")
            content = file.read(most + 1)
        if len(content) > most:
            raise BundleDamaged(f"{path}: is larger than the {most} bytes that are left for it")
        return content
    except OSError as error:
        raise BundleDamaged(f"{path}: cannot be read: {error.strerror}") from error


def _unfollowed(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _object(folder: Path, files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        found = json.loads(files[name])
    except (ValueError, RecursionError) as error:
        raise BundleDamaged(f"{folder / name}: is not JSON") from error
    if not isinstance(found, dict):
        raise BundleDamaged(f"{folder / name}: is no object")
    return found


def _json(content: Mapping[str, Any]) -> bytes:
    return (strict_json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
