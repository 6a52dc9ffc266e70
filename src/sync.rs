//! What threads share state with: the standard library's, or `loom`'s where a test tries every order
//! in which threads may run.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

#[cfg(not(loom))]
pub(crate) use crate::io::wake::Wake;

#[cfg(loom)]
pub(crate) use modelled::Wake;

/// Locks; what is behind our locks is sound whatever a panicking thread has left in it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(loom)]
mod modelled {
    use loom::sync::{Arc, Condvar, Mutex};

    /// In place of an eventfd: many wakes before a wait end one wait.
    #[derive(Clone, Debug)]
    pub(crate) struct Wake(Arc<(Mutex<bool>, Condvar)>);

    impl Wake {
        /// A wake handle that nobody has used.
        pub(crate) fn new() -> Self {
            Self(Arc::new((Mutex::new(false), Condvar::new())))
        }

        /// Ends the current or the next wait.
        pub(crate) fn wake(&self) {
            let (woken, changed) = &*self.0;
            *super::lock(woken) = true;
            changed.notify_one();
        }

        /// Waits for a wake, and forgets the wakes so far.
        pub(crate) fn wait(&self) {
            let (woken, changed) = &*self.0;
            let mut woken = super::lock(woken);
            while !std::mem::take(&mut *woken) {
                woken = changed.wait(woken).expect("nobody panics with it");
            }
        }
    }

    /// A real worker is not modelled: nobody waits for this one.
    impl From<crate::io::wake::Wake> for Wake {
        fn from(_: crate::io::wake::Wake) -> Self {
            Self::new()
        }
    }
}
