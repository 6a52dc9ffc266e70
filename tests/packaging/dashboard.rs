//! The dashboard of Grafana and the alerts of Prometheus name metrics that the program has, with
//! labels that these have; and each metric of the program has its place on the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::client::Client;
use crate::http::get;
use crate::process::{Program, wait_until};
use crate::promql::names;
use crate::tools::{Folder, expect_success, file, text, tool};

/// Columns of a dashboard.
const COLUMNS: u64 = 24;
/// What Prometheus adds to each series.
const OF_THE_SCRAPE: [&str; 2] = ["instance", "job"];
/// What Prometheus itself says of each target.
const OF_PROMETHEUS: &str = "up";

type Metrics = BTreeMap<String, BTreeSet<String>>;

/// Names of all samples of a server to which all that is counted has happened, with their labels.
fn shown() -> Metrics {
    // Nobody answers at the port of a broker that is a port of nobody.
    let program = Program::serve(&["--workers", "1", "--broker", "nats://127.0.0.1:9"]);
    Client::open_at(program.addr, "/topics/a").close(1000);
    let mut hostile = Client::open_at(program.addr, "/echo");
    // A text frame without a masking key breaks the protocol.
    hostile.send_raw(&[0x81, 0x01, b'x']);
    assert_eq!(hostile.read_close().0, 1002);
    let mut refused = Client::connect(program.addr);
    refused.send_raw(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    refused.read_response();
    let samples = || samples(&get(program.admin(), "/metrics").body);
    let families = ["closes", "close_causes", "failures", "handshakes_refused", "broker_failures"];
    let has_all = || {
        let samples = samples();
        families.iter().all(|name| samples.contains_key(&format!("longwire_{name}_total")))
    };
    wait_until("all that is counted", has_all, || format!("{:?}", samples().keys()));
    samples()
}

fn samples(metrics: &str) -> Metrics {
    let mut samples = Metrics::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.split_once('}').unwrap().0),
            None => (line.split(' ').next().unwrap(), ""),
        };
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned());
        samples.entry(name.to_owned()).or_default().extend(labels);
    }
    samples
}

/// What is wrong with the names in a query.
fn faults(query: &str, samples: &Metrics) -> Vec<String> {
    let names = names(query);
    let mut faults = Vec::new();
    let mut known: BTreeSet<&str> = OF_THE_SCRAPE.into();
    for (metric, labels) in &names.metrics {
        if metric == OF_PROMETHEUS {
            continue;
        }
        let Some(has) = samples.get(metric) else {
            faults.push(format!("there is no {metric}: {query}"));
            continue;
        };
        known.extend(has.iter().map(String::as_str));
        let has = |label: &String| has.contains(label) || OF_THE_SCRAPE.contains(&label.as_str());
        for label in labels.iter().filter(|label| !has(label)) {
            faults.push(format!("{metric} has no {label}: {query}"));
        }
    }
    for label in names.groups.iter().filter(|label| !known.contains(label.as_str())) {
        faults.push(format!("nothing has a label {label}: {query}"));
    }
    faults
}

fn dashboard() -> Value {
    serde_json::from_str(&text("contrib/grafana.json")).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// The queries of a panel; rows have none.
fn targets(panel: &Value) -> &[Value] {
    panel["targets"].as_array().map_or(&[], Vec::as_slice)
}

fn queries(dashboard: &Value) -> Vec<&str> {
    let targets = panels(dashboard).iter().flat_map(targets);
    targets.map(|target| target["expr"].as_str().unwrap()).collect()
}

/// The queries of the alerts, by name.
fn alerts() -> Vec<(String, String)> {
    let rules = text("contrib/alerts.yml");
    let mut alerts = Vec::new();
    let mut lines = rules.lines().peekable();
    let mut name = String::new();
    while let Some(line) = lines.next() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            name = alert.to_owned();
        }
        let Some(query) = line.strip_prefix("        expr: ") else { continue };
        let mut query = query.to_owned();
        if query == ">-" {
            query.clear();
            // A folded text goes on as long as it is indented further.
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                let _ = write!(query, "{} ", more.trim());
            }
        }
        alerts.push((name.clone(), query));
    }
    assert_eq!(alerts.len(), rules.matches("- alert: ").count());
    alerts
}

#[test]
fn dashboard_and_alerts_name_metrics_and_labels_that_there_are() {
    let samples = shown();
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    let alerts = alerts();
    assert!(queries.len() >= 40 && alerts.len() >= 10, "{} {}", queries.len(), alerts.len());
    let all = queries.iter().copied().chain(alerts.iter().map(|(_, query)| query.as_str()));
    let faults: Vec<String> = all.flat_map(|query| faults(query, &samples)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_that_there_are_not_are_found() {
    let samples = shown();
    let good = "sum by (core) (rate(longwire_waits_total{core=\"0\"}[1m]))";
    assert_eq!(faults(good, &samples), Vec::<String>::new());
    for bad in [
        "rate(longwire_waits[1m])",
        "longwire_waits_total{cause=\"x\"}",
        "sum by (cause) (longwire_waits_total)",
    ] {
        assert_eq!(faults(bad, &samples).len(), 1, "{bad}");
    }
}

#[test]
fn every_metric_has_its_place_on_the_dashboard() {
    let dashboard = dashboard();
    let mut drawn = BTreeSet::new();
    for query in queries(&dashboard) {
        drawn.extend(names(query).metrics.into_iter().map(|(name, _)| name));
    }
    let missing: Vec<String> = shown().into_keys().filter(|name| !drawn.contains(name)).collect();
    assert!(missing.is_empty(), "draw these in contrib/grafana.json: {missing:?}");
}

#[test]
fn dashboard_is_well_made() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the number of another");
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= COLUMNS && at("w") > 0 && at("h") > 0, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies over another");
            }
        }
        let is_row = panel["type"] == "row";
        assert_eq!(targets(panel).is_empty(), is_row, "{title}");
        assert!(is_row || !panel["description"].as_str().unwrap().is_empty(), "{title}");
        for target in targets(panel) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().unwrap();
            for (metric, labels) in names(query).metrics {
                assert!(OF_THE_SCRAPE.iter().all(|&one| labels.contains(one)), "{title}: {metric}");
            }
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<&str> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
}

#[test]
fn prometheus_understands_every_query() {
    let Some(promtool) = tool("promtool") else { return };
    let dashboard = dashboard();
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (index, query) in queries(&dashboard).into_iter().enumerate() {
        let query = query.replace("$__rate_interval", "1m");
        // A string of JSON is one of YAML.
        let query = Value::from(query);
        let _ = write!(rules, "      - record: query{index}\n        expr: {query}\n");
    }
    let folder = Folder::new();
    let rules = folder.write("dashboard.yml", &rules);
    expect_success(&promtool, &["check".as_ref(), "rules".as_ref(), rules.as_path()]);
    expect_success(
        &promtool,
        &["check".as_ref(), "rules".as_ref(), file("contrib/alerts.yml").as_path()],
    );
}

#[test]
fn alerts_fire_when_they_should() {
    let Some(promtool) = tool("promtool") else { return };
    let cases = text("tests/packaging/alerts_test.yml");
    for (name, _) in alerts() {
        assert!(cases.contains(&format!("alertname: {name}")), "{name} has no test");
    }
    let cases: &Path = &file("tests/packaging/alerts_test.yml");
    expect_success(&promtool, &["test".as_ref(), "rules".as_ref(), cases]);
}
