//! The connection state machine, in memory and on virtual time.
//!
//! Each scenario is one run of bytes. It is fed whole, byte by byte, cut in two at every place, and
//! cut at random (the seed is in the message of a failed assertion), to peers that take everything
//! that is sent, or seven bytes at a time, or one, or any number. All of these must agree.

mod bounds;
mod close;
mod compress;
mod control;
mod fragments;
mod frames;
mod hostile;
mod judge;
mod large;
mod offers;
mod opening;
mod pair;
mod queue;
mod rig;
mod secure;
mod timers;
mod ways;
mod wire;
