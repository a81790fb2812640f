"""The types of a C source, read from clang's debug information and not from the C text: that sees
through typedefs, enums and qualifiers.

    Types(oracle IR).signature("!17") -> ("int", [("n", "int"), ("list", "struct node *")])

A type is a str in C's notation: "int", "char *", "struct node", "int[3][4]", "void *", and
"function int(char *, int) *" for a pointer to a function. A reference of C++ is "int &". What is
behind the name of a struct or of a function's type stands in `structs` and `functions`.
"""

import math
import re
from dataclasses import dataclass

BITS = {
    "_Bool": 1,
    "bool": 1,
    "char": 8,
    "signed char": 8,
    "unsigned char": 8,
    "short": 16,
    "unsigned short": 16,
    "int": 32,
    "unsigned int": 32,
    "long": 64,
    "unsigned long": 64,
    "long long": 64,
    "unsigned long long": 64,
}
FLOATS = ("float", "double")
NAME = r'name: "([^"]*)"'
COUNT = r"count: (-?\d+)"
ARRAY = re.compile(r"^(.*?)((?:\[-?\d+\])+)$")


@dataclass
class Struct:
    """A struct or a union."""

    fields: list[tuple[str, str]]  # (name, type); empty if the source does not say
    bytes: int


def found(pattern, text):
    """The first group (str) of the first match; "" if there is none. pattern, text: str."""
    match = re.search(pattern, text)
    return match[1] if match else ""


def is_number(type):
    return type in BITS or type in FLOATS


def pointee(type):
    """What a pointer or a reference points to: str; "" if it is none. type: str."""
    return type[:-1].rstrip() if type.endswith(("*", "&")) else ""


def elements(type):
    """(type of an element, how many) of an array of any dimensions; (type, 1) of all else."""
    array = ARRAY.match(type)
    if not array:
        return type, 1
    return array[1], math.prod(map(int, re.findall(r"-?\d+", array[2])))


class Types:
    """ir: str, with debug information. Of those met so far: structs, {type: Struct}; functions,
    {type: (type of the result, types of the parameters)}."""

    def __init__(self, ir):
        self.nodes = dict(re.findall(r"^(!\d+) = (?:distinct )?(.*)$", ir, re.M))
        self.structs = {}
        self.functions = {}
        self.first = {}  # type -> the node that has its name

    def signature(self, function):
        """(type of the result, list of (name, type) of the parameters). function: str, its node.

        `...` is a parameter of type void."""
        returns, types = self.functions[self.spelled(self.field(function, "type"))]
        names = {}
        for node in self.nodes.values():
            variable = re.match(
                rf'!DILocalVariable\(name: "(\w+)", arg: (\d+), scope: {function},', node
            )
            if variable:
                names[int(variable[2])] = variable[1]
        return returns, [(names.get(place, ""), type) for place, type in enumerate(types, 1)]

    def variable(self, expression):
        """The type (str) of a global variable. expression: str, the node beside its definition."""
        return self.spelled(self.field(self.field(expression, "var"), "type"))

    def field(self, node, name):
        """The node (str) that a node names in a field; "null" if it names none."""
        return found(rf"\b{name}: (!\d+)", self.nodes.get(node, "")) or "null"

    def spelled(self, reference):
        """The type behind a node, without typedefs, enums and qualifiers: str."""
        if reference not in self.nodes:
            return "void"  # null
        node = self.nodes[reference]
        name = found(NAME, node)
        if node.startswith("!DIBasicType"):
            return name
        if node.startswith("!DISubroutineType("):
            return self.function(reference)
        composite = re.match(
            r"!DICompositeType\((?!tag: DW_TAG_enum)tag: DW_TAG_(\w+?)_?(?:type)?,", node
        )
        if composite and composite[1] != "array":
            kind = composite[1].replace("structure", "struct").replace("class", "struct")
            return self.struct(f"{kind} {name or 'no' + reference[1:]}", name, reference)
        base = self.field(reference, "baseType")
        inner = self.spelled(base)
        if "ptr_to_member" in node:
            return "pointer to a member"
        if "reference_type" in node or "DIFlagObjectPointer" in node:  # or `this`: never null
            return f"{inner} &"
        if "DW_TAG_pointer" in node:
            return inner + ("*" if inner.endswith("*") else " *")
        if composite:
            for dimension in self.list_of(reference):
                inner += f"[{found(COUNT, self.nodes[dimension]) or -1}]"
        return inner

    def function(self, reference):
        """Notes what a function of this type takes and returns. -> its type, a str."""
        list_node = self.field(reference, "types")
        references = re.findall(r"!\d+|null", self.nodes[list_node])
        returns, *types = map(self.spelled, references)
        type = f"function {returns}({', '.join(types)})"
        self.functions[type] = (returns, types)
        return type

    def struct(self, type, name, reference):
        """Notes what is in a struct the first time that it is met. -> type, a str."""
        if self.first.setdefault(type, reference) != reference:
            type += f" of {reference[1:]}"  # in another scope
        if type not in self.structs:
            bits = found(r"size: (\d+)", self.nodes[reference]) or "0"
            self.structs[type] = struct = Struct([], int(bits) // 8)
            for member in self.list_of(reference):
                node = self.nodes[member]
                if "DIFlagStaticMember" in node:
                    continue
                spelled = self.spelled(self.field(member, "baseType"))
                if "DIFlagBitField" in node:
                    spelled = "bit-field"
                elif "DISubprogram" in node:  # of C++
                    if found(NAME, node).strip("~") != name and "virtuality" not in node:
                        continue
                    spelled = f"{type} with a constructor or the like"
                struct.fields.append((found(NAME, node), spelled))
        return type

    def list_of(self, reference):
        """The nodes in the list `elements` of a node: list of str."""
        return re.findall(r"!\d+", self.nodes.get(self.field(reference, "elements"), ""))
