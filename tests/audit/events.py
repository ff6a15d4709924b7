"""Holds every event that we can write against OCSF 1.6.0, as an independent library has it.

    events.py EVENTS...     journals below these directories; the first was left by the unit tests (TESTS_AUDIT_EVENTS)

Why pydantic-ocsf: it brings the schemas of all versions as published, with enumerations, siblings and what is required.
py-ocsf-models has findings only, none of our classes. ocsf-emitter has 1.5.0, which lacks PATCH; it takes fields that do not
exist, and names that contradict their numbers. By itself pydantic-ocsf takes unknown fields, lacks the attributes of profiles and the
numbers 0 and 99 where a class adds to an enumeration, takes an enumeration of words for numbers, and does not look at constraints
("at least one of") or at the form of addresses: all of that is in the schema it brings, and is switched on here. That it works is
shown by breaking events, each in one way (`BROKEN`): each has to be refused.
"""

import copy
import json
import re
import sys
from pathlib import Path

import ocsf._base
from ocsf._schema_loader import get_schema_loader

VERSION = "1.6.0"
# unknown fields are faults; set before the library makes its first class
ocsf._base.OCSFBaseModel.model_config["extra"] = "forbid"
SCHEMA = get_schema_loader().load_schema(VERSION)
EVENTS, OBJECTS = SCHEMA["events"], SCHEMA["objects"]
ATTRIBUTES = SCHEMA["dictionary"]["attributes"]
TYPES = SCHEMA["dictionary"]["types"]["attributes"]
# profiles/security_control.json of 1.6.0, as far as we write it, and the actor that profiles/host.json adds to every class. Types
# and enumerations are the dictionary's.
PROFILES = {"action_id": "required", "action": "optional", "disposition_id": "recommended", "disposition": "optional",
            "authorizations": "optional", "actor": "optional"}
EVENTS["http_activity"]["attributes"].update({name: {"requirement": needed} for name, needed in PROFILES.items()})

WORDS = {}  # enumerations of words, which the library takes for numbers: looked at below
for kind, spec in OBJECTS.items():
    for name, attribute in spec["attributes"].items():
        if isinstance(attribute, dict) and not all(value.isdigit() for value in attribute.get("enum", {})):
            WORDS[kind, name] = set(attribute.pop("enum"))
for name in ("http_activity", "authentication", "account_change", "entity_management", "user_access", "application_lifecycle"):
    enumeration = EVENTS[name]["attributes"]["activity_id"]["enum"]
    enumeration.update(EVENTS["base_event"]["attributes"]["activity_id"]["enum"])

from ocsf.v1_6_0 import events as classes  # noqa: E402  what is above changes what is made here

CLASSES = {3001: "account_change", 3002: "authentication", 3004: "entity_management", 3005: "user_access",
           4002: "http_activity", 6002: "application_lifecycle"}
# every class and activity that we write
EXPECTED = {
    300109, 300112,  # Account Change: Lock, Unlock
    300201, 300202, 300299,  # Authentication: Logon, Logoff, Refresh deferred
    300403, 300404, 300408, 300409,  # Entity Management: Update, Delete, Enable, Disable
    300501, 300502, 300599,  # User Access Management: Assign, Revoke, both
    400200, 400201, 400202, 400203, 400204, 400205, 400206, 400207, 400208, 400209, 400299,  # HTTP Activity
    600203, 600204,  # Application Lifecycle: Start, Stop
}


def pascal(name):
    return "".join(part.capitalize() for part in name.split("_"))


def attributes(kind, known):
    """All attributes of an object or class, those of its parents too."""
    spec = known[kind]
    above = attributes(spec["extends"], known) if spec.get("extends") in known else {}
    own = {name: it for name, it in spec["attributes"].items() if isinstance(it, dict)}
    return {**above, **own}


def constraints(kind, known):
    """`at_least_one` and `just_one`, those of its parents too where it has none of a kind."""
    spec = known[kind]
    above = constraints(spec["extends"], known) if spec.get("extends") in known else {}
    return {**above, **spec.get("constraints", {})}


def closer(kind, value, at, known=OBJECTS):
    """What the library does not look at: constraints, and forms of texts. Yields faults."""
    for rule, names in constraints(kind, known).items():
        count = sum(name in value for name in names)
        if count == 0 or (rule == "just_one" and count > 1):
            yield f"{at or 'event'}: {rule} of {', '.join(names)}"
    for name, spec in attributes(kind, known).items():
        if name not in value:
            continue
        spec = {**ATTRIBUTES.get(name, {}), **spec}
        inner = spec.get("object_type", spec.get("type"))
        items = value[name] if spec.get("is_array") else [value[name]]
        for item in items:
            place = f"{at}.{name}".lstrip(".")
            if inner in OBJECTS and name != "unmapped":
                yield from closer(inner, item, place)
            if item not in WORDS.get((kind, name), [item]):
                yield f"{place}: `{item}` is none of its words"
            form = TYPES.get(inner, {})
            if isinstance(item, str):
                if form.get("regex") and not re.search(form["regex"], item):
                    yield f"{place}: `{item}` is no {inner}"
                if form.get("max_len") and len(item) > form["max_len"]:
                    yield f"{place}: longer than {inner}"


def faults(event):
    """What is wrong with an event; nothing if it is valid."""
    name = CLASSES.get(event.get("class_uid"))
    if name is None:
        return [f"class {event.get('class_uid')} is none of ours"]
    found = []
    if event.get("metadata", {}).get("version") != VERSION:
        found.append(f"metadata.version: not {VERSION}")
    caption = EVENTS[name]["caption"]
    if event.get("class_name") != caption:
        found.append(f"class_name: not {caption}")
    category = next(it["caption"] for it in SCHEMA["categories_meta"]["attributes"].values()
                    if it["uid"] == event["class_uid"] // 1000)
    if event.get("category_name") != category:
        found.append(f"category_name: not {category}")
    if "type_uid" not in event:
        found.append("type_uid: missing")
    given = copy.deepcopy(event)
    if not isinstance(given.pop("unmapped", None), dict):  # ours to fill; the documentation has its fields
        found.append("unmapped: no object")
    if ("security_control" in event.get("metadata", {}).get("profiles", [])) != (name == "http_activity"):
        found.append("metadata.profiles: not as the class has it")
    siblings(given, found)
    try:
        getattr(classes, pascal(name)).model_validate_json(json.dumps(given), strict=True)
    except ValueError as fault:
        found += str(fault).split("\n")[1:] or [str(fault)]
    return found + list(closer(name, event, "", EVENTS))


def siblings(value, found, at=""):
    """A name without its number would be given one by the library; we write both."""
    for name, inner in value.items():
        sibling = ATTRIBUTES.get(f"{name}_id", {}).get("sibling")
        if sibling == name and f"{name}_id" not in value and name != "type":
            found.append(f"{at}{name}: without {name}_id")
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict):
                siblings(item, found, f"{at}{name}.")


def records(directory):
    """The events of every journal below a directory."""
    for path in sorted(Path(directory).rglob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the last line of a process that was killed, or what a test wrote in its place
            if record.get("kind") == "event":
                yield record["event"]


def put(path, value):
    def change(event):
        *way, last = path.split(".")
        for name in way:
            event = event[name]
        event[last] = value
    return change


def drop(path):
    def change(event):
        *way, last = path.split(".")
        for name in way:
            event = event[name]
        del event[last]
    return change


# class and activity, what is done to one, and what the validator has to say of it
BROKEN = [
    (400203, put("secret", 1), "secret"),
    (400203, put("http_request.cookie", "a"), "cookie"),
    (400203, put("http_request.url.query", "a"), "query"),
    (400203, put("http_request.http_method", "PROPFIND"), "http_method"),
    (400203, put("actor.user.token", "a"), "token"),
    (400203, put("authorizations", [{"decision": "Allowed", "policy": {"uid": "p", "why": 1}}]), "why"),
    (400203, put("activity_id", 42), "activity_id"),
    (400203, put("activity_name", "Put"), "activity_id"),
    (400203, put("action_id", 7), "action_id"),
    (400203, put("action", "Denied"), "action_id"),
    (400203, drop("action_id"), "action_id"),
    (400203, put("disposition", "Blocked"), "disposition_id"),
    (400203, put("severity_id", 77), "severity_id"),
    (400203, put("type_uid", 400204), "type_uid"),
    (400203, drop("type_uid"), "type_uid"),
    (400203, put("class_uid", 3002), ""),
    (400203, put("class_name", "HTTP"), "class_name"),
    (400203, put("category_uid", 3), "category_uid"),
    (400203, put("category_name", "Network"), "category_name"),
    (400203, drop("time"), "time"),
    (400203, drop("metadata"), "metadata"),
    (400203, drop("metadata.product"), "product"),
    (400203, put("metadata.version", "1.3.0"), "version"),
    (400203, drop("metadata.profiles"), "profiles"),
    (400203, put("time", "1970-01-01T00:00:00Z"), "time"),
    (400203, put("http_response.code", "200"), "code"),
    (400203, drop("http_response.code"), "code"),
    (400203, put("src_endpoint", {}), "src_endpoint"),
    (400203, put("src_endpoint.ip", "email:9c1f"), "src_endpoint.ip"),
    (400203, put("actor", {}), "actor"),
    (400203, put("actor.user", {"type_id": 1}), "actor.user"),
    (400203, put("actor.user.type", "Admin"), "type_id"),
    (300201, drop("user"), "user"),
    (300201, drop("service"), "at_least_one"),
    (300201, put("auth_protocol", "SAML"), "auth_protocol_id"),
    (300201, put("user.type_id", 1000), "type_id"),
    (300109, drop("user"), "user"),
    (300109, put("activity_name", "Unlock"), "activity_id"),
    (300403, drop("entity"), "entity"),
    (300403, put("entity", {"type": "key"}), "at_least_one"),
    (300501, drop("privileges"), "privileges"),
    (300501, put("privileges", "a"), "privileges"),
    (600203, drop("app"), "app"),
]


def whole(events, kind):
    """An event of this kind that has all that is broken below."""
    fits = [event for event in events if event["type_uid"] == kind]
    wanted = ("http_response", "authorizations", "src_endpoint", "actor")
    person = {"type_id": 1}.items()
    return max(fits, key=lambda event: (sum(name in event for name in wanted), "dst_endpoint" not in event,
                                        person <= event.get("actor", {}).get("user", {}).items()))


def main():
    passed = failed = 0

    def check(claim, held, figure=""):
        nonlocal passed, failed
        passed, failed = passed + bool(held), failed + (not held)
        print(f"{'ok  ' if held else 'FAIL'} {claim}{': ' if figure else ''}{figure}", flush=True)

    first, *more = sys.argv[1:]
    events = list(records(first))
    seen = {event["type_uid"] for event in events}
    check("the unit tests leave every class and activity", seen == EXPECTED, sorted(seen ^ EXPECTED) or len(seen))
    for where in [first, *more]:
        count, wrong = 0, {}
        for event in records(where):
            count += 1
            for fault in faults(event):
                wrong.setdefault(fault.strip(), event)
        check(f"all events below {Path(where).name} are valid", (count or where != first) and not wrong, f"{count} events")
        for fault, event in list(wrong.items())[:20]:
            print(f"     {fault}\n     {json.dumps(event)}")
    for kind, change, word in BROKEN:
        event = copy.deepcopy(whole(events, kind))
        assert not faults(event), "it is whole before"
        change(event)
        found = faults(event)
        check(f"a broken {kind} is refused ({word or 'another class'})", any(word in fault for fault in found), len(found))
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
