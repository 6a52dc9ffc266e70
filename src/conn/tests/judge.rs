//! An application that lets everybody in.

use crate::conn::{Connection, Core, Terms};

/// Accepts every upgrade. Returns whether it was one.
pub(super) fn judge(connection: &mut Connection, head: &[u8], core: &mut Core) -> bool {
    let Some(request) = connection.judge(head, core) else { return false };
    match Connection::acceptable(&request, &core.limits) {
        Ok(request) => {
            let terms = Terms { protocol: None, headers: &[], compression: true };
            connection.accept(&request, &terms, core);
            true
        }
        Err(refusal) => {
            connection.refuse(refusal, core);
            false
        }
    }
}
