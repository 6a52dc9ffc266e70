//! Limits of the process: the descriptor limit is raised as far as it may be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft descriptor limit to the hard one, and returns what holds then.
///
/// A server for very many connections wants all it may have, and the soft limit of 1024 that most
/// shells start with exists only for programs that use `select`.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}
