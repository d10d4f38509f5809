//! When the change log cannot be trusted: capture is put up anew, both sides are compared in full, and what differs goes into the log
//! like any change (P13, P15, P16). Each step is written down before it is done, so that it may be cut off and done again.

use crate::mapping::{Way, map_key};
use crate::store::Mode;
use crate::value::Key;

use super::{Error, Result, Run, sums, within};

/// Capture anew on the giver, and the doubt written down before anything else happens; what the log told up to then counts no
/// more. Killed in between, it is done again.
pub(super) fn distrust(run: &mut Run, way: Way, cause: &str, rewound: bool) -> Result<()> {
    let plan = run.plan.clone();
    let id = run.id.clone();
    let givers = way.givers(&plan);
    let (giver, receiver) = run.sides(way);
    super::change_state(receiver, &id, "receiver: doubt", |s| {
        s.doubt = Some(cause.to_owned());
        s.rewound |= rewound;
        s.checkpoint = None;
    })?;
    within(giver, Mode::Write, &givers, "giver: change capture anew", |g| {
        let from = g.capture_on(&givers, &id)?;
        let mut state =
            g.state()?.filter(|s| s.run == id).ok_or_else(|| Error::Internal("giver without a record".into()))?;
        state.captured_from = Some(from);
        Ok(g.put_state(&state, None)?)
    })
}

/// Compares in full and puts every differing key into the giver's log; the doubt is over when that is committed.
pub(super) fn resolve(run: &mut Run, way: Way) -> Result<()> {
    let plan = run.plan.clone();
    let mut any = false;
    for (i, t) in plan.tables.iter().enumerate() {
        let keys: Vec<Key> = sums::suspects(run, i, t)?
            .into_iter()
            .filter_map(|k| match way {
                Way::Up => map_key(Way::Down, t, &k).ok(),
                Way::Down => Some(k),
            })
            .collect();
        if !keys.is_empty() {
            run.sides(way).0.doubt(&way.givers(&plan), i, &keys)?;
            any = true;
        }
    }
    let id = run.id.clone();
    let (_, receiver) = run.sides(way);
    super::change_state(receiver, &id, "receiver: doubt resolved", |s| {
        s.doubt = None;
        // a row that differs may have been damaged where it rests: what it was there says nothing of what it ought to be
        if any && way == Way::Down {
            s.digests.clear();
        }
    })?;
    Ok(())
}
