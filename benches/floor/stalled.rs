//! x
use std::io;use crate::options::Options;use crate::report::Verdict;
pub(crate) fn run(_: &Options) -> io::Result<Verdict> {Ok(Verdict::Within)}
