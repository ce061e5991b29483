"""The samples in config/ are what their readers understand: the manifests against
Kubernetes' own schemas, and what no schema says against the rules below.

usage: samples.py CONFIG_DIR TERRAFORM_DIR
"""

import json
import pathlib
import re
import sys
import tomllib

import kubernetes_validate
import yaml

VERSION = "1.33"
USER = 65532
config, terraform = map(pathlib.Path, sys.argv[1:])

# Of Google's operator; Kubernetes has no schema of it.
POD_MONITORING = {"selector", "endpoints"}
ENDPOINT = {"port", "path", "interval"}


def load(name):
    return list(yaml.safe_load_all((config / name).read_text(encoding="utf-8")))


def hardened(pod):
    security = pod["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] == USER, security
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert "@sha256:" in container["image"], container["image"]
        of_container = container["securityContext"]
        assert of_container["readOnlyRootFilesystem"], container["name"]
        assert not of_container["allowPrivilegeEscalation"], container["name"]
        assert of_container["capabilities"] == {"drop": ["ALL"]}, container["name"]
        volumes = {volume["name"] for volume in pod["volumes"]} | {"data"}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for variable in container["env"]:
            secret = "PASSWORD" in variable["name"]
            assert not secret or variable["name"].endswith("_FILE"), variable


def settings():
    """Every setting there is, as its variable is called."""
    text = (config / "reference.toml").read_text(encoding="utf-8")
    # A setting without a default stands there as a comment.
    text = re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^#(\[[\w.]+\])$", r"\1", text, flags=re.MULTILINE)

    def names(table, path):
        for key, value in table.items():
            yield "__".join([*path, key]).upper()
            if isinstance(value, dict):
                yield from names(value, [*path, key])

    return {f"CYPHERON_EDGE__{name}" for name in names(tomllib.loads(text), [])}


def variables():
    """No sample sets a setting that does not exist."""
    known = settings()
    found = 0
    for file in [*terraform.glob("*.tf"), *config.glob("*.yaml"), config / "cypheron-edge.service"]:
        for name in re.findall(r"CYPHERON_EDGE__\w+", file.read_text(encoding="utf-8")):
            assert name in known, f"{file}: there is no setting for {name}"
            found += 1
    assert found > 10, found
    return found


def indexes():
    """Firestore's indexes, for its own tools, are those of Terraform."""
    file = config / "firestore.indexes.json"
    if not file.exists():
        return
    wanted = json.loads(file.read_text(encoding="utf-8"))
    source = (terraform / "firestore.tf").read_text(encoding="utf-8")
    listed = re.search(r"toset\(\[(.*?)\]\)", source, re.DOTALL).group(1)
    unindexed = {
        field["fieldPath"] for field in wanted["fieldOverrides"]
        if not field["collectionGroup"].endswith("_keyring")
    }
    assert unindexed == set(re.findall(r'"(\w+)"', listed)), "fields without an index"
    composite = [[field["fieldPath"] for field in index["fields"]] for index in wanted["indexes"]]
    assert composite == [re.findall(r'field_path = "(\w+)"', source)], composite


def seconds(text):
    assert text.endswith("s") and not text.endswith("ms"), text
    return int(text[:-1])


def kubernetes():
    manifests = load("kubernetes.yaml")
    kinds = {manifest["kind"]: manifest for manifest in manifests}
    for manifest in manifests:
        assert manifest["kind"] != "Secret", "a secret is written down"
        if manifest["kind"] == "PodMonitoring":
            assert set(manifest["spec"]) == POD_MONITORING
            for endpoint in manifest["spec"]["endpoints"]:
                assert set(endpoint) == ENDPOINT
        else:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == kinds["Namespace"]["metadata"]["name"]

    edges = kinds["StatefulSet"]["spec"]
    pod = edges["template"]["spec"]
    hardened(pod)
    hardened(kinds["Job"]["spec"]["template"]["spec"])
    labels = edges["template"]["metadata"]["labels"]
    for selector in [
        edges["selector"]["matchLabels"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        kinds["PodMonitoring"]["spec"]["selector"]["matchLabels"],
        kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        kinds["Service"]["spec"]["selector"],
    ]:
        assert selector == labels, selector
    container = pod["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    for probe, path in {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}.items():
        asked = container[probe]["httpGet"]
        assert asked == {"path": path, "port": "health"} and "health" in ports, asked
    assert kinds["PodMonitoring"]["spec"]["endpoints"][0]["port"] in ports

    edge = tomllib.loads(kinds["ConfigMap"]["data"]["edge.toml"])
    assert edge["limiter"]["instances"] == edges["replicas"]
    ends = seconds(edge["server"]["drain_delay"]) + 7 + 2
    assert pod["terminationGracePeriodSeconds"] > ends, "a pod is killed while it drains"
    claim = edges["volumeClaimTemplates"][0]
    assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert edge["usage"]["journal"]["max_bytes"] == f"{10 * 1024 * 3 // 4}MiB"
    return len(manifests)


def compose():
    (composed,) = load("compose.yaml")
    services = composed["services"]
    for name in ["edge", "migrate"]:
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for variable in service["environment"]:
            assert "PASSWORD" not in variable or variable.endswith("_FILE"), variable
    for name, service in services.items():
        assert set(service.get("secrets", [])) <= set(composed["secrets"]), name
        for used in service.get("configs", []):
            file = config / composed["configs"][used["source"]]["file"]
            assert tomllib.loads(file.read_text(encoding="utf-8"))["routes"], file
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in composed["volumes"], volume
        for needed, how in service.get("depends_on", {}).items():
            healthy = how["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[needed], needed
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network: {port}"
    assert services["migrate"]["environment"]["DB_HOST"] in services
    emulator = services["edge"]["environment"]["FIRESTORE_EMULATOR_HOST"]
    assert emulator.split(":")[0] in services, emulator
    return len(services)


print(f"config/kubernetes.yaml: {kubernetes()} manifests, as Kubernetes {VERSION} has them")
print(f"config/compose.yaml: {compose()} services that fit together")
indexes()
print(f"{variables()} variables that are settings")
