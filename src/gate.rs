//! The one gate that every effect passes, numbered, so that a test can fail or kill the n-th.
//!
//! An effect is a COMMIT, an autocommitted statement, a file operation, a command of the user's own, a notification.
//! Statements inside a transaction are not effects. In ordinary use the gate only counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is done at the chosen effect, instead of the effect. When it returns, the effect fails once with [`Refused`].
type Trap = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Default)]
struct Inner {
    passed: AtomicU64,
    trap: Option<(u64, Trap)>,
    /// The effect at the trap is performed all the same.
    performs: bool,
    show: Option<Trap>,
    after: Option<Trap>,
}

/// A counter of effects, shared by all rooms of a run; clones count together.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

/// The gate refused this effect; only tests make it do so.
#[derive(Debug, thiserror::Error)]
#[error("effect {n} ({what}) was made to fail")]
pub struct Refused {
    /// Its number, from 1.
    pub n: u64,
    /// What it was.
    pub what: String,
}

impl Default for Gate {
    fn default() -> Self {
        Gate(Arc::new(Inner::default()))
    }
}

impl Gate {
    /// A gate that calls `trap` in place of effect number `n` (from 1) and, if `trap` returns, fails that effect.
    pub fn with_trap(n: u64, trap: impl Fn(&str) + Send + Sync + 'static) -> Gate {
        Gate(Arc::new(Inner { trap: Some((n, Box::new(trap))), ..Inner::default() }))
    }

    /// A gate at which effect number `n` happens, but is told to have failed (an answer that was lost); `tell` is told first.
    pub fn losing(n: u64, tell: impl Fn(&str) + Send + Sync + 'static) -> Gate {
        Gate(Arc::new(Inner { trap: Some((n, Box::new(tell))), performs: true, ..Inner::default() }))
    }

    /// A gate that tells `show` each effect before it happens.
    pub fn watched(show: impl Fn(&str) + Send + Sync + 'static) -> Gate {
        Gate(Arc::new(Inner { show: Some(Box::new(show)), ..Inner::default() }))
    }

    /// A gate that calls `look` before and after each effect.
    pub fn between(look: impl Fn(&str) + Send + Sync + Clone + 'static) -> Gate {
        let (show, after): (Option<Trap>, Option<Trap>) = (Some(Box::new(look.clone())), Some(Box::new(look)));
        Gate(Arc::new(Inner { show, after, ..Inner::default() }))
    }

    /// Performs `effect` as the next numbered effect.
    ///
    /// # Errors
    /// What `effect` returns, or [`Refused`] at the chosen number.
    pub fn pass<T, E: From<Refused>>(&self, what: &str, effect: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let n = self.0.passed.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((at, trap)) = &self.0.trap
            && *at == n
        {
            trap(what);
            if self.0.performs {
                effect()?;
            }
            return Err(Refused { n, what: what.to_owned() }.into());
        }
        if let Some(show) = &self.0.show {
            show(what);
        }
        let done = effect();
        if let Some(after) = &self.0.after {
            after(what);
        }
        done
    }

    /// Effects so far.
    pub fn count(&self) -> u64 {
        self.0.passed.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gate({} effects)", self.count())
    }
}
