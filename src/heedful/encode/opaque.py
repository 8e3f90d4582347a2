"""Does a template look at what messages say, or only at their roles and number? Decided from its syntax tree.

A template that prints a message's text and does nothing else with it renders every conversation of the same roles to
the same text but for the texts put in. Everything that is not known to be harmless counts as looking.
"""

from __future__ import annotations

from enum import IntEnum

from jinja2 import Environment, TemplateError, nodes


class Holds(IntEnum):
    """What an expression may hold of the conversation."""

    NOTHING = 0  # roles and numbers are the same for all conversations of one shape
    TEXT = 1  # a message's text, or a text made of it
    MESSAGES = 2  # a message, or a list of them


class _Looks(Exception):
    pass


TYPE_TESTS = {"defined", "undefined", "none", "string", "mapping", "sequence", "iterable"}  # alike for all texts


def is_opaque(source: str) -> bool:
    """Say whether a template never looks at a message's text."""
    try:
        _Reading().finish(Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source))
    except (TemplateError, _Looks, RecursionError):
        return False
    return True


class _Reading:
    """Goes through a template until no name is found to hold more than was known."""

    def __init__(self) -> None:
        self.names: dict[str, Holds] = {"messages": Holds.MESSAGES}

    def finish(self, template: nodes.Template) -> None:
        """Raise _Looks where the template looks at a message's text."""
        before: dict[str, Holds] = {}
        while before != self.names:
            before = dict(self.names)
            self._statements(template.body)

    def _statements(self, body: list[nodes.Node]) -> None:
        for node in body:
            match node:
                case nodes.Output():
                    if any(self._content_kind(part) is Holds.MESSAGES for part in node.nodes):
                        raise _Looks
                case nodes.If():
                    self._nothing(node.test)
                    self._statements([*node.body, *node.elif_, *node.else_])
                case nodes.For() if not node.recursive and node.test is None:
                    held = self._content_kind(node.iter)
                    if held is Holds.TEXT:
                        raise _Looks
                    self._set(node.target, held)
                    self._statements([*node.body, *node.else_])
                case nodes.Assign():
                    self._set(node.target, self._content_kind(node.node))
                case nodes.Break() | nodes.Continue():
                    pass
                case nodes.ExprStmt():
                    self._nothing(node.node)
                case _:  # macros, blocks, filters over blocks: they turn what is printed into a text to look at
                    raise _Looks

    def _set(self, target: nodes.Node, held: Holds) -> None:
        match target:
            case nodes.Name():
                name = target.name
            case nodes.NSRef():
                name = f"{target.name}.{target.attr}"
            case _ if held is Holds.NOTHING:
                return
            case _:
                raise _Looks
        self.names[name] = max(held, self.names.get(name, Holds.NOTHING))

    def _nothing(self, *parts: nodes.Node) -> Holds:
        if any(self._content_kind(part) for part in parts):
            raise _Looks
        return Holds.NOTHING

    def _content_kind(self, node: nodes.Node) -> Holds:
        """Say what an expression may hold; raise _Looks where a text decides over its value."""
        match node:
            case nodes.Name():
                return self.names.get(node.name, Holds.NOTHING)
            case nodes.Getattr():
                return self._part(node.node, node.attr)
            case nodes.Getitem(arg=nodes.Const(value=key)):
                return self._part(node.node, key)
            case nodes.Getitem():
                self._nothing(node.arg)
                return self._part(node.node, None)
            case nodes.Add() | nodes.Concat() | nodes.CondExpr():
                return self._joined(node)
            case nodes.Filter(name="length", node=nodes.Expr() as counted) if (
                self._content_kind(counted) is Holds.MESSAGES
            ):
                return Holds.NOTHING
            case nodes.Test() if node.name in TYPE_TESTS:
                self._content_kind(node.node)
                return Holds.NOTHING
            case _:
                return self._nothing(*node.iter_child_nodes())

    def _joined(self, node: nodes.Node) -> Holds:
        """Say what one of two texts holds, or both one behind the other."""
        parts = list(node.iter_child_nodes())
        if isinstance(node, nodes.CondExpr):
            self._nothing(node.test)
            parts.remove(node.test)
        held = max(self._content_kind(part) for part in parts)
        if held is Holds.MESSAGES:
            raise _Looks
        return held

    def _part(self, whole: nodes.Expr, key: object) -> Holds:
        """Say what an attribute, a key or an element holds."""
        held = self._content_kind(whole)
        if held is Holds.NOTHING:
            if key in ("previtem", "nextitem"):  # of a loop
                raise _Looks
            return self.names.get(f"{whole.name}.{key}", held) if isinstance(whole, nodes.Name) else held
        if held is Holds.TEXT or (isinstance(key, str) and (hasattr(dict, key) or hasattr(list, key))):
            raise _Looks
        if isinstance(key, str):
            return Holds.TEXT if key == "content" else Holds.NOTHING
        return Holds.MESSAGES
