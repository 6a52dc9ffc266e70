//! What is shipped beside the program: manual pages and completions, the container's recipe and its
//! filter of system calls, configurations of proxies in front, the dashboard and the alerts. Each is
//! held against the program as it is, and against the software that reads it where that is there.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot do its part has failed")]

#[path = "end_to_end/backends.rs"]
mod backends;
#[path = "end_to_end/certificates.rs"]
#[expect(dead_code, reason = "shared with `end_to_end`, which uses all of it")]
mod certificates;
#[path = "end_to_end/client.rs"]
#[expect(dead_code, reason = "shared with `end_to_end`, which uses all of it")]
mod client;
#[path = "packaging/dashboard.rs"]
mod dashboard;
#[path = "packaging/filter.rs"]
mod filter;
#[path = "program/http.rs"]
#[expect(dead_code, reason = "shared with `program`, which uses all of it")]
mod http;
#[path = "packaging/pages.rs"]
mod pages;
#[path = "program/process.rs"]
#[expect(dead_code, reason = "shared with `program`, which uses all of it")]
mod process;
#[path = "packaging/promql.rs"]
mod promql;
#[path = "packaging/proxies.rs"]
mod proxies;
#[path = "packaging/recipe.rs"]
mod recipe;
#[path = "packaging/tools.rs"]
mod tools;
