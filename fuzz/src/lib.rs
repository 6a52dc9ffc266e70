//! What the fuzz targets share: where to cut, frames as a peer reads them, and the models that the
//! library is compared with. The targets themselves stand in `fuzz_targets/`.
//!
//! A target that compares takes its cuts from a hash of the input. So an input stays what it looks
//! like, a head or a run of frames, and a finding replays from the file alone.

pub mod cuts;
pub mod inflate;
pub mod model;
pub mod script;
pub mod wire;
