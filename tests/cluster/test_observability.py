"""What watches an installation: Prometheus takes our files, alerts ring when they should, queries ask for what is."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from ray.dashboard.modules.metrics import grafana_dashboard_factory
from ray.util.metrics import Counter, Gauge, Histogram

from axons.app.metrics import figures
from tests.cluster.files import CLUSTER

OBSERVABILITY = CLUSTER / "observability"
ENDINGS = {Counter: {"_total"}, Gauge: {""}, Histogram: {"_bucket", "_count", "_sum"}}
RAYS_DASHBOARDS = [
    grafana_dashboard_factory.generate_default_grafana_dashboard,
    grafana_dashboard_factory.generate_serve_grafana_dashboard,
]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Prometheus is not installed (on Debian: apt install prometheus)"
)


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=OBSERVABILITY)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules():
    return yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())["groups"][0]["rules"]


def panels():
    return json.loads((OBSERVABILITY / "grafana/axons.json").read_text())["panels"]


def asked(expressions):
    """The names of all figures of Ray and of ours in queries."""
    return {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}


def told():
    """The names that Prometheus reads: ours, and those that Ray itself shows."""
    ours = {f"ray_{name}{ending}" for name, kind in figures().names().items() for ending in ENDINGS[kind]}
    return ours | asked(generate()[0] for generate in RAYS_DASHBOARDS)


@needs_promtool
def test_prometheus_accepts_its_configuration():
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert f"{len(rules())} rules found" in promtool("check", "rules", "alerts.yml")


@needs_promtool
def test_each_alert_rings_when_it_should_and_only_then(tmp_path):
    cases = yaml.safe_load((CLUSTER.parent / "tests/cluster/alerts.yml").read_text())
    cases["rule_files"] = [str(OBSERVABILITY / "alerts.yml")]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(cases))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yml"))
    tried = {alert["alertname"] for case in cases["tests"] for alert in case["alert_rule_test"]}
    assert tried == {rule["alert"] for rule in rules()}


def test_alerts_and_panels_ask_for_figures_that_are_told():
    queries = [rule["expr"] for rule in rules()]
    queries += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    assert asked(queries) - told() == set()


def test_each_figure_of_ours_is_on_the_dashboard():
    shown = asked(target["expr"] for panel in panels() for target in panel.get("targets", []))
    missing = {name for name in figures().names() if not any(found.startswith(f"ray_{name}") for found in shown)}
    assert missing == set()


def test_panels_have_numbers_of_their_own_and_ask_the_source_that_is_provided():
    (source,) = yaml.safe_load((OBSERVABILITY / "grafana/datasources.yml").read_text())["datasources"]
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert {panel["datasource"]["uid"] for panel in panels() if panel["type"] != "row"} == {source["uid"]}
    assert source["name"] == "Prometheus"  # as Ray's own dashboards call it


def test_each_alert_is_explained():
    page = (CLUSTER.parent / "docs/operations.md").read_text()
    assert [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in page] == []


def services():
    return yaml.safe_load((CLUSTER / "docker-compose.observability.yaml").read_text())["services"]


def test_what_watches_a_server_is_reached_through_its_door_only():
    watching = {name: services()[name] for name in ("prometheus", "grafana")}
    assert {service["network_mode"] for service in watching.values()} == {"service:app"}
    assert not [name for name, service in services().items() if "ports" in service]
    assert "--web.listen-address=127.0.0.1:9090" in watching["prometheus"]["command"]
    assert watching["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_every_file_that_is_mounted_is_there_and_every_variable_is_in_the_example():
    mounted = [volume.partition(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    assert [file for file in mounted if file.startswith("./") and not (CLUSTER / file).is_file()] == []
    needed = set(re.findall(r"\$\{(\w+):\?\}", (CLUSTER / "docker-compose.observability.yaml").read_text()))
    offered = set(re.findall(r"^#?(\w+)=", (CLUSTER / "axons.env.example").read_text(), re.MULTILINE))
    assert needed - offered == set()


def test_ray_and_grafana_meet_where_caddy_shows_them():
    told, served = services()["app"]["environment"], services()["grafana"]["environment"]
    assert told["RAY_GRAFANA_IFRAME_HOST"] + "/" == served["GF_SERVER_ROOT_URL"] == "https://${AXONS_SITE:?}/grafana/"
    assert "/grafana/*" in (OBSERVABILITY / "administrators.caddy").read_text()
