//! Tests of topics on one core, without connections.

mod cases;
