"""What code and weights compute, as a text.

Equal texts for equal behaviour in every process, so that a run's folder can be named after it.

A description holds what pickling would send, and for a user's functions and classes their code:
instructions, constants, defaults, closure, and the globals that they name, likewise described.
Libraries are named and not described. What cannot be described so that another process would come
to the same text raises `Indescribable`, and then a `version` that the user gives must stand for it.
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
_AT_RUN_TIME = {
    "eval",
    "exec",
    "compile",
    "globals",
    "locals",
    "vars",
    "__import__",
}  # what these reach cannot be read off the code
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_CACHED = type(functools.cache(len))
_OF_C = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
)
_PLAIN = (
    type(None),
    type(...),
    type(NotImplemented),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    slice,
    np.dtype,
    torch.dtype,
    torch.Size,
)
_NOT_IN_CLASSES = {
    *(
        "__module__",
        "__qualname__",
        "__doc__",
        "__dict__",
        "__weakref__",
        "__annotations__",
        "__annotate_func__",
        "__annotations_cache__",
    ),
    *(
        "__firstlineno__",
        "__static_attributes__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__match_args__",
        "__parameters__",
    ),
    *("__orig_bases__", "__abstractmethods__", "_abc_impl", "__slots__", "__hash__"),
}


class Indescribable(Exception):
    """No text says what an object computes; the message says which, and why."""


def code_digest(value: object) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over the description of an object.

    Args:
        value: A function, lambda, partial, method, class or object (a module with its weights), of
            the user's own or of a library.

    Raises:
        Indescribable: If its code or state cannot be had, or would read otherwise in another
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
    """The first 12 hexadecimal digits of a SHA-256 over a module's parameters and buffers, in the order of their names."""
    return digest(
        *(name + _bytes(tensor).hex() for name, tensor in sorted(module.state_dict().items()))
    )


def module_identity(module: nn.Module, version: str, built_in: bool) -> str:
    """What a network computes, in short: a digest of its weights.

    Of one that is not built in also its version, or a digest of its code.
    """
    weights = weights_digest(module)
    if built_in:
        return weights
    try:
        return f"{weights}-{version or code_digest(module)}"
    except Indescribable:
        return (  # equal to no other, so that no score is taken over
            f"{weights}-{secrets.token_hex(4)}"
        )


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
        self._seen: dict[
            int, tuple[int, object]
        ] = {}  # objects are kept, or another could take their place in memory
        self.parts = self._any(value)

    def _any(self, value: Any) -> Iterator[bytes]:
        kind = type(value)
        if kind in _PLAIN or isinstance(value, torch.device | PurePath):
            yield from _text(kind.__qualname__, repr(value))
        elif (
            kind is tuple
            # compilers share equal tuples or do not, so that it must not matter which one stands
            # here
        ):
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
        """Containers, methods and all other objects: by what they are made of."""
        if type(value) is list:
            yield from self._all("list", *value)
        elif type(value) in (dict, types.MappingProxyType):
            yield from self._all("dict", *(part for pair in value.items() for part in pair))
        elif type(value) in (set, frozenset):  # their order is another in each process
            yield from self._all(
                "set", *sorted(b"".join(_Description(item, self._home).parts) for item in value)
            )
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
        """An object as pickle would send it.

        Of a user's class all attributes too, as its code may leave some out.
        """
        kind = type(value)
        try:
            reducer = copyreg.dispatch_table.get(kind)
            reduced = reducer(value) if reducer else value.__reduce_ex__(4)
        except Exception as error:  # whatever a stranger's method raises
            reason = " ".join(str(error).split())[:120]
            raise Indescribable(
                f"an object of type {kind.__module__}.{kind.__qualname__} cannot be pickled"
                f" ({reason})"
            ) from None
        yield from self._all(
            "object", kind, {} if self._is_named(kind) else getattr(value, "__dict__", {})
        )
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
        if self._is_named(function):
            yield from _text(
                "function", function.__module__, function.__qualname__, _library(function)
            )
            return
        yield from _text(
            "function", function.__qualname__
        )  # not its module: a script is __main__ when it runs, and has a name when it is imported
        if original := getattr(
            function, "_torchdynamo_orig_callable", None
        ):  # what torch.compile makes
            yield from self._all("compiled", original)
            return
        yield from self._all(
            "code", function.__code__, function.__defaults__, function.__kwdefaults__
        )
        yield from self._all(
            "attributes",
            {name: value for name, value in vars(function).items() if name != "__wrapped__"},
        )
        codes = list(_codes(function.__code__))
        # Of a user's module what the code names, be it in a text for getattr.
        names = sorted(
            {
                name
                for code in codes
                for name in (*code.co_names, *code.co_consts)
                if isinstance(name, str)
            }
        )
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                held = cell.cell_contents
            except ValueError:  # named before it was given
                continue
            yield from self._reached(name, held, names)
        yield from self._globals(function, codes, names)

    def _code(self, code: types.CodeType) -> Iterator[bytes]:
        # Neither lines nor the name of the file: the same code elsewhere is the same code.
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        yield from self._all(
            "instructions", code.co_code, code.co_consts, *names, *counts, code.co_exceptiontable
        )

    def _globals(
        self, function: types.FunctionType, codes: Sequence[types.CodeType], names: Sequence[str]
    ) -> Iterator[bytes]:
        """What a function's code finds in its module, and in modules that it imports."""
        known = function.__globals__
        for code in codes:
            instructions = [
                instruction
                for instruction in dis.get_instructions(code)
                if instruction.opname != "EXTENDED_ARG"
            ]
            for i, instruction in enumerate(instructions):
                name = instruction.argval
                if instruction.opname == "IMPORT_NAME":
                    level, wanted = (before.argval for before in instructions[i - 2 : i])
                    yield from self._reached(name, _imported(name, known, wanted, level), names)
                elif instruction.opname in _LOADS and name in known:
                    yield from self._reached(name, known[name], names)
                elif (
                    instruction.opname in _LOADS
                    and name in _AT_RUN_TIME
                    and hasattr(builtins, name)
                ):
                    raise Indescribable(
                        f"{function.__qualname__} calls {name}(), so that its code does not say"
                        " what it does"
                    )

    def _reached(
        self, name: str, value: object, names: Sequence[str], within: tuple[object, ...] = ()
    ) -> Iterator[bytes]:
        """A global or a variable of a closure by its name.

        Of a user's module what the code may name. `within` are the modules that led here.
        """
        if value is importlib or value is importlib.import_module:
            raise Indescribable("it imports modules by names that are made at run time")
        if not isinstance(value, types.ModuleType) or self._is_named(value):
            yield from self._all("outside", name, value)
        elif value not in within:
            yield from _text("user's module", name)
            for attribute in names:
                if attribute in vars(value):
                    yield from self._reached(
                        attribute, vars(value)[attribute], names, (*within, value)
                    )

    def _is_named(self, value: object) -> bool:
        """Whether a name says enough.

        A library's, unless what is described is a part of that library.
        """
        top = _top(value)
        return _is_ground(top) or (top != self._home and _is_library(top))


def _text(*parts: object) -> Iterator[bytes]:
    """Texts with their lengths before them, so that none can stand for two."""
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
    except Exception as error:  # whatever a module raises while it is imported
        raise Indescribable(
            f"it imports {name!r}, which fails ({' '.join(str(error).split())[:120]})"
        ) from None


def _innermost(value: Any) -> Any:
    """The function in partials and methods; of other objects the class."""
    while isinstance(value, functools.partial | types.MethodType):
        value = value.func if isinstance(value, functools.partial) else value.__func__
    return (
        value
        if isinstance(value, types.FunctionType | type | types.BuiltinFunctionType)
        else type(value)
    )


def _top(value: object) -> str:
    """The outermost package of an object's module."""
    name = (
        value.__name__
        if isinstance(value, types.ModuleType)
        else getattr(value, "__module__", None)
    )
    return (name if isinstance(name, str) else "builtins").partition(".")[0]


@functools.cache
def _is_ground(top: str) -> bool:
    """Whether a package is one that Quadrate computes with, or Python's own and not a user's file of the same name."""
    file = _file(top)
    return top in _GROUND or (
        top in sys.stdlib_module_names
        and (not file or (file.startswith(_STANDARD) and not _is_library(top)))
    )


@functools.cache
def _is_library(top: str) -> bool:
    return any(place in Path(_file(top)).parts for place in _LIBRARIES)


def _file(top: str) -> str:
    return getattr(sys.modules.get(top), "__file__", None) or ""


def _library(value: object) -> str:
    """A library with its version.

    Nothing for what Quadrate itself computes with, and for a user's modules.
    """
    top = _top(value)
    return (
        ""
        if _is_ground(top) or not _is_library(top)
        else f"{top} {getattr(sys.modules.get(top), '__version__', '')}"
    )


def _is_slot(value: object) -> bool:
    return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)


def _bound_to(value: Any) -> object:
    """What a function of C belongs to, unless that is a module."""
    owner = getattr(value, "__self__", None)
    return None if isinstance(owner, types.ModuleType) else owner
