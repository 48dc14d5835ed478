"""`tacit env`: versions and hardware, for bug reports."""

from tacit.cli.shell import AsJson, print_json, waiting


def env(as_json: AsJson = False) -> None:
    """Versions and hardware, for bug reports."""
    from tacit.environment import environment

    with waiting("looking around"):
        found = environment()
    if as_json:
        print_json(found)
        return
    hardware = found["hardware"]
    memory = "unknown" if hardware["memory_gib"] is None else f"{hardware['memory_gib']} GiB"
    rows = {
        **found["versions"],
        "platform": found["platform"],
        "cpu": f"{hardware['cpu']}, {hardware['cores']} core{'s' if hardware['cores'] > 1 else ''}",
        "memory": memory,
        "gpu": ", ".join(hardware["gpus"]) or "none",
    }
    for name, value in rows.items():
        print(f"{name:14}{value}")
