"""The command that runs this package against a simulator, to be copied."""

from gemini_batch.simulator.config import SimulatorConfig


def client_command(config: SimulatorConfig, url: str) -> str:
    """Return a command that finds the server, and uses exactly its limits."""
    return f"{_environment(config, url)} python -m gemini_batch run jobs.jsonl{_flags(config)}"


def _environment(config: SimulatorConfig, url: str) -> str:
    """Return the variables with which a run of this package finds this server."""
    if config.vertex:
        file = "simulator.json"
        login = f"curl --silent --output {file} {url}/credentials.json && "
        allowed = f"GOOGLE_APPLICATION_CREDENTIALS={file} GEMINI_BATCH_VERTEX=my-project"
        return f"{login}GEMINI_BATCH_BASE_URL={url} {allowed}"
    key = "any" if config.key is None else "KEY"
    return f"GEMINI_BATCH_BASE_URL={url} GEMINI_API_KEY={key}"


def _flags(config: SimulatorConfig) -> str:
    """Return the flags that make a run of this package use exactly these limits."""
    if config.tier == "unlimited":
        flags = "" if config.requests_per_min else " --rpm 6000"
        flags += "" if config.requests_per_day else " --rpd 100000"
    else:
        flags = f" --tier {config.tier}"
    limits = {
        "rpm": config.requests_per_min,
        "rpd": config.requests_per_day,
        "tpm": config.tokens_per_min,
        "ipm": config.images_per_min,
        "usd-per-10min": config.usd_per_10min,
    }
    flags += "".join(
        f" --{name} {limit:g}" if name.startswith("usd") else f" --{name} {limit}"
        for name, limit in limits.items()
        if limit
    )
    if config.minute_s != 60 and config.minute_limit:
        flags += f" --minute {config.minute_s:g}"
    return flags
