"""up.py PROJECT PODMAN-COMPOSE..: starts the services of compose.yaml, each when the services in its `depends_on` are as it
says there (healthy, or completed successfully). Docker does that by itself; Debian's podman cannot."""

import subprocess
import sys
import time

import yaml

PATIENCE_S = 300

project, *podman_compose = sys.argv[1:]
with open("compose.yaml", encoding="utf-8") as file:
    services = yaml.safe_load(file)["services"]


def podman(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(["podman", *args], capture_output=True, text=True, check=False)


def containers(service: str) -> list[str]:
    labels = [f"io.podman.compose.project={project}", f"com.docker.compose.service={service}"]
    filters = [argument for label in labels for argument in ("--filter", f"label={label}")]
    return podman("ps", "--all", "--quiet", *filters).stdout.split()


def is_so(container: str, condition: str) -> bool:
    if condition == "service_healthy":
        return podman("healthcheck", "run", container).returncode == 0
    if condition == "service_completed_successfully":
        return podman("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container).stdout.strip() == "exited 0"
    raise ValueError(condition)


def wait(service: str, condition: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not all(is_so(container, condition) for container in containers(service)):
        if time.monotonic() > deadline:
            sys.exit(f"{service}: not {condition} within {PATIENCE_S} s")
        time.sleep(1)


started: set[str] = set()


def start(service: str) -> None:
    if service in started:
        return
    for dependency, how in services[service].get("depends_on", {}).items():
        start(dependency)
        wait(dependency, how["condition"])
    up = subprocess.run([*podman_compose, "up", "-d", "--no-deps", service], capture_output=True, text=True, check=False)
    if up.returncode != 0 or not containers(service):
        sys.exit(f"{service} could not be started:\n{up.stdout}{up.stderr}")
    started.add(service)


for name, settings in services.items():
    if "profiles" not in settings:
        start(name)
