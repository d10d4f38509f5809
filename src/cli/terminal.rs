//! Standard output and error: results, progress bars, colours, questions.

use std::collections::HashMap;
use std::fmt::Write as Write_;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use backout::migrate::{Event, Observer};
use indicatif::{MultiProgress, ProgressBar, ProgressState as Bar, ProgressStyle};

use super::show;

/// Writes a result; a reader that went away (`| head`) is no error.
pub fn out(text: &str) {
    let _ = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
}

/// Colours are for terminals, and only if nobody said NO_COLOR.
pub fn colours(on_stderr: bool) -> bool {
    let terminal = if on_stderr { stderr().is_terminal() } else { stdout().is_terminal() };
    terminal
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var("TERM").map_or(true, |t| t != "dumb")
}

/// What is being done in a phase (by its name); a phase is left by doing something, so `ready` is left by cutting over.
pub fn doing(phase: &str) -> &str {
    match phase {
        "ready" => "cutting over",
        "soaking" => "rolling back",
        "rolling back" => "closing",
        other => other,
    }
}

/// Progress: bars on a terminal, else a line now and then.
pub struct Terminal {
    mode: Mode,
    state: Mutex<State>,
}

enum Mode {
    Bars(MultiProgress),
    Lines,
    Nothing,
}

#[derive(Default)]
struct State {
    bars: HashMap<(&'static str, String), ProgressBar>,
    last_line: HashMap<(&'static str, String), Instant>,
    begun: HashMap<(&'static str, String), (Instant, u64)>,
}

impl Terminal {
    /// Progress on standard error.
    pub fn new(quiet: bool, json: bool) -> Terminal {
        let mode = if quiet {
            Mode::Nothing
        } else if stderr().is_terminal() && !json {
            Mode::Bars(MultiProgress::new())
        } else {
            Mode::Lines
        };
        Terminal { mode, state: Mutex::default() }
    }

    fn say(&self, line: &str) {
        match &self.mode {
            Mode::Bars(bars) => {
                let _ = bars.println(line);
            }
            Mode::Lines => eprintln!("{line}"),
            Mode::Nothing => {}
        }
    }
}

fn number(to: &mut dyn Write_, n: u64) {
    let _ = to.write_str(&show::number(n));
}

impl Observer for Terminal {
    fn event(&self, event: Event) {
        let Ok(mut state) = self.state.lock() else { return };
        match event {
            Event::Phase(phase) => {
                state.bars.drain().for_each(|(_, b)| b.finish());
                self.say(&format!("{}…", doing(phase.words())));
            }
            Event::Note(text) => self.say(&format!("note: {text}")),
            Event::Progress { what, table, done, total } => {
                let key = (what, table.clone());
                match &self.mode {
                    Mode::Bars(bars) => {
                        let bar = state.bars.entry(key).or_insert_with(|| {
                            let template = "  {prefix:9} {msg:16!} {bar:14} {done:>11} of {all:<11} {rate:>9}  {eta}";
                            let bar = bars.add(ProgressBar::new(total));
                            if let Ok(style) = ProgressStyle::with_template(template) {
                                let style = style
                                    .with_key("done", |s: &Bar, w: &mut dyn Write_| number(w, s.pos()))
                                    .with_key("all", |s: &Bar, w: &mut dyn Write_| number(w, s.len().unwrap_or(0)))
                                    .with_key("rate", |s: &Bar, w: &mut dyn Write_| {
                                        number(w, s.per_sec() as u64);
                                        let _ = w.write_str("/s");
                                    });
                                bar.set_style(style.progress_chars("█▌ "));
                            }
                            bar.set_prefix(what);
                            bar.set_message(table);
                            bar
                        });
                        bar.set_length(total);
                        bar.set_position(done);
                        if done >= total {
                            bar.finish();
                        }
                    }
                    Mode::Lines => {
                        let now = Instant::now();
                        // a resumed copy begins with what was there
                        let (begun, before) = *state.begun.entry(key.clone()).or_insert((now, done));
                        let due = state.last_line.get(&key).is_none_or(|t| t.elapsed() > Duration::from_secs(5));
                        if (due && begun != now) || (done >= total && state.last_line.contains_key(&key)) {
                            state.last_line.insert(key, now);
                            let seconds = begun.elapsed().as_secs_f64().max(0.001);
                            let rate = done.saturating_sub(before) as f64 / seconds;
                            let left = if rate > 0.0 { (total.saturating_sub(done)) as f64 / rate } else { 0.0 };
                            let (done, total, rate) =
                                (show::number(done), show::number(total), show::number(rate as u64));
                            eprintln!("  {what} {table}: {done} of {total} rows, {rate}/s, {left:.0} s left");
                        }
                    }
                    Mode::Nothing => {}
                }
            }
        }
    }
}

/// Asks for a word; `None` without a terminal.
pub fn ask(question: &str) -> Option<String> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return None;
    }
    eprint!("{question} ");
    let mut line = String::new();
    stdin().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}
