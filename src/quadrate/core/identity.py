"""What code and weights compute, as a text that is equal for equal behaviour in every process.

A run's folder is named after it. A description holds what pickling would send, and for a user's
functions and classes their code: instructions, constants, defaults, closure, and the globals that
they name, described in the same way. Libraries are named and not described. `Indescribable` is
raised for what another process might describe differently; then the user must give a `version`.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import enum
import functools
import hashlib
import importlib
import secrets
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quadrate.core.digests import digest

# What Quadrate itself computes with. Other libraries are named with their version.
_GROUND = {"quadrate", "torch", "numpy", "scipy", "sklearn", "builtins"}
_STANDARD = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
_LIBRARIES = ("site-packages", "dist-packages")
_AT_RUN_TIME = set("eval exec compile globals locals vars __import__".split())  # hide what they use
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_CACHED = type(functools.cache(len))
_OF_C = (
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType),
    *(types.MethodWrapperType, types.ClassMethodDescriptorType),
)
_PLAIN = (
    *(type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes),
    *(range, slice, np.dtype, torch.dtype, torch.Size),
)
_NOT_IN_CLASSES = set(
    "__module__ __qualname__ __doc__ __dict__ __weakref__ __slots__ __hash__ __abstractmethods__"
    " __annotations__ __annotate_func__ __annotations_cache__ __firstlineno__ __parameters__"
    " __static_attributes__ __dataclass_fields__ __dataclass_params__ __match_args__"
    " __orig_bases__ _abc_impl".split()
)


class Indescribable(Exception):
    """No text says what an object computes; the message names the object and the reason."""


def code_digest(value: object) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over the description of an object.

    Args:
        value: A function, lambda, partial, method, class or object (such as a module with its
            weights), of the user or of a library.

    Raises:
        Indescribable: If its code or state cannot be read, or would read differently in another
            process.
    """
    sha = hashlib.sha256()
    try:
        for part in _Description(value, _top(_innermost(value))).parts:
            sha.update(part)
    except RecursionError:
        raise Indescribable("it is nested too deeply") from None
    return sha.hexdigest()[:16]


def weights_digest(module: nn.Module) -> str:
    """The first 12 hexadecimal digits of a SHA-256 over a module's parameters and buffers.

    They are taken in the order of their names.
    """
    tensors = sorted(module.state_dict().items())
    return digest(*(name + _bytes(tensor).hex() for name, tensor in tensors))


def module_identity(module: nn.Module, version: str, built_in: bool) -> str:
    """What a network computes, in short: a digest of its weights.

    For a network that is not built in, its version or a digest of its code follows.
    """
    weights = weights_digest(module)
    if built_in:
        return weights
    try:
        return f"{weights}-{version or code_digest(module)}"
    except Indescribable:
        return f"{weights}-{secrets.token_hex(4)}"  # unique, so that no score is taken over


def is_built_in_module(module: nn.Module) -> bool:
    """Whether a network is built of Quadrate's own classes and of PyTorch's alone."""
    return all(is_built_in(type(part)) for part in module.modules())


def is_built_in(value: object) -> bool:
    """Whether a class or function is Quadrate's own or of a library that Quadrate computes with."""
    return _is_ground(_top(value))


class _Description:
    """Walks through an object; `parts` are the bytes of its description.

    Args:
        value: The object.
        home: The outermost package of the user's code, which is described even where it is
            installed as a library.
    """

    def __init__(self, value: object, home: str) -> None:
        self._home = home
        # The objects themselves are kept, too, or another could take their place in memory.
        self._seen: dict[int, tuple[int, object]] = {}
        self.parts = self._any(value)

    def _any(self, value: Any) -> Iterator[bytes]:
        kind = type(value)
        if kind in _PLAIN or isinstance(value, torch.device | PurePath):
            yield from _text(kind.__qualname__, repr(value))
        elif kind is tuple:  # never "again": compilers may or may not share equal tuples
            yield from self._all("tuple", *value)
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        elif id(value) in self._seen:
            yield from _text("again", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = (len(self._seen), value)
            yield from self._new(value)

    def _new(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, types.ModuleType):
            if not self._is_named(value):
                raise Indescribable(f"the module {value.__name__} is handed on as a value")
            yield from _text("module", value.__name__, _library(value))
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, enum.Enum):
            yield from self._all("enum", type(value), value.name)
        elif isinstance(value, Tensor | np.ndarray | np.generic):
            yield from self._array(value)
        elif isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            raise Indescribable("code that TorchScript has compiled")
        else:
            yield from self._object(value)

    def _all(self, what: str, *values: object) -> Iterator[bytes]:
        yield from _text(what, len(values))
        for value in values:
            yield from self._any(value)

    def _array(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, Tensor) and type(value) not in (Tensor, nn.Parameter, nn.Buffer):
            raise Indescribable(f"a tensor of type {type(value).__name__}")
        array = value if isinstance(value, Tensor) else np.asarray(value)
        if str(array.dtype) == "object":
            yield from self._all("objects", array.tolist())
        else:
            yield from _text("array", array.dtype, tuple(array.shape))
            yield _bytes(array) if isinstance(array, Tensor) else array.tobytes()

    def _object(self, value: Any) -> Iterator[bytes]:
        """Describes containers, methods and all other objects by their parts."""
        if type(value) is list:
            yield from self._all("list", *value)
        elif type(value) in (dict, types.MappingProxyType):
            yield from self._all("dict", *(part for pair in value.items() for part in pair))
        elif type(value) in (set, frozenset):  # their order differs between processes
            parts = (b"".join(_Description(item, self._home).parts) for item in value)
            yield from self._all("set", *sorted(parts))
        elif isinstance(value, types.MethodType):
            yield from self._all("method", value.__func__, value.__self__)
        elif isinstance(value, classmethod | staticmethod):
            yield from self._all(type(value).__name__, value.__func__)
        elif isinstance(value, property):
            yield from self._all("property", value.fget, value.fset, value.fdel)
        elif isinstance(value, functools.cached_property):
            yield from self._all("cached property", value.func)
        elif isinstance(value, _CACHED):
            yield from self._all("cached", value.__wrapped__)
        elif isinstance(value, _OF_C):
            yield from self._all("built in", value.__qualname__, _library(value), _bound_to(value))
        else:
            yield from self._pickled(value)

    def _pickled(self, value: Any) -> Iterator[bytes]:
        """Describes an object as pickle would send it.

        All attributes of a user's class are described, too, since pickling may leave some out.
        """
        kind = type(value)
        try:
            reducer = copyreg.dispatch_table.get(kind)
            reduced = reducer(value) if reducer else value.__reduce_ex__(4)
        except Exception as error:  # a user's method may raise anything
            reason = " ".join(str(error).split())[:120]
            raise Indescribable(
                f"an object of type {kind.__module__}.{kind.__qualname__} cannot be pickled"
                f" ({reason})"
            ) from None
        attributes = {} if self._is_named(kind) else getattr(value, "__dict__", {})
        yield from self._all("object", kind, attributes)
        if isinstance(reduced, str):
            yield from self._all("global", reduced, _library(value))
            return
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        yield from self._all(
            "made by", make, tuple(arguments), state, list(items or ()), dict(pairs or ())
        )

    def _class(self, cls: type) -> Iterator[bytes]:
        if self._is_named(cls):
            yield from _text("class", cls.__module__, cls.__qualname__, _library(cls))
            return
        yield from _text("class", cls.__qualname__)
        own = {
            name: value
            for name, value in vars(cls).items()
            if name not in _NOT_IN_CLASSES and not _is_slot(value)
        }
        yield from self._all("made of", *cls.__bases__, type(cls), own)

    def _function(self, function: types.FunctionType) -> Iterator[bytes]:
        name, code = function.__qualname__, function.__code__
        if self._is_named(function):
            yield from _text("function", function.__module__, name, _library(function))
            return
        # Without its module: a script is __main__ when it runs, and has a name when it is imported.
        yield from _text("function", name)
        if original := getattr(function, "_torchdynamo_orig_callable", None):  # by torch.compile
            yield from self._all("compiled", original)
            return
        yield from self._all("code", code, function.__defaults__, function.__kwdefaults__)
        attributes = {key: value for key, value in vars(function).items() if key != "__wrapped__"}
        yield from self._all("attributes", attributes)
        codes = list(_codes(code))
        # Everything that the code names in a user's module, be it in a text for getattr.
        named = (part for inner in codes for part in (*inner.co_names, *inner.co_consts))
        names = sorted({part for part in named if isinstance(part, str)})
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                held = cell.cell_contents
            except ValueError:  # the variable has no value yet
                continue
            yield from self._reached(variable, held, names)
        yield from self._globals(function, codes, names)

    def _code(self, code: types.CodeType) -> Iterator[bytes]:
        # Without line numbers and the file's name: the same code elsewhere is the same code.
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        yield from self._all(
            "instructions", code.co_code, code.co_consts, *names, *counts, code.co_exceptiontable
        )

    def _globals(
        self, function: types.FunctionType, codes: Sequence[types.CodeType], names: Sequence[str]
    ) -> Iterator[bytes]:
        """Describes what a function's code finds in its module, and in modules that it imports."""
        known = function.__globals__
        for code in codes:
            steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
            for i, step in enumerate(steps):
                name = step.argval
                if step.opname == "IMPORT_NAME":
                    level, wanted = (before.argval for before in steps[i - 2 : i])
                    yield from self._reached(name, _imported(name, known, wanted, level), names)
                elif step.opname in _LOADS and name in known:
                    yield from self._reached(name, known[name], names)
                elif step.opname in _LOADS and name in _AT_RUN_TIME and hasattr(builtins, name):
                    raise Indescribable(
                        f"{function.__qualname__} calls {name}(), so that its code does not say"
                        " what it does"
                    )

    def _reached(
        self, name: str, value: object, names: Sequence[str], within: tuple[object, ...] = ()
    ) -> Iterator[bytes]:
        """Describes a global or a variable of a closure by its name.

        In a user's module only what the code names counts. `within` are the modules that led here.
        """
        if value is importlib or value is importlib.import_module:
            raise Indescribable("it imports modules by names that are made at run time")
        if not isinstance(value, types.ModuleType) or self._is_named(value):
            yield from self._all("outside", name, value)
        elif value not in within:
            yield from _text("user's module", name)
            for inner in names:
                if inner in vars(value):
                    yield from self._reached(inner, vars(value)[inner], names, (*within, value))

    def _is_named(self, value: object) -> bool:
        """Whether a name says enough: a library's does, unless its own parts are described."""
        top = _top(value)
        return _is_ground(top) or (top != self._home and _is_library(top))


def _text(*parts: object) -> Iterator[bytes]:
    """Texts with their lengths before them, so that one text cannot pass for two."""
    for part in parts:
        data = str(part).encode(errors="surrogatepass")
        yield len(data).to_bytes(8, "little") + data


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _codes(code: types.CodeType) -> Iterable[types.CodeType]:
    """A function's code, and that of functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _imported(name: str, known: dict[str, Any], wanted: Any, level: int) -> object:
    try:
        return __import__(name, known, None, wanted or (), level)
    except Exception as error:  # a module may raise anything while it is imported
        raise Indescribable(
            f"it imports {name!r}, which fails ({' '.join(str(error).split())[:120]})"
        ) from None


def _innermost(value: Any) -> Any:
    """The function inside partials and methods; the class of other objects."""
    while isinstance(value, functools.partial | types.MethodType):
        value = value.func if isinstance(value, functools.partial) else value.__func__
    named = isinstance(value, types.FunctionType | type | types.BuiltinFunctionType)
    return value if named else type(value)


def _top(value: object) -> str:
    """The outermost package of an object's module."""
    is_module = isinstance(value, types.ModuleType)
    name = getattr(value, "__name__" if is_module else "__module__", None)
    return (name if isinstance(name, str) else "builtins").partition(".")[0]


@functools.cache
def _is_ground(top: str) -> bool:
    """Whether Quadrate computes with a package, or Python brings it.

    A user's file may have the name of one of Python's modules.
    """
    file = _file(top)
    is_pythons = not file or (file.startswith(_STANDARD) and not _is_library(top))
    return top in _GROUND or (top in sys.stdlib_module_names and is_pythons)


@functools.cache
def _is_library(top: str) -> bool:
    return any(place in Path(_file(top)).parts for place in _LIBRARIES)


def _file(top: str) -> str:
    return getattr(sys.modules.get(top), "__file__", None) or ""


def _library(value: object) -> str:
    """A library with its version; empty for what Quadrate computes with and for user modules."""
    top = _top(value)
    if _is_ground(top) or not _is_library(top):
        return ""
    return f"{top} {getattr(sys.modules.get(top), '__version__', '')}"


def _is_slot(value: object) -> bool:
    return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)


def _bound_to(value: Any) -> object:
    """The object that a function written in C belongs to, unless it is a module."""
    owner = getattr(value, "__self__", None)
    return None if isinstance(owner, types.ModuleType) else owner
