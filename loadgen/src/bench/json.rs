//! The results as JSON, for programs: every round, and what the tables show.

use serde_json::{Value, json};

use super::results::{Cell, Results, Round, Row};

/// Of this format.
const SCHEMA: u32 = 1;

/// On one line, with its end.
pub(super) fn render(results: &Results) -> Result<String, String> {
    serde_json::to_string(&value(results))
        .map(|json| json + "\n")
        .map_err(|error| format!("the results cannot be written as JSON: {error}"))
}

fn value(results: &Results) -> Value {
    let matrix = &results.matrix;
    let servers = matrix.servers.iter().map(
        |server| json!({ "name": server.name, "command": server.command, "cores": server.cores }),
    );
    let workloads = matrix.workloads.iter().zip(&results.rows).map(|(workload, row)| {
        let cells = (0..row.cells.len()).map(|index| cell(results, row, index));
        json!({
            "name": workload.name,
            "arguments": workload.arguments,
            "figure": workload.figure,
            "also": workload.also,
            "unit": row.unit,
            "better": row.better,
            "cells": cells.collect::<Vec<_>>(),
        })
    });
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": results.started_at,
        "machine": results.machine,
        "repeats": matrix.repeats,
        "generator": matrix.generator,
        "floor": matrix.floor,
        "interrupted": results.interrupted,
        "servers": servers.collect::<Vec<_>>(),
        "workloads": workloads.collect::<Vec<_>>(),
    })
}

fn cell(results: &Results, row: &Row, index: usize) -> Value {
    let cell: &Cell = &row.cells[index];
    let floor = results.matrix.floor_index();
    let first = (0..row.cells.len()).find(|other| Some(*other) != floor);
    let ratio = |to: Option<usize>| to.and_then(|to| row.ratio(index, to));
    json!({
        "server": results.matrix.servers[index].name,
        "excused": cell.excused,
        "rounds": cell.rounds.iter().map(round).collect::<Vec<_>>(),
        "value": cell.spread(),
        "to_floor": ratio(floor),
        "to_first": ratio(first),
    })
}

fn round(round: &Round) -> Value {
    match round {
        Round::Failed(reason) => json!({ "failed": reason }),
        Round::Ran(run) => json!({
            "value": run.value,
            "also": run.also,
            "mismatches": run.mismatches,
            "errors": run.errors,
            "error": run.error,
            "generator_was_limit": run.was_limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn json_holds_every_round_and_every_reason() {
        let text = render(&sample::results()).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((json["schema"].as_u64(), json["interrupted"].as_bool()), (Some(1), Some(true)));
        let cells = &json["workloads"][0]["cells"];
        assert_eq!(cells[0]["value"]["median"].as_f64(), Some(6.0));
        assert_eq!(cells[1]["to_floor"]["median"].as_f64(), Some(1.5));
        assert_eq!(cells[1]["rounds"][1]["mismatches"].as_u64(), Some(3));
        assert!(cells[2]["rounds"][0]["failed"].as_str().unwrap().contains("not found"));
        assert!(cells[2]["value"].is_null());
        assert!(json["workloads"][1]["cells"][0]["excused"].is_string());
        assert_eq!(json["workloads"][0]["unit"], "micros");
    }
}
