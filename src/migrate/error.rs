//! What can go wrong in the flow, and what to say of it: what happened, what state the data is in, what to type next.

use crate::mapping::{Misfit, transfer::Refusal};
use crate::plan::ConfigError;
use crate::store::{self, Phase};

/// A failure of the flow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// backout.toml or a migration's file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A service or a switch.
    #[error(transparent)]
    App(#[from] crate::app::Error),
    /// A check says no.
    #[error("{cause}")]
    Refused {
        /// Why.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// A value does not go through the mapping.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Another command went on with the run while this one waited for its locks.
    #[error("another command went on with this migration meanwhile: it was {}, and {} now", was.words(), went_to(*.stands))]
    Overtaken {
        /// Where the run stood when this command looked first.
        was: Phase,
        /// Where it stands now; `None` if it has ended.
        stands: Option<Phase>,
    },
    /// The two sides differ.
    #[error("{} between source and target: {}", count(.0.len(), "difference"), first(.0))]
    Differences(Vec<String>),
    /// Told to stop (Ctrl-C).
    #[error("stopped on request")]
    Stopped,
    /// A rollback's time budget was used up before its commit point.
    #[error("its time was used up before the source could be opened")]
    TimedOut,
    /// The target cannot be used, and the application runs on it.
    #[error("the target cannot be used: {0}")]
    TargetLost(Box<Error>),
    /// A statement of a SQL revision.
    #[error(transparent)]
    Revision(Box<crate::revision::Error>),
    /// A test made an effect of ours fail.
    #[error(transparent)]
    Gate(#[from] crate::gate::Refused),
    /// A hand-over did not come about; the application is where it was.
    #[error("{attempt} was called off: {cause}")]
    CalledOff {
        /// `the cutover` or `the rollback`.
        attempt: &'static str,
        /// What made it fail.
        cause: Box<Error>,
    },
    /// The application was handed over, but does not run.
    #[error("the application runs on the other store now, but did not start well: {0}")]
    NotStarted(Box<Error>),
    /// Of a change in place: the tables in which the source rests are gone, by another hand. Nothing was changed.
    #[error("there is no way back any more: the tables in which the source rested are gone ({0})")]
    SourceGone(String),
    /// Something a thread of ours should not do.
    #[error("{0}")]
    Internal(String),
}

impl From<Refusal> for Error {
    fn from(r: Refusal) -> Error {
        Error::Refused { cause: r.cause, hint: r.hint }
    }
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// `1 row`, `2 rows`.
pub fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn went_to(phase: Option<Phase>) -> String {
    phase.map_or("has ended".into(), |p| format!("is {}", p.words()))
}

fn first(list: &[String]) -> String {
    let mut out = list.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    if list.len() > 5 {
        out.push_str(&format!("; and {} more", list.len() - 5));
    }
    out
}

/// A failure with what a person needs at three in the morning.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// What happened.
    #[source]
    pub error: Box<Error>,
    /// What state the data is in.
    pub state: String,
    /// What to type next.
    pub hint: String,
    /// Exit code (see the README).
    pub exit: u8,
}

impl Failure {
    /// Before any run exists: nothing was changed.
    pub fn untouched(error: Error) -> Failure {
        let (mut hint, exit) = (own_hint(&error), plain_exit(&error));
        // there is no run yet that could be resumed
        let exit = if matches!(error, Error::Stopped) { 1 } else { exit };
        if matches!(error, Error::Stopped) {
            hint = "the same command again goes on".into();
        }
        if hint.is_empty() {
            hint = "run the same command again once the cause is out of the way".into();
        }
        Failure { error: Box::new(error), state: "nothing was changed".into(), hint, exit }
    }

    /// During a run that stands at `phase`, in words for the state of the data.
    pub fn during(error: Error, phase: Phase) -> Failure {
        let phase = match &error {
            Error::Overtaken { stands: Some(stands), .. } => *stands,
            Error::Overtaken { .. } => {
                return Failure { state: "the run has ended".into(), ..Failure::untouched(error) };
            }
            _ => phase,
        };
        if let Error::SourceGone(_) = &error {
            let state =
                "the application runs on the target, and goes on there; what the source kept is gone".to_owned();
            let hint = "backout complete  closes the window, as nothing is left to go back to; a backup may have the tables as they were";
            return Failure { error: Box::new(error), state, hint: hint.to_owned(), exit: 4 };
        }
        let state = state_words(phase).to_owned();
        let plain = plain_exit(&error);
        let going = !matches!(
            phase,
            Phase::Planned | Phase::Ready | Phase::Soaking | Phase::Completed | Phase::RolledBack | Phase::Aborted
        );
        let exit = match (&error, phase) {
            (Error::CalledOff { attempt: "the cutover", .. }, _) => 6,
            // whoever comes second has left nothing incomplete
            (Error::Overtaken { .. } | Error::Store(store::Error::Locked { .. }), _) => 5,
            (_, Phase::RollingBack) => 8,
            _ if going && matches!(plain, 1 | 7) => 7,
            _ => plain,
        };
        let own = match (&error, phase) {
            (_, Phase::CuttingOver | Phase::Soaking | Phase::RollingBack) if schema_changed(&error) => {
                "change that table back to what it was at the cutover, then run the command again: what was written since waits, and nothing was carried wrongly\nbackout rollback --emergency   goes back to what was carried until the last drain".into()
            }
            (Error::Differences(_), Phase::RollingBack) => {
                "the application runs on the source; the target is kept as it was: look at these rows, then `backout rollback --no-verify` closes the rollback as it is".into()
            }
            (Error::Differences(_), Phase::Outstanding) => {
                "the application runs on the source; the target is sealed and kept as it was: look at these rows, then `backout salvage --no-verify` ends the run as it is".into()
            }
            _ => own_hint(&error),
        };
        let next = ways_out(phase);
        let hint = if own.is_empty() { next } else { format!("{own}\n{next}") };
        Failure { error: Box::new(error), state, hint, exit }
    }
}

fn schema_changed(error: &Error) -> bool {
    match error {
        Error::Store(store::Error::Capture { schema_changed, .. }) => *schema_changed,
        Error::CalledOff { cause, .. } => schema_changed(cause),
        _ => false,
    }
}

fn plain_exit(error: &Error) -> u8 {
    match error {
        Error::Config(_) | Error::Store(store::Error::Input { .. }) => 2,
        Error::Differences(_) => 3,
        Error::Refused { .. }
        | Error::Misfit(_)
        | Error::Store(store::Error::Refused { .. } | store::Error::Capture { .. } | store::Error::Unfit { .. }) => 4,
        Error::Overtaken { .. } | Error::Store(store::Error::Locked { .. }) => 5,
        Error::Stopped | Error::NotStarted(_) => 7,
        Error::CalledOff { cause, .. } | Error::TargetLost(cause) => plain_exit(cause),
        _ => 1,
    }
}

fn own_hint(error: &Error) -> String {
    match error {
        Error::Store(store::Error::Input { hint, .. } | store::Error::Server { hint, .. } | store::Error::Refused { hint, .. })
        | Error::Refused { hint, .. } => hint.clone(),
        Error::Store(store::Error::Locked { .. }) => "wait until the other one has ended, then run the same command again".into(),
        Error::Overtaken { .. } => "look at `backout status`, then decide again".into(),
        Error::Store(store::Error::Capture { schema_changed: true, .. }) => {
            "the plan speaks of tables that are no longer so: `backout abort`, then `backout up` plans anew".into()
        }
        Error::Misfit(_) => {
            "a value does not fit what was planned: change it in the application, or choose a wider `type` or `codec` in [[transfer.column]]; before a cutover `backout abort` and `backout up` plan anew".into()
        }
        Error::Config(e) => e.hint().unwrap_or("correct that file, then run the same command again").to_owned(),
        Error::Differences(_) => "`backout verify` lists them again; before a cutover `backout abort` throws the target away".into(),
        Error::CalledOff { cause, .. } | Error::NotStarted(cause) => own_hint(cause),
        Error::TimedOut => "give it more time (`backout rollback --timeout 10m`), or see what takes so long".into(),
        Error::TargetLost(cause) => format!(
            "{}
backout rollback --emergency   goes back to the source without the target: what was written since the \
             last drain is not in it until `backout salvage`",
            own_hint(cause)
        ),
        Error::App(e) => e.hint().to_owned(),
        Error::Revision(_) => "mend that file, then run the same command again".into(),
        _ => String::new(),
    }
}

/// What state the data is in, by phase.
pub fn state_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Planned => "nothing was changed",
        Phase::Preparing | Phase::Backfilling | Phase::CatchingUp | Phase::Verifying => {
            "the application runs on the source as before; the target is not complete yet"
        }
        Phase::Ready => {
            "the application runs on the source as before; the target is complete and waits for the cutover"
        }
        Phase::CuttingOver => "a cutover is under way: writes may be refused until it goes on or is called off",
        Phase::Soaking => {
            "the application runs on the target; the source is kept whole and can take every later write back"
        }
        Phase::RollingBack => {
            "a rollback is under way: writes may be refused until it goes on; nothing written is lost"
        }
        Phase::Outstanding => {
            "the application runs on the source; what was written to the target after its last drain is not in it"
        }
        Phase::RolledBack => "the application runs on the source, with every write carried back",
        Phase::Aborting => "the target is being thrown away; the application runs on the source as before",
        Phase::Aborted => "the application runs on the source as before; the target is gone",
        Phase::Completing => "the window is being closed; the application runs on the target",
        Phase::Completed => "the application runs on the target for good",
    }
}

/// Which commands lead on from a phase.
pub fn ways_out(phase: Phase) -> String {
    let list: &[(&str, &str)] = match phase {
        Phase::Planned | Phase::RolledBack | Phase::Aborted => &[("up", "moves forward")],
        Phase::Preparing | Phase::Backfilling | Phase::CatchingUp | Phase::Verifying => {
            &[("resume", "goes on where it stopped"), ("abort", "throws the target away")]
        }
        Phase::Ready => &[("cutover", "hands the application over to the target"), ("abort", "throws the target away")],
        Phase::CuttingOver => &[("resume", "calls the attempt off or goes on, and starts the application")],
        Phase::Soaking => &[
            ("rollback", "takes the change back with every later write"),
            ("complete", "closes the window for good"),
            ("shadow", "keeps the source close behind"),
        ],
        Phase::RollingBack => &[("resume", "goes on with the rollback"), ("rollback", "the same")],
        Phase::Outstanding => &[
            ("salvage", "carries the rest once the target can be reached"),
            ("salvage --forget", "gives it up and ends the run"),
        ],
        Phase::Aborting => &[("abort", "goes on throwing the target away")],
        Phase::Completing => &[("complete", "goes on closing the window")],
        Phase::Completed => &[("history", "shows what ran")],
    };
    list.iter().map(|(c, what)| format!("backout {c:<9} {what}")).collect::<Vec<_>>().join("\n")
}

impl Failure {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match &*self.error {
            Error::Config(_) => "configuration",
            Error::Store(store::Error::Input { .. }) => "input",
            Error::Store(store::Error::Server { .. }) => "server",
            Error::Store(store::Error::Locked { .. }) => "locked",
            Error::Store(store::Error::Capture { .. }) => "capture",
            Error::Overtaken { .. } => "overtaken",
            Error::Refused { .. } | Error::Store(store::Error::Refused { .. }) => "refused",
            Error::Store(_) => "store",
            Error::App(_) | Error::NotStarted(_) => "application",
            Error::Misfit(_) => "misfit",
            Error::Differences(_) => "differences",
            Error::Stopped => "stopped",
            Error::CalledOff { .. } => "called_off",
            Error::TimedOut => "timed_out",
            Error::TargetLost(_) => "target_lost",
            Error::Gate(_) => "gate",
            Error::Revision(_) => "statement",
            Error::SourceGone(_) => "source_gone",
            Error::Internal(_) => "internal",
        }
    }
}
