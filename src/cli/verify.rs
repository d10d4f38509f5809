//! `backout verify`

use std::time::Duration;

use super::{Answer, Answered, Context, show};
use backout::migrate::{Options, Scope, Verified, VerifyOptions};

/// Compare both sides in full: every row and column, both ways
///
/// Asks the stores' own checks too (foreign keys, integrity). Works before the
/// cutover and while soaking, with the application writing: a change that is under
/// way is no difference. Ends with 3 if anything differs, and names the rows; with
/// 1 if the time was over before everything was compared.
///
/// After a rollback `--rollback` holds the source against what was recorded of it
/// before the cutover, less what was carried since. Once the run is closed that is
/// conclusive only until the application writes.
///
/// Examples:
///   backout verify && echo both sides agree
///   backout verify --quick                    only counts and definitions
///   backout verify --sample 1000 --timeout 30s
///   backout verify --rollback
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Command {
    /// Only how many rows each table has, and how it is defined
    #[arg(long, conflicts_with_all = ["sample", "deep", "rollback"])]
    quick: bool,
    /// Only so many rows of each table and side, chosen all over it
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["deep", "rollback"],
          value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// Choose the rows of an earlier sample again
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    seed: Option<u64>,
    /// Everything, and the stores' most thorough checks
    #[arg(long, conflicts_with = "rollback")]
    deep: bool,
    /// Stop after this long (30s, 5m) and say what was not compared
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// After a rollback: the source, against what was recorded of it
    #[arg(long)]
    rollback: bool,
}

/// `90s`, `5m`, …
pub fn duration(text: &str) -> Result<Duration, String> {
    backout::plan::duration(text).ok_or_else(|| "say 90s, 5m, 24h".into())
}

impl Command {
    pub fn run(&self, cx: &Context) -> Answered {
        let scope = match (self.quick, self.sample, self.deep) {
            (true, ..) => Scope::Quick,
            (_, Some(rows), _) => Scope::Sample { rows, seed: self.seed.unwrap_or_else(a_seed) },
            (_, _, true) => Scope::Deep,
            _ => Scope::Full,
        };
        let asked = VerifyOptions { scope, timeout: self.timeout, rollback: self.rollback };
        let o = cx.project(Options::default())?.verify_as(&asked)?;
        let v = o.verified.clone().unwrap_or_default();
        let (exit, result) = verdict(&v);
        let text = format!("{}result    {}\n", show::verified(&v), show::wrap(&result, 10));
        let mut answer = Answer::new(&o, text);
        answer.exit = exit;
        Ok(answer)
    }
}

/// Six digits, so that it can be typed.
fn a_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) / 7 % 1_000_000
}

/// How it ends, and in which words.
fn verdict(v: &Verified) -> (u8, String) {
    let closed = v.scope == "rollback";
    if !v.agrees() {
        let words = if closed {
            "the source is not what it was when it was taken back: either the application has written since, or \
             something else has; nobody took note, so that cannot be told"
        } else {
            "the two sides do not agree"
        };
        return (3, words.into());
    }
    if !v.not_compared.is_empty() {
        return (1, "the time was over: what was compared agrees, the rest was not compared".into());
    }
    let words = match v.scope {
        "quick" => "the two sides have as many rows; their contents were not compared",
        "sample" => "the rows looked at agree; the others were not compared",
        "rollback" => "the source is what it was before the cutover, with every change that was carried",
        _ => "the two sides agree",
    };
    (0, words.into())
}
