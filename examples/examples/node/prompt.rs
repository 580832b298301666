//! The prompt of a terminal: history, completion, changes that are watched, progress.

use std::time::Duration;

use crdt_ds::datastore::Key;
use crdt_ds::{CrdtDatastore, Event, From};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Context, Editor, ExternalPrinter, Helper, Highlighter, Hinter, Validator};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::command::{Command, HELP};
use super::replica::Replica;
use super::{Result, with_causes};

/// Completes the names of commands.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Names;

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..position).unwrap_or_default();
        let names = HELP.iter().filter_map(|(usage, _)| usage.split(' ').next());
        let fitting = names
            .filter(|name| name.starts_with(typed))
            .map(|name| format!("{name} "));
        Ok((0, fitting.collect()))
    }
}

/// Reads commands and shows what comes of them, until the user has enough.
pub(crate) async fn run(replica: &Replica) -> Result<()> {
    let mut editor: Editor<Names, DefaultHistory> = Editor::new()?;
    editor.set_helper(Some(Names));
    let mut printer = editor.create_external_printer()?;
    println!("type help for what can be done");

    // The editor blocks, so it has a thread; it reads a line whenever the last is dealt with.
    let (ready, readies) = std::sync::mpsc::channel::<()>();
    let (lines, mut typed) = mpsc::channel::<String>(1);
    let reader = tokio::task::spawn_blocking(move || read_lines(&mut editor, &readies, &lines));

    let (changes, mut changed) = mpsc::channel::<String>(64);
    let mut watchers = JoinSet::new();
    while ready.send(()).is_ok() {
        let line = loop {
            tokio::select! {
                line = typed.recv() => break line,
                Some(change) = changed.recv() => printer.print(change)?,
            }
        };
        let Some(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        match line.parse() {
            Ok(Command::Quit) => break,
            Ok(Command::Watch(prefix)) => {
                watchers.spawn(watch(replica.store.clone(), prefix, changes.clone()));
            }
            Ok(Command::Sync(seconds)) => {
                let (progress, command) = (show_progress(replica), Command::Sync(seconds));
                tokio::select! {
                    answer = replica.run(command) => print(answer),
                    () = progress => {}
                }
            }
            Ok(command) => print(replica.run(command).await),
            Err(error) => print(Err(error)),
        }
    }
    drop((ready, typed));
    watchers.shutdown().await;
    Ok(reader.await??)
}

fn read_lines(
    editor: &mut Editor<Names, DefaultHistory>,
    ready: &std::sync::mpsc::Receiver<()>,
    lines: &mpsc::Sender<String>,
) -> rustyline::Result<()> {
    while ready.recv().is_ok() {
        match editor.readline("> ") {
            Ok(line) => {
                editor.add_history_entry(&line)?;
                if lines.blocking_send(line).is_err() {
                    break;
                }
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells of changes until the replica is closed.
async fn watch(store: CrdtDatastore, prefix: Key, changes: mpsc::Sender<String>) {
    let mut events = std::pin::pin!(store.subscribe(&prefix, From::Now));
    while let Some(event) = events.next().await {
        let Ok(Event::Changed(change)) = event else {
            continue;
        };
        let text = match &change.new {
            Some(value) => format!("{} = {}\n", change.key, String::from_utf8_lossy(value)),
            None => format!("{} is gone\n", change.key),
        };
        if changes.send(text).await.is_err() {
            return;
        }
    }
}

/// Shows what is still missing, for ever.
async fn show_progress(replica: &Replica) {
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    loop {
        let blocks = replica.store.info().blocks;
        bar.set_message(format!("{blocks} blocks; {}", replica.store.sync_status()));
        bar.tick();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn print(answer: Result<Value>) {
    match answer {
        Ok(answer) => println!("{}", readable(&answer)),
        Err(error) => println!("error: {}", with_causes(&*error)),
    }
}

/// An answer for human eyes.
pub(crate) fn readable(answer: &Value) -> String {
    match answer {
        Value::Object(fields) if fields.len() == 1 => fields.values().map(readable_part).collect(),
        answer => readable_part(answer),
    }
}

fn readable_part(part: &Value) -> String {
    let lines: Vec<String> = match part {
        Value::Bool(true) => return "ok".to_owned(),
        Value::Null => return "(nothing)".to_owned(),
        Value::String(text) => return text.clone(),
        Value::Array(items) => items.iter().map(readable_part).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name:24} {}", readable_part(value)))
            .collect(),
        other => return other.to_string(),
    };
    match lines.as_slice() {
        [] => "(nothing)".to_owned(),
        lines => lines.join("\n"),
    }
}
