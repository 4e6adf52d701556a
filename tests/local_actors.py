"""A stand-in for Ray: actors are objects of this process, which tests lose and hold up as they like.

Calls run at once in the caller's thread. Nothing depends on time: `wait` returns at once with what is ready.
"""

from __future__ import annotations

import copy
import itertools
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import ray

from fasthash.distributed import _ray, asking, copies, fleet, keeping, relaying


class Reference:
    """A value, or an error; without either until `run` is called."""

    def __init__(self, run):
        self.run, self.done, self.value, self.error = run, False, None, None

    def __deepcopy__(self, memo):
        return self

    def finish(self):
        try:
            self.value = copy.deepcopy(self.run())
        except ray.exceptions.RayActorError as error:
            self.error = error
        except Exception as error:
            self.error = ray.exceptions.RayTaskError("local", "", error)
        self.done = True


class Actor:
    """Runs the methods of an object. `losses`: as many calls lose it. `hangs`: calls run when it goes on."""

    numbers = itertools.count(1)
    slow_starts = ()  # classes of actors that hang at first

    def __init__(self, kind, options, arguments, settings):
        self._make = lambda: kind(*arguments, **settings)
        self._restarts = options.get("max_restarts", 0) != 0
        self._object, self._number, self._waiting = self._make(), next(self.numbers), []
        self.losses, self.hangs, self.asked = 0, kind in self.slow_starts, []

    def __deepcopy__(self, memo):
        return self

    def __getattr__(self, method):
        if method.startswith("_"):
            raise AttributeError(method)
        return SimpleNamespace(remote=lambda *arguments: self._call(method, copy.deepcopy(arguments)))

    def _call(self, method, arguments):
        reference = Reference(lambda: self._run(method, arguments))
        if self.hangs:
            self._waiting.append(reference)
        else:
            reference.finish()
        return reference

    def _run(self, method, arguments):
        if self._object is None or (self.losses and method != "ping"):
            if self._object is not None:
                self.losses -= 1
                self._object = self._make() if self._restarts else None
            raise ray.exceptions.RayActorError
        self.asked.append(method)
        if method == "place":
            return f"node {self._number}", self._number
        return getattr(self._object, method)(*map(_value, arguments))

    def lose(self):
        self._object = None

    def go_on(self):
        self.hangs = False
        for reference in self._waiting:
            reference.finish()
        self._waiting = []


def _value(reference):
    return get(reference) if isinstance(reference, Reference) else reference


def get(references, timeout=None):
    if isinstance(references, list):
        return [get(reference) for reference in references]
    assert references.done, "would wait for ever"
    if references.error is not None:
        raise references.error
    return references.value


def wait(references, num_returns=1, timeout=None, fetch_local=True):
    ready = [reference for reference in references if reference.done]
    assert timeout is not None or len(ready) >= num_returns, "would wait for ever"
    ready = ready[:num_returns]
    return ready, [reference for reference in references if reference not in ready]


def put(value):
    reference = Reference(lambda: value)
    reference.finish()
    return reference


def remote(kind):
    def options(**options):
        return SimpleNamespace(remote=lambda *arguments, **settings: Actor(kind, options, arguments, settings))

    return SimpleNamespace(options=options)


@contextmanager
def local_actors(processors=1):
    """Ray's place is taken by the functions above, on a node with so many processors."""
    stand_in = SimpleNamespace(
        ObjectRef=Reference,
        exceptions=ray.exceptions,
        get=get,
        is_initialized=lambda: True,
        kill=Actor.lose,
        nodes=lambda: [{"NodeID": "0" * 56, "Resources": {"CPU": processors}, "Alive": True}],
        put=put,
        remote=remote,
        util=ray.util,
        wait=wait,
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (_ray, asking, copies, fleet, keeping, relaying):
            patch.setattr(module, "ray", stand_in)
        yield
